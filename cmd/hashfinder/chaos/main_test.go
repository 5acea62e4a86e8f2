//go:build chaos

package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

var (
	histories = flag.Int("histories", 0, "run each fault until it has this many histories; 0: one run")
	only      = flag.String("fault", "", "regular expression of the faults to run; with it, or with -histories, also those that take long")
	older     = flag.String("older", "HEAD~1", "revision that runs beside this one where versions are mixed")
	slack     = flag.Duration("slack", 2*time.Second, "time that everything may take beyond what is promised: a loaded machine runs nobody in time")
	clients   = flag.Int("clients", 28, "that have a job each at a time")
	tables    = flag.String("table", "", "file that the matrix is written to after each run")
	keep      = flag.String("keep", "", "directory to keep the histories with violations in")
)

func TestMain(m *testing.M) {
	if os.Getenv(envWorker) != "" {
		if err := runWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	redis.SetLogger(quiet{})
	debug.SetGCPercent(1000) // to collect takes all cores for milliseconds, which what is timed must do without
	flag.Parse()
	if flag.Lookup("test.parallel").DefValue == flag.Lookup("test.parallel").Value.String() {
		// A run mostly waits: for leases to run out, and for Redis to come back.
		if err := flag.Set("test.parallel", "6"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	// A link of toxiproxy's that is broken in the middle of a write may leave its pipe behind.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"))
}

type quiet struct{}

// Printf is go-redis's logging interface.
func (quiet) Printf(context.Context, string, ...any) {}

// program builds the program of this tree, once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hashfinder-chaos")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "hashfinder"), build(".", filepath.Join(dir, "hashfinder"))
})

// olderHalf returns the program of an older revision for one front end and one worker.
func olderHalf(slot string) (string, error) {
	if !strings.HasSuffix(slot, "1") {
		return "", nil
	}
	return olderProgram()
}

// olderProgram builds the program of the older revision, once, next to that of this tree.
var olderProgram = sync.OnceValues(func() (string, error) {
	today, err := program()
	if err != nil {
		return "", err
	}
	tree := filepath.Join(filepath.Dir(today), "older")
	if err := os.Mkdir(tree, 0o700); err != nil {
		return "", err
	}
	// From the root of the repository, where this package may be anywhere.
	archive := exec.CommandContext(context.Background(), "sh", "-c",
		`cd "$(git rev-parse --show-toplevel)" && git archive "$0" | tar -x -C "$1"`, *older, tree)
	if out, err := archive.CombinedOutput(); err != nil {
		return "", fmt.Errorf("get the tree of %s: %w\n%s", *older, err, out)
	}
	binary := filepath.Join(tree, "hashfinder-older")
	return binary, build(tree, binary)
})

// build builds the program of the module that dir is in.
func build(dir, to string) error {
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", to, "github.com/hashfinder/hashfinder/cmd/hashfinder")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

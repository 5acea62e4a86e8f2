package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hashfinder/hashfinder/jobs/jobstest"
	jobsearch "github.com/hashfinder/hashfinder/jobs/search"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// serveForTest runs the whole service on the embedded Redis until the test ends, and returns its address.
func serveForTest(t *testing.T) string {
	t.Helper()
	store, err := startEmbeddedRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.close)
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- runNode(ctx, nodeConfig{
			open: store.open, roles: map[string]bool{roleAPI: true, roleWorker: true}, grpc: listener,
			concurrency: 2, logger: slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("service: %v", err)
		}
	})
	return listener.Addr().String()
}

// A client made from hash_name.proto alone, in another language, by other people's code.
func TestPythonClient(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, for which Debian's grpcio is
	if err := exec.CommandContext(t.Context(), python, "-c", "import grpc_tools").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3-grpcio and python3-grpc-tools are not installed; CI needs them")
		}
		t.Skip("python3-grpcio and python3-grpc-tools are not installed")
	}
	stubs := t.TempDir()
	out, err := exec.CommandContext(t.Context(), python, "-m", "grpc_tools.protoc", "-I../../proto/hash_name",
		"--python_out="+stubs, "--grpc_python_out="+stubs, "hash_name.proto").CombinedOutput()
	if err != nil {
		t.Fatalf("make stubs: %v\n%s", err, out)
	}
	address := serveForTest(t)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	jobs := hashfinderv1.NewJobServiceClient(conn)
	list := func() []*hashfinderv1.Job {
		reply, err := jobs.ListJobs(t.Context(), &hashfinderv1.ListJobsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return reply.GetJobs()
	}

	client := exec.CommandContext(t.Context(), python, "testdata/python/client.py", address, stubs)
	client.Stderr = os.Stderr
	stdin, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Find, First    []any
		Range          [][]any
		Refused, Late  string
		Running        bool
		CancelledRange string `json:"cancelled_range"`
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Running {
			got.Running = false
			jobstest.Until(t, "the job of Find runs", func() bool { return list()[0].GetState() == hashfinderv1.Job_RUNNING })
			if _, err := stdin.Write([]byte("\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := client.Wait(); err != nil {
		t.Fatalf("client: %v", err)
	}

	want := rows(jobsearch.Query{Name: "seed", Interesting: 1}, 1<<24)
	if diff := cmp.Diff(want, got.Range); diff != "" {
		t.Errorf("FindRange (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[len(want)-1], got.Find); diff != "" {
		t.Errorf("Find (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(rows(jobsearch.Query{Name: "zzzzzzzzzzzz", Interesting: 9}, 1000)[0], got.First); diff != "" {
		t.Errorf("first of the cancelled stream (-want +got):\n%s", diff)
	}
	if got.Refused != "INVALID_ARGUMENT" || got.Late != "DEADLINE_EXCEEDED" {
		t.Errorf("got %q for an empty name and %q for a short deadline", got.Refused, got.Late)
	}

	// Behind each call was a job, and all of them end: the newest first.
	wantEnds := []hashfinderv1.Job_EndReason{
		hashfinderv1.Job_DEADLINE_EXCEEDED,   // Find with a timeout
		hashfinderv1.Job_CANCELLED_BY_CLIENT, // FindRange
		hashfinderv1.Job_CANCELLED_BY_CLIENT, // Find
		hashfinderv1.Job_FOUND,
		hashfinderv1.Job_FOUND,
	}
	var ends []hashfinderv1.Job_EndReason
	jobstest.Until(t, "all jobs have ended", func() bool {
		ends = nil
		for _, job := range list() {
			if job.GetEndTime() == nil {
				return false
			}
			ends = append(ends, job.GetEndReason())
		}
		return true
	})
	if diff := cmp.Diff(wantEnds, ends); diff != "" {
		t.Errorf("ends of the jobs (-want +got):\n%s", diff)
	}
	if name := list()[1].GetName(); got.CancelledRange != name {
		t.Errorf("the stream named the job %q, want %q", got.CancelledRange, name)
	}
}

// rows are the hits of a sequential scan as the client prints them.
func rows(q jobsearch.Query, end uint64) [][]any {
	var all [][]any
	jobsearch.Scan(q, 0, end, func(hit jobsearch.Hit) bool {
		secret := jobsearch.AppendSecret(nil, hit.Index)
		hashed := jobsearch.HashedName(secret)
		all = append(all, []any{base64.StdEncoding.EncodeToString(secret), string(hashed[:]), float64(hit.Distance)})
		return true
	})
	return all
}

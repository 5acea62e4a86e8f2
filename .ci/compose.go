// Command compose reads a compose file as docker compose does, without an
// engine, and fails if there is anything in it that is unknown, malformed or
// refers to nothing.
//
//	go run -modfile=.ci/tools.mod .ci/compose.go compose.yaml
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := check(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(ctx context.Context, files []string) error {
	options, err := cli.NewProjectOptions(files, cli.WithOsEnv)
	if err != nil {
		return err
	}
	_, err = options.LoadProject(ctx)
	return err
}

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The rooms of docs/architecture.md: what a package needs, however many steps away.
func TestImportsPointOneWay(t *testing.T) {
	const module = "github.com/hashfinder/hashfinder/"
	tests := []struct {
		name, pkg string
		forbidden []string // path prefixes
	}{
		{"search needs the standard library only", "jobs/search", []string{"github.com/", "golang.org/", "google.golang.org/", "gopkg.in/"}},
		{"jobs knows no gRPC", "jobs", []string{"google.golang.org/grpc", module + "proto", module + "api", module + "worker", module + "cmd"}},
		{"worker knows no gRPC", "worker", []string{"google.golang.org/grpc", module + "proto", module + "api", module + "cmd"}},
		{"kernel knows only search", "worker/kernel", []string{module + "api", module + "proto", module + "cmd", "github.com/redis", "github.com/hibiken"}},
		{"api knows no worker", "api", []string{module + "worker", module + "cmd", module + "jobs/dashboard"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+test.pkg).Output()
			if err != nil {
				t.Fatal(err)
			}
			for dep := range strings.Lines(string(out)) {
				dep = strings.TrimSpace(dep)
				for _, prefix := range test.forbidden {
					if strings.HasPrefix(dep, prefix) && !strings.HasPrefix(dep, module+test.pkg) {
						// search is the one thing of this module that everybody may need.
						if strings.HasPrefix(dep, module+"jobs/search") {
							continue
						}
						t.Errorf("%s depends on %s", test.pkg, dep)
					}
				}
			}
		})
	}
}

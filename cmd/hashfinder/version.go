package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// build says what this program was made from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// readBuild takes the version from the linker if it has set one, and all else from what the go command recorded.
func readBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "dev" && info.Main.Version != "(devel)" {
		b.Version = cmp.Or(info.Main.Version, b.Version)
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

// String returns one line.
func (b build) String() string {
	revision := cmp.Or(b.Revision, "unknown")
	if b.Modified {
		revision += " modified"
	}
	return fmt.Sprintf("hashfinder %s (revision %s, %s, %s)", b.Version, revision, b.Go, b.Platform)
}

// versionCmd prints the version.
type versionCmd struct {
	outputFlags `embed:""`
}

// Run prints.
func (c *versionCmd) Run(con *console) error {
	b := readBuild()
	if !c.json() {
		return con.printLine(b.String())
	}
	line, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode the version: %w", err)
	}
	return con.printLine(string(line))
}

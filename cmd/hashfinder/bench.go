package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashfinder/hashfinder/worker/kernel"
	"github.com/hashfinder/hashfinder/worker/kernel/kernelbench"
)

// benchCmd measures this machine.
type benchCmd struct {
	Kernel benchKernelCmd `cmd:"" help:"Measure the kernels, which do the searching."`
}

// benchKernelCmd measures the kernels, on one core.
type benchKernelCmd struct {
	outputFlags `embed:""`
	Time        time.Duration `placeholder:"D" default:"300ms" help:"Time for each row, ${default} if not given."`
	Kernel      string        `placeholder:"NAME" help:"Measure this kernel only, such as generic; all of this machine if not given."`
}

// Help explains the output.
func (*benchKernelCmd) Help() string {
	return `Each row is a kernel and a search: the length of the secrets and of the name, the distance, the names looked for in one pass, and the rate of one thread in million candidates per second, on Linux of the CPU time that it gets. A candidate counts once, however many names are looked for. Names are of letters, drawn with a seed, or they are "random", of 4 to 10 letters; "words", English ones of 4 to 10 letters; or "mixed", of 4 to 16 letters at distances 0 to 2.

The first row is a yardstick: Go's crypto/sha1.Sum of four bytes, without any comparing. It is measured again beside each search, as a machine's speed may change meanwhile; "TO SHA1" is the ratio to the latest, and with --output json all of them are printed. The generic kernel runs on every machine, and is what the others are tested against.`
}

// Validate refuses what cannot be measured.
func (c *benchKernelCmd) Validate() error {
	if c.Time <= 0 {
		return errors.New("--time must be positive")
	}
	_, err := c.kernels()
	return err
}

// kernels returns those that are asked for.
func (c *benchKernelCmd) kernels() ([]kernel.Kernel, error) {
	all := kernel.All()
	if c.Kernel == "" {
		return all, nil
	}
	names := make([]string, len(all))
	for i, k := range all {
		if names[i] = k.Name(); names[i] == c.Kernel {
			return all[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("--kernel must be one of this machine's (%s), not %q", strings.Join(names, ", "), c.Kernel)
}

// sha1Name is the yardstick's name among the kernels.
const sha1Name = "crypto/sha1"

// benchRow is a row of the output.
type benchRow struct {
	Kernel       string `json:"kernel"`
	SecretLength int    `json:"secret_length"`
	NameLength   int    `json:"name_length"`
	Distance     int    `json:"distance"`
	Queries      int    `json:"queries"`
	// Names says what the names are where they are not all of one length and
	// distance: then those are the largest.
	Names kernelbench.Names `json:"names,omitempty"`
	// MCPS is million candidates per second.
	MCPS float64 `json:"mcps"`
}

// Run measures, and prints each row as soon as it is there. A search is measured with one kernel right after the
// other, and after the yardstick: their ratio is worth more than a rate, on a machine that has other things to do as
// well.
func (c *benchKernelCmd) Run(ctx context.Context, con *console) error {
	kernels, err := c.kernels()
	if err != nil {
		return err
	}
	printer := &benchPrinter{con: con, json: c.json()}
	if err := printer.header(c.Time); err != nil {
		return err
	}
	for _, search := range slices.Concat(kernelbench.Cases(), kernelbench.SetCases()) {
		rate, err := kernelbench.SHA1Rate(ctx, c.Time)
		if err != nil {
			return err
		}
		if err := printer.measure(rate); err != nil {
			return err
		}
		for _, k := range kernels {
			rate, err := search.Rate(ctx, k, c.Time)
			if err != nil {
				return err
			}
			if err := printer.row(benchRow{
				Kernel:       k.Name(),
				SecretLength: search.SecretLength,
				NameLength:   search.NameLength,
				Distance:     search.Distance,
				Queries:      search.Queries,
				Names:        search.Names,
			}, rate); err != nil {
				return err
			}
		}
	}
	return nil
}

// benchPrinter prints rows, which come one by one.
type benchPrinter struct {
	con  *console
	json bool
	// yardstick is the latest rate of it.
	yardstick float64
}

// header prints what stands above the table.
func (p *benchPrinter) header(each time.Duration) error {
	if p.json {
		return nil
	}
	above := fmt.Sprintf("one thread, %s a row, million candidates per second", each)
	if name := cpuName(); name != "" {
		above = name + ": " + above
	}
	return p.con.printLine(above + "\n" + benchLine("KERNEL", "SECRET", "NAME", "DISTANCE", "QUERIES", "NAMES", "RATE", "TO SHA1"))
}

// measure has a rate of the yardstick in hashes per second, and prints it. A table has the first one only.
func (p *benchPrinter) measure(rate float64) error {
	first := p.yardstick == 0
	p.yardstick = rate
	if !first && !p.json {
		return nil
	}
	return p.row(benchRow{Kernel: sha1Name, SecretLength: 4}, rate)
}

// row prints a row with its rate in candidates per second.
func (p *benchPrinter) row(row benchRow, rate float64) error {
	row.MCPS = math.Round(rate/1e4) / 100
	if p.json {
		line, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode a row: %w", err)
		}
		return p.con.printLine(string(line))
	}
	return p.con.printLine(benchLine(row.Kernel, row.SecretLength, row.NameLength, row.Distance, row.Queries, row.Names,
		fmt.Sprintf("%.2f", row.MCPS), fmt.Sprintf("%.2f", rate/p.yardstick)))
}

// benchLine returns the eight columns of a line.
func benchLine(columns ...any) string {
	return fmt.Sprintf("%-11v  %6v  %4v  %8v  %7v  %-6v  %7v  %7v", columns...)
}

// cpuName returns the name that Linux knows the CPU by, and elsewhere nothing.
func cpuName() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer file.Close()
	return modelName(file)
}

// modelName returns the first "model name" of a /proc/cpuinfo. Not every architecture has one.
func modelName(cpuinfo io.Reader) string {
	lines := bufio.NewScanner(cpuinfo)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

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

The first row is a yardstick: Go's crypto/sha1.Sum of four bytes, without any comparing. It is measured again with each search, in turn with the kernels, as a machine's speed may change meanwhile: rates and ratios are medians of five turns. "TO SHA1" is the ratio to the yardstick of these turns; with --output json all of them are printed. "TO ONE", for several names, is how many times the rate of the same kernel with one name of six letters it is, candidates times names; that is measured in the same turns too.

The generic kernel runs on every machine, and is what the others are tested against.`
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
	// ToOne is candidates times queries, to those of the kernel with one query.
	ToOne float64 `json:"to_one,omitempty"`
}

// Run measures each search with all kernels and the yardstick in turn, and prints their rows: a ratio is worth more
// than a rate, on a machine that has other things to do as well.
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
		if err := c.measure(ctx, printer, search, kernels); err != nil {
			return err
		}
	}
	return nil
}

// measure measures a search.
func (c *benchKernelCmd) measure(ctx context.Context, printer *benchPrinter, search kernelbench.Case, kernels []kernel.Kernel) error {
	works := []kernelbench.Work{kernelbench.SHA1}
	for _, k := range kernels {
		works = append(works, search.Work(k))
		if search.Queries > 1 {
			works = append(works, kernelbench.One().Work(k))
		}
	}
	rates, err := kernelbench.InTurn(ctx, c.Time, works...)
	if err != nil {
		return err
	}
	yardstick, rates := rates[0], rates[1:]
	if err := printer.measure(yardstick.Median()); err != nil {
		return err
	}
	for _, k := range kernels {
		row := benchRow{
			Kernel:       k.Name(),
			SecretLength: search.SecretLength,
			NameLength:   search.NameLength,
			Distance:     search.Distance,
			Queries:      search.Queries,
			Names:        search.Names,
			MCPS:         mega(rates[0].Median()),
		}
		toSHA1 := rates[0].To(yardstick)
		if search.Queries > 1 {
			row.ToOne = math.Round(10*float64(search.Queries)*rates[0].To(rates[1])) / 10
			rates = rates[1:]
		}
		rates = rates[1:]
		if err := printer.row(row, toSHA1); err != nil {
			return err
		}
	}
	return nil
}

// benchPrinter prints rows, which come one by one.
type benchPrinter struct {
	con      *console
	json     bool
	measured bool // the yardstick has been printed
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
	return p.con.printLine(above + "\n" + benchLine("KERNEL", "SECRET", "NAME", "DISTANCE", "QUERIES", "NAMES", "RATE", "TO SHA1", "TO ONE"))
}

// measure has a rate of the yardstick in hashes per second, and prints it. A table has the first one only.
func (p *benchPrinter) measure(rate float64) error {
	first := !p.measured
	p.measured = true
	if !first && !p.json {
		return nil
	}
	return p.row(benchRow{Kernel: sha1Name, SecretLength: 4, MCPS: mega(rate)}, 1)
}

// row prints a row, of which the rate is toSHA1 times the yardstick's.
func (p *benchPrinter) row(row benchRow, toSHA1 float64) error {
	if p.json {
		line, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode a row: %w", err)
		}
		return p.con.printLine(string(line))
	}
	toOne := ""
	if row.ToOne > 0 {
		toOne = fmt.Sprintf("%.1f", row.ToOne)
	}
	line := benchLine(row.Kernel, row.SecretLength, row.NameLength, row.Distance, row.Queries, row.Names,
		fmt.Sprintf("%.2f", row.MCPS), fmt.Sprintf("%.2f", toSHA1), toOne)
	return p.con.printLine(strings.TrimRight(line, " "))
}

// mega returns a rate in millions, to two places.
func mega(rate float64) float64 { return math.Round(rate/1e4) / 100 }

// benchLine returns the nine columns of a line.
func benchLine(columns ...any) string {
	return fmt.Sprintf("%-11v  %6v  %4v  %8v  %7v  %-6v  %7v  %7v  %7v", columns...)
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

package main

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// estimateCmd tells what a search is up against.
type estimateCmd struct {
	serverFlags `embed:""`
	outputFlags `embed:""`
	Name        string `arg:"" help:"The name that would be looked for."`
	Distance    int32  `placeholder:"N" default:"0" help:"Distance that would end the search, 0 if not given."`
}

// Run asks and prints.
func (c *estimateCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	estimate, err := service.EstimateSearch(ctx, &hashfinderv1.EstimateSearchRequest{
		DesiredName: c.Name, IdealHammingDistance: c.Distance,
	})
	switch {
	case err != nil:
		return service.failure(err)
	case c.json():
		return con.printJSON(estimate)
	}
	return con.printLine(estimateText(estimate))
}

// estimateText returns an estimate as lines of text.
func estimateText(e *hashfinderv1.Estimate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "one candidate in    %s\n", quantity(e.GetExpectedCandidates()))
	if e.GetCandidatesPerSecond() > 0 {
		fmt.Fprintf(&b, "rate                %s/s\n", quantity(e.GetCandidatesPerSecond()))
	} else {
		b.WriteString("rate                no workers\n")
	}
	for _, quantile := range []struct {
		chance     string
		candidates float64
		time       *durationpb.Duration
	}{
		{"50", e.GetCandidatesP50(), e.GetTimeP50()},
		{"90", e.GetCandidatesP90(), e.GetTimeP90()},
		{"99", e.GetCandidatesP99(), e.GetTimeP99()},
	} {
		fmt.Fprintf(&b, "found to %s %%       after %s", quantile.chance, quantity(quantile.candidates))
		switch {
		case quantile.time != nil:
			fmt.Fprintf(&b, ", %s", span(quantile.time))
		case e.GetCandidatesPerSecond() > 0:
			b.WriteString(", more than 10000 years")
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

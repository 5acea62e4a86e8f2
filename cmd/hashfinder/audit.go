package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/types/known/timestamppb"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// auditText returns what has happened to a job as lines of text: who submitted it, a table of its states, and one of the
// attempts.
func auditText(audit *hashfinderv1.JobAudit) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(table, format+"\n", args...) } // a Builder takes all
	dropped := func(what string, n int64) {
		if n > 0 {
			row("(%d older %s were dropped)", n, what)
		}
	}
	row("job\t%s", audit.GetJob())
	row("tenant\t%s", audit.GetTenant())
	if audit.GetRequestId() != "" {
		row("request id\t%s", audit.GetRequestId())
	}
	row("")
	dropped("states", audit.GetChangesDropped())
	row("TIME\tSTATE")
	for _, c := range audit.GetChanges() {
		row("%s\t%s", momentText(c.GetTime()), stateText(&hashfinderv1.Job{State: c.GetState(), EndReason: c.GetEndReason()}))
	}
	row("")
	dropped("attempts", audit.GetAttemptsDropped())
	row("BEGIN\tTOOK\tOUTCOME\tCANDIDATES\tWORKER")
	for _, a := range audit.GetAttempts() {
		took := "-"
		if a.GetEndTime() != nil {
			took = roundDuration(a.GetEndTime().AsTime().Sub(a.GetBeginTime().AsTime()))
		}
		row("%s\t%s\t%s\t[%d, %d)\t%s", momentText(a.GetBeginTime()), took, strings.ToLower(a.GetOutcome().String()),
			a.GetFirstCandidate(), a.GetEndCandidate(), a.GetWorker())
	}
	_ = table.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// momentText returns a time with its milliseconds.
func momentText(t *timestamppb.Timestamp) string {
	return t.AsTime().Format("2006-01-02T15:04:05.000Z07:00")
}

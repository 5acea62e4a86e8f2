package main

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const (
	styleEqual  = "\x1b[1;32m"
	styleOther  = "\x1b[1;31m"
	styleNormal = "\x1b[0m"
)

// hitLine returns a hit as a line of text. The columns stand below each other for all secrets of up to nine bytes.
func hitLine(hit *hashfinderv1.Hit, name string, color bool) string {
	hashed := hit.GetHashedName()
	if color {
		hashed = highlight(hashed, name)
	}
	return fmt.Sprintf("%-12s  %s  %2d  %d", secretText(hit.GetSecret()), hashed, hit.GetHammingDistance(), hit.GetIndex())
}

// secretText returns a secret in standard base64, and the empty one so that it can be seen.
func secretText(secret []byte) string {
	if len(secret) == 0 {
		return `""`
	}
	return base64.StdEncoding.EncodeToString(secret)
}

// highlight colours the first place of a hashed name that is nearest to a name: what is equal in one colour, what
// differs in another.
func highlight(hashed, name string) string {
	start, least := 0, len(name)+1
	for at := range len(hashed) - len(name) + 1 {
		distance := 0
		for i := range len(name) {
			if !equalFold(hashed[at+i], name[i]) {
				distance++
			}
		}
		if distance < least {
			start, least = at, distance
		}
	}
	if name == "" || least > len(name) { // no place at all
		return hashed
	}
	var b strings.Builder
	b.WriteString(hashed[:start])
	style := ""
	for i := range len(name) {
		next := styleOther
		if equalFold(hashed[start+i], name[i]) {
			next = styleEqual
		}
		if next != style {
			style = next
			b.WriteString(style)
		}
		b.WriteByte(hashed[start+i])
	}
	b.WriteString(styleNormal)
	b.WriteString(hashed[start+len(name):])
	return b.String()
}

// equalFold compares two ASCII characters without regard to case.
func equalFold(a, b byte) bool { return strings.EqualFold(string(rune(a)), string(rune(b))) }

// summary returns how a job ended as a line of text.
func summary(job *hashfinderv1.Job) string {
	var b strings.Builder
	b.WriteString(stateText(job))
	all := job.GetProgress().GetCandidatesSearched()
	searched := all - job.GetExtends().GetCandidatesSearched()
	fmt.Fprintf(&b, ", searched %d candidates", searched)
	if searched != all {
		fmt.Fprintf(&b, " after the %d of before", all-searched)
	}
	if job.GetStartTime() != nil && job.GetEndTime() != nil {
		took := job.GetEndTime().AsTime().Sub(job.GetStartTime().AsTime()) - job.GetPausedDuration().AsDuration()
		fmt.Fprintf(&b, " in %s", roundDuration(took))
		if took > 0 {
			fmt.Fprintf(&b, ", %s/s", quantity(float64(searched)/took.Seconds()))
		}
	}
	return b.String()
}

// stateText returns a job's state with the reason for it.
func stateText(job *hashfinderv1.Job) string {
	text := strings.ToLower(job.GetState().String())
	if reason := reasonText(job.GetEndReason()); reason != "" {
		text += ": " + reason
	}
	return text
}

// reasonText returns the reason for the end of a job where its state does not tell it, and else nothing.
func reasonText(reason hashfinderv1.Job_EndReason) string {
	return map[hashfinderv1.Job_EndReason]string{
		hashfinderv1.Job_CANDIDATES_EXHAUSTED: "all candidates of the budget were searched",
		hashfinderv1.Job_HITS_EXHAUSTED:       "as many hits as the budget allows were found",
		hashfinderv1.Job_DURATION_EXHAUSTED:   "the budget's duration has passed",
		hashfinderv1.Job_CANCELLED_BY_CLIENT:  "by a client",
		hashfinderv1.Job_DEADLINE_EXCEEDED:    "the deadline of its call has passed",
		hashfinderv1.Job_ORPHANED:             "nobody watched it any more",
		hashfinderv1.Job_POISONED:             "a piece of the search killed its worker too often",
	}[reason]
}

// jobText returns a job as lines of text.
func jobText(job *hashfinderv1.Job) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(key, format string, args ...any) {
		_, _ = fmt.Fprintf(table, key+"\t"+format+"\n", args...) // a Builder takes all
	}
	at := func(key string, t *timestamppb.Timestamp) {
		if t != nil {
			row(key, "%s", timeText(t))
		}
	}
	spec, budget, progress := job.GetSpec(), job.GetSpec().GetBudget(), job.GetProgress()
	if job.GetName() != "" { // a job that was only validated has none
		row("name", "%s", job.GetName())
	}
	row("state", "%s", stateText(job))
	if job.GetExtends() != nil {
		row("extends", "%s, from candidate %d on", job.GetExtends().GetJob(), job.GetExtends().GetCandidatesSearched())
	}
	if job.GetExtendedBy() != "" {
		row("extended by", "%s", job.GetExtendedBy())
	}
	if job.GetState() == hashfinderv1.Job_FAILED {
		row("error", "%s", job.GetError().GetMessage())
	}
	row("search", "%q, distance %d", spec.GetDesiredName(), spec.GetIdealHammingDistance())
	if inferior := spec.GetInterestingHammingDistance(); inferior > spec.GetIdealHammingDistance() {
		row("show inferior", "%d", inferior)
	}
	row("budget", "%d candidates, %d hits", budget.GetMaxCandidates(), budget.GetMaxHits())
	if budget.GetMaxDuration() != nil {
		row("max duration", "%s", span(budget.GetMaxDuration()))
	}
	for _, key := range slices.Sorted(maps.Keys(job.GetLabels())) {
		row("label", "%s=%s", key, job.GetLabels()[key])
	}
	row("searched", "%d candidates", progress.GetCandidatesSearched())
	if job.GetState() == hashfinderv1.Job_RUNNING {
		row("rate", "%s/s", quantity(progress.GetCandidatesPerSecond()))
		row("ETA", "%s (50 %%), %s (90 %%), %s (99 %%)",
			span(progress.GetEtaP50()), span(progress.GetEtaP90()), span(progress.GetEtaP99()))
	}
	row("P(found)", "%s", percent(progress.GetProbabilityFound()))
	if hit := job.GetBestHit(); hit != nil {
		row("best hit", "%s", hitLine(hit, spec.GetDesiredName(), false))
	}
	at("created", job.GetCreateTime())
	at("started", job.GetStartTime())
	at("paused", job.GetPauseTime())
	if job.GetPausedDuration() != nil {
		row("paused for", "%s", span(job.GetPausedDuration()))
	}
	at("ended", job.GetEndTime())
	at("expires", job.GetExpireTime())
	if job.GetStopLatency() != nil {
		row("stopped in", "%s", span(job.GetStopLatency()))
	}
	row("events", "%d", job.GetLastSequence())
	if job.GetEtag() != "" {
		row("etag", "%s", job.GetEtag())
	}
	_ = table.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// jobTable returns jobs as a table with a header.
func jobTable(jobs []*hashfinderv1.Job) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "JOB\tSTATE\tNAME\tDISTANCE\tSEARCHED\tEVENTS\tCREATED") // a Builder takes all
	for _, job := range jobs {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%q\t%d\t%s\t%d\t%s\n", job.GetName(), strings.ToLower(job.GetState().String()),
			job.GetSpec().GetDesiredName(), job.GetSpec().GetIdealHammingDistance(),
			quantity(float64(job.GetProgress().GetCandidatesSearched())), job.GetLastSequence(), timeText(job.GetCreateTime()))
	}
	_ = table.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func timeText(t *timestamppb.Timestamp) string { return t.AsTime().Format(time.RFC3339) }

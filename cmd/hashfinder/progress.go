package main

import (
	"io"
	"strings"

	"github.com/schollz/progressbar/v3"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const (
	// eraseLine empties the terminal's line and goes to its beginning.
	eraseLine = "\x1b[2K\r"
	// barFrame is what progressbar adds to the bar and the text: the percents, the ends of the bar and spaces.
	barFrame = 11
	minBar   = 8
	maxBar   = 30
)

// progressLine returns what draws the progress on a terminal line of so many columns, over what is there; empty when
// it is too narrow, or there is no terminal.
//
// How long a search takes is a matter of chance, so the bar has no true total. It shows the end that is nearer: the
// used part of the budget, or the probability that the name would be found by now.
func progressLine(p *hashfinderv1.Progress, maxCandidates int64, columns int) string {
	// A character in the last column makes some terminals go to the next line.
	room := columns - 1 - barFrame
	if room < minBar {
		return ""
	}
	text := progressText(p, room-minBar)
	nearer := p.GetProbabilityFound()
	if maxCandidates > 0 {
		nearer = max(nearer, float64(p.GetCandidatesSearched())/float64(maxCandidates))
	}
	bar := progressbar.NewOptions(100,
		progressbar.OptionSetWriter(io.Discard),
		progressbar.OptionSetWidth(min(room-len(text), maxBar)),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionUseANSICodes(true),
	)
	// At 100 progressbar would end the line.
	_ = bar.Set(min(int(100*nearer), 99)) // io.Discard takes all
	bar.Describe(text)
	return bar.String()
}

// progressText returns as much of the progress, the most wanted first, as has room. It is ASCII.
func progressText(p *hashfinderv1.Progress, room int) string {
	var text string
	for _, part := range []string{
		quantity(p.GetCandidatesPerSecond()) + "/s",
		"P(found) " + percent(p.GetProbabilityFound()),
		"ETA " + span(p.GetEtaP50()),
		"searched " + quantity(float64(p.GetCandidatesSearched())),
	} {
		longer := strings.TrimPrefix(text+", "+part, ", ")
		if len(longer) > room {
			break
		}
		text = longer
	}
	return text
}

package main

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
)

// quantity returns a number with three digits and an SI prefix, such as "310M". Numbers beyond the prefixes, and
// small ones below one, get an exponent.
func quantity(n float64) string {
	const prefixes = "kMGTPE"
	scaled, prefix := n, ""
	for i := 0; scaled >= 999.5 && i < len(prefixes); i++ {
		scaled, prefix = scaled/1000, prefixes[i:i+1]
	}
	if scaled >= 999.5 {
		return fmt.Sprintf("%.3g", n)
	}
	return fmt.Sprintf("%.3g%s", scaled, prefix)
}

// percent returns a probability in percent, never as 0 or 100 when it is not quite that.
func percent(p float64) string {
	switch {
	case p > 0 && p < 0.0001:
		return "<0.01%"
	case p > 0.9999 && p < 1:
		return ">99.99%"
	case p > 0.999:
		return fmt.Sprintf("%.4g%%", 100*p)
	}
	return fmt.Sprintf("%.3g%%", 100*p)
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// span returns a duration of a message for a person. One that is not set is unknown.
func span(d *durationpb.Duration) string {
	if d == nil {
		return "unknown"
	}
	// time.Duration ends after 292 years, the message after 10000.
	if years := float64(d.GetSeconds()) / year.Seconds(); years >= 2 {
		return fmt.Sprintf("%.3g years", years)
	}
	return roundDuration(d.AsDuration())
}

// roundDuration returns a duration with two or three digits that matter: "12ms", "3.4s", "5m10s", "7h20m", "3d4h".
func roundDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < day:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		d = d.Round(time.Hour)
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
}

package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs"
)

func TestFilter(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	job := &jobs.Job{State: jobs.Running, CreateTime: at, Spec: jobs.Spec{Labels: map[string]string{"team": "red", "q": `a"\b`, "empty": ""}}}
	for filter, want := range map[string]bool{
		"":                        true,
		" \t\n":                   true,
		"state=RUNNING":           true,
		"state = 'RUNNING'":       true,
		`state != "RUNNING"`:      false,
		"state = PENDING":         false,
		"state != PENDING":        true,
		"labels.team=red":         true,
		`labels.team = "blue"`:    false,
		`labels.team != "blue"`:   true,
		`labels.team != "red"`:    false,
		`labels.none = ""`:        false,
		`labels.none != ""`:       true,
		`labels.empty = ""`:       true,
		`labels.q = "a\"\\b"`:     true,
		`labels.q = 'a"\\b'`:      true,
		`labels.team = AND`:       false,
		`labels.team != "A (B) "`: true,

		`create_time > "2026-01-02T03:04:05Z"`:                           false,
		`create_time >= "2026-01-02T03:04:05Z"`:                          true,
		`create_time <= "2026-01-02T04:04:05+01:00"`:                     true,
		`create_time < "2026-01-02T03:04:05Z"`:                           false,
		`create_time < "2026-01-02T03:04:05.001Z"`:                       true,
		`state = RUNNING AND labels.team = "red" AND state != CANCELLED`: true,
		`state = RUNNING AND labels.team = "blue"`:                       false,
	} {
		f, err := parseFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := f.match(job); got != want {
			t.Errorf("%s: got %v, want %v", filter, got, want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for filter, want := range map[string]string{
		"foo = 1":                         "at character 1: unknown field",
		"state":                           "at character 6: expected an operator, not the end",
		"state =":                         "at character 8: expected a value, not the end",
		"state = X":                       `at character 9: unknown state "X"`,
		"state = STATE_UNSPECIFIED":       "at character 9: unknown state",
		"state > RUNNING":                 "at character 7: state is compared",
		"state = RUNNING state = RUNNING": "at character 17: expected AND",
		"state = RUNNING and state = X":   "at character 17: expected AND",
		"state = RUNNING AND":             "at character 20: expected a field",
		"state = RUNNING OR state = X":    "at character 17: OR is not supported",
		"NOT state = RUNNING":             "at character 1: NOT is not supported",
		"(state = RUNNING)":               "at character 1: parentheses",
		"state = (RUNNING)":               "at character 9: parentheses",
		"labels.team:red":                 "at character 12: the operator : is not supported",
		"labels = x":                      "at character 1: unknown field",
		"labels. = x":                     "at character 1: ",
		"labels.Team = x":                 "at character 1: ",
		"labels.a < x":                    "at character 10: labels.a is compared with = or !=",
		`labels.a = "x`:                   "at character 12: the string has no end",
		`labels.a = "x\`:                  "at character 12: the string has no end",
		`"state" = RUNNING`:               "at character 1: expected a field",
		`create_time = "2026-01-01"`:      "at character 13: create_time is compared",
		`create_time > "2026-01-01"`:      "at character 15: ",
		`create_time > 2026`:              "at character 15: ",
		"é = 1":                           "at character 1: unexpected character 'é'",
		"state ! RUNNING":                 "at character 7: unexpected character '!'",
		strings.Repeat(" ", 4097):         "it may have 4096 bytes",
	} {
		_, err := parseFilter(filter)
		var invalid *invalidError
		if !errors.As(err, &invalid) || invalid.field != "filter" || !strings.HasPrefix(invalid.description, want) {
			t.Errorf("%s: got %v, want %s", filter, err, want)
		}
	}
}

// TestFilterQuotes finds any label's value by a filter that quotes it.
func TestFilterQuotes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringN(0, 63, -1).Draw(t, "value")
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)
		f, err := parseFilter(fmt.Sprintf(`labels.a = "%s"`, quoted))
		if err != nil {
			t.Fatal(err)
		}
		if !f.match(&jobs.Job{Spec: jobs.Spec{Labels: map[string]string{"a": value}}}) {
			t.Errorf("%q does not match itself", value)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add(`state = RUNNING AND labels.team != "red" AND create_time > "2026-01-01T00:00:00Z"`)
	f.Add(`labels.a='\`)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseFilter(text)
		var invalid *invalidError
		if err != nil && !errors.As(err, &invalid) {
			t.Errorf("got %v, want a fault of the field", err)
		}
		parsed.match(&jobs.Job{})
	})
}

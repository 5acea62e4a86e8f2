package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// golden compares got with a file, which -update writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestHighlight(t *testing.T) {
	marks := strings.NewReplacer(styleEqual, "<", styleOther, "[", styleNormal, ">")
	for _, test := range []struct{ name, hashed, want string }{
		{"doctor", "Sp0dOCTORuYUE/jHhX6sk5+8rvA=", "Sp0<dOCTOR>uYUE/jHhX6sk5+8rvA="},
		{"doctor", "eCjJMYhG85jPTyRFbEvoctOrA9w=", "eCjJMYhG85jPTyRFbE[v<octOr>A9w="},
		{"sp", "Sp0dOCTORuYUE/jHhX6sk5+8rvA=", "<Sp>0dOCTORuYUE/jHhX6sk5+8rvA="},
		{"rva=", "Sp0dOCTORuYUE/jHhX6sk5+8rvA=", "Sp0dOCTORuYUE/jHhX6sk5+8<rvA=>"},
		{"dcctar", "Sp0dOCTORuYUE/jHhX6sk5+8rvA=", "Sp0<d[O<CT[O<R>uYUE/jHhX6sk5+8rvA="},
		{"..", "Sp0dOCTORuYUE/jHhX6sk5+8rvA=", "[Sp>0dOCTORuYUE/jHhX6sk5+8rvA="},
		{"sp0doctoruyue/jhhx6sk5+8rva=", "Sp0dOCTORuYUE/jHhX6sk5+8rvA=", "<Sp0dOCTORuYUE/jHhX6sk5+8rvA=>"},
		{"", "Sp0dOCTORuYUE/jHhX6sk5+8rvA=", "Sp0dOCTORuYUE/jHhX6sk5+8rvA="},
		{"longer", "short", "short"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := marks.Replace(highlight(test.hashed, test.name)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// The bytes of protojson differ from program to program and from message to message; ours must not.
func TestJSONLine(t *testing.T) {
	var lines strings.Builder
	for _, m := range []proto.Message{
		&hashfinderv1.Hit{},
		&hashfinderv1.Hit{Index: 1<<63 - 1, Secret: []byte{0xff, 0}, HashedName: `<"&">`, HammingDistance: 3},
		&hashfinderv1.Progress{ProbabilityFound: 1e-12, EtaP50: durationpb.New(1500 * time.Millisecond)},
		&hashfinderv1.Job{Labels: map[string]string{"b": "2", "a": "1", "c": "3"}},
	} {
		line, err := jsonLine(m)
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(line + "\n")
	}
	golden(t, "lines.json", lines.String())
}

func TestQuantity(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 0.5: "0.5", 7: "7", 999: "999", 999.6: "1k", 1000: "1k", 58099: "58.1k", 999_499: "999k", 999_500: "1M",
		3.1e8: "310M", 1 << 36: "68.7G", 9.99e20: "999E", 1e21: "1e+21", 3.7e50: "3.7e+50",
	} {
		if got := quantity(n); got != want {
			t.Errorf("quantity(%v) = %s, want %s", n, got, want)
		}
	}
}

func TestPercent(t *testing.T) {
	for p, want := range map[float64]string{
		0: "0%", 1e-9: "<0.01%", 0.0001: "0.01%", 0.123456: "12.3%", 0.99949: "99.95%", 0.99995: ">99.99%", 1: "100%",
	} {
		if got := percent(p); got != want {
			t.Errorf("percent(%v) = %s, want %s", p, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	if got := span(nil); got != "unknown" {
		t.Errorf("span(nil) = %s, want unknown", got)
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 1234567: "1ms", 3450 * time.Millisecond: "3.5s", 310 * time.Second: "5m10s",
		7*time.Hour + 20*time.Minute + 31*time.Second: "7h21m", 76 * time.Hour: "3d4h", 3 * year: "3 years",
	} {
		if got := span(durationpb.New(d)); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
	if got, want := span(&durationpb.Duration{Seconds: int64(5000 * year.Seconds())}), "5e+03 years"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

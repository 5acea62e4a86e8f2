package search_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs/search"
)

func TestHashedName(t *testing.T) {
	for _, test := range []struct{ secret, want string }{
		{"", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
		{"abc", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="}, // RFC 3174, section 7.3, TEST1
		{"\xa4\xed\x06", "Sp0dOCTORuYUE/jHhX6sk5+8rvA="},
	} {
		got := search.HashedName([]byte(test.secret))
		if string(got[:]) != test.want {
			t.Errorf("HashedName(%x) = %s, want %s", test.secret, got[:], test.want)
		}
	}
}

func TestDistance(t *testing.T) {
	hashed := [28]byte([]byte("Sp0dOCTORuYUE/jHhX6sk5+8rvA="))
	for _, test := range []struct {
		about, name string
		want        int
	}{
		{"inside, other case", "doctor", 0},
		{"one differs", "dActor", 1},
		{"at the beginning", "SP0D", 0},
		{"at the end", "rva=", 0},
		{"beyond the end", "a=x", 2},
		{"one character", "z", 1},
		{"outside base64", "doc-or", 1},
		{"signs are not letters of another case", "OCTOR[", 1},
		{"all of it", "sP0dOCTORuYUE/jHhX6sk5+8rvA=", 0},
		{"nothing of it", strings.Repeat("-", 28), 28},
	} {
		t.Run(test.about, func(t *testing.T) {
			if got := search.Distance(test.name, &hashed); got != test.want {
				t.Errorf("Distance(%q, %s) = %d, want %d", test.name, hashed[:], got, test.want)
			}
		})
	}
}

func TestDistanceAgainstWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digest := rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "digest")
		hashed := base64.StdEncoding.EncodeToString(digest)
		name := drawName().Draw(t, "name")
		want := len(name)
		for start := 0; start+len(name) <= len(hashed); start++ {
			want = min(want, hamming(strings.ToLower(hashed[start:start+len(name)]), strings.ToLower(name)))
		}
		if got := search.Distance(name, (*[28]byte)([]byte(hashed))); got != want {
			t.Fatalf("Distance(%q, %s) = %d, want %d", name, hashed, got, want)
		}
	})
}

func hamming(a, b string) int {
	d := 0
	for i := range a {
		if a[i] != b[i] {
			d++
		}
	}
	return d
}

func TestEvaluate(t *testing.T) {
	for _, test := range []struct {
		about  string
		query  search.Query
		want   search.Hit
		report bool
	}{
		{"ideal", search.Query{Name: "doctor"}, search.Hit{Index: 10874375, Distance: 0}, true},
		{"interesting", search.Query{Name: "doctxr", Interesting: 1}, search.Hit{Index: 10874375, Distance: 1}, true},
		{"neither", search.Query{Name: "doctxr"}, search.Hit{Index: 10874375, Distance: 1}, false},
	} {
		t.Run(test.about, func(t *testing.T) {
			if got, report := search.Evaluate(test.query, 10874375); got != test.want || report != test.report {
				t.Errorf("Evaluate = %+v, %t, want %+v, %t", got, report, test.want, test.report)
			}
		})
	}
}

func TestScan(t *testing.T) {
	for _, test := range []struct {
		about  string
		query  search.Query
		lo, hi uint64
		want   []search.Hit
	}{
		{"empty range", search.Query{Name: "a"}, 5, 5, nil},
		{"backward range", search.Query{Name: "a"}, 5, 4, nil},
		{"ideal hit ends", search.Query{Name: "doctor"}, 10874370, 10974370, []search.Hit{{Index: 10874375}}},
		{"hi is not looked at", search.Query{Name: "doctor"}, 10874370, 10874375, nil},
		{"lo is", search.Query{Name: "doctor"}, 10874375, 10874376, []search.Hit{{Index: 10874375}}},
		{"interesting, then ideal", search.Query{Name: "go", Interesting: 1}, 13, 300, []search.Hit{
			{Index: 13, Distance: 1}, {Index: 15, Distance: 1}, {Index: 16, Distance: 1}, {Index: 17, Distance: 0},
		}},
	} {
		t.Run(test.about, func(t *testing.T) {
			var got []search.Hit
			search.Scan(test.query, test.lo, test.hi, func(h search.Hit) bool {
				got = append(got, h)
				return true
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Scan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScanStopsWhenTold(t *testing.T) {
	n := 0
	search.Scan(search.Query{Name: "doctor", Interesting: 6}, 0, 100, func(search.Hit) bool {
		n++
		return n < 3
	})
	if n != 3 {
		t.Errorf("got %d hits, want 3", n)
	}
}

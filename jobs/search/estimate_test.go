package search

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEstimateAgainstSample(t *testing.T) {
	const samples = 100_000
	tests := []struct {
		name string
		d    int
	}{
		{"a", 0},
		{"=", 0},
		{"9", 0},
		{"go", 0},
		{"aa", 0},
		{"a=", 0},
		{"aa", 1},
		{"-a", 1},
		{"==", 1},
		{"abc", 0},
		{"abc", 1},
		{"aaaa", 1},
		{"abab", 2},
		{"8v4=", 2},
		{"doctor", 3},
		{"doctor", 4},
		{"mississippi", 8},  // beyond maxTransitions
		{"abcdefghijkl", 9}, // beyond maxTransitions
		{"28 characters to the end =", 22},
	}
	hits := make([]int, len(tests))
	random := rand.New(rand.NewPCG(1, 2))
	for range samples {
		var sum [24]byte
		for i := 0; i < len(sum); i += 8 {
			binary.BigEndian.PutUint64(sum[i:], random.Uint64())
		}
		var hashed [HashedNameLen]byte
		base64.StdEncoding.Encode(hashed[:], sum[:20])
		for i, test := range tests {
			if Distance(test.name, &hashed) <= test.d {
				hits[i]++
			}
		}
	}
	for i, test := range tests {
		t.Run(fmt.Sprintf("%s/%d", test.name, test.d), func(t *testing.T) {
			got := NewEstimate(Query{Name: test.name, Ideal: test.d}).PerCandidate()
			want := float64(hits[i]) / samples
			tolerance := 5 * math.Sqrt(want*(1-want)/samples)
			if _, exact := exactChance(test.name, test.d); !exact {
				tolerance += want / 5
			}
			if math.Abs(got-want) > tolerance {
				t.Errorf("PerCandidate = %g, sampled %g ± %g", got, want, tolerance)
			}
		})
	}
}

func TestEstimateByHand(t *testing.T) {
	const letter, four = 2.0 / 64, 1.0 / 16
	for _, test := range []struct {
		about string
		name  string
		d     int
		want  float64
	}{
		{"certain", "=", 0, 1},
		{"any", "abc", 3, 1},
		{"last four bits", "a=", 0, four},
		{"last but one, as far as it can", "b=", 1, 1},
		{"full length", strings.Repeat("a", 27) + "=", 0, math.Pow(letter, 26) * four},
		{"27 characters", strings.Repeat("b", 26) + "9", 1, math.Pow(letter, 26)},
		{"not before the padding", "9", 0, 1 - math.Pow(1-1.0/64, 26)},
	} {
		t.Run(test.about, func(t *testing.T) {
			got := NewEstimate(Query{Name: test.name, Ideal: test.d}).PerCandidate()
			if math.Abs(got/test.want-1) > 1e-12 {
				t.Errorf("PerCandidate = %g, want %g", got, test.want)
			}
		})
	}
}

// TestIndependentChance holds the error that independentChance's comment tells,
// in the cases that exactChance can check.
func TestIndependentChance(t *testing.T) {
	for _, test := range []struct {
		name string
		d    int
		most float64
	}{
		{"doctor", 0, 1e-6},
		{"doctor", 1, 1e-6},
		{"doctor", 2, 1e-4},
		{"doctor", 3, 2e-3},
		{"doctor", 4, 0.02},
		{"abcdefgh", 2, 1e-6},
		{"mississippi", 2, 1e-6},
		{"abcaabcaabca", 2, 1e-3},
		{"abcaabcaabca", 10, 0.6},
	} {
		t.Run(fmt.Sprintf("%s/%d", test.name, test.d), func(t *testing.T) {
			want, ok := exactChance(test.name, test.d)
			if !ok {
				t.Fatal("no exact chance to compare with")
			}
			if got := independentChance(test.name, test.d); math.Abs(got/want-1) > test.most {
				t.Errorf("independentChance = %g, want %g within %g of it", got, want, test.most)
			}
		})
	}
}

func TestEstimateQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Estimate{p: math.Pow(2, -rapid.Float64Range(0, 160).Draw(t, "bits"))}
		p := rapid.Float64Range(0, 1).Draw(t, "p")
		n := e.Quantile(p)
		if n != math.Ceil(n) || n < 0 {
			t.Fatalf("Quantile = %g, not a number of candidates", n)
		}
		if got := e.FoundBy(n); got < p*(1-1e-9) {
			t.Fatalf("FoundBy(Quantile(%g)) = %g", p, got)
		}
		if n >= 1 && n < 1<<52 && e.FoundBy(n-1) > p*(1+1e-9) {
			t.Fatalf("Quantile(%g) = %g is not the smallest: %g", p, n, e.FoundBy(n-1))
		}
	})
}

func TestEstimateEdges(t *testing.T) {
	hard := NewEstimate(Query{Name: strings.Repeat("a", 27) + "="})
	always := NewEstimate(Query{Name: "="})
	for _, test := range []struct {
		about     string
		got, want float64
	}{
		{"tiny chances are not lost", hard.FoundBy(1) / hard.PerCandidate(), 1},
		{"they add up", hard.FoundBy(1e6) / hard.PerCandidate(), 1e6},
		{"expected", hard.Expected() * hard.PerCandidate(), 1},
		{"nothing searched", hard.FoundBy(0), 0},
		{"less than nothing", hard.FoundBy(-1), 0},
		{"quantile 0", hard.Quantile(0), 0},
		{"quantile 1", hard.Quantile(1), math.Inf(1)},
		{"always found by the first", always.FoundBy(1), 1},
		{"always, nothing searched", always.FoundBy(0), 0},
		{"always, quantile", always.Quantile(0.5), 1},
		{"always, quantile 1", always.Quantile(1), 1},
		{"always, expected", always.Expected(), 1},
	} {
		t.Run(test.about, func(t *testing.T) {
			if test.got != test.want && math.Abs(test.got/test.want-1) > 1e-9 {
				t.Errorf("got %g, want %g", test.got, test.want)
			}
		})
	}
}

func TestEstimateOfValidQueries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := Query{Name: rapid.StringOfN(rapid.RuneFrom([]rune("abAB18+/=-")), 1, MaxNameLen, -1).Draw(t, "name")}
		q.Ideal = rapid.IntRange(0, len(q.Name)).Draw(t, "ideal")
		if q.Validate() != nil {
			t.Skip("invalid")
		}
		p := NewEstimate(q).PerCandidate()
		if !(p > 0) || p > 1+1e-12 {
			t.Fatalf("PerCandidate = %g", p)
		}
	})
}

func BenchmarkNewEstimate(b *testing.B) {
	for _, q := range []Query{{Name: "doctor"}, {Name: "doctor", Ideal: 2}, {Name: "mississippi", Ideal: 5}} {
		b.Run(fmt.Sprintf("%s/%d", q.Name, q.Ideal), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NewEstimate(q)
			}
		})
	}
}

//go:build amd64 && !purego

package kernel

import (
	"crypto/sha1"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// requireAVX512 skips the test where the kernel does not run. That this is for
// a good reason, TestKernelsOfThisMachine sees to.
func requireAVX512(t testing.TB) {
	t.Helper()
	if !slices.Contains(All(), Kernel(AVX512{})) {
		t.Skip("no AVX-512")
	}
}

// TestAVX512Hasher compares all digests of some steps with crypto/sha1, in the
// first, the second and a far block of each length, steps in and out of order.
func TestAVX512Hasher(t *testing.T) {
	requireAVX512(t)
	h := new(avx512Hasher)
	for n := 3; n <= maxSecretLen; n++ {
		t.Run(fmt.Sprintf("%d bytes", n), func(t *testing.T) {
			for i := range avx512Plans[n] {
				plan := &avx512Plans[n][i]
				h.begin(n, plan)
				far := uint64(0xfedcba9876543210) >> (64 - 8*n)
				for _, block := range []uint64{0, plan.size(), far / plan.size() * plan.size()} {
					h.block(block)
					for _, step := range []uint64{0, 1, 2, plan.stepCount() - 1, 5} {
						h.step(step)
						for v := 0; v < avx512Vectors; v += avx512Batch {
							h.hash(v)
							checkBatch(t, h, search.LengthStart(n)+block+step<<avx512StepLow+uint64(v))
						}
					}
				}
			}
		})
	}
}

// checkBatch compares the batch whose first candidate has index at.
func checkBatch(t *testing.T, h *avx512Hasher, at uint64) {
	t.Helper()
	for v := range avx512Batch {
		for lane := range avx512Lanes {
			index := at + uint64(lane)<<h.plan.laneLow + uint64(v)
			sum := sha1.Sum(search.AppendSecret(nil, index))
			if got, want := h.digest(v, lane), newDigest(&sum); got != want {
				t.Fatalf("digest of index %d = %x, want %x", index, got, want)
			}
		}
	}
}

// TestSelfTestFindsWrongDigests holds that the self-test looks at every plan,
// those too that only long searches use.
func TestSelfTestFindsWrongDigests(t *testing.T) {
	requireAVX512(t)
	for n := range avx512Plans {
		for i := range avx512Plans[n] {
			plan := &avx512Plans[n][i]
			hash := plan.hash
			plan.hash = func(table *[96][avx512Lanes]uint32, change *[2][32]uint32, rows *[64]uint32, fresh *[4][32]uint32, digests *[5][avx512Lanes]uint32, count int) {
				hash(table, change, rows, fresh, digests, count)
				digests[4][3] ^= 1 << 7
			}
			err := SelfTest(AVX512{})
			plan.hash = hash
			if err == nil {
				t.Errorf("SelfTest found no fault in plan %d for %d bytes", i, n)
			}
		}
	}
}

// TestAVX512Twin compares with the generic kernel in ranges of one to three
// blocks, with names for each way to match.
func TestAVX512Twin(t *testing.T) {
	requireAVX512(t)
	random := rand.New(rand.NewPCG(1, 2))
	for _, test := range []struct {
		about   string
		queries []Query
	}{
		{"sequence", []Query{{Query: search.Query{Name: "d0c"}}}},
		{"sequence to the padding", []Query{{Query: search.Query{Name: "7M="}}}},
		{"outside base64", []Query{{Query: search.Query{Name: "a-b", Interesting: 1}}}},
		{"one character", []Query{{Query: search.Query{Name: "q"}}}},
		{"every candidate", []Query{{Query: search.Query{Name: "doctor", Interesting: 6}, MaxHits: 20_000}}},
		{"pieces", []Query{{Query: search.Query{Name: "doctor", Interesting: 1}}}},
		{"pieces to the padding", []Query{{Query: search.Query{Name: "doc7M=", Interesting: 1}}}},
		{"pieces of a long name", []Query{{Query: search.Query{Name: "doc-ors+", Interesting: 1}}}},
		{"filter of 5", []Query{{Query: search.Query{Name: "docto", Interesting: 1}}}},
		{"filter of 6", []Query{{Query: search.Query{Name: "doctor", Interesting: 2}}}},
		{"filter of 7", []Query{{Query: search.Query{Name: "a+b/c8=", Interesting: 3}}}},
		{"filter of 8", []Query{{Query: search.Query{Name: "hashfinder", Interesting: 4}}}},
		{"13 % hit", []Query{{Query: search.Query{Name: "goph", Interesting: 2}}}},
		{"13 % hit, ended by hits", []Query{{Query: search.Query{Name: "goph", Interesting: 2}, MaxHits: 3000}}},
		{"two groups", []Query{{Query: search.Query{Name: "thequickbrown", Interesting: 9}}}},
		{"four groups", []Query{{Query: search.Query{Name: "the+quick/brown8fox0jumped=", Interesting: 21}}}},
		{"full length", []Query{{Query: search.Query{Name: "THE+quick/brown8FOX0jumped0=", Interesting: 22}}}},
		{"ideal ends it", []Query{{Query: search.Query{Name: "doctor", Ideal: 2, Interesting: 3}}}},
		{"many", []Query{
			{Query: search.Query{Name: "doctor", Ideal: 1, Interesting: 3}},
			{Query: search.Query{Name: "goph", Interesting: 2}, MaxHits: 10},
			{Query: search.Query{Name: "go=", Interesting: 1}},
			{Query: search.Query{Name: "hash"}},
			{Query: search.Query{Name: "abcdefghijkl", Interesting: 8}},
		}},
	} {
		t.Run(test.about, func(t *testing.T) {
			for n := 3; n <= maxSecretLen; n++ {
				size := avx512Plans[n][1].size()
				lo := search.LengthStart(n) + random.Uint64N(1<<(8*n-1))
				hi := lo + size/4 + random.Uint64N(2*size)
				queries := slices.Clone(test.queries)
				for i := range queries {
					// Ideal 0 would end most of them at once.
					if queries[i].Ideal == 0 {
						queries[i].Ideal = -1
					}
					queries[i].End = math.MaxUint64
					if i%3 == 1 {
						queries[i].End = lo + (hi-lo)/2
					}
				}
				got, gotThrough := collect(AVX512{}, queries, lo, hi)
				want, wantThrough := collect(Generic{}, queries, lo, hi)
				if gotThrough != wantThrough || !slices.Equal(got, want) {
					t.Fatalf("Scan of [%d, %d) = %d with %d hits, want %d with %d",
						lo, hi, gotThrough, len(got), wantThrough, len(want))
				}
			}
		})
	}
}

func collect(k Kernel, queries []Query, lo, hi uint64) (hits []Hit, through uint64) {
	var stop atomic.Bool
	through = k.Scan(queries, lo, hi, &stop, func(_ uint64, found []Hit) { hits = append(hits, found...) })
	return hits, through
}

// TestAVX512LargeBlocks compares with the generic kernel where large blocks are
// in the range, with less than a block before and behind them.
func TestAVX512LargeBlocks(t *testing.T) {
	requireAVX512(t)
	queries := []Query{
		{Query: search.Query{Name: "doc", Ideal: -1}, End: math.MaxUint64},
		{Query: search.Query{Name: "doctor", Ideal: -1, Interesting: 2}, End: math.MaxUint64, MaxHits: 300},
		{Query: search.Query{Name: "goph", Ideal: 0, Interesting: 0}, End: math.MaxUint64},
	}
	for n := 3; n <= maxSecretLen; n++ {
		t.Run(fmt.Sprintf("%d bytes", n), func(t *testing.T) {
			size := avx512Plans[n][0].size()
			lo := search.LengthStart(n) + 5*size - 1000
			hi := lo + size + 80_000
			queries := queries[:1+n%2*2] // hits of several have to be sorted
			got, gotThrough := collect(AVX512{}, queries, lo, hi)
			want, wantThrough := collect(Generic{}, queries, lo, hi)
			if gotThrough != wantThrough || !slices.Equal(got, want) {
				t.Fatalf("Scan of [%d, %d) = %d with %d hits, want %d with %d",
					lo, hi, gotThrough, len(got), wantThrough, len(want))
			}
		})
	}
}

// TestAVX512AcrossLengths goes on from one length to the next in one Scan.
func TestAVX512AcrossLengths(t *testing.T) {
	requireAVX512(t)
	queries := []Query{{Query: search.Query{Name: "doc", Ideal: -1}, End: math.MaxUint64}}
	for n := 3; n <= maxSecretLen; n++ {
		lo, hi := search.LengthStart(n)-min(search.LengthStart(n), 70_000), search.LengthStart(n)+70_000
		got, gotThrough := collect(AVX512{}, queries, lo, hi)
		want, wantThrough := collect(Generic{}, queries, lo, hi)
		if gotThrough != wantThrough || !slices.Equal(got, want) {
			t.Fatalf("Scan of [%d, %d) = %d with %d hits, want %d with %d", lo, hi, gotThrough, len(got), wantThrough, len(want))
		}
	}
}

// TestAVX512Full has more hits in a block than are kept.
func TestAVX512Full(t *testing.T) {
	requireAVX512(t)
	queries := slices.Repeat([]Query{{Query: search.Query{Name: "go", Ideal: -1, Interesting: 2}, End: math.MaxUint64}}, 20)
	lo := search.LengthStart(4)
	hi := lo + avx512Plans[4][1].size()
	next := uint64(0)
	through := AVX512{}.Scan(queries, lo, hi, new(atomic.Bool), func(_ uint64, hits []Hit) {
		for _, h := range hits {
			if want := (next / 20) + lo; h.Index != want || h.Query != int(next%20) {
				t.Fatalf("hit %+v, want query %d at %d", h, next%20, want)
			}
			next++
		}
	})
	if through != hi || next != 20*(hi-lo) {
		t.Errorf("Scan = %d with %d hits, want %d with %d", through, next, hi, 20*(hi-lo))
	}
}

// BenchmarkAVX512Hasher measures the hashing of a block's steps, and reports
// nanoseconds for a vector of 16 candidates.
func BenchmarkAVX512Hasher(b *testing.B) {
	requireAVX512(b)
	h := new(avx512Hasher)
	for n := 3; n <= maxSecretLen; n++ {
		b.Run(fmt.Sprintf("%d bytes", n), func(b *testing.B) {
			b.ReportAllocs()
			h.begin(n, &avx512Plans[n][0])
			h.block(0)
			steps := uint64(0)
			for b.Loop() {
				h.step(steps % h.plan.stepCount())
				for v := 0; v < avx512Vectors; v += avx512Batch {
					h.hash(v)
				}
				steps++
			}
			reportVectors(b, steps*avx512Vectors)
		})
	}
}

// BenchmarkAVX512Filter measures one query's look at a batch of digests, where
// it is a filter's, without that at what is flagged; and reports nanoseconds
// for a vector of 16 candidates.
func BenchmarkAVX512Filter(b *testing.B) {
	requireAVX512(b)
	h := new(avx512Hasher)
	h.begin(4, &avx512Plans[4][0])
	h.block(0)
	h.step(0)
	h.hash(0)
	for _, q := range []search.Query{
		{Name: "doct"},
		{Name: "doctor"},
		{Name: "docto", Interesting: 1},
		{Name: "doctor", Interesting: 1},
		{Name: "doctor", Interesting: 2},
		{Name: "hashfinder", Interesting: 3},
		{Name: "hashfinder", Interesting: 4},
		{Name: "doct", Interesting: 2}, // no filter
	} {
		b.Run(fmt.Sprintf("%s/%d", q.Name, q.Interesting), func(b *testing.B) {
			b.ReportAllocs()
			q.Ideal = -1
			m := newMatcher(0, Query{Query: q, End: math.MaxUint64})
			vm := newAVX512Matcher(&m)
			vectors := uint64(0)
			for b.Loop() {
				vm.flag(h)
				vectors += avx512Batch
			}
			reportVectors(b, vectors)
		})
	}
}

func reportVectors(b *testing.B, n uint64) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/vector")
}

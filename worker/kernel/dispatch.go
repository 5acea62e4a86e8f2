package kernel

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/search"
)

//go:generate go run -C _gen . -dir ..

// Best returns the fastest kernel that runs on this machine.
func Best() Kernel { return All()[0] }

// All returns the kernels that run on this machine, the fastest first. The
// last is the generic one, which runs on every machine.
func All() []Kernel { return append(vectorKernels(), Generic{}) }

const (
	// selfTestSpan is how many indexes SelfTest looks at in each place.
	selfTestSpan = 512
	// selfTestBlock is how many it looks at in a second place: as many as the
	// kernels in assembly compute in all of their lanes.
	selfTestBlock = 1 << 16
)

// digester is a kernel that can compare the digests which it computes, in all
// the ways that it has for all lengths of secrets, with those of crypto/sha1.
type digester interface{ checkDigests() error }

// SelfTest compares k with [search.Scan] in short ranges of every length of
// secret and, unless it is the generic kernel, with that one in longer ranges:
// of every length, too, or of one if k can check its digests otherwise. It
// returns an error for the first difference. It takes 40 ms, most of them in the
// plain scan and the generic kernel, and is meant to run before k is put to work.
func SelfTest(k Kernel) error {
	queries := []search.Query{
		{Name: "doctor", Ideal: 1, Interesting: 3},
		{Name: "7Q", Ideal: 0, Interesting: 0},
		{Name: "a-b+C/9", Ideal: 2, Interesting: 4},
		{Name: "sixteen letters=", Ideal: 9, Interesting: 11},
	}
	for n := range maxSecretLen + 1 {
		// Across the start of the length, and in its middle off any alignment.
		start := search.LengthStart(n)
		for _, lo := range []uint64{start - min(start, selfTestSpan/2), start + start*100 + 77} {
			if err := compare(k, queries, lo, lo+selfTestSpan); err != nil {
				return err
			}
		}
	}
	if _, ok := k.(Generic); ok {
		return nil
	}
	// Names and distances for each way in which a kernel can match.
	queries = []search.Query{
		{Name: "Doc", Ideal: -1, Interesting: 0},
		{Name: "7+doc", Ideal: -1, Interesting: 1},
		{Name: "doctor", Ideal: -1, Interesting: 2},
		{Name: "gopher=", Ideal: -1, Interesting: 3},
		{Name: "hash/map", Ideal: -1, Interesting: 4},
		{Name: "goph", Ideal: -1, Interesting: 2},
		{Name: "more than sixteen letters", Ideal: -1, Interesting: 20},
	}
	lengths := []int{3, 4, 5, 6, 7, 8}
	if k, ok := k.(digester); ok {
		if err := k.checkDigests(); err != nil {
			return err
		}
		lengths = lengths[1:2]
	}
	for _, n := range lengths {
		lo := search.LengthStart(n) + 100*selfTestBlock
		if err := compareTwin(k, queries, lo, lo+selfTestBlock); err != nil {
			return err
		}
	}
	return nil
}

// compareTwin returns an error unless k finds what the generic kernel finds in
// [lo, hi).
func compareTwin(k Kernel, queries []search.Query, lo, hi uint64) error {
	pass := make([]Query, len(queries))
	for i, q := range queries {
		pass[i] = Query{Query: q, End: hi}
	}
	find := func(k Kernel) (hits []Hit) {
		var stop atomic.Bool
		k.Scan(pass, lo, hi, &stop, func(_ uint64, found []Hit) { hits = append(hits, found...) })
		return hits
	}
	got, want := find(k), find(Generic{})
	for i := range max(len(got), len(want)) {
		if i == min(len(got), len(want)) || got[i] != want[i] {
			return fmt.Errorf("kernel %s: %d hits in [%d, %d), of which hit %d is wrong or missing, want %d hits",
				k.Name(), len(got), lo, hi, i, len(want))
		}
	}
	return nil
}

// checkDigest returns an error unless got is the digest of the secret.
func checkDigest(k Kernel, got digest, index uint64) error {
	if got != sumDigest(search.AppendSecret(nil, index)) {
		return fmt.Errorf("kernel %s: wrong digest of the secret with index %d", k.Name(), index)
	}
	return nil
}

// compare returns an error unless k finds what search.Scan finds in [lo, hi).
func compare(k Kernel, queries []search.Query, lo, hi uint64) error {
	pass := make([]Query, len(queries))
	want := make([][]search.Hit, len(queries))
	for i, q := range queries {
		pass[i] = Query{Query: q, End: hi}
		search.Scan(q, lo, hi, func(h search.Hit) bool {
			want[i] = append(want[i], h)
			return true
		})
	}
	got := make([][]search.Hit, len(queries))
	var stop atomic.Bool
	through := k.Scan(pass, lo, hi, &stop, func(_ uint64, hits []Hit) {
		for _, h := range hits {
			got[h.Query] = append(got[h.Query], h.Hit)
		}
	})
	if through != hi { // not all of the queries end early
		return fmt.Errorf("kernel %s: searched [%d, %d) only through %d", k.Name(), lo, hi, through)
	}
	for i := range queries {
		if !slices.Equal(got[i], want[i]) {
			return fmt.Errorf("kernel %s: wrong hits for %q in [%d, %d): got %v, want %v",
				k.Name(), queries[i].Name, lo, hi, got[i], want[i])
		}
	}
	return nil
}

package main

import (
	"math/rand/v2"
	"testing"
)

// TestExpandIsLinear tests what the split of the schedule rests on.
func TestExpandIsLinear(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var a, b, both [16]uint32
		for i := range both {
			a[i], b[i] = random.Uint32(), random.Uint32()
			both[i] = a[i] ^ b[i]
		}
		x, y := expand(a), expand(b)
		for i, w := range expand(both) {
			if w != x[i]^y[i] {
				t.Fatalf("word %d of the sum is %x, the sum of the words %x", i, w, x[i]^y[i])
			}
		}
	}
}

// TestPlans holds the numbers of terms, which are most of a kernel's speed.
func TestPlans(t *testing.T) {
	for _, test := range []struct {
		secretLen, laneCount, maxBlock int
		terms, low                     int
	}{
		{3, 4, 24, 135, 18},
		{4, 4, 32, 135, 18},
		{4, 4, 20, 138, 16},
		{4, 4, 16, 147, 12},
		{5, 4, 40, 120, 19},
		{6, 4, 20, 122, 16},
		{8, 4, 20, 136, 16},
	} {
		p := plans(test.secretLen, test.laneCount, test.maxBlock)[0]
		if p.terms != test.terms || p.lane.low != test.low {
			t.Errorf("%d bytes, blocks of 2^%d: %v; want %d terms, lanes from bit %d",
				test.secretLen, test.maxBlock, &p, test.terms, test.low)
		}
	}
}

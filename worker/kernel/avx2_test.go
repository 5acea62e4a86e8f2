//go:build amd64 && !purego

package kernel

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/cpu"

	"github.com/hashfinder/hashfinder/jobs/search"
)

func needAVX2(t *testing.T) {
	t.Helper()
	if !cpu.X86.HasAVX2 {
		t.Skip("no AVX2")
	}
}

// TestAVX2Hasher compares all rows of blocks at the beginning, in the middle
// and at the end of each length.
func TestAVX2Hasher(t *testing.T) {
	needAVX2(t)
	h := new(avx2Hasher)
	for n := avx2ShortestSecret; n <= maxSecretLen; n++ {
		h.begin(n)
		last := uint64(1)<<(8*n-11) - 1
		if n == maxSecretLen {
			last = 0xfdfdfdfdfdfdfdfd / avx2Block
		}
		for _, block := range []uint64{0, 1, last / 3, last} {
			h.setBlock(block)
			for row := 0; row < avx2Rows; row += avx2Stretch {
				var digests [avx2Stretch]avx2Digests
				h.hash(row, avx2Stretch/2, &digests)
				for i := range avx2Stretch * avx2Lanes {
					index := search.LengthStart(n) + block*avx2Block + uint64(row*avx2Lanes+i)
					got := avx2Digest(&digests[i/avx2Lanes], i%avx2Lanes)
					if want := sumDigest(search.AppendSecret(nil, index)); got != want {
						t.Fatalf("%d bytes, block %d, row %d, lane %d: %x, want %x", n, block, row+i/avx2Lanes, i%avx2Lanes, got, want)
					}
				}
			}
		}
	}
}

// TestAVX2HashPairs holds that no row is written but those asked for.
func TestAVX2HashPairs(t *testing.T) {
	needAVX2(t)
	h := new(avx2Hasher)
	h.begin(4)
	h.setBlock(1)
	var all [avx2Stretch]avx2Digests
	h.hash(0, avx2Stretch/2, &all)
	for pairs := 1; pairs < avx2Stretch/2; pairs++ {
		var some [avx2Stretch]avx2Digests
		h.hash(0, pairs, &some)
		for r := range some {
			if want := [2]avx2Digests{{}, all[r]}[min(1, 2*pairs/(r+1))]; some[r] != want {
				t.Fatalf("%d pairs: row %d is wrong", pairs, r)
			}
		}
	}
}

// randomDigests returns digests of no candidates. In some of them name is at a
// place, up to so many characters, and in any case.
func randomDigests(r *rand.Rand, name string, mismatches int) (digests [avx2Stretch]avx2Digests) {
	for row := range digests {
		for lane := range avx2Lanes {
			var text [7]uint32 // 24 bits, which are four codes
			for i := range text {
				text[i] = r.Uint32() >> 8
			}
			if r.IntN(2) == 0 {
				start := r.IntN(search.HashedNameLen - len(name) + 1)
				for i := range len(name) {
					if codes := avx2Codes[class(name[i])]; len(codes) > 0 {
						at := start + i
						shift := 18 - 6*(at%4)
						text[at/4] = text[at/4]&^(63<<shift) | uint32(codes[r.IntN(len(codes))])<<shift
					}
				}
				for range mismatches {
					at := start + r.IntN(len(name))
					text[at/4] ^= r.Uint32() & 63 << (18 - 6*(at%4))
				}
			}
			d := &digests[row]
			d[0][lane] = text[0]<<8 | text[1]>>16
			d[1][lane] = text[1]<<16 | text[2]>>8
			d[2][lane] = text[2]<<24 | text[3]
			d[3][lane] = text[4]<<8 | text[5]>>16
			d[4][lane] = text[5]<<16 | text[6]>>8
		}
	}
	return digests
}

// TestAVX2Filters holds that both kinds of filter flag all hits, and that
// counts are exact.
func TestAVX2Filters(t *testing.T) {
	needAVX2(t)
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	for n := 1; n <= search.MaxNameLen; n++ {
		for bound := range n {
			name := make([]byte, n)
			for i := range name {
				name[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=-"[r.IntN(66)]
			}
			q := search.Query{Name: string(name), Ideal: -1, Interesting: bound}
			t.Run(fmt.Sprintf("%s/%d", name, bound), func(t *testing.T) {
				checkAVX2Filters(t, q, randomDigests(r, q.Name, bound))
			})
		}
	}
}

func checkAVX2Filters(t *testing.T, q search.Query, digests [avx2Stretch]avx2Digests) {
	t.Helper()
	var f avx2Filter
	pieces := make([]avx2Piece, avx2PieceCount(q))
	f.set(q, pieces, 1)
	if len(pieces) > 0 {
		avx2Flag(&digests[0], avx2Stretch, &[]*[avx2Stretch]uint8{&f.flags}[0], 1)
	}
	c := newAVX2Count(q, (search.HashedNameLen-len(q.Name))/4+1)
	var text [28][avx2Lanes]uint32
	avx2CountMost(&digests[0], avx2Stretch, &[]*[avx2Stretch][avx2Lanes]uint32{&c.most}[0], 1, &text)

	m := newMatcher(0, Query{Query: q})
	for row := range digests {
		for lane := range avx2Lanes {
			var text places
			text.fill(avx2Digest(&digests[row], lane))
			want := m.distance(&text)
			if got := len(q.Name) - int(c.most[row][lane]); got != want {
				t.Fatalf("%q: distance %d by count, want %d", q.Name, got, want)
			}
			if got := c.flags[row]>>lane&1 != 0; got != (want <= q.Bound()) {
				t.Fatalf("%q: count flags %t, the distance is %d", q.Name, got, want)
			}
			if want <= q.Bound() && f.flags[row]>>lane&1 == 0 {
				t.Fatalf("%q: not flagged by its pieces, the distance is %d", q.Name, want)
			}
		}
	}
}

// TestAVX2Flagged holds that pieces flag as few candidates as the choice of
// the filter relies on.
func TestAVX2Flagged(t *testing.T) {
	needAVX2(t)
	r := rand.New(rand.NewPCG(1, 0))
	for _, q := range []search.Query{
		{Name: "abc"},
		{Name: "goph"},
		{Name: "doctor", Interesting: 1},
		{Name: "hashfinder", Interesting: 3},
	} {
		t.Run(fmt.Sprintf("%s/%d", q.Name, q.Interesting), func(t *testing.T) {
			pieces := make([]avx2Piece, avx2PieceCount(q))
			want := 0.0
			for i := range pieces {
				n := len(q.Name)
				want += pieces[i].set(q.Name, i*n/len(pieces), (i+1)*n/len(pieces))
			}
			f := avx2Filter{pieces: pieces}
			flagged := 0
			const rounds = 400
			for range rounds {
				digests := randomDigests(r, "-", 0)
				avx2Flag(&digests[0], avx2Stretch, &[]*[avx2Stretch]uint8{&f.flags}[0], 1)
				for _, flags := range f.flags {
					flagged += bits.OnesCount8(flags)
				}
			}
			got := float64(flagged) / (rounds * avx2Stretch * avx2Lanes)
			if got > 1.2*want+1e-4 || got < 0.8*want-1e-4 {
				t.Errorf("flagged %.3g of the candidates, want %.3g", got, want)
			}
		})
	}
}

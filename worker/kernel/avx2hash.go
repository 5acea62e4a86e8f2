//go:build amd64 && !purego

package kernel

import (
	"math/bits"

	"github.com/hashfinder/hashfinder/jobs/search"
)

const (
	avx2Lanes = 8                    // candidates of a row, by the lowest bits of the index
	avx2Rows  = 1 << 8               // rows of a block, by the next ones
	avx2Block = avx2Lanes * avx2Rows // candidates of a block

	// avx2ShortestSecret is the length of the shortest secrets that are hashed.
	avx2ShortestSecret = 3
)

// avx2Digests are the digests of a row, word by word.
type avx2Digests = [5][avx2Lanes]uint32

// avx2Hasher computes the digests of a block's rows. The message schedule is
// linear over xor: each word is made of a part that the lane decides, one that
// the row does, and one that is the same in the block. Where the bits of the
// former two are different ones, the sum is the same as the xor.
type avx2Hasher struct {
	// words are the parts of the lanes, with what is the same in the block and
	// not in slow. In those that sums are made of, the round's constants, too.
	words [80][avx2Lanes]uint32
	// slow has the words that rows decide on, of these the bits that they
	// change, for what is the same in the block.
	slow  [64]uint32
	rows  [avx2Rows][64]uint32 // what they change
	fresh [2][64]uint32        // for compute

	length  int    // of the secrets
	block   uint64 // number of the block, plus one
	lanes   [80][avx2Lanes]uint32
	rowBits [80]uint32 // the bits that rows change
	added   [80]uint32 // constants

	compute func(words *[80][8]uint32, slow *[64]uint32, rows *[64]uint32, fresh *[2][64]uint32, digests *[5][8]uint32, pairs int)
}

// begin makes ready for secrets of n bytes.
func (h *avx2Hasher) begin(n int) {
	if h.length == n {
		return
	}
	h.length, h.block = n, 0
	h.compute = [...]func(words *[80][8]uint32, slow *[64]uint32, rows *[64]uint32, fresh *[2][64]uint32, digests *[5][8]uint32, pairs int){
		avx2Hash3, avx2Hash4, avx2Hash5, avx2Hash6, avx2Hash7, avx2Hash8,
	}[n-avx2ShortestSecret]

	var laneBits [80]uint32
	for lane := range avx2Lanes {
		for t, w := range expand(message(n, uint64(lane))) {
			h.lanes[t][lane] = w
			laneBits[t] |= w
		}
	}
	h.rowBits = [80]uint32{}
	var single [8][80]uint32 // bits of the row's number
	for i := range single {
		single[i] = expand(message(n, avx2Lanes<<i))
		for t, w := range single[i] {
			h.rowBits[t] |= w
		}
	}
	place := 0
	for t, changed := range h.rowBits {
		if changed == 0 {
			continue
		}
		for r := 1; r < avx2Rows; r++ {
			h.rows[r][place] = h.rows[r&(r-1)][place] ^ single[bits.TrailingZeros(uint(r))][t]
		}
		place++
	}
	h.added = avx2Constants()
	for t := range h.added {
		if laneBits[t]&h.rowBits[t] != 0 {
			h.added[t] = 0 // the xor comes first
		}
	}
}

// setBlock goes to a block. The first one has the secret of zeros.
func (h *avx2Hasher) setBlock(number uint64) {
	if h.block == number+1 {
		return
	}
	h.block = number + 1
	m := message(h.length, number*avx2Block)
	m[h.length/4] |= 0x80 << (24 - 8*(h.length%4)) // the padding
	m[15] = uint32(8 * h.length)
	place := 0
	for t, w := range expand(m) {
		if changed := h.rowBits[t]; changed != 0 {
			h.slow[place] = w & changed
			w &^= changed
			place++
		}
		for lane := range avx2Lanes {
			h.words[t][lane] = (h.lanes[t][lane] ^ w) + h.added[t]
		}
	}
}

// hash computes the digests of so many pairs of rows. The first row has an
// even number.
func (h *avx2Hasher) hash(row, pairs int, digests *[avx2Stretch]avx2Digests) {
	h.compute(&h.words, &h.slow, &h.rows[row], &h.fresh, &digests[0], pairs)
}

// checkDigests checks a block of each length.
func (k AVX2) checkDigests() error {
	h := new(avx2Hasher)
	var digests [avx2Stretch]avx2Digests
	for n := avx2ShortestSecret; n <= maxSecretLen; n++ {
		h.begin(n)
		h.setBlock(1)
		for row := 0; row < avx2Rows; row += avx2Stretch {
			h.hash(row, avx2Stretch/2, &digests)
			at := search.LengthStart(n) + avx2Block + uint64(row*avx2Lanes)
			for i := range avx2Stretch * avx2Lanes {
				if err := checkDigest(k, avx2Digest(&digests[i/avx2Lanes], i%avx2Lanes), at+uint64(i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// avx2Digest returns the digest of a lane.
func avx2Digest(d *avx2Digests, lane int) digest {
	return digest{
		first:  uint64(d[0][lane])<<32 | uint64(d[1][lane]),
		second: uint64(d[2][lane])<<32 | uint64(d[3][lane]),
		last:   d[4][lane],
	}
}

// avx2Constants returns what is added to each word: the round's constant (FIPS
// 180-4, section 4.2.1), and in the first five rounds all else that does not
// depend on the candidate. The last round's has the first of the initial words
// that the digest is added to.
func avx2Constants() (added [80]uint32) {
	a, b, c, d, e := uint32(0x67452301), uint32(0xefcdab89), uint32(0x98badcfe), uint32(0x10325476), uint32(0xc3d2e1f0)
	for t := range added {
		added[t] = [4]uint32{0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6}[t/20]
	}
	a30, b30 := bits.RotateLeft32(a, 30), bits.RotateLeft32(b, 30)
	added[0] += bits.RotateLeft32(a, 5) + (b&c | ^b&d) + e
	added[1] += (a&b30 | ^a&c) + d
	added[2] += c
	added[3] += b30
	added[4] += a30
	added[79] += a
	return added
}

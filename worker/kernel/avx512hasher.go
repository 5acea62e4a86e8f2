//go:build amd64 && !purego

package kernel

import (
	"math/bits"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// The sizes that the generated functions have been made with.
const (
	avx512Lanes   = 16
	avx512Vectors = 1 << avx512StepLow // vectors of a step
	avx512StepLow = 8                  // lowest bit of the index that counts steps
)

// avx512Batch is how many vectors are hashed before they are matched. Their
// digests stay in the first cache.
const avx512Batch = 32

// avx512Plan says which bits of a secret of one length vary where: from the
// lowest bit of the index up 8 bits for the vectors of a step, the bits that
// count the steps of a block, and from laneLow on 4 bits for the lanes. So in
// a block each lane walks through 2^laneLow indexes in their order.
type avx512Plan struct {
	laneLow uint
	row     []rowWord
	dynamic int // as many of the words of row change with the step: the first

	constants func(table *[96][avx512Lanes]uint32)
	step      func(table *[96][avx512Lanes]uint32, lanes *[80][avx512Lanes]uint32, slow *[80]uint32)
	hash      func(table *[96][avx512Lanes]uint32, change *[2][32]uint32, rows *[64]uint32, fresh *[4][32]uint32, digests *[5][avx512Lanes]uint32, count int)
}

// rowWord is a word of the message schedule as far as it is the same in all
// lanes. What the bits of a vector's number make of it is changed by those of
// the block and the step: xor mask, plus add.
type rowWord struct {
	place     int // in a row
	word      int
	mask, add uint32
}

// avx512Hasher computes the digests of a block, step by step.
type avx512Hasher struct {
	// Aligned, as long as all of it is large enough for pages of its own.
	table   [96][avx512Lanes]uint32 // what the vectors of a step have in common
	rows    [avx512Vectors][64]uint32
	raw     [avx512Vectors][64]uint32
	lanes   [80][avx512Lanes]uint32 // the message schedules of the lanes' bits alone
	digests [avx512Batch][5][avx512Lanes]uint32
	change  [2][32]uint32
	fresh   [4][32]uint32
	static  [2][64]uint32

	plan      *avx512Plan
	secretLen int
	slow      [80]uint32 // the message schedule without lane and vector
	// counting[i] is the change of slow when the step's number changes in its
	// bits 0 to i.
	counting [16][80]uint32
	at       uint64 // number of the step
}

// begin makes ready for secrets of n bytes.
func (h *avx512Hasher) begin(n int, plan *avx512Plan) {
	h.plan, h.secretLen = plan, n
	h.static, h.change = [2][64]uint32{}, [2][32]uint32{} // not all of them have a word
	h.plan.constants(&h.table)
	for lane := range avx512Lanes {
		for t, w := range expand(message(n, uint64(lane)<<plan.laneLow)) {
			h.lanes[t][lane] = w
		}
	}
	for v := range h.raw {
		if v&(v-1) == 0 {
			words := expand(message(n, uint64(v)))
			h.raw[v] = [64]uint32{}
			for _, w := range plan.row {
				h.raw[v][w.place] = words[w.word]
			}
			continue
		}
		// The schedule is linear over xor.
		one, rest := &h.raw[v&-v], &h.raw[v&(v-1)]
		for i := range h.raw[v] {
			h.raw[v][i] = one[i] ^ rest[i]
		}
	}
	for i := range plan.laneLow - avx512StepLow {
		h.counting[i] = expand(message(n, (2<<i-1)<<avx512StepLow))
	}
}

// block goes to the first step of the block that begins with the secret.
func (h *avx512Hasher) block(secret uint64) {
	block := message(h.secretLen, secret)
	block[h.secretLen/4] |= 0x80 << (24 - 8*(h.secretLen%4)) // the padding
	block[15] = uint32(8 * h.secretLen)
	h.slow = expand(block)
	h.at = 0
	for _, w := range h.plan.row[h.plan.dynamic:] {
		h.static[0][w.place] = h.slow[w.word] & w.mask
		h.static[1][w.place] = w.add
	}
	avx512Rows(&h.rows, &h.raw, &h.static)
	for i, w := range h.plan.row[:h.plan.dynamic] {
		h.change[1][i] = w.add
	}
}

// step goes to a step of the block. The steps may be taken in any order; the
// next one is the fastest to go to.
func (h *avx512Hasher) step(number uint64) {
	for h.at != number {
		// All of the lowest bits that differ change at once.
		i := bits.Len64(h.at^number) - 1
		if number == h.at+1 {
			h.at = number
		} else {
			h.at ^= 2<<i - 1
		}
		change := &h.counting[i]
		for t := range h.slow {
			h.slow[t] ^= change[t]
		}
	}
	for i, w := range h.plan.row[:h.plan.dynamic] {
		h.change[0][i] = h.slow[w.word] & w.mask
	}
	h.plan.step(&h.table, &h.lanes, &h.slow)
}

// hash computes the digests of a batch of the step's vectors.
func (h *avx512Hasher) hash(vector int) {
	h.plan.hash(&h.table, &h.change, &h.rows[vector], &h.fresh, &h.digests[0], avx512Batch)
}

// checkDigests checks a step of every plan.
func (k AVX512) checkDigests() error {
	h := new(avx512Hasher)
	for n := range avx512Plans {
		for i := range avx512Plans[n] {
			plan := &avx512Plans[n][i]
			h.begin(n, plan)
			h.block(plan.size())
			step := plan.stepCount() - 2
			h.step(step)
			for v := 0; v < avx512Vectors; v += avx512Batch {
				h.hash(v)
				at := search.LengthStart(n) + plan.size() + step<<avx512StepLow + uint64(v)
				for i := range avx512Batch * avx512Lanes {
					vector, lane := i/avx512Lanes, i%avx512Lanes
					if err := checkDigest(k, h.digest(vector, lane), at+uint64(lane)<<plan.laneLow+uint64(vector)); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// digest returns the digest of a vector of the last batch.
func (h *avx512Hasher) digest(vector, lane int) digest {
	d := &h.digests[vector]
	return digest{
		first:  uint64(d[0][lane])<<32 | uint64(d[1][lane]),
		second: uint64(d[2][lane])<<32 | uint64(d[3][lane]),
		last:   d[4][lane],
	}
}

// expand returns the message schedule of a block (FIPS 180-4, section 6.1.2).
func expand(block [16]uint32) (w [80]uint32) {
	copy(w[:], block[:])
	for t := 16; t < len(w); t++ {
		w[t] = bits.RotateLeft32(w[t-3]^w[t-8]^w[t-14]^w[t-16], 1)
	}
	return w
}

// message returns a block with a secret of n bytes, given as a big-endian
// number, and nothing else.
func message(n int, secret uint64) [16]uint32 {
	secret <<= 8 * (maxSecretLen - n)
	return [16]uint32{uint32(secret >> 32), uint32(secret)}
}

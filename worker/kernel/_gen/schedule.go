package main

import "math/bits"

// rounds is the number of SHA-1's rounds, and of the words of its message
// schedule (FIPS 180-4, section 6.1).
const rounds = 80

// words has one number for each word of the message schedule.
type words [rounds]uint32

// expand returns the message schedule of a block. It is linear over xor: the
// schedule of a xor b is that of a, xor that of b. All that follows rests on
// this.
func expand(block [16]uint32) words {
	var w words
	copy(w[:], block[:])
	for t := 16; t < rounds; t++ {
		w[t] = bits.RotateLeft32(w[t-3]^w[t-8]^w[t-14]^w[t-16], 1)
	}
	return w
}

// message returns the block of a secret of n bytes, given as a big-endian
// number, without its padding: bit i of the number is bit i of the index, less
// the index of the first secret of n bytes.
func message(n int, secret uint64) [16]uint32 {
	secret <<= 64 - 8*n
	return [16]uint32{uint32(secret >> 32), uint32(secret)}
}

// bitRange is a run of bits of a secret, taken as a big-endian number.
type bitRange struct{ low, count int }

// high returns the bit above the last.
func (r bitRange) high() int { return r.low + r.count }

// support returns which bits of each word of the schedule change with the
// bits of r, in secrets of n bytes.
func (r bitRange) support(n int) words {
	var all words
	for i := r.low; i < r.high(); i++ {
		for t, w := range expand(message(n, 1<<i)) {
			all[t] |= w
		}
	}
	return all
}

// splitKind says what a word of the schedule is made of, for one step: the
// candidates that differ in lane and v only, all other bits being fixed.
type splitKind uint8

const (
	// fixedWord is the same in the whole step.
	fixedWord splitKind = iota
	// laneWord depends on the lane only.
	laneWord
	// vWord depends on v only: one number for all lanes.
	vWord
	// sumWord is A[lane] xor B[v] where lane and v change different bits.
	// There xor is addition, so A may hold constants, and e + A + B takes two
	// operations.
	sumWord
	// xorWord is A[lane] xor B[v] where lane and v share bits. The xor has to
	// be taken before anything is added to it.
	xorWord
)

// String returns the letter that stands for the kind in printed plans.
func (k splitKind) String() string { return string("-LV+^"[k]) }

// split returns the kind of a word by its supports.
func split(lane, v uint32) splitKind {
	switch {
	case lane == 0 && v == 0:
		return fixedWord
	case v == 0:
		return laneWord
	case lane == 0:
		return vWord
	case lane&v == 0:
		return sumWord
	}
	return xorWord
}

// terms returns how many terms a word of the kind adds to its round, one
// operation each. The xor counts as one, and its round's constant, which no
// table can take, as another.
func (k splitKind) terms() int {
	switch k {
	case sumWord:
		return 2
	case xorWord:
		return 3
	}
	return 1
}

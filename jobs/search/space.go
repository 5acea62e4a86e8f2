package search

import (
	"encoding/binary"
	"errors"
	"math"
)

// maxSecretLen is the length of the longest secret whose index fits in a
// uint64. Not all secrets of that length have one: the last index,
// math.MaxUint64, is fe fe fe fe fe fe fe fe.
const maxSecretLen = 8

var errNoIndex = errors.New("the secret's index does not fit in 64 bits")

// LengthStart returns the index of the first secret of n bytes, 0 ≤ n ≤ 8: the
// number of secrets shorter than that, (256^n − 1)/255.
func LengthStart(n int) uint64 { return lengthStarts[n] }

// lengthStarts has n digits of 1, in base 256, for n bytes.
var lengthStarts = [maxSecretLen + 1]uint64{
	0, 0x01, 0x0101, 0x010101, 0x01010101, 0x0101010101,
	0x010101010101, 0x01010101010101, 0x0101010101010101,
}

// SecretLen returns the length in bytes of the secret at index.
func SecretLen(index uint64) int {
	n := 0
	for n < maxSecretLen && index >= LengthStart(n+1) {
		n++
	}
	return n
}

// AppendSecret appends the secret at index to dst. Index 0 is the empty
// string, 1 to 256 are the strings of one byte, 257 is 00 00.
func AppendSecret(dst []byte, index uint64) []byte {
	n := SecretLen(index)
	var b [maxSecretLen]byte
	binary.BigEndian.PutUint64(b[:], index-LengthStart(n))
	return append(dst, b[maxSecretLen-n:]...)
}

// IndexOf returns the index of secret, the inverse of [AppendSecret]. It fails
// when the index does not fit in a uint64: for secrets longer than 8 bytes,
// and those of 8 bytes above fe fe fe fe fe fe fe fe.
func IndexOf(secret []byte) (uint64, error) {
	n := len(secret)
	if n > maxSecretLen {
		return 0, errNoIndex
	}
	var b [maxSecretLen]byte
	copy(b[maxSecretLen-n:], secret)
	offset := binary.BigEndian.Uint64(b[:])
	if offset > math.MaxUint64-LengthStart(n) {
		return 0, errNoIndex
	}
	return LengthStart(n) + offset, nil
}

// Grid returns the first index of each part of the index space that chunks of
// work are cut from: the secrets of up to two bytes, which are too few to be
// cut, and then those of each length.
func Grid() []uint64 {
	var grid []uint64
	for n := 3; n <= 8; n++ {
		grid = append(grid, LengthStart(n))
	}
	return grid
}

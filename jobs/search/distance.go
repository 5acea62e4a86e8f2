package search

import (
	"crypto/sha1" //nolint:gosec // SHA-1 is what is searched, nothing is protected by it
	"encoding/base64"
)

// HashedNameLen is the length of every hashed name: 160 bits are 26 characters
// of six bits, one of four bits, and a padding '='.
const HashedNameLen = 28

const (
	alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	// padding ends every hashed name and stands nowhere else in it.
	padding = '='
	// lastCode is the place of the last character before the padding. Its
	// code is four bits shifted left by two (RFC 4648, section 4, case 2).
	lastCode = HashedNameLen - 2
)

// HashedName returns the base64 form of the secret's SHA-1.
func HashedName(secret []byte) [HashedNameLen]byte {
	sum := sha1.Sum(secret) //nolint:gosec // see the import
	var name [HashedNameLen]byte
	base64.StdEncoding.Encode(name[:], sum[:])
	return name
}

// Distance returns the least Hamming distance, without regard to ASCII case,
// between name and the substrings of hashed that are as long as name. The name
// must have 1 to MaxNameLen bytes.
func Distance(name string, hashed *[HashedNameLen]byte) int {
	least := len(name)
	for start := range HashedNameLen - len(name) + 1 {
		d := 0
		for i := range len(name) {
			if fold(name[i]) != fold(hashed[start+i]) {
				d++
			}
		}
		least = min(least, d)
	}
	return least
}

// fold returns the lower case form of an ASCII letter, and any other byte as
// it is.
func fold(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// chance returns the probability that a hashed name has a character equal to c
// but for case at a place, every digest being equally likely. The places are
// independent of each other, for they are made of different bits. It is exact:
// a whole number of 64ths.
func chance(c byte, place int) float64 {
	if place == HashedNameLen-1 {
		if c == padding {
			return 1
		}
		return 0
	}
	step := 1
	if place == lastCode {
		step = 4
	}
	equal := 0
	for code := 0; code < len(alphabet); code += step {
		if fold(alphabet[code]) == fold(c) {
			equal += step
		}
	}
	return float64(equal) / float64(len(alphabet))
}

// leastDistance returns the smallest distance to name that any digest can
// have. At a given alignment the places are free of each other, so it is the
// number of characters that cannot stand at their place, and the least of
// those numbers over all alignments.
func leastDistance(name string) int {
	least := len(name)
	for start := range HashedNameLen - len(name) + 1 {
		d := 0
		for i := range len(name) {
			if chance(name[i], start+i) == 0 {
				d++
			}
		}
		least = min(least, d)
	}
	return least
}

package kernel

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// To look for many names at once, four characters in a row are taken from each,
// its anchor, and a hashed name is looked through for all anchors together. A
// name within distance d has one of any d + 1 pieces of it without a mismatch
// (the pigeonhole principle), so it gets an anchor in each of d + 1 pieces.
//
// A character is folded to five bits, the lower ones of its class, which leave
// the letters apart. Four of them make a number of 20, the key of an anchor.

const (
	// anchorLen is the number of characters of an anchor.
	anchorLen = 4
	// anchorPlaces is the number of places where an anchor can stand in a hashed
	// name, which ends with the padding.
	anchorPlaces = search.HashedNameLen - 1 - anchorLen + 1
	// longPiece is the length of the pieces that can have two anchors, two
	// characters apart. One of these then stands at a place that divided by four
	// leaves 0 or 1.
	longPiece = anchorLen + 2

	foldBits = 5
	foldMask = 1<<foldBits - 1
)

// wordNumber returns the number of the bitmap's word of three classes.
func wordNumber(first, second, third uint8) uint32 {
	return uint32(first&foldMask) | uint32(second&foldMask)<<foldBits | uint32(third&foldMask)<<(2*foldBits)
}

// text is a hashed name in classes. What is behind it, for those who read eight
// bytes at a time, is not the same as any class.
type text [search.HashedNameLen + 12]uint8

const outsideText = 0xff

// fill sets t to the hashed name of d.
func (t *text) fill(d digest) {
	// As in places.fill.
	a := d.first
	b := d.first<<60 | d.second>>4
	c := d.second<<56 | uint64(d.last)<<24
	for i := range 7 {
		t[i] = codeClass[a>>58]
		t[i+10] = codeClass[b>>58]
		t[i+20] = codeClass[c>>58]
		a, b, c = a<<6, b<<6, c<<6
	}
	for i := 7; i < 10; i++ {
		t[i] = codeClass[a>>58]
		t[i+10] = codeClass[b>>58]
		a, b = a<<6, b<<6
	}
	t.end()
}

// end sets the padding and what is behind it.
func (t *text) end() {
	t[search.HashedNameLen-1] = classPadding
	binary.LittleEndian.PutUint64(t[search.HashedNameLen:], outsideText*ones8)
	binary.LittleEndian.PutUint32(t[search.HashedNameLen+8:], outsideText*ones8&math.MaxUint32)
}

// key returns the key of four classes, the first in the lowest byte.
func key(four uint32) uint32 {
	two := four&0x001f001f | four>>3&0x03e003e0
	return two&0x3ff | two>>6&0xffc00
}

// keyAt returns the key of the characters at a place.
func (t *text) keyAt(place int) uint32 { return key(binary.LittleEndian.Uint32(t[place:])) }

// wanted is a query that is looked for together with others.
type wanted struct {
	matcher
	name  [32]uint8 // its classes
	bytes [4]uint64 // masks of the name's bytes
	// anchors has where in the name they begin.
	anchors     [search.MaxNameLen / longPiece * 2]uint8
	anchorCount int
	ended       bool // no hit matters any more
}

func newWanted(m matcher) *wanted {
	w := &wanted{matcher: m}
	copy(w.name[:], m.class[:m.n])
	for i := range w.bytes {
		if n := min(8, m.n-8*i); n > 0 {
			w.bytes[i] = 1<<(8*n) - 1
			if n == 8 {
				w.bytes[i] = 1<<64 - 1
			}
		}
	}
	return w
}

// keyAt returns the key of the four characters that begin with one.
func (w *wanted) keyAt(at uint8) uint32 { return key(binary.LittleEndian.Uint32(w.name[at:])) }

// mismatches returns the distance at one place, where the whole name fits.
func (w *wanted) mismatches(t *text, place int) int {
	n := 0
	for i := 0; i < w.n; i += 8 {
		x := binary.LittleEndian.Uint64(t[place+i:]) ^ binary.LittleEndian.Uint64(w.name[i:])
		n += unequal(x & w.bytes[i/8])
	}
	return n
}

// unequal returns how many bytes of x are not 0. Such a byte carries into its
// highest bit.
func unequal(x uint64) int {
	return bits.OnesCount64((x&(0x7f*ones8) + 0x7f*ones8 | x) & (0x80 * ones8))
}

const ones8 = 0x0101010101010101

// nearest returns the least distance at any place.
func (w *wanted) nearest(t *text) int {
	least := w.n
	for place := range search.HashedNameLen - w.n + 1 {
		least = min(least, w.mismatches(t, place))
	}
	return least
}

// anchorable reports whether a query has anchors: whether each of the pieces of
// its name is long enough, and of letters that a hashed name can have anywhere.
func (m *matcher) anchorable() bool {
	for _, c := range m.class[:m.n] {
		if c == classPadding || c == classNone {
			return false
		}
	}
	return m.n/m.pieces() >= anchorLen
}

// long reports whether each piece has room for two anchors.
func (m *matcher) long() bool { return m.n/m.pieces() >= longPiece }

// pieces returns how many pieces a name has, of which a hit has one unchanged.
func (m *matcher) pieces() int { return m.bound + 1 }

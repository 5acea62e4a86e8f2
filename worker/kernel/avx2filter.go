//go:build amd64 && !purego

package kernel

import (
	"math"
	"slices"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// avx2Filter flags the candidates that may be hits of a query. By the
// pigeonhole principle, a name with at most d mismatches in d + 1 pieces has a
// piece without any. Where pieces would flag too many, the filter counts.
//
// The assembly knows where the fields of these types are.
type avx2Filter struct {
	flags  [avx2Stretch]uint8 // by row: bit i is about lane i
	pieces []avx2Piece        // none if no candidate can be a hit
	count  *avx2Count         // nil if it does not count
}

// avx2Count counts the characters of a name that match at its best alignment.
type avx2Count struct {
	most      [avx2Stretch][avx2Lanes]uint32 // matches, by row
	flags     [avx2Stretch]uint8             // as in avx2Filter, of the hits alone
	classes   [search.MaxNameLen]uint32      // the same in each byte
	last      uint32                         // masks the last of groups
	threshold int32                          // a hit has more matches
	length    int                            // of the name
	groups    int                            // of alignments: four to each
}

// avx2Piece says how a piece of a name is told from the nibbles of groups, of
// three bytes each, which are four characters of the text. In all of its
// bytes, bit p is about a piece that begins with character p of the group
// itself, and bit 4 + p with character p of the group before.
type avx2Piece struct {
	// wrong is by the nibble, the lower of each byte first, and by its value:
	// twice, for VPSHUFB looks up in each half of a vector.
	wrong [6][2][16]uint8
	// outside is set where the piece cannot begin, by group: 0 to 3, and again
	// 3 to 6. Of the former the last is left to the latter.
	outside [2][avx2Lanes][4]uint8
}

// avx2Codes are the codes of each class of characters.
var avx2Codes = newAVX2Codes()

func newAVX2Codes() (codes [classes][]uint8) {
	for code, class := range codeClass {
		codes[class] = append(codes[class], uint8(code))
	}
	return codes
}

// avx2PieceCount returns how many pieces the filter of q has.
func avx2PieceCount(q search.Query) int {
	return min(len(q.Name), max(0, q.Bound()-unmatchable(q.Name)+1))
}

// unmatchable returns how many characters of the name match nothing.
func unmatchable(name string) int {
	n := 0
	for i := range len(name) {
		if class(name[i]) == classNone {
			n++
		}
	}
	return n
}

// What filters cost, in cycles of a row. Measured on an AMD EPYC (Zen 4).
const (
	avx2PieceCost = 10
	avx2FlagCost  = 700 // if all candidates are flagged
	avx2TextCost  = 50  // of the text, which is made once for all counts
	avx2CountCost = 15
	avx2MatchCost = 0.6 // of a character and a group of alignments
)

// set makes f the filter of q, with room for its pieces.
func (f *avx2Filter) set(q search.Query, pieces []avx2Piece, queries int) {
	f.pieces = pieces
	if len(pieces) == 0 {
		return
	}
	n, flagged := len(q.Name), 0.0
	for i := range pieces {
		flagged += pieces[i].set(q.Name, i*n/len(pieces), (i+1)*n/len(pieces))
	}
	groups := (search.HashedNameLen-n)/4 + 1
	byCount := avx2TextCost/float64(queries) + avx2CountCost + avx2MatchCost*float64(n*groups)
	byPieces := float64(len(pieces)*avx2PieceCost) + avx2FlagCost*min(1, flagged)
	if q.Bound() >= n || byCount < byPieces {
		f.count = newAVX2Count(q, groups)
	}
}

func newAVX2Count(q search.Query, groups int) *avx2Count {
	n := len(q.Name)
	c := &avx2Count{length: n, threshold: int32(n - q.Bound() - 1), groups: groups}
	for i := range n {
		c.classes[i] = uint32(avx2Class(class(q.Name[i]))) * 0x01010101
	}
	c.last = math.MaxUint32 >> (8 * (4*groups - (search.HashedNameLen - n + 1)))
	return c
}

// avx2Class returns the number that avx2CountMost has for a class: that of the
// code, less 26 for what is no capital letter, and 38 for the padding.
func avx2Class(c uint8) uint8 {
	switch {
	case c == classPadding:
		return 38
	case c == classNone:
		return 39
	case c >= classOther2:
		return c - 26
	}
	return c
}

// set makes p the piece [start, end) of name, and returns about how many
// candidates of all it flags.
func (p *avx2Piece) set(name string, start, end int) (flagged float64) {
	for i := range p.outside {
		for lane := range p.outside[i] {
			p.outside[i][lane] = [4]uint8{0xff, 0xff, 0xff, 0xff}
		}
	}
	var places [4]int
	for at := start; at <= search.HashedNameLen-len(name)+start; at++ {
		if !fits(name[start:end], at) {
			continue
		}
		group, bit := at/4, at%4
		half := 0
		if group >= 3 {
			half, group = 1, group-3
		}
		for lane := range avx2Lanes {
			p.outside[half][lane][group] &^= 1 << bit
		}
		places[bit]++
	}
	for bit := range 4 {
		for i := start; i < end && bit+i-start < 8; i++ {
			p.require(bit, bit+i-start, avx2Codes[class(name[i])])
		}
		chance := float64(places[bit])
		for group := range 2 {
			for i := range p.wrong {
				right := 0
				for _, w := range p.wrong[i][0] {
					right += int(^w >> (bit + 4*group) & 1)
				}
				chance *= float64(right) / 16
			}
		}
		flagged += chance
	}
	return flagged
}

// fits returns false if no text has the piece of a name at that place: if that
// puts a character where the padding is, the padding elsewhere, or before the
// padding a character whose codes do not end with two zeros.
func fits(piece string, at int) bool {
	for i := range len(piece) {
		c := class(piece[i])
		switch at + i {
		case search.HashedNameLen - 1:
			if c != classPadding && c != classNone {
				return false
			}
		case search.HashedNameLen - 2:
			if c != classNone && !slices.ContainsFunc(avx2Codes[c], func(code uint8) bool { return code%4 == 0 }) {
				return false
			}
		default:
			if c == classPadding {
				return false
			}
		}
	}
	return true
}

// require has one of the codes at place at, 0 to 7, of a piece that begins at
// place bit. No code means any character: those that never match are counted
// as mismatches before, and the padding is where it fits.
func (p *avx2Piece) require(bit, at int, codes []uint8) {
	if len(codes) == 0 {
		return
	}
	var first, second [16]bool
	for _, code := range codes {
		if at%2 == 0 { // a nibble and the upper half of the next
			first[code>>2] = true
			for low := range 4 {
				second[int(code&3)<<2|low] = true
			}
		} else { // the lower half of a nibble and the next
			for high := range 4 {
				first[high<<2|int(code>>4)] = true
			}
			second[code&15] = true
		}
	}
	nibble := at % 4 * 3 / 2 // in the group, from the upper one of its first byte on
	wrong := uint8(1) << (bit + at/4*4)
	for i, right := range [2]*[16]bool{&first, &second} {
		w := &p.wrong[(nibble+i)^1]
		for value := range right {
			if !right[value] {
				w[0][value] |= wrong
				w[1][value] |= wrong
			}
		}
	}
}

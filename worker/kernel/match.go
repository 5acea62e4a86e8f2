package kernel

import (
	"math"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// The classes of characters that are equal but for case: 26 of letters, 10 of
// digits, one each for '+', '/' and '='. They are numbers of six bits, of which
// the lower five tell the letters from all others: see anchor.go.
const (
	classOther   = 26 // '0' to '5'
	classPadding = 32
	classNone    = 33 // stands nowhere: all characters outside base64
	classOther2  = 58 // '6' to '9', '+' and '/'
	classes      = 64
)

// class returns the class of a name's character.
func class(c byte) uint8 {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A'
	case 'a' <= c && c <= 'z':
		return c - 'a'
	case '0' <= c && c <= '5':
		return classOther + c - '0'
	case '6' <= c && c <= '9':
		return classOther2 + c - '6'
	case c == '+':
		return classOther2 + 4
	case c == '/':
		return classOther2 + 5
	case c == '=':
		return classPadding
	}
	return classNone
}

// codeClass is the class of each six-bit code of RFC 4648, table 1.
var codeClass = [64]uint8{
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
	26, 27, 28, 29, 30, 31, 58, 59, 60, 61, 62, 63,
}

// places says for each class where in a hashed name it stands: bit i is
// character i. It is made once for each candidate and serves all queries.
type places [classes]uint32

// fill sets p to the hashed name of d.
func (p *places) fill(d digest) {
	*p = places{classPadding: 1 << (search.HashedNameLen - 1)}
	// Characters 0 to 9, 10 to 19 and 20 to 26, each number's next one on top.
	// Character 26 is the last four bits and two zeros.
	a := d.first
	b := d.first<<60 | d.second>>4
	c := d.second<<56 | uint64(d.last)<<24
	for bit := uint32(1); bit < 1<<7; bit <<= 1 {
		p[codeClass[a>>58]%classes] |= bit
		p[codeClass[b>>58]%classes] |= bit << 10
		p[codeClass[c>>58]%classes] |= bit << 20
		a, b, c = a<<6, b<<6, c<<6
	}
	for bit := uint32(1 << 7); bit < 1<<10; bit <<= 1 {
		p[codeClass[a>>58]%classes] |= bit
		p[codeClass[b>>58]%classes] |= bit << 10
		a, b = a<<6, b<<6
	}
}

// matcher looks for one query.
type matcher struct {
	// What every hit needs comes first: it is of one or two cache lines then.
	query int    // place in the slice given to Scan
	ideal int    // largest distance of the last hit
	left  int    // hits until the last one
	end   uint64 // of the query; moved down when the last hit is found

	wants search.Query
	class [search.MaxNameLen]uint8 // of the name's characters
	// probes is how many characters near looks at; before the first, one, two
	// and three are its counters.
	probes          int
	one, two, three uint32
	align           uint32 // bit i: the name can stand at character i

	n     int // length of the name
	bound int // largest distance of a hit
}

func newMatcher(place int, q Query) matcher {
	n := len(q.Name)
	m := matcher{
		wants:  q.Query,
		probes: min(n, q.Bound()+3),
		align:  1<<(search.HashedNameLen-n+1) - 1,
		n:      n,
		bound:  q.Bound(),
		ideal:  q.Ideal,
		query:  place,
		left:   q.MaxHits,
		end:    q.End,
	}
	for i := range n {
		m.class[i] = class(q.Name[i])
	}
	// A name with so few characters needs fewer than three matches: count the
	// others as had.
	for i, counter := range []*uint32{&m.one, &m.two, &m.three} {
		if m.probes-m.bound < 3-i {
			*counter = math.MaxUint32
		}
	}
	if q.MaxHits == 0 {
		m.left = math.MaxInt
	}
	return m
}

// hit returns the hit at index and ends the query if it is the last one.
func (m *matcher) hit(index uint64, distance int) Hit {
	m.left--
	if distance <= m.ideal || m.left == 0 {
		m.end = index + 1
	}
	return Hit{Query: m.query, Hit: search.Hit{Index: index, Distance: distance}}
}

// near returns false for most of the hashed names that are no hits: those with
// no alignment at which three of the name's first bound + 3 characters match.
// In all of its counters bit i is about the alignment at character i; that of
// two, say, is set when at least two characters matched.
func (m *matcher) near(text *places) bool {
	one, two, three := m.one, m.two, m.three
	for i, c := range m.class[:m.probes] {
		x := text[c%classes] >> (i & 31)
		three |= two & x
		two |= one & x
		one |= x
	}
	return three&m.align != 0
}

// distance returns the least distance over all alignments. It counts the
// characters that match in binary, for all alignments at once: bit i of c0 to
// c4 are the digits of the count of the alignment at character i.
func (m *matcher) distance(text *places) int {
	var c0, c1, c2, c3, c4 uint32
	for i, c := range m.class[:m.n] {
		carry := text[c%classes] >> (i & 31)
		c0, carry = c0^carry, c0&carry
		c1, carry = c1^carry, c1&carry
		c2, carry = c2^carry, c2&carry
		c3, carry = c3^carry, c3&carry
		c4 ^= carry
	}
	// The largest count, digit by digit, among the alignments that still have it.
	most, among := 0, m.align
	for _, digit := range [...]uint32{c4, c3, c2, c1, c0} {
		most *= 2
		if among&digit != 0 {
			among &= digit
			most++
		}
	}
	return m.n - most
}

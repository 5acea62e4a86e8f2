package main

import (
	"encoding/binary"
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The matchers look for a name in a vector of hashed names.
//
// First they cut the digest into codes of six bits (codes): seven vectors, of
// which byte b of vector w holds character 4w+b. VPERMB then maps each code to
// a byte that has bit k set where the code stands for the name's character k.
// It uses six bits of its index, so what is above the code does no harm, and
// letters of either case cost nothing.

const (
	codeVectors = 7
	// nameGroup is how many of a name's characters a byte has bits for.
	nameGroup = 8
	// groupVectors is what a group of a name's characters takes in a
	// matcher's tables: what the codes of each of the vectors map to, and one
	// vector for character 27, which is always the padding.
	groupVectors = codeVectors + 1
	// filterNeeds is how many of the first characters have to match at the
	// distances that a filter serves.
	filterNeeds = 4
)

// match has what all matchers share: constants, in memory.
type match struct {
	avx512
	// codes is where a word has the codes of its four characters, from its top
	// and, codesLow, from its bottom 24 bits.
	codesHigh, codesLow operand.Mem
	// take[k] moves a name's character k: byte b takes byte b+k, less the words
	// that are crossed.
	take [nameGroup]operand.Mem
	// turn rotates the bits of each byte down: 16 matrices for VGF2P8AFFINEQB,
	// by 0 to 7 and again.
	turn operand.Mem
	// every[i] has the bits of all bytes whose number has bit i.
	every [3]operand.Mem
	// first is a byte's bits 0 and 3.
	first operand.Mem
}

func newMatch(g avx512) *match {
	m := &match{avx512: g}
	m.codesHigh = m.bytes("avx512CodesHigh", func(b int) int { return 26 - 6*(b&3) + 32*(b>>2) })
	m.codesLow = m.bytes("avx512CodesLow", func(b int) int { return 18 - 6*(b&3) + 32*(b>>2) })
	for k := range m.take {
		if k%4 != 0 {
			m.take[k] = m.bytes(fmt.Sprintf("avx512Take%d", k), func(b int) int {
				from := b&3 + k
				return 8*(from&3) + from>>2 + 32*(b>>2)
			})
		}
	}
	m.turn = m.StaticGlobal("avx512Turn")
	m.DataAttributes(attr.RODATA | attr.NOPTR)
	for r := range 16 {
		m.AppendDatum(operand.U64(rotation(r)))
	}
	masks := m.numbers("avx512Bits")
	m.every = [3]operand.Mem{masks(0xaaaaaaaa), masks(0xcccccccc), masks(0xf0f0f0f0)}
	m.first = masks(0x09090909)
	return m
}

// bytes makes a vector of bytes of which of returns the eight of each half of
// 64 bits.
func (m *match) bytes(name string, of func(int) int) operand.Mem {
	base := m.StaticGlobal(name)
	m.DataAttributes(attr.RODATA | attr.NOPTR)
	for b := range zmmBytes {
		m.AppendDatum(operand.U8(of(b % 8)))
	}
	return base
}

// rotation returns the matrix for VGF2P8AFFINEQB that rotates a byte's bits
// down by r. Row 7-i makes bit i.
func rotation(r int) uint64 {
	var rows [8]byte
	for i := range 8 {
		rows[7-i] = 1 << ((i + r) % 8)
	}
	return binary.LittleEndian.Uint64(rows[:])
}

func (m *match) load(from operand.Mem) reg.VecVirtual {
	z := m.ZMM()
	m.VMOVDQU32(from, z)
	return z
}

// spread returns a vector with a number of 32 bits in each lane.
func (m *match) spread(number operand.Op) reg.VecVirtual {
	z := m.ZMM()
	m.VPBROADCASTD(number, z)
	return z
}

func (m *match) ternary(imm uint8, a, b, c reg.VecVirtual) reg.VecVirtual {
	z := m.ZMM()
	m.VMOVDQA32(a, z)
	m.VPTERNLOGD(operand.U8(imm), c, b, z)
	return z
}

// Truth tables for VPTERNLOGD.
const (
	ternaryAnd      = 0x80
	ternaryOr       = 0xfe
	ternaryAndOr    = 0xf8 // the first, or the second and the third
	ternaryOnes     = 0xff
	ternarySum      = 0x96
	ternaryMajority = 0xe8
	// ternarySelect takes the first where the third has a bit, else the second;
	// ternarySelectOther the second, else the first.
	ternarySelect      = 0xe4
	ternarySelectOther = 0xd8
)

// codes returns the vectors of codes of the i-th vector of digests.
func (m *match) codes(digests reg.Register, i int, high, low reg.Register) [codeVectors]reg.VecVirtual {
	var h [5]reg.VecVirtual
	for w := range h {
		h[w] = m.load(vectorAt(digests, 5*i+w))
	}
	cut := func(x, places reg.Register) reg.VecVirtual {
		z := m.ZMM()
		m.VPMULTISHIFTQB(x, places, z)
		return z
	}
	joined := func(a, b reg.Register, shift int) reg.VecVirtual {
		z := m.ZMM()
		m.VPSHLDD(operand.U8(shift), b, a, z)
		return z
	}
	end := m.ZMM()
	m.VPSLLD(operand.U8(16), h[4], end)
	return [codeVectors]reg.VecVirtual{
		cut(h[0], high),
		cut(joined(h[0], h[1], 24), high),
		cut(joined(h[1], h[2], 16), high),
		cut(h[2], low),
		cut(h[3], high),
		cut(joined(h[3], h[4], 24), high),
		cut(end, high),
	}
}

// lookUp maps codes by a table.
func (m *match) lookUp(codes reg.VecVirtual, table operand.Op) reg.VecVirtual {
	z := m.ZMM()
	m.VPERMB(table, codes, z)
	return z
}

// lookUpLast is lookUp for the last vector, of which byte 3 is the padding.
// K1 has the other bytes.
func (m *match) lookUpLast(codes reg.VecVirtual, table operand.Op, padding operand.Mem) reg.VecVirtual {
	z := m.load(padding)
	m.VPERMB(table, codes, reg.K1, z)
	return z
}

// beginLoop loads what a loop over vectors of digests needs, and returns the
// pointers that advance advances.
func (m *match) beginLoop() (high, low reg.VecVirtual) {
	codeBytes := m.GP64()
	m.MOVQ(operand.U64(0x7777777777777777), codeBytes)
	m.KMOVQ(codeBytes, reg.K1)
	high, low = m.load(m.codesHigh), m.load(m.codesLow)
	loop(m.Context, "vectors")
	return high, low
}

// advance ends a loop that has looked at a number of vectors.
func (m *match) advance(vectors int, digests, flags, count reg.Register) {
	m.ADDQ(operand.I32(vectors*5*zmmBytes), digests)
	m.ADDQ(operand.I8(vectors*2), flags)
	m.SUBQ(operand.I8(vectors), count)
	m.JNZ(operand.LabelRef("vectors"))
	m.end()
}

// filterStreams is how many vectors the filters look at side by side. One
// alone often waits for its own results.
const filterStreams = 2

// filterLoop writes the loop of a filter: what flag does with the i-th of the
// vectors, one instruction of each in turn. flag returns, in a mask, the lanes
// that it flags.
func (m *match) filterLoop(digests, flags, count reg.Register, flag func(codes [codeVectors]reg.VecVirtual) reg.Register) {
	high, low := m.beginLoop()
	m.sideBySide(filterStreams, func(i int) {
		m.KMOVW(flag(m.codes(digests, i, high, low)), operand.Mem{Base: flags, Disp: 2 * i})
	})
	m.advance(filterStreams, digests, flags, count)
}

const (
	flagsDoc  = "It sets bit i of a vector's flags for lane i. "
	filterDoc = flagsDoc + "count is even, and not 0."
)

// sequence writes the filter for distance 0: it flags hashed names with the
// name's first three characters in a row, in vectors 0 to vectors-1 of codes.
// The first half of those shares bytes with the second: bits 0 to 2 are the
// first's, bits 3 to 5 the second's.
func (m *match) sequence(vectors int) {
	m.begin(fmt.Sprintf("avx512Sequence%d", vectors), fmt.Sprintf("func(tables *[3][%d]byte, digests *[5][16]uint32, flags *uint64, count int)", zmmBytes),
		fmt.Sprintf("avx512Sequence%d flags the digests whose hashed names may have the name's first three characters in a row, among", vectors),
		fmt.Sprintf("the first %d. tables is for the first half of the vectors of codes, for the second, and for the padding.", min(4*vectors, 28)), filterDoc)
	tables, digests, flags, count := m.param("tables"), m.param("digests"), m.param("flags"), m.param("count")
	low, high, first := m.load(vectorAt(tables, 0)), m.load(vectorAt(tables, 1)), m.spread(m.first)
	half := (vectors + 1) / 2
	m.filterLoop(digests, flags, count, func(c [codeVectors]reg.VecVirtual) reg.Register {
		var x []reg.VecVirtual
		for i := range half {
			z := m.lookUp(c[i], low)
			switch j := i + half; {
			case j == codeVectors-1:
				m.VPORD(m.lookUpLast(c[j], high, vectorAt(tables, 2)), z, z)
			case j < vectors:
				m.VPORD(m.lookUp(c[j], high), z, z)
			}
			x = append(x, z)
		}
		x = append(x, m.lookUp(c[half], low)) // its characters come after the first half's
		for i := range half {
			// Characters k of the name move down to where its first one is.
			second, third := m.ZMM(), m.ZMM()
			m.VPSHRDD(operand.U8(9), x[i+1], x[i], second)
			m.VPSHRDD(operand.U8(18), x[i+1], x[i], third)
			m.VPTERNLOGD(operand.U8(ternaryAnd), third, second, x[i])
		}
		m.VPTERNLOGD(operand.U8(ternaryOr), x[2], x[1], x[0])
		if half > 3 {
			m.VPORD(x[3], x[0], x[0])
		}
		found := m.K()
		m.VPTESTMD(first, x[0], found)
		return found
	})
}

// pieces writes the filter for distance 1 and names of six or more characters:
// of the first three and the next three, one has to match. It flags about 2.4 %
// of the vectors, more than a filter that counts, and takes a fifth less time.
// Bits 0 to 2 of the bytes are the first three's, bits 3 to 5 the second's.
func (m *match) pieces() {
	m.begin("avx512Pieces", fmt.Sprintf("func(tables *[2][%d]byte, digests *[5][16]uint32, flags *uint64, count int)", zmmBytes),
		"avx512Pieces flags the digests whose hashed names have the name's first three characters in a row, or the next three.",
		"tables is for the codes and for the padding.", filterDoc)
	tables, digests, flags, count := m.param("tables"), m.param("digests"), m.param("flags"), m.param("count")
	table, first := m.load(vectorAt(tables, 0)), m.ZMM()
	m.VPBROADCASTD(m.first, first)
	m.filterLoop(digests, flags, count, func(c [codeVectors]reg.VecVirtual) reg.Register {
		var x [codeVectors]reg.VecVirtual
		for w := range codeVectors - 1 {
			x[w] = m.lookUp(c[w], table)
		}
		x[6] = m.lookUpLast(c[6], table, vectorAt(tables, 1))
		for w := range x {
			// The second and third character of each three move down to the first.
			second, third := m.ZMM(), m.ZMM()
			if w+1 < len(x) {
				m.VPSHRDD(operand.U8(9), x[w+1], x[w], second)
				m.VPSHRDD(operand.U8(18), x[w+1], x[w], third)
			} else {
				m.VPSRLD(operand.U8(9), x[w], second)
				m.VPSRLD(operand.U8(18), x[w], third)
			}
			m.VPTERNLOGD(operand.U8(ternaryAnd), third, second, x[w])
		}
		for _, w := range []int{1, 3, 5} {
			m.VPTERNLOGD(operand.U8(ternaryOr), x[w+1], x[w], x[0])
		}
		found := m.K()
		m.VPTESTMD(first, x[0], found)
		return found
	})
}

// alignments returns, for each of the characters of a group that are wanted,
// where the name can stand so that the character matches. Bit w of byte b
// stands for the name beginning at character 4w+b.
//
// It transposes: the tables have rotated the bits of vector w up by w, so that
// three selections of bits collect character k from all vectors, bit j from
// vector j-k. The rotation back, plus turns for the groups before, and a move
// to the byte of the name's beginning come last.
func (m *match) alignments(c [codeVectors]reg.VecVirtual, tables reg.Register, wanted int, turn func(r int) operand.Mem) []reg.VecVirtual {
	var p [8]reg.VecVirtual // the eighth has no characters
	for w := range codeVectors - 1 {
		p[w] = m.lookUp(c[w], vectorAt(tables, w))
	}
	p[6] = m.lookUpLast(c[6], vectorAt(tables, 6), vectorAt(tables, codeVectors))
	// Each vector is selected from twice, the second time into its own register:
	// a copy costs as much as an operation, though the CPU only renames it.
	var uses map[reg.VecVirtual]int
	selected := func(a, b reg.VecVirtual, mask operand.Mem) reg.VecVirtual {
		uses[a]--
		uses[b]--
		switch {
		case a == nil:
			z := m.ZMM()
			every := m.ZMM()
			m.VPBROADCASTD(mask, every)
			m.VPANDND(b, every, z)
			return z
		case b == nil:
			z := m.ZMM()
			m.VPANDD_BCST(mask, a, z)
			return z
		case uses[b] == 0:
			m.VPTERNLOGD_BCST(operand.U8(ternarySelectOther), mask, a, b)
			return b
		case uses[a] != 0:
			z := m.ZMM()
			m.VMOVDQA32(a, z)
			a = z
		}
		m.VPTERNLOGD_BCST(operand.U8(ternarySelect), mask, b, a)
		return a
	}
	// pairs selects from[i+by] or from[i] for each wanted i.
	pairs := func(from [8]reg.VecVirtual, by int, mask operand.Mem, wanted func(i int) bool) (to [8]reg.VecVirtual) {
		uses = make(map[reg.VecVirtual]int)
		for i := range from {
			if wanted(i) {
				uses[from[i]]++
				uses[from[(i+by)%8]]++
			}
		}
		for i := range from {
			if wanted(i) {
				to[i] = selected(from[(i+by)%8], from[i], mask)
			}
		}
		return to
	}
	ends := func(i int) bool { return (8-i)%8 < wanted }
	y := pairs(p, 1, m.every[0], func(int) bool { return true })
	z := pairs(y, 2, m.every[1], func(i int) bool { return ends(i) || ends((i+4)%8) })
	e := pairs(z, 4, m.every[2], ends)
	var all []reg.VecVirtual
	for k := range wanted {
		e := e[(8-k)%8]
		by := k
		if k == 4 {
			by++ // one word on, which no move says
		}
		if from := turn(by); from.Base != nil || from.Symbol.Name != "" {
			m.VGF2P8AFFINEQB_BCST(operand.U8(0), from, e, e)
		}
		if k%4 != 0 {
			m.VPMULTISHIFTQB(e, m.load(m.take[k]), e)
		}
		all = append(all, e)
	}
	return all
}

// filter writes the filter for the names of which at least four of the first
// characters match. With four more characters than the distance these are as
// few as it takes, so fewer flags come from chance than from any other number.
func (m *match) filter(characters int) {
	m.begin(fmt.Sprintf("avx512Filter%d", characters),
		fmt.Sprintf("func(tables *[%d][%d]byte, begins uint32, digests *[5][16]uint32, flags *uint64, count int)", groupVectors, zmmBytes),
		fmt.Sprintf("avx512Filter%d flags the digests whose hashed names match %d of the name's first %[1]d characters.", characters, filterNeeds),
		"begins has the places where the name can stand, bit 8b+w for character 4w+b.", filterDoc)
	tables, digests, flags, count := m.param("tables"), m.param("digests"), m.param("flags"), m.param("count")
	begins := m.ZMM()
	m.VPBROADCASTD(m.Load(m.Param("begins"), m.GP32()), begins)
	m.filterLoop(digests, flags, count, func(c [codeVectors]reg.VecVirtual) reg.Register {
		n := m.alignments(c, tables, characters, func(r int) operand.Mem {
			if r == 0 {
				return operand.Mem{}
			}
			return m.turn.Offset(8 * r)
		})
		found := m.K()
		m.VPTESTMD(begins, m.fourOf(n), found)
		return found
	})
}

// fourOf returns the bits that are set in four or more of 5 to 8 vectors.
func (m *match) fourOf(n []reg.VecVirtual) reg.VecVirtual {
	sum := func(a, b, c reg.VecVirtual) (ones, twos reg.VecVirtual) {
		return m.ternary(ternarySum, a, b, c), m.ternary(ternaryMajority, a, b, c)
	}
	and := func(a, b reg.VecVirtual) reg.VecVirtual {
		z := m.ZMM()
		m.VPANDD(b, a, z)
		return z
	}
	one1, two1 := sum(n[0], n[1], n[2])
	if len(n) == 5 {
		return and(two1, m.ternary(ternaryMajority, one1, n[3], n[4]))
	}
	one2, two2 := sum(n[3], n[4], n[5])
	if len(n) == 6 {
		return m.ternary(ternaryMajority, two1, two2, and(one1, one2))
	}
	if len(n) == 7 {
		return m.ternary(ternaryMajority, two1, two2, m.ternary(ternaryMajority, one1, one2, n[6]))
	}
	one3, two3 := sum(one1, one2, n[6])
	four := m.ternary(ternaryMajority, two1, two2, two3)
	some := m.ternary(ternaryOr, two1, two2, two3)
	// four | one3 & n[7] & some
	last := m.ternary(ternaryAnd, one3, n[7], some)
	m.VPORD(four, last, last)
	return last
}

// distance writes the matcher for all names and distances. It counts the
// characters that match in binary, for all alignments at once, as matcher in
// match.go does.
func (m *match) distance() {
	m.begin("avx512Distance",
		fmt.Sprintf("func(tables *[%d][%d]byte, groups int, begins, needs uint32, digests *[5][16]uint32, flags *uint64, most *[16]uint8, count int)", groupVectors, zmmBytes),
		"avx512Distance flags the digests whose hashed names match at least needs of the name's characters, and",
		"writes into most how many characters they match. There is a table for each of the groups of 8 characters.",
		"begins has the places where the name can stand, bit 8b+w for character 4w+b.", flagsDoc+"count is not 0.")
	first, groups := m.param("tables"), m.param("groups")
	digests, flags, most, count := m.param("digests"), m.param("flags"), m.param("most"), m.param("count")
	begins, needs := m.ZMM(), m.ZMM()
	m.VPBROADCASTD(m.Load(m.Param("begins"), m.GP32()), begins)
	m.VPBROADCASTD(m.Load(m.Param("needs"), m.GP32()), needs)
	places := m.numbers("avx512Places")
	high, low := m.beginLoop()

	c := m.codes(digests, 0, high, low)
	var digits [5]reg.VecVirtual // of the counts so far
	for i := range digits {
		digits[i] = m.ZMM()
		m.VPXORD(digits[i], digits[i], digits[i])
	}
	tables, left, turn := m.GP64(), m.GP64(), m.GP64()
	m.MOVQ(first, tables)
	m.MOVQ(groups, left)
	m.LEAQ(m.turn, turn)
	loop(m.Context, "groups")
	n := m.alignments(c, tables, nameGroup, func(r int) operand.Mem { return operand.Mem{Base: turn, Disp: 8 * r} })
	sum := func(a, b, c reg.VecVirtual) (ones, twos reg.VecVirtual) {
		return m.ternary(ternarySum, a, b, c), m.ternary(ternaryMajority, a, b, c)
	}
	add := func(digit int, a, b reg.VecVirtual) (carry reg.VecVirtual) {
		carry = m.ternary(ternaryMajority, digits[digit], a, b)
		m.VPTERNLOGD(operand.U8(ternarySum), a, b, digits[digit])
		return carry
	}
	one1, two1 := sum(n[0], n[1], n[2])
	one2, two2 := sum(n[3], n[4], n[5])
	one3, two3 := sum(one1, one2, n[6])
	two4 := add(0, one3, n[7])
	two5, four1 := sum(two1, two2, two3)
	four2 := add(1, two5, two4)
	eight := add(2, four1, four2)
	sixteen := m.ZMM()
	m.VPANDD(eight, digits[3], sixteen)
	m.VPXORD(eight, digits[3], digits[3])
	m.VPXORD(sixteen, digits[4], digits[4])
	m.ADDQ(operand.I32(groupVectors*zmmBytes), tables)
	m.ADDQ(operand.I8(8*nameGroup/4), turn)
	m.DECQ(left)
	m.JNZ(operand.LabelRef("groups"))

	// The largest count, digit by digit, among the alignments that still have it.
	among, best := m.ZMM(), m.ZMM()
	m.VMOVDQA32(begins, among)
	m.VPXORD(best, best, best)
	for i := len(digits) - 1; i >= 0; i-- {
		m.VPTESTMD(digits[i], among, reg.K2)
		m.VPANDD(digits[i], among, reg.K2, among)
		m.VPORD_BCST(places(1<<i), best, reg.K2, best)
	}
	m.VPCMPUD(operand.U8(5), needs, best, reg.K2) // best >= needs
	m.KMOVW(reg.K2, operand.Mem{Base: flags})
	m.VPMOVDB(best, operand.Mem{Base: most})
	m.ADDQ(operand.I8(16), most)
	m.advance(1, digests, flags, count)
}

package main

import (
	"fmt"
	"math/bits"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// What the filters flag is made a list, and that is cut down to the places where
// somebody's anchor may stand, in both without a branch that depends on it.
//
// A flag is called by its place in what was found: 64 times that of the number,
// plus the bit.
const (
	numberFlags = 64
	foundFlags  = foundNumbers * numberFlags // of a vector
)

// list writes the function that lists flags.
func (m *match) list() {
	m.begin("avx512List", fmt.Sprintf("func(found *[%d]uint64, some *byte, flags *uint16, count int) int", foundNumbers),
		"avx512List writes down which flags are set in what was found in 8 count vectors, of which some tells the numbers that are",
		"not 0, and returns how many they are. Behind them it writes up to 31 more. count is not 0.")
	found, some, flags, count := m.param("found"), m.param("some"), m.param("flags"), m.param("count")
	const (
		half    = numberFlags / 2
		numbers = 64 // that a word of some tells about
	)
	each := m.StaticGlobal("avx512FlagsOfHalf")
	m.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range half {
		m.AppendDatum(operand.U16(i))
	}
	low, high := m.load(each), m.ZMM()
	begin, base := m.GP64(), m.GP64()
	m.MOVQ(operand.U32(half), base)
	m.VPBROADCASTW(base.As32(), high)
	m.MOVQ(flags, begin)
	m.XORQ(base, base)
	m.Label("words")
	left := m.GP64()
	m.MOVQ(operand.Mem{Base: some}, left)
	m.TESTQ(left, left)
	m.JZ(operand.LabelRef("next"))
	loop(m.Context, "numbers")
	number, set := m.GP64(), m.GP64()
	m.TZCNTQ(left, number)
	m.BLSRQ(left, left)
	m.MOVQ(operand.Mem{Base: found, Index: number, Scale: 8}, set)
	m.SHLQ(operand.U8(bits.TrailingZeros(numberFlags)), number)
	m.ADDQ(base, number)
	z := m.ZMM()
	m.VPBROADCASTW(number.As32(), z)
	m.VPADDW(low, z, z)
	for i := range 2 {
		if i > 0 {
			m.SHRQ(operand.U8(half), set)
			m.VPADDW(high, z, z)
		}
		k, out, n := m.K(), m.ZMM(), m.GP64()
		m.KMOVD(set.As32(), k)
		m.VPCOMPRESSW_Z(z, k, out)
		m.VMOVDQU16(out, operand.Mem{Base: flags})
		m.POPCNTL(set.As32(), n.As32())
		m.LEAQ(operand.Mem{Base: flags, Index: n, Scale: 2}, flags)
	}
	m.TESTQ(left, left)
	m.JNZ(operand.LabelRef("numbers"))
	m.Label("next")
	m.ADDQ(operand.I8(numbers/8), some)
	m.ADDQ(operand.I32(8*numbers), found)
	m.ADDQ(operand.I32(numberFlags*numbers), base)
	m.DECQ(count)
	m.JNZ(operand.LabelRef("words"))
	m.SUBQ(begin, flags)
	m.SHRQ(operand.U8(1), flags)
	m.Store(flags, m.ReturnIndex(0))
	m.end()
}

// keyed writes the function that tells the flags behind which there may be a
// member from the others.
func (m *match) keyed() {
	m.begin("avx512Keyed",
		fmt.Sprintf("func(places *[%d]uint32, texts *[%d][%d]byte, after *uint32, shift uint32, flags *uint16, count int, keyed *uint32, keys *uint32) int", foundFlags, textVectors, zmmBytes),
		"avx512Keyed writes down those of count flags of whose characters after, which has every second word, has the fifth at the hash of",
		"the key of four, and the keys; and returns how many they are. Of both it writes up to 15 more. places has, for a vector's flags,",
		"where in texts the word is that has the first character, and, from bit 16 on, at which of its bits that begins. count is not 0.")
	places, texts, after := m.param("places"), m.param("texts"), m.param("after")
	flags, count := m.param("flags"), m.param("count")
	keyed, keys := m.param("keyed"), m.param("keys")
	numbers := m.numbers("avx512KeyedNumbers")
	ofVector, folded := m.spread(numbers(foundFlags-1)), m.spread(numbers(0x1f1f1f1f))
	pairs, fours := m.spread(numbers(0x20012001)), m.spread(numbers(0x04000001)) // 1, 32, 1, 32; 1, 1024
	fold, fibonacci, one := m.spread(numbers(0x1f)), m.spread(numbers(0x9e3779b1)), m.spread(numbers(1))
	shift := m.spread(m.Load(m.Param("shift"), m.GP32()))
	begin, lanes := m.GP64(), m.GP64()
	m.MOVQ(keyed, begin)
	m.MOVQ(operand.U32(avx512Lanes), lanes)
	loop(m.Context, "flags")
	n, mask, all := m.GP64(), m.GP64(), m.K()
	m.MOVQ(count, n)
	m.CMPQ(n, lanes)
	m.CMOVQGT(lanes, n)
	m.MOVQ(operand.I32(-1), mask)
	m.BZHIQ(n, mask, mask)
	m.KMOVW(mask.As32(), all)
	gather := func(from operand.Mem) reg.VecVirtual {
		z, k := m.ZMM(), m.K()
		m.KMOVW(all, k)
		m.VPXORD(z, z, z)
		m.VPGATHERDD(from, k, z)
		return z
	}
	flag, at := m.ZMM(), m.ZMM()
	m.VPMOVZXWD_Z(operand.Mem{Base: flags}, all, flag)
	m.VPANDD(ofVector, flag, at)
	place := gather(operand.Mem{Base: places, Index: at, Scale: 4})
	bit := m.ZMM()
	m.VPSRLD(operand.U8(16), place, bit)
	// A vector's texts take as many bytes as it has flags.
	m.VPTERNLOGD(operand.U8(ternarySelect), ofVector, flag, place)
	four := gather(operand.Mem{Base: texts, Index: place, Scale: 1})
	behind := gather(operand.Mem{Base: texts, Index: place, Scale: 1, Disp: zmmBytes})
	m.VPSHRDVD(bit, behind, four)
	m.VPSRLVD(bit, behind, behind)
	m.VPANDD(fold, behind, behind)
	m.VPANDD(folded, four, four)
	m.VPMADDUBSW(pairs, four, four)
	m.VPMADDWD(fours, four, four)
	hash := m.ZMM()
	m.VPMULLD(fibonacci, four, hash)
	m.VPSRLVD(shift, hash, hash)
	in := gather(operand.Mem{Base: after, Index: hash, Scale: 8})
	m.VPSRLVD(behind, in, in)
	k := m.K()
	m.VPTESTMD(one, in, all, k)
	m.VPCOMPRESSD_Z(flag, k, flag)
	m.VPCOMPRESSD_Z(four, k, four)
	m.VMOVDQU32(flag, operand.Mem{Base: keyed})
	m.VMOVDQU32(four, operand.Mem{Base: keys})
	found := m.GP64()
	m.KMOVW(k, found.As32())
	m.POPCNTL(found.As32(), found.As32())
	m.LEAQ(operand.Mem{Base: keyed, Index: found, Scale: 4}, keyed)
	m.LEAQ(operand.Mem{Base: keys, Index: found, Scale: 4}, keys)
	m.ADDQ(operand.I8(2*avx512Lanes), flags)
	m.SUBQ(lanes, count)
	m.JG(operand.LabelRef("flags"))
	m.SUBQ(begin, keyed)
	m.SHRQ(operand.U8(2), keyed)
	m.Store(keyed, m.ReturnIndex(0))
	m.end()
}

package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The filters for many names look at all of them at once. They list the places of
// hashed names where four letters of one of them may stand in a row: the sieve, in
// avx512sieve.go, for up to some thousands, and the bitmap for more.
//
// The characters of 16 hashed names are given on as text codes, of which the lower
// five bits are the folded character, in textVectors vectors. The last one is left
// alone: it is for what is behind the ends.
//
// A place is called by its flag: with as many flags for each vector of candidates as
// its texts have bytes, that of the byte where the four letters begin.

const textVectors = codeVectors + 1

const (
	numberFlags = zmmBytes // of a vector of text codes
	vectorFlags = textVectors * numberFlags
)

// behind returns what x has for the characters so many behind those of vector w.
func (m *match) behind(x []reg.VecVirtual, w, characters int) reg.VecVirtual {
	z := m.ZMM()
	if w+1 == len(x) {
		m.VPSRLD(operand.U8(8*characters), x[w], z)
	} else {
		m.VPSHRDD(operand.U8(8*characters), x[w+1], x[w], z)
	}
	return z
}

// The bitmap says which four folded characters, a number of 20 bits, are looked for.
// Its words are numbered by three characters in a row; in a word, bit i is set if
// character i may come before them, or after. So one word answers for two places,
// and bitmapWords words answer for all places of a hashed name.
//
// A gather takes longest, so there is one only for characters that the names have at
// all: the words that are to be looked at are written down, in vectors as full as can
// be.

// bitmapWords is how many words of the bitmap a hashed name asks for.
const bitmapWords = 12

// wordsRoom has room for all words of a batch, and for a vector behind them.
const wordsRoom = batchVectors*bitmapWords*avx512Lanes + avx512Lanes

// texts writes the function that makes text codes. It is one of its own because the
// filters go on with what it takes longest to wait for: with all of it in one loop a
// CPU does not see far enough ahead.
func (m *match) texts() {
	m.begin("avx512Text",
		fmt.Sprintf("func(codes *[2][%[1]d]byte, digests *[5][16]uint32, texts *[%[2]d][%[1]d]byte, count int)", zmmBytes, textVectors),
		"avx512Text writes the hashed names' text codes into texts. codes maps each code to its text code, and has that of the",
		"padding. count is not 0.")
	codes, digests, texts, count := m.param("codes"), m.param("digests"), m.param("texts"), m.param("count")
	table := m.load(vectorAt(codes, 0))
	high, low := m.beginLoop()
	for w, c := range m.codes(digests, 0, high, low) {
		text := m.ZMM()
		if w < codeVectors-1 {
			text = m.lookUp(c, table)
		} else {
			text = m.lookUpLast(c, table, vectorAt(codes, 1))
		}
		m.VMOVDQU32(text, vectorAt(texts, w))
	}
	m.ADDQ(operand.I32(5*zmmBytes), digests)
	m.endLoop(texts, count)
	m.end()
}

// wordsLane is the lowest bit of the lane in what is written down of a word. Each lane
// has four flags of a vector of texts.
const wordsLane = 28

// words writes the first step. A word for each second character is what it takes to
// look at every place; for names of six letters and more, each fourth is enough.
func (m *match) words(words int) {
	name := fmt.Sprintf("avx512Words%d", words)
	m.begin(name,
		fmt.Sprintf("func(texts *[%d][%d]byte, words *[%[3]d]uint32, flags *[%[3]d]uint16, count int, from uint32) int", textVectors, zmmBytes, wordsRoom),
		fmt.Sprintf("%s writes which of %d words of the bitmap are to be looked at: five folded characters, of which the middle ones are the", name, words),
		"word's number, and on top of them the lane; and the flag that the first of the word's two places would have in lane 0. It returns",
		"how many these are. The flags begin at from. A text code has bit 7 set if no name has the character. Behind the words it writes",
		fmt.Sprintf("up to %d more. count is not 0.", avx512Lanes-1))
	texts, out, flags, count := m.param("texts"), m.param("words"), m.param("flags"), m.param("count")
	numbers := m.numbers(name + "Numbers")
	folded, fifth := m.spread(numbers(0x1f1f1f1f)), m.spread(numbers(0x1f<<20))
	pairs, fours := m.spread(numbers(0x20012001)), m.spread(numbers(0x04000001)) // 1, 32, 1, 32; 1, 1024
	none := m.spread(numbers(0x80808000))
	// From one word to the next, and to those of the next vector of text codes and of
	// the next candidates.
	const half = 2
	each := func(n uint32) reg.VecVirtual { return m.spread(numbers(n * 0x00010001)) }
	step, rest := each(half), each(numberFlags-half)
	if words < bitmapWords {
		rest = each(numberFlags)
	}
	next := each(vectorFlags - placeVectors*numberFlags)
	flag := m.ZMM()
	m.VPBROADCASTW(m.Load(m.Param("from"), m.GP32()), flag)
	lanes := m.load(m.lanes(name+"Lanes", func(lane int) int { return lane << wordsLane }))
	begin := m.GP64()
	m.MOVQ(out, begin)
	loop(m.Context, "vectors")
	var text [codeVectors]reg.VecVirtual
	for w := range text {
		text[w] = m.load(vectorAt(texts, w))
	}
	fold := func(text reg.VecVirtual) reg.VecVirtual {
		z := m.ZMM()
		m.VPANDD(folded, text, z)
		return z
	}
	// look takes four characters, of the text codes, and the fifth from those behind,
	// which shift moves to its place.
	look := func(four, behind reg.VecVirtual, shift int) {
		five, last := fold(four), m.ZMM()
		m.VPMADDUBSW(pairs, five, five)
		m.VPMADDWD(fours, five, five)
		m.VPSLLD(operand.U8(shift), behind, last)
		m.VPTERNLOGD(operand.U8(ternaryAndOr), fifth, last, five)
		m.VPORD(lanes, five, five)
		k, n := m.K(), m.GP32()
		m.VPTESTNMD(none, four, k)
		m.VPCOMPRESSD_Z(five, k, five)
		m.VMOVDQU32(five, operand.Mem{Base: out})
		m.VMOVDQU64(flag.AsY(), operand.Mem{Base: flags})
		m.KMOVW(k, n)
		m.POPCNTL(n, n)
		m.LEAQ(operand.Mem{Base: out, Index: n.As64(), Scale: 4}, out)
		m.LEAQ(operand.Mem{Base: flags, Index: n.As64(), Scale: 2}, flags)
	}
	for w := range placeVectors {
		look(text[w], text[w+1], 20)
		if words == bitmapWords {
			m.VPADDW(step, flag, flag)
			look(m.behind(text[:], w, 2), text[w+1], 4)
		}
		m.VPADDW(rest, flag, flag)
	}
	m.VPADDW(next, flag, flag)
	m.endLoop(texts, count)
	m.SUBQ(begin, out)
	m.SHRQ(operand.U8(2), out)
	m.Store(out, m.ReturnIndex(0))
	m.end()
}

// bitmap writes the second step, which looks the words up.
func (m *match) bitmap() {
	m.begin("avx512Bitmap", fmt.Sprintf("func(bitmap *uint32, words *[%[1]d]uint32, from *[%[1]d]uint16, count int, flags *uint16) int", wordsRoom),
		"avx512Bitmap lists the flags of those places of count words which the bitmap has, and returns how many they are. words and from",
		fmt.Sprintf("are what avx512Words12 has written. Behind the flags it writes up to %d more. count is not 0.", avx512Lanes-1))
	bitmap, words, from, count, flags := m.param("bitmap"), m.param("words"), m.param("from"), m.param("count"), m.param("flags")
	numbers := m.numbers("avx512BitmapNumbers")
	one, number := m.spread(numbers(1)), m.spread(numbers(1<<15-1))
	begin, lanes := m.GP64(), m.GP64()
	m.MOVQ(flags, begin)
	m.MOVQ(operand.U32(avx512Lanes), lanes)
	loop(m.Context, "words")
	all := m.firstLanes(count, lanes)
	five, flag, lane := m.load(operand.Mem{Base: words}), m.ZMM(), m.ZMM()
	m.VPMOVZXWD(operand.Mem{Base: from}, flag)
	m.VPSRLD(operand.U8(wordsLane-2), five, lane)
	m.VPADDD(lane, flag, flag)
	at, word := m.ZMM(), m.ZMM()
	m.VPSRLD(operand.U8(5), five, at)
	m.VPANDD(number, at, at)
	m.VPXORD(word, word, word)
	m.VPGATHERDD(operand.Mem{Base: bitmap, Index: at, Scale: 4}, all, word)
	first, second := m.ZMM(), m.ZMM()
	m.VPROLVD(five, one, first)
	m.VPSRLD(operand.U8(20), five, second)
	m.VPROLVD(second, one, second)
	list := func(k reg.Register) {
		z, n := m.ZMM(), m.GP32()
		m.VPCOMPRESSD_Z(flag, k, z)
		m.VPMOVDW(z, z.AsY()) // into memory it would take far longer
		m.VMOVDQU64(z.AsY(), operand.Mem{Base: flags})
		m.KMOVW(k, n)
		m.POPCNTL(n, n)
		m.LEAQ(operand.Mem{Base: flags, Index: n.As64(), Scale: 2}, flags)
	}
	// The second place's flag is one more. It is rare that both are there.
	either, only, k, both := m.ZMM(), m.ZMM(), m.K(), m.K()
	m.VPORD(second, first, either)
	m.VPTESTMD(word, either, k)
	m.VPANDD(first, word, only)
	m.VPMINUD(one, only, only) // 1 if the first is there
	m.VPADDD(one, flag, flag)
	m.VPSUBD(only, flag, flag)
	m.VPTESTMD(word, first, both)
	m.VPTESTMD(word, second, both, both)
	list(k)
	m.KORTESTW(both, both)
	m.JZ(operand.LabelRef("next"))
	m.VPADDD(one, flag, flag)
	list(both)
	m.Label("next")
	m.ADDQ(operand.I8(4*avx512Lanes), words)
	m.ADDQ(operand.I8(2*avx512Lanes), from)
	m.SUBQ(lanes, count)
	m.JG(operand.LabelRef("words"))
	m.SUBQ(begin, flags)
	m.SHRQ(operand.U8(1), flags)
	m.Store(flags, m.ReturnIndex(0))
	m.end()
}

// firstLanes returns a mask of the first count lanes, or all, of which there are
// lanes.
func (m *match) firstLanes(count, lanes reg.Register) reg.Register {
	n, mask, k := m.GP64(), m.GP64(), m.K()
	m.MOVQ(count, n)
	m.CMPQ(n, lanes)
	m.CMOVQGT(lanes, n)
	m.MOVQ(operand.I32(-1), mask)
	m.BZHIQ(n, mask, mask)
	m.KMOVW(mask.As32(), k)
	return k
}

// list writes the lanes of a and b that k has to where two pointers point, and moves
// these on.
func (m *match) list(k reg.Register, a, b reg.VecVirtual, toA, toB reg.Register) {
	m.VPCOMPRESSD_Z(a, k, a)
	m.VPCOMPRESSD_Z(b, k, b)
	m.VMOVDQU32(a, operand.Mem{Base: toA})
	m.VMOVDQU32(b, operand.Mem{Base: toB})
	n := m.GP64()
	m.KMOVW(k, n.As32())
	m.POPCNTL(n.As32(), n.As32())
	m.LEAQ(operand.Mem{Base: toA, Index: n, Scale: 4}, toA)
	m.LEAQ(operand.Mem{Base: toB, Index: n, Scale: 4}, toB)
}

// lanes makes a vector of a number for each lane.
func (m *match) lanes(name string, of func(lane int) int) operand.Mem {
	base := m.StaticGlobal(name)
	m.DataAttributes(attr.RODATA | attr.NOPTR)
	for lane := range avx512Lanes {
		m.AppendDatum(operand.U32(of(lane)))
	}
	return base
}

// gather gathers by indexes that have been multiplied by less than the scale of from,
// in the lanes that all has.
func (m *match) gather(from operand.Mem, all reg.Register) reg.VecVirtual {
	z, k := m.ZMM(), m.K()
	m.KMOVW(all, k)
	m.VPXORD(z, z, z)
	m.VPGATHERDD(from, k, z)
	return z
}

// endLoop ends a loop over texts.
func (m *match) endLoop(texts, count reg.Register) {
	m.ADDQ(operand.I32(textVectors*zmmBytes), texts)
	m.DECQ(count)
	m.JNZ(operand.LabelRef("vectors"))
}

// Where a node of the index has what.
const (
	nodeHead   = 0
	nodeNext   = 12
	nodeLimits = 20 // a byte each: at, last, length, bound
)

// keyed writes the function that tells the places at which there may be somebody's
// anchor from the others, without a branch that depends on it.
func (m *match) keyed() {
	m.begin("avx512Keyed",
		fmt.Sprintf("func(texts *[%d][%d]byte, after *uint32, shift uint32, flags *uint16, count int, keyed *uint32, keys *uint32) int", textVectors, zmmBytes),
		"avx512Keyed writes down those of count flags behind whose four characters, by the index's after, the fifth may come, and",
		fmt.Sprintf("the keys of the four; and returns how many they are. Of both it writes up to %d more. count is not 0.", avx512Lanes-1))
	texts, after := m.param("texts"), m.param("after")
	flags, count := m.param("flags"), m.param("count")
	keyed, keys := m.param("keyed"), m.param("keys")
	numbers := m.numbers("avx512KeyedNumbers")
	folded, byteOf, bits := m.spread(numbers(0x1f1f1f1f)), m.spread(numbers(3)), m.spread(numbers(8*3))
	pairs, fours := m.spread(numbers(0x20012001)), m.spread(numbers(0x04000001)) // 1, 32, 1, 32; 1, 1024
	fold, fibonacci, one := m.spread(numbers(0x1f)), m.spread(numbers(0x9e3779b1)), m.spread(numbers(1))
	shift := m.spread(m.Load(m.Param("shift"), m.GP32()))
	begin, lanes := m.GP64(), m.GP64()
	m.MOVQ(keyed, begin)
	m.MOVQ(operand.U32(avx512Lanes), lanes)
	loop(m.Context, "flags")
	all := m.firstLanes(count, lanes)
	flag, place, bit := m.ZMM(), m.ZMM(), m.ZMM()
	m.VPMOVZXWD_Z(operand.Mem{Base: flags}, all, flag)
	m.VPANDND(flag, byteOf, place)
	m.VPSLLD(operand.U8(3), flag, bit)
	m.VPANDD(bits, bit, bit)
	four := m.gather(operand.Mem{Base: texts, Index: place, Scale: 1}, all)
	behind := m.gather(operand.Mem{Base: texts, Index: place, Scale: 1, Disp: zmmBytes}, all)
	m.VPSHRDVD(bit, behind, four)
	m.VPSRLVD(bit, behind, behind)
	m.VPANDD(fold, behind, behind)
	m.VPANDD(folded, four, four)
	m.VPMADDUBSW(pairs, four, four)
	m.VPMADDWD(fours, four, four)
	hash := m.ZMM()
	m.VPMULLD(fibonacci, four, hash)
	m.VPSRLVD(shift, hash, hash)
	in := m.gather(operand.Mem{Base: after, Index: hash, Scale: 4}, all)
	m.VPSRLVD(behind, in, in)
	k := m.K()
	m.VPTESTMD(one, in, all, k)
	m.list(k, flag, four, keyed, keys)
	m.ADDQ(operand.I8(2*avx512Lanes), flags)
	m.SUBQ(lanes, count)
	m.JG(operand.LabelRef("flags"))
	m.SUBQ(begin, keyed)
	m.SHRQ(operand.U8(2), keyed)
	m.Store(keyed, m.ReturnIndex(0))
	m.end()
}

// near writes the function that compares the first eight characters of names.
func (m *match) near() {
	m.begin("avx512Near",
		fmt.Sprintf("func(texts *[%d][%d]byte, heads *int32, shift uint32, nodes *uint64, count int, keyed *uint32, keys *uint32) int", textVectors, zmmBytes),
		"avx512Near leaves those of count flags and keys for which the first node of the index is near or not the last one, and",
		"returns how many they are. count is not 0.")
	texts, heads, nodes := m.param("texts"), m.param("heads"), m.param("nodes")
	count, keyed, keys := m.param("count"), m.param("keyed"), m.param("keys")
	numbers := m.numbers("avx512NearNumbers")
	number := func(n uint32) reg.VecVirtual { return m.spread(numbers(n)) }
	byteOf, low, all1 := number(3), number(0xff), number(0xffffffff)
	lane, vector, wordOf := number(4*(avx512Lanes-1)), number(^uint32(vectorFlags-1)), number(4*(textVectors-1))
	ones8, ones16, fibonacci := number(0x01010101), number(0x00010001), number(0x9e3779b1)
	shift := m.spread(m.Load(m.Param("shift"), m.GP32()))
	outFlags, outKeys, begin, lanes := m.GP64(), m.GP64(), m.GP64(), m.GP64()
	m.MOVQ(keyed, outFlags)
	m.MOVQ(keyed, begin)
	m.MOVQ(keys, outKeys)
	m.MOVQ(operand.U32(avx512Lanes), lanes)
	op := func(emit func(z reg.VecVirtual)) reg.VecVirtual {
		z := m.ZMM()
		emit(z)
		return z
	}
	and := func(a, b reg.VecVirtual) reg.VecVirtual { return op(func(z reg.VecVirtual) { m.VPANDD(a, b, z) }) }
	right := func(a reg.VecVirtual, n uint64) reg.VecVirtual {
		return op(func(z reg.VecVirtual) { m.VPSRLD(operand.U8(n), a, z) })
	}
	loop(m.Context, "flags")
	all := m.firstLanes(count, lanes)
	flag, key := m.load(operand.Mem{Base: keyed}), m.load(operand.Mem{Base: keys})
	hash := op(func(z reg.VecVirtual) { m.VPMULLD(fibonacci, key, z) })
	m.VPSRLVD(shift, hash, hash)
	at := m.gather(operand.Mem{Base: heads, Index: hash, Scale: 4}, all)
	node := op(func(z reg.VecVirtual) { m.VPADDD(at, at, z) }) // a node is three times eight bytes
	m.VPADDD(at, node, node)
	of := func(disp int) reg.VecVirtual {
		return m.gather(operand.Mem{Base: nodes, Index: node, Scale: 8, Disp: disp}, all)
	}
	limits := of(nodeLimits)
	// The name begins so many characters before its anchor.
	place := op(func(z reg.VecVirtual) { m.VPSRLD(operand.U8(4), flag, z) })
	m.VPANDD(wordOf, place, place)
	m.VPADDD(and(flag, byteOf), place, place)
	m.VPSUBD(and(limits, low), place, place)
	fits, k := m.K(), m.K()
	m.VPCMPUD(operand.U8(compareNotAbove), and(right(limits, 8), low), place, all, fits)
	word := op(func(z reg.VecVirtual) { m.VPSRLD(operand.U8(2), place, z) })
	m.VPSLLD(operand.U8(6), word, word)
	m.VPADDD(and(flag, lane), word, word)
	m.VPADDD(and(flag, vector), word, word)
	text := func(i int) reg.VecVirtual {
		return m.gather(operand.Mem{Base: texts, Index: word, Scale: 1, Disp: zmmBytes * i}, fits)
	}
	bit := and(place, byteOf)
	m.VPSLLD(operand.U8(3), bit, bit)
	first, second, third := text(0), text(1), text(2)
	m.VPSHRDVD(bit, second, first)
	m.VPSHRDVD(bit, third, second)
	m.VPXORD(of(nodeHead), first, first)
	m.VPXORD(of(nodeHead+4), second, second)
	// The second four characters are as many as the name has more than four.
	length := and(right(limits, 16), low)
	m.VPSUBD(number(4), length, length)
	m.VPSLLD(operand.U8(3), length, length)
	behind := op(func(z reg.VecVirtual) { m.VPSLLVD(length, all1, z) })
	m.VPANDND(second, behind, second)
	m.VPMINUB(ones8, first, first)
	m.VPMINUB(ones8, second, second)
	m.VPADDB(second, first, first)
	m.VPMADDUBSW(ones8, first, first)
	m.VPMADDWD(ones16, first, first)
	m.VPCMPUD(operand.U8(compareNotAbove), right(limits, 24), first, fits, k)
	// Of what is none, the sign is set.
	next, more := of(nodeNext), m.K()
	m.VPCMPD(operand.U8(compareAbove), all1, next, all, more)
	m.KORW(k, more, k)
	m.list(k, flag, key, outFlags, outKeys)
	m.ADDQ(operand.I8(4*avx512Lanes), keyed)
	m.ADDQ(operand.I8(4*avx512Lanes), keys)
	m.SUBQ(lanes, count)
	m.JG(operand.LabelRef("flags"))
	m.SUBQ(begin, outFlags)
	m.SHRQ(operand.U8(2), outFlags)
	m.Store(outFlags, m.ReturnIndex(0))
	m.end()
}

// Comparisons of VPCMPD and VPCMPUD.
const (
	compareNotAbove = 2
	compareAbove    = 6
)

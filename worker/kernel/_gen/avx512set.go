package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The filters for many names look at all of them at once. They flag hashed
// names that may have four letters of one of them in a row.
//
// The first kind, bitmap, serves thousands. Characters are folded to five bits,
// so that four of them are a number of 20, and a bitmap says which of these are
// looked for. Its words are numbered by three characters in a row; in a word,
// bit i is set if character i may come before them, or after. So one word
// answers for two places, and 12 words answer for the 24 places of a hashed
// name.

// bitmapWords is how many words of the bitmap a hashed name asks for.
const bitmapWords = 12

// wordSpan is how many characters a word's number tells apart: the 26 letters,
// and all else.
const wordSpan = 27

// The characters of 16 hashed names are given on as text codes, of which the lower
// five bits are the folded character, in textVectors vectors. The last one is left
// alone: it is for what is behind the ends.
const textVectors = codeVectors + 1

// writeTexts writes text codes by a table, and the last vector's padding, which K1
// has not.
func (m *match) writeTexts(c [codeVectors]reg.VecVirtual, table reg.VecVirtual, padding operand.Mem, texts reg.Register) {
	for w := range c[:codeVectors-1] {
		m.VMOVDQU32(m.lookUp(c[w], table), vectorAt(texts, w))
	}
	m.VMOVDQU32(m.lookUpLast(c[codeVectors-1], table, padding), vectorAt(texts, codeVectors-1))
}

// What the filters find are flags for the places where four letters can stand in
// 16 hashed names, in foundNumbers numbers of 64 bits, of which the last two are
// left alone.
const foundNumbers = codeVectors + 1

// bitmap writes the filter for thousands of names. A word for each second
// character is what it takes to look at every place; for names of six letters
// and more, each fourth is enough.
func (m *match) bitmap(words int) {
	m.begin(fmt.Sprintf("avx512Bitmap%d", words),
		fmt.Sprintf("func(textCodes *[2][%[1]d]byte, wordCodes *[%[1]d]byte, bitmap *uint32, digests *[5][16]uint32, texts *[%[2]d][%[1]d]byte, found *[%[3]d]uint64, count int)",
			zmmBytes, textVectors, foundNumbers),
		fmt.Sprintf("avx512Bitmap%d finds where hashed names may have a name's four letters in a row, by %[1]d words of the bitmap, and writes", words),
		"their text codes into texts. Bit 32w+i of what is found is set if word w of lane i has the character before, and bit",
		"32w+16+i if it has the one behind. textCodes and wordCodes map each code for these, and textCodes the padding. count is",
		"not 0.")
	wordCodes := m.load(operand.Mem{Base: m.param("wordCodes")})
	codes, bitmap := m.param("textCodes"), m.param("bitmap")
	textCodes := m.load(vectorAt(codes, 0))
	digests, texts, found := m.param("digests"), m.param("texts"), m.param("found")
	count := m.param("count")
	numbers := m.numbers(fmt.Sprintf("avx512Bitmap%dNumbers", words))
	bytes, halves := m.spread(numbers(wordSpan<<24|1<<16|1<<8)), m.spread(numbers(wordSpan<<16|1))
	one, all := m.spread(numbers(1)), m.K()
	m.KXNORW(reg.K0, reg.K0, all)
	high, low := m.beginLoop()
	c := m.codes(digests, 0, high, low)
	at := 0
	// look looks words up, of whose three characters in the middle f has the word
	// codes, for the characters before and behind.
	look := func(f, before, behind reg.VecVirtual) {
		number, word, k := m.ZMM(), m.ZMM(), m.K()
		m.VPMADDUBSW(bytes, f, number)
		m.VPMADDWD(halves, number, number)
		m.VMOVDQA32(number, word)
		m.KMOVW(all, k)
		m.VPGATHERDD(operand.Mem{Base: bitmap, Index: number, Scale: 4}, k, word)
		for _, text := range []reg.VecVirtual{before, behind} {
			bit, k := m.ZMM(), m.K()
			m.VPROLVD(text, one, bit)
			m.VPTESTMD(word, bit, k)
			m.KMOVW(k, operand.Mem{Base: found, Disp: 2 * at})
			at++
		}
	}
	text, f := m.lookUp(c[0], textCodes), m.lookUp(c[0], wordCodes)
	for w := range codeVectors - 1 {
		m.VMOVDQU32(text, vectorAt(texts, w))
		nextText, next := m.lookUp(c[w+1], textCodes), m.lookUp(c[w+1], wordCodes)
		if w+1 == codeVectors-1 {
			nextText = m.lookUpLast(c[w+1], textCodes, vectorAt(codes, 1))
		}
		look(f, text, nextText)
		if words == bitmapWords {
			between, before, behind := m.ZMM(), m.ZMM(), m.ZMM()
			m.VPSHRDD(operand.U8(16), next, f, between)
			m.VPSRLD(operand.U8(16), text, before)
			m.VPSRLD(operand.U8(16), nextText, behind)
			look(between, before, behind)
		}
		text, f = nextText, next
	}
	m.VMOVDQU32(text, vectorAt(texts, codeVectors-1))
	m.endLoop(digests, texts, found, count)
}

// endLoop ends a loop of a filter for many names.
func (m *match) endLoop(digests, texts, found, count reg.Register) {
	m.ADDQ(operand.I32(textVectors*zmmBytes), texts)
	m.ADDQ(operand.I8(8*foundNumbers), found)
	m.ADDQ(operand.I32(5*zmmBytes), digests)
	m.DECQ(count)
	m.JNZ(operand.LabelRef("vectors"))
	m.end()
}

// some writes the function that tells where anything was found.
func (m *match) some() {
	m.begin("avx512Some", fmt.Sprintf("func(found *[%d]uint64, some *byte, count int)", foundNumbers),
		"avx512Some writes a byte for each of count vectors: bit i is set if found's number i is not 0. count is not 0.")
	found, some, count := m.param("found"), m.param("some"), m.param("count")
	loop(m.Context, "vectors")
	z, k := m.load(operand.Mem{Base: found}), m.K()
	m.VPTESTMQ(z, z, k)
	m.KMOVB(k, operand.Mem{Base: some})
	m.ADDQ(operand.I8(8*foundNumbers), found)
	m.INCQ(some)
	m.DECQ(count)
	m.JNZ(operand.LabelRef("vectors"))
	m.end()
}

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

// places writes which bytes of x are not 0 into found's number w.
func (m *match) places(x, found reg.Register, w int) {
	k := m.K()
	m.VPTESTMB(x, x, k)
	m.KMOVQ(k, operand.Mem{Base: found, Disp: 8 * w})
}

// buckets writes the filter for some dozens of names. They are in eight buckets
// by their first character. For each two characters in a row, tables say in
// which buckets they may be the first and second of a name's four letters, the
// second and third, and the third and fourth. The tables have 128 entries, so two
// characters share one with some others.
func (m *match) buckets() {
	m.begin("avx512Buckets",
		fmt.Sprintf("func(textCodes *[2][%[1]d]byte, tables *[9][%[1]d]byte, digests *[5][16]uint32, texts *[%[2]d][%[1]d]byte, found *[%[3]d]uint64, count int)",
			zmmBytes, textVectors, foundNumbers),
		"avx512Buckets finds where hashed names may have a name's four letters in a row, and writes their text codes into texts.",
		"Bit 4i+b of found's number w is set if the letters may begin at character 4w+b of lane i. textCodes maps each code, and",
		"the padding. tables are for the first character and for the two halves of a pair's number; and then the halves of what",
		"the numbers of the first, the second and the third pair map to. count is not 0.")
	codes, base := m.param("textCodes"), m.param("tables")
	textCodes := m.load(vectorAt(codes, 0))
	digests, texts, found := m.param("digests"), m.param("texts"), m.param("found")
	count := m.param("count")
	var t [9]reg.VecVirtual
	for i := range t {
		t[i] = m.load(vectorAt(base, i))
	}
	first, left, right := t[0], t[1], t[2]
	high, low := m.beginLoop()
	c := m.codes(digests, 0, high, low)
	m.writeTexts(c, textCodes, vectorAt(codes, 1), texts)
	var rights [codeVectors]reg.VecVirtual
	for w := range c {
		rights[w] = m.lookUp(c[w], right)
	}
	var pairs [3][codeVectors]reg.VecVirtual
	finish := func(w int) {
		x := m.lookUp(c[w], first)
		m.VPTERNLOGD(operand.U8(ternaryAnd), m.behind(pairs[1][:], w, 1), pairs[0][w], x)
		m.VPANDD(m.behind(pairs[2][:], w, 2), x, x)
		m.places(x, found, w)
	}
	for w := range c {
		n := m.behind(rights[:], w, 1)
		m.VPXORD(m.lookUp(c[w], left), n, n)
		for i := range pairs {
			if i == 0 && w == codeVectors-1 {
				continue
			}
			z := m.ZMM()
			m.VMOVDQA32(n, z)
			m.VPERMI2B(t[4+2*i], t[3+2*i], z)
			pairs[i][w] = z
		}
		if w > 0 {
			finish(w - 1)
		}
	}
	m.endLoop(digests, texts, found, count)
}

// bloom writes the filter for some hundreds of names: a Bloom filter in
// registers (B. Bloom, Space/time trade-offs in hash coding with allowable errors,
// 1970). Its tables are like those of the buckets, but the numbers are hashes of
// all four characters, so that each table lets through only as much as is its
// share of entries in use, whatever the others do.
//
// The hashes are N + iM, as good as independent ones (A. Kirsch, M. Mitzenmacher,
// Less hashing, same performance, 2006), N and M being numbers that are made of
// two characters each; half of them begin with the first two, half with the last.
func (m *match) bloom(tables int) {
	m.begin(fmt.Sprintf("avx512Bloom%d", tables),
		fmt.Sprintf("func(textCodes *[2][%[1]d]byte, pairs *[5][%[1]d]byte, tables *[%[2]d][%[1]d]byte, scratch *[%[3]d][%[1]d]byte, digests *[5][16]uint32, texts *[%[4]d][%[1]d]byte, found *[%[5]d]uint64, count int)",
			zmmBytes, 2*tables, 2*(codeVectors-1), textVectors, foundNumbers),
		fmt.Sprintf("avx512Bloom%d is avx512Buckets with %[1]d tables of two halves. pairs are for the first character, and for the two characters", tables),
		"of N and of M. scratch is room for what changes the numbers.")
	textCodes, pairs, filter, scratch := m.param("textCodes"), m.param("pairs"), m.param("tables"), m.param("scratch")
	digests, texts, found := m.param("digests"), m.param("texts"), m.param("found")
	count := m.param("count")
	const places = codeVectors - 1
	m.beginLoop() // there are no registers to keep anything in
	c := m.codes(digests, 0, m.load(m.codesHigh), m.load(m.codesLow))
	m.writeTexts(c, m.load(vectorAt(textCodes, 0)), vectorAt(textCodes, 1), texts)
	// number makes the numbers of pairs by two tables.
	number := func(table int) (n [codeVectors]reg.VecVirtual) {
		left, right := m.load(vectorAt(pairs, table)), m.load(vectorAt(pairs, table+1))
		var second [codeVectors]reg.VecVirtual
		for w := range c {
			second[w] = m.lookUp(c[w], right)
		}
		for w := range c {
			n[w] = m.behind(second[:], w, 1)
			m.VPXORD(m.lookUp(c[w], left), n[w], n[w])
		}
		return n
	}
	// x has the numbers of the first two characters and y of the last two; what
	// they are changed by is in memory, made of the other two.
	x := number(1)
	var y [places]reg.VecVirtual
	for w := range y {
		y[w] = m.behind(x[:], w, 2)
	}
	steps := number(3)
	for w := range places {
		other := m.behind(steps[:], w, 2)
		m.VMOVDQU32(other, vectorAt(scratch, w))
		m.VPADDB(other, x[w], x[w])
		m.VMOVDQU32(steps[w], vectorAt(scratch, places+w))
		m.VPADDB(steps[w], y[w], y[w])
	}
	first := m.load(vectorAt(pairs, 0))
	var in [places]reg.VecVirtual // the buckets it may be in
	for w := range in {
		in[w] = m.lookUp(c[w], first)
	}
	for t := range tables / 2 {
		var half [4]reg.VecVirtual
		for i := range half {
			half[i] = m.load(vectorAt(filter, 4*t+i))
		}
		for w := range in {
			next, other := m.ZMM(), m.ZMM()
			if t < tables/2-1 {
				m.VPADDB(vectorAt(scratch, w), x[w], next)
				m.VPADDB(vectorAt(scratch, places+w), y[w], other)
			}
			m.VPERMI2B(half[1], half[0], x[w])
			m.VPERMI2B(half[3], half[2], y[w])
			m.VPTERNLOGD(operand.U8(ternaryAnd), y[w], x[w], in[w])
			x[w], y[w] = next, other
		}
	}
	for w := range in {
		m.places(in[w], found, w)
	}
	m.endLoop(digests, texts, found, count)
}

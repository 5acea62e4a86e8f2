package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in the kernel's avx2Piece, avx2Filter and avx2Count.
const (
	avx2PieceOutside = 6 * ymmBytes
	avx2PieceSize    = 8 * ymmBytes

	avx2FilterPieces    = avx2Stretch // after the flags
	avx2FilterPiecesLen = avx2FilterPieces + 8

	avx2CountFlags     = ymmBytes * avx2Stretch // after most
	avx2CountClasses   = avx2CountFlags + avx2Stretch
	avx2CountLast      = avx2CountClasses + 4*28
	avx2CountThreshold = avx2CountLast + 4
	avx2CountLength    = avx2CountThreshold + 4
	avx2CountGroups    = avx2CountLength + 8
)

// flag writes the function that looks for pieces of names.
//
// Four characters of the text are made of a group of three bytes of the digest:
// there are seven groups, the last of them without its third byte. The bytes
// are put into vectors by their place in the group, for groups 0 to 3 and
// again for groups 3 to 6, the first of them in the lowest byte of each lane.
// Looked up by their nibbles, all bytes of a group tell together for which
// pieces they are wrong.
func (g avx2) flag() {
	g.begin("avx2Flag", "func(digests *[5][8]uint32, rows int, filters **[64]uint8, n int)",
		"avx2Flag sets the flags of n filters, at least 1, for each of the rows. The",
		"filters are given by their first fields.")
	digests, rows, filters, n := g.param("digests"), g.param("rows"), g.param("filters"), g.param("n")
	row := g.GP64()
	g.XORQ(row, row)
	g.Label("row")
	low, high := g.nibbles(digests)

	next, left := g.GP64(), g.GP64()
	g.MOVQ(filters, next)
	g.MOVQ(n, left)
	g.Label("filter")
	filter, piece, pieces, none := g.GP64(), g.GP64(), g.GP64(), g.GP32()
	g.MOVQ(disp(next, 0), filter)
	g.MOVQ(disp(filter, avx2FilterPieces), piece)
	g.MOVQ(disp(filter, avx2FilterPiecesLen), pieces)
	g.MOVL(operand.U32(0xff), none)
	g.Label("piece")
	g.piece(piece, none, low, high)
	g.ADDQ(operand.I32(avx2PieceSize), piece)
	g.DECQ(pieces)
	g.JNZ(operand.LabelRef("piece"))

	g.XORL(operand.U32(0xff), none)
	g.MOVB(none.As8(), operand.Mem{Base: filter, Index: row, Scale: 1})
	g.ADDQ(operand.Imm(8), next)
	g.DECQ(left)
	g.JNZ(operand.LabelRef("filter"))
	g.nextRow(digests, row, rows)
	g.end()
}

// nextRow ends a loop over rows.
func (g avx2) nextRow(digests, row, rows reg.Register) {
	g.ADDQ(operand.I32(avx2Digests), digests)
	g.INCQ(row)
	g.CMPQ(row, rows)
	g.JNE(operand.LabelRef("row"))
}

// nibbles puts the nibbles of a row's digests into Y0 to Y11, by the half of
// the groups and the byte of the group.
func (g avx2) nibbles(digests reg.Register) (low, high [2][3]reg.VecPhysical) {
	registers := []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11,
	}
	outer := reg.Y15
	g.VMOVDQU(g.all(0xff0000ff), outer)
	// Each vector has two bytes of one word, the outer ones, the second byte of
	// another and the third of one more, and then they are put in order.
	for half, vectors := range [2][3]struct {
		outer, second, third int // words
		order                uint32
	}{
		{{0, 2, 1, 0x02010003}, {1, 0, 2, 0x01000302}, {2, 1, 0, 0x00030201}},
		{{3, 2, 4, 0x01000302}, {4, 3, 2, 0x00030201}, {2, 4, 3, 0x80020100}},
	} {
		for place, v := range vectors {
			g.Comment(fmt.Sprintf("Byte %d of groups %d to %d.", place, 3*half, 3*half+3))
			l, h := registers[0], registers[1]
			registers = registers[2:]
			low[half][place], high[half][place] = l, h
			g.VMOVDQU(disp(digests, ymmBytes*v.third), l)
			g.VPBLENDW(operand.Imm(0xaa), disp(digests, ymmBytes*v.second), l, l)
			g.VPBLENDVB(outer, disp(digests, ymmBytes*v.outer), l, l)
			g.VPSHUFB(g.order(v.order), l, l)
			g.VPSRLD(operand.Imm(4), l, h)
			g.VPAND(g.all(0x0f0f0f0f), l, l)
			g.VPAND(g.all(0x0f0f0f0f), h, h)
		}
	}
	g.Comment("The missing byte is never wrong: with the highest bit set, VPSHUFB gives 0.")
	g.VPOR(g.all(0x80000000), low[1][2], low[1][2])
	g.VPOR(g.all(0x80000000), high[1][2], high[1][2])
	return low, high
}

// piece takes the lanes that may have the piece out of none.
func (g avx2) piece(piece, none reg.Register, low, high [2][3]reg.VecPhysical) {
	// What is wrong in either half of the groups, and two intermediate results.
	wrong0, wrong1, t0, t1 := reg.Y12, reg.Y13, reg.Y14, reg.Y15
	for place := range 3 {
		for i, nibble := range [2][2][3]reg.VecPhysical{low, high} {
			g.VMOVDQU(disp(piece, ymmBytes*(2*place+i)), t0)
			if place == 0 && i == 0 {
				g.VPSHUFB(nibble[0][0], t0, wrong0)
				g.VPSHUFB(nibble[1][0], t0, wrong1)
				continue
			}
			g.VPSHUFB(nibble[0][place], t0, t1)
			g.VPSHUFB(nibble[1][place], t0, t0)
			g.VPOR(t1, wrong0, wrong0)
			g.VPOR(t0, wrong1, wrong1)
		}
	}
	g.Comment("The upper half of a group's byte is about pieces that begin in the group before.")
	g.VPSRLD(operand.Imm(12), wrong0, t0)
	g.VPSRLD(operand.Imm(12), wrong1, t1)
	g.VPOR(t0, wrong0, wrong0)
	g.VPOR(t1, wrong1, wrong1)
	g.VPOR(disp(piece, avx2PieceOutside), wrong0, wrong0)
	g.VPOR(disp(piece, avx2PieceOutside+ymmBytes), wrong1, wrong1)
	g.VPAND(wrong0, wrong1, wrong0)
	g.VPCMPEQD(t0, t0, t0)
	g.VPCMPEQD(t0, wrong0, wrong0)
	lanes := g.GP32()
	g.VMOVMSKPS(wrong0, lanes)
	g.ANDL(lanes, none)
}

// textGroups is how many times four characters the text has.
const textGroups = 7

// count writes the function that counts the characters of names that match.
//
// Vector q of the text has the classes of characters q to q + 3 in the bytes of
// each lane. So the number, over all i, of the characters i of the name that
// are in byte j of vector 4·k + i is that of the alignment at 4·k + j.
func (g avx2) count() {
	g.begin("avx2CountMost", "func(digests *[5][8]uint32, rows int, counts **[64][8]uint32, n int, text *[28][8]uint32)",
		"avx2CountMost sets most and flags of n counts, at least 1, for each of the rows. The",
		"counts are given by their first fields. Text is room for one row's.")
	digests, rows, counts, n, text := g.param("digests"), g.param("rows"), g.param("counts"), g.param("n"), g.param("text")
	row := g.GP64()
	g.XORQ(row, row)
	g.Label("row")
	g.text(digests, text)

	next, left := g.GP64(), g.GP64()
	g.MOVQ(counts, next)
	g.MOVQ(n, left)
	g.Label("count")
	count, chars, groups, class, vector := g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(disp(next, 0), count)
	g.MOVQ(disp(count, avx2CountLength), chars)
	g.MOVQ(disp(count, avx2CountGroups), groups)
	g.LEAQ(disp(count, avx2CountClasses), class)
	g.MOVQ(text, vector)
	for k := textGroups; k > 1; k-- {
		g.CMPQ(groups, operand.Imm(uint64(k)))
		g.JEQ(operand.LabelRef(fmt.Sprintf("groups%d", k)))
	}
	for k := 1; k <= textGroups; k++ {
		g.matches(k, count, chars, class, vector)
		if k < textGroups {
			g.JMP(operand.LabelRef("most"))
		}
	}
	g.Label("most")
	g.most(count, row)
	g.ADDQ(operand.Imm(8), next)
	g.DECQ(left)
	g.JNZ(operand.LabelRef("count"))
	g.nextRow(digests, row, rows)
	g.end()
}

// text writes a row's text, which takes 28 vectors.
//
// The six-bit codes are cut out of three bytes as by Wojciech Muła and Daniel
// Lemire, "Faster Base64 Encoding and Decoding using AVX2 Instructions", 2018.
func (g avx2) text(digests, text reg.Register) {
	group := [...]reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7}
	t := reg.Y8
	for i, source := range [textGroups]struct {
		upper, lower int // words that the upper and the lower two bytes are from
		order        uint32
	}{
		{0, 0, 0x02010302}, {1, 0, 0x03020003}, {2, 1, 0x00030100}, {2, 2, 0x01000201},
		{3, 3, 0x02010302}, {4, 3, 0x03020003}, {4, 4, 0x00800100},
	} {
		g.Comment(fmt.Sprintf("Characters %d to %d.", 4*i, 4*i+3))
		c := group[i]
		g.VMOVDQU(disp(digests, ymmBytes*source.lower), c)
		if source.upper != source.lower {
			g.VPBLENDW(operand.Imm(0xaa), disp(digests, ymmBytes*source.upper), c, c)
		}
		g.VPSHUFB(g.order(source.order), c, c)
		g.VPAND(g.all(0x0fc0fc00), c, t)
		g.VPMULHUW(g.all(0x04000040), t, t)
		g.VPAND(g.all(0x003f03f0), c, c)
		g.VPMULLW(g.all(0x01000010), c, c)
		g.VPOR(t, c, c)
		// 26 to 63 have the classes 0 to 37, and 0 to 25 are their own.
		g.VPADDB(g.all(0xe6e6e6e6), c, t)
		g.VPMINUB(t, c, c)
	}
	g.Comment("The padding has class 38. What comes after it has none.")
	last, none := group[textGroups-1], group[textGroups]
	g.VPAND(g.all(0x00ffffff), last, last)
	g.VPOR(g.all(38<<24), last, last)
	g.VPCMPEQD(none, none, none)

	one, three := reg.Y9, reg.Y10
	g.VMOVDQU(g.all(0x000000ff), one)
	g.VMOVDQU(g.all(0x00ffffff), three)
	for i := range textGroups {
		g.Comment(fmt.Sprintf("Vectors %d to %d.", 4*i, 4*i+3))
		c, after := group[i], group[i+1]
		vector := func(j int) operand.Mem { return disp(text, ymmBytes*(4*i+j)) }
		g.VMOVDQU(c, vector(0))
		g.VPBLENDVB(one, after, c, t)
		g.VPSHUFB(g.order(0x00030201), t, t)
		g.VMOVDQU(t, vector(1))
		g.VPBLENDW(operand.Imm(0x55), after, c, t)
		g.VPSHUFB(g.order(0x01000302), t, t)
		g.VMOVDQU(t, vector(2))
		g.VPBLENDVB(three, after, c, t)
		g.VPSHUFB(g.order(0x02010003), t, t)
		g.VMOVDQU(t, vector(3))
	}
}

// matches writes the loop over a name that has so many groups of alignments.
// The numbers of matches, Y0 on, end in Y0: the greatest of the groups.
func (g avx2) matches(groups int, count, chars, class, vector reg.Register) {
	sum := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6}[:groups]
	c, t := reg.Y7, reg.Y8
	g.Label(fmt.Sprintf("groups%d", groups))
	for _, s := range sum {
		g.VPXOR(s, s, s)
	}
	loop := fmt.Sprintf("characters%d", groups)
	g.Label(loop)
	g.VPBROADCASTD(disp(class, 0), c)
	for k, s := range sum {
		g.VPCMPEQB(disp(vector, 4*ymmBytes*k), c, t)
		g.VPSUBB(t, s, s)
	}
	g.ADDQ(operand.Imm(4), class)
	g.ADDQ(operand.Imm(ymmBytes), vector)
	g.DECQ(chars)
	g.JNZ(operand.LabelRef(loop))
	g.VPBROADCASTD(disp(count, avx2CountLast), c)
	g.VPAND(c, sum[groups-1], sum[groups-1])
	for _, s := range sum[1:] {
		g.VPMAXUB(s, sum[0], sum[0])
	}
}

// most writes the greatest of the four bytes of Y0's lanes, and the flags.
func (g avx2) most(count, row reg.Register) {
	most, t := reg.Y0, reg.Y1
	for _, n := range []uint64{16, 8} {
		g.VPSRLD(operand.Imm(n), most, t)
		g.VPMAXUB(t, most, most)
	}
	g.VPAND(g.all(0x000000ff), most, most)
	place := g.GP64()
	g.MOVQ(row, place)
	g.SHLQ(operand.Imm(5), place)
	g.VMOVDQU(most, operand.Mem{Base: count, Index: place, Scale: 1})
	g.VPBROADCASTD(disp(count, avx2CountThreshold), t)
	g.VPCMPGTD(t, most, t)
	flags := g.GP32()
	g.VMOVMSKPS(t, flags)
	g.MOVB(flags.As8(), operand.Mem{Base: count, Index: row, Scale: 1, Disp: avx2CountFlags})
}

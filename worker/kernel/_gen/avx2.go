package main

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The AVX2 kernel hashes a row of eight candidates in the lanes of a vector,
// and two rows side by side. The lanes are the lowest bits of the index and the
// rows the next ones: digests come out in the order of their indexes. To choose
// other bits, as plan does, would save one operation in a hundred.
const (
	avx2LaneBits = 3
	avx2RowBits  = 8
	avx2Streams  = 2

	// Sizes that the callers know too.
	avx2RowWords = 64 // room for the words that differ between rows
	avx2Stretch  = 64 // rows that are flagged together
	avx2Digests  = 5 * ymmBytes
	ymmBytes     = 32
)

// avx2Plan says what the words of the schedule are made of.
type avx2Plan struct {
	split [rounds]splitKind
	// row is the place of a word among those that differ between rows, or -1.
	row      [rounds]int
	rowWords int
}

func newAVX2Plan(secretLen int) avx2Plan {
	var p avx2Plan
	lane := bitRange{0, avx2LaneBits}.support(secretLen)
	row := bitRange{avx2LaneBits, avx2RowBits}.support(secretLen)
	for t := range rounds {
		p.split[t] = split(lane[t], row[t])
		p.row[t] = -1
		if row[t] != 0 {
			p.row[t] = p.rowWords
			p.rowWords++
		}
	}
	return p
}

// avx2 writes the AVX2 functions.
type avx2 struct {
	*build.Context
	vectors map[[4]uint32]operand.Mem // constants, by their half
}

// writeAVX2 writes all of them into the directory.
func writeAVX2(dir string) error {
	g := avx2{newContext(), make(map[[4]uint32]operand.Mem)}
	for n := 3; n <= 8; n++ {
		g.hash(n)
	}
	if err := assemble(g.Context, dir, "avx2hash"); err != nil {
		return err
	}
	g = avx2{newContext(), make(map[[4]uint32]operand.Mem)}
	g.flag()
	g.count()
	return assemble(g.Context, dir, "avx2match")
}

// begin starts a function.
func (g avx2) begin(name, signature string, doc ...string) {
	g.Function(name)
	g.Attributes(attr.NOSPLIT)
	g.Pragma("noescape")
	g.SignatureExpr(signature)
	g.Doc(doc...)
}

func (g avx2) end() {
	g.VZEROUPPER()
	g.RET()
}

func (g avx2) param(name string) reg.Register { return g.Load(g.Param(name), g.GP64()) }

// all returns the vector with x in all of its lanes.
func (g avx2) all(x uint32) operand.Mem { return g.fours([4]uint32{x, x, x, x}) }

// order returns the vector that has VPSHUFB order the bytes of each word: the
// lowest byte says which comes first.
func (g avx2) order(bytes uint32) operand.Mem {
	const next = 0x04040404
	return g.fours([4]uint32{bytes, bytes + next, bytes + 2*next, bytes + 3*next})
}

// fours returns the vector that has the words twice.
func (g avx2) fours(words [4]uint32) operand.Mem {
	m, ok := g.vectors[words]
	if !ok {
		m = g.StaticGlobal(fmt.Sprintf("avx2x%08x_%x", words[0], words[3]-words[0]))
		g.DataAttributes(attr.RODATA | attr.NOPTR)
		for i := range 8 {
			g.AddDatum(4*i, operand.U32(words[i%4]))
		}
		g.vectors[words] = m
	}
	return m
}

// disp returns the place so many bytes after base.
func disp(base reg.Register, bytes int) operand.Mem { return operand.Mem{Base: base, Disp: bytes} }

// hash writes the function that hashes secrets of n bytes.
//
// Of the registers each stream has eight: five for the words of SHA-1's state,
// which take turns, and three for intermediate results. That leaves none for
// what the streams could share, but it is arithmetic that limits this code.
func (g avx2) hash(n int) {
	p := newAVX2Plan(n)
	g.begin(fmt.Sprintf("avx2Hash%d", n),
		"func(words *[80][8]uint32, slow *[64]uint32, rows *[64]uint32, fresh *[2][64]uint32, digests *[5][8]uint32, pairs int)",
		fmt.Sprintf("avx2Hash%d computes the digests of 2·pairs rows, at least 2, of secrets of %d", n, n),
		"bytes. Fresh is room for the words of two rows: what they change in slow.")
	words, slow, row, fresh := g.param("words"), g.param("slow"), g.param("rows"), g.param("fresh")
	digests, pairs := g.param("digests"), g.param("pairs")

	g.Label("rows")
	for i := 0; i < p.rowWords; i += 8 {
		g.VMOVDQU(disp(slow, 4*i), reg.Y0)
		for s := range avx2Streams {
			place := 4 * (avx2RowWords*s + i)
			g.VPXOR(disp(row, place), reg.Y0, reg.Y1)
			g.VMOVDQU(reg.Y1, disp(fresh, place))
		}
	}
	registers := []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}
	var streams [avx2Streams]avx2Stream
	for s := range streams {
		streams[s] = avx2Stream{avx2: g, words: words, row: disp(fresh, 4*avx2RowWords*s), free: registers[8*s:][:8]}
		for i, x := range initial {
			streams[s].state[i] = g.all(x)
		}
	}
	for t := range rounds {
		g.Comment(fmt.Sprintf("Round %d: A to E are %s and %s.", t, streams[0].roles(), streams[1].roles()))
		a, b := streams[0].round(p, t), streams[1].round(p, t)
		for i := range a {
			a[i]()
			b[i]()
		}
	}
	g.Comment("The digests.")
	for i := range initial {
		for s := range streams {
			word := streams[s].state[i].(reg.Register)
			if i > 0 { // the first is in the last round's constant
				g.VPADDD(g.all(initial[i]), word, word)
			}
			g.VMOVDQU(word, disp(digests, avx2Digests*s+ymmBytes*i))
		}
	}
	g.ADDQ(operand.I32(avx2Streams*4*avx2RowWords), row)
	g.ADDQ(operand.I32(avx2Streams*avx2Digests), digests)
	g.DECQ(pairs)
	g.JNZ(operand.LabelRef("rows"))
	g.end()
}

// avx2Stream writes the instructions of one of the streams.
type avx2Stream struct {
	avx2
	words reg.Register
	row   operand.Mem
	// state is A to E: registers or, in the first rounds, constants in memory.
	state [5]operand.Op
	// free are the registers that are not in state.
	free []reg.VecPhysical
}

// roles names the registers of state.
func (s *avx2Stream) roles() string {
	var names []string
	for _, x := range s.state {
		name := "constant"
		if !isConstant(x) {
			name = x.Asm()
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// round returns the instructions of round t, and changes state to that after
// it. What depends on constants alone is part of the round's word.
func (s *avx2Stream) round(p avx2Plan, t int) (code []func()) {
	emit := func(f func()) { code = append(code, f) }
	a, b, c, d, e := s.state[0], s.state[1], s.state[2], s.state[3], s.state[4]
	word := disp(s.words, ymmBytes*t)
	rowWord := s.row.Offset(4 * p.row[t])

	var x reg.VecPhysical
	if isConstant(e) {
		x, s.free = s.free[0], s.free[1:]
	} else {
		x = e.(reg.VecPhysical)
	}
	t1, t2, t3 := s.free[0], s.free[1], s.free[2]
	switch {
	case p.split[t] == xorWord:
		emit(func() { s.VPBROADCASTD(rowWord, t1) })
		emit(func() { s.VPXOR(word, t1, t1) })
		k := constants[t/20]
		if t == 79 {
			k += initial[0]
		}
		emit(func() { s.VPADDD(s.all(k), x, x) })
		emit(func() { s.VPADDD(t1, x, x) })
	case p.row[t] >= 0 && isConstant(e):
		emit(func() { s.VPBROADCASTD(rowWord, x) })
		emit(func() { s.VPADDD(word, x, x) })
	case p.row[t] >= 0:
		emit(func() { s.VPBROADCASTD(rowWord, t1) })
		emit(func() { s.VPADDD(word, x, x) })
		emit(func() { s.VPADDD(t1, x, x) })
	case isConstant(e):
		emit(func() { s.VMOVDQU(word, x) })
	default:
		emit(func() { s.VPADDD(word, x, x) })
	}
	if !isConstant(b) {
		b := b.(reg.VecPhysical)
		switch t / 20 {
		case 0: // the two terms have no bit in common
			emit(func() { s.VPAND(c, b, t1) })
			emit(func() { s.VPANDN(d, b, t2) })
			emit(func() { s.VPADDD(t1, x, x) })
			emit(func() { s.VPADDD(t2, x, x) })
		case 1, 3:
			emit(func() { s.VPXOR(c, d.(reg.VecPhysical), t1) })
			emit(func() { s.VPXOR(b, t1, t1) })
			emit(func() { s.VPADDD(t1, x, x) })
		case 2: // b⋅(c⊕d) + c⋅d, likewise
			emit(func() { s.VPAND(c, d.(reg.VecPhysical), t2) })
			emit(func() { s.VPXOR(c, d.(reg.VecPhysical), t1) })
			emit(func() { s.VPADDD(t2, x, x) })
			emit(func() { s.VPAND(b, t1, t1) })
			emit(func() { s.VPADDD(t1, x, x) })
		}
	}
	if !isConstant(a) {
		a := a.(reg.VecPhysical)
		emit(func() { s.VPSLLD(operand.U8(5), a, t2) })
		emit(func() { s.VPSRLD(operand.U8(27), a, t3) })
		emit(func() { s.VPADDD(t2, x, x) })
		emit(func() { s.VPADDD(t3, x, x) })
	}
	if !isConstant(b) {
		b := b.(reg.VecPhysical)
		emit(func() { s.VPSLLD(operand.U8(30), b, t1) })
		emit(func() { s.VPSRLD(operand.U8(2), b, b) })
		emit(func() { s.VPOR(t1, b, b) })
	} else {
		b = s.all(rotatedInitial(t))
	}
	s.state = [5]operand.Op{x, a, b, c, d}
	return code
}

func isConstant(x operand.Op) bool { return operand.IsM256(x) }

// rotatedInitial returns C after round t, when it is still a constant.
func rotatedInitial(t int) uint32 { return bits.RotateLeft32(initial[1-t], 30) }

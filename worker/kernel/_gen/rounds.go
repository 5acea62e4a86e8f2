package main

import (
	"math/bits"
	"slices"
)

// The initial chaining value and the constants of the rounds (FIPS 180-4,
// sections 5.3.1 and 4.2.1).
var (
	initial   = [5]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}
	constants = [4]uint32{0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6}
)

// function is a round's function of three words, bit by bit. Its number is the
// truth table in the order that VPTERNLOG wants it.
type function uint8

const (
	choose   function = 0xca
	parity   function = 0x96
	majority function = 0xe8
)

// functions has each 20 rounds' function.
var functions = [4]function{choose, parity, majority, parity}

// apply returns f(b, c, d).
func (f function) apply(b, c, d uint32) uint32 {
	switch f {
	case choose:
		return b&c | ^b&d
	case majority:
		return b&c | b&d | c&d
	}
	return b ^ c ^ d
}

// valueKind says when a value of the computation is known.
type valueKind uint8

const (
	number  valueKind = iota // now
	hoisted                  // once a step: a vector that v does not change
	row                      // with v: one number for all lanes
	looped                   // with lane and v
)

// value is one value of the computation.
type value struct {
	kind valueKind
	n    uint32 // of a number
	// id is the place of a hoisted value in program.step, of a row's in
	// program.row, and of a looped one in program.loop.
	id int
}

// opcode is an operation on vectors.
type opcode uint8

const (
	opWord     opcode = iota // hoisted only: word imm of the schedule, without v's part
	opAdd                    // args[0] + args[1]
	opXor                    // args[0] ^ args[1]
	opRotate                 // args[0] rotated left by imm
	opFunction               // function imm of args
)

// op makes a value, the one that has the op's place as its id.
type op struct {
	code opcode
	imm  int
	args []value
}

// rowWord is what v contributes to word t of the schedule:
//
//	(B[v] ^ S & mask) + add
//
// where B[v] is the word of v alone and S that of all bits but v and lane.
type rowWord struct {
	t       int
	mask    uint32
	add     uint32
	dynamic bool // S & mask changes with the step
}

// program computes the digests of a vector of candidates: step once for each
// step, and loop for each v.
type program struct {
	plan
	step []op
	loop []op
	// table has the hoisted values and the numbers that loop uses, in the
	// order in which it first does.
	table  []value
	row    []rowWord
	digest [5]value
}

// newProgram writes SHA-1 down for the plan, each operation at the earliest
// time at which it can be done.
func newProgram(p plan) *program {
	g := &program{plan: p}
	var a, b, c, d, e value
	for i, v := range []*value{&a, &b, &c, &d, &e} {
		*v = known(initial[i])
	}
	for t := range rounds {
		k := constants[t/20]
		if t == rounds-1 {
			k += initial[0] // nothing but the digest is made of this round
		}
		terms := append([]value{e}, g.word(t, k)...)
		rotated := g.rotate(b, 30) // before the function, which then is b's last use
		terms = append(terms, g.function(functions[t/20], b, c, d))
		terms = append(terms, g.rotate(a, 5))
		a, b, c, d, e = g.sum(terms), a, rotated, c, d
	}
	for i, v := range []value{a, b, c, d, e} {
		if i > 0 {
			v = g.sum([]value{v, known(initial[i])})
		}
		g.digest[i] = v
	}
	g.sortRow()
	return g
}

func known(n uint32) value { return value{kind: number, n: n} }

// word returns the terms of word t of the schedule and of the constant k.
func (g *program) word(t int, k uint32) []value {
	if g.split[t] == vWord {
		return []value{g.rowValue(rowWord{t: t, mask: ^uint32(0), add: k})}
	}
	w := g.emit(op{code: opWord, imm: t}, hoisted)
	switch g.split[t] {
	case sumWord:
		return []value{known(k), w, g.rowValue(rowWord{t: t, mask: g.vBits[t]})}
	case xorWord:
		v := g.rowValue(rowWord{t: t})
		return []value{known(k), g.emit(op{code: opXor, args: []value{g.tabled(w), v}}, looped)}
	}
	return []value{known(k), w}
}

func (g *program) rowValue(w rowWord) value {
	w.dynamic = g.dynamic(w.t)
	g.row = append(g.row, w)
	return value{kind: row, id: len(g.row) - 1}
}

// slowMask returns the bits of word t of S that belong to the hoisted part of
// the word; rowWord's mask has the others.
func (g *program) slowMask(t int) uint32 {
	if g.split[t] == sumWord {
		return ^g.vBits[t]
	}
	return ^uint32(0)
}

// sortRow puts the dynamic words of a row first, and of those the ones that
// have something added.
func (g *program) sortRow() {
	order := make([]int, len(g.row))
	for i := range order {
		order[i] = i
	}
	class := func(i int) int {
		switch w := g.row[i]; {
		case !w.dynamic:
			return 2
		case w.add == 0:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b int) int { return class(a) - class(b) })
	sorted := make([]rowWord, len(order))
	place := make([]int, len(order))
	for to, from := range order {
		sorted[to], place[from] = g.row[from], to
	}
	g.row = sorted
	for _, o := range g.loop {
		for i, v := range o.args {
			if v.kind == row {
				o.args[i].id = place[v.id]
			}
		}
	}
}

func (g *program) rotate(x value, n int) value {
	if x.kind == number {
		return known(bits.RotateLeft32(x.n, n))
	}
	return g.emit(op{code: opRotate, imm: n, args: []value{x}}, x.kind)
}

func (g *program) function(f function, b, c, d value) value {
	switch kind := max(b.kind, c.kind, d.kind); kind {
	case number:
		return known(f.apply(b.n, c.n, d.n))
	case hoisted:
		return g.emit(op{code: opFunction, imm: int(f), args: []value{b, c, d}}, hoisted)
	default:
		return g.emit(op{code: opFunction, imm: int(f), args: []value{g.tabled(b), g.tabled(c), g.tabled(d)}}, looped)
	}
}

// sum adds terms in their order, except that all that is known before the loop
// is added there, into one term.
func (g *program) sum(terms []value) value {
	var constant uint32
	var before value
	var loop []value
	for _, v := range terms {
		switch {
		case v.kind == number:
			constant += v.n
		case v.kind != hoisted:
			loop = append(loop, v)
		case before.kind == number:
			before = v
		default:
			before = g.emit(op{code: opAdd, args: []value{before, v}}, hoisted)
		}
	}
	switch {
	case before.kind == hoisted && constant != 0:
		before = g.emit(op{code: opAdd, args: []value{before, known(constant)}}, hoisted)
	case before.kind == number:
		// With a word of v alone there may be no other term before the loop.
		i := slices.IndexFunc(loop, func(v value) bool { return v.kind == row && g.split[g.row[v.id].t] == vWord })
		if i >= 0 {
			g.row[loop[i].id].add += constant
			constant = 0
		}
		before = known(constant)
	}
	if len(loop) == 0 {
		return before
	}
	if before != known(0) {
		// Second, or first where the sum would begin with a row.
		at := 1
		if loop[0].kind == row {
			at = 0
		}
		loop = slices.Insert(loop, at, g.tabled(before))
	}
	total := loop[0]
	for _, v := range loop[1:] {
		total = g.emit(op{code: opAdd, args: []value{total, v}}, looped)
	}
	return total
}

// emit adds an op to the step or to the loop and returns its value.
func (g *program) emit(o op, kind valueKind) value {
	ops := &g.step
	if kind == looped {
		ops = &g.loop
	}
	*ops = append(*ops, o)
	return value{kind: kind, id: len(*ops) - 1}
}

// tabled notes that the loop uses v.
func (g *program) tabled(v value) value {
	if v.kind <= hoisted && !slices.Contains(g.table, v) {
		g.table = append(g.table, v)
	}
	return v
}

// dynamicWords returns how many words of a row change with the step, and how
// many of those have something added: they come first.
func (g *program) dynamicWords() (all, added int) {
	for _, w := range g.row {
		if w.dynamic {
			all++
			if w.add != 0 {
				added++
			}
		}
	}
	return all, added
}

// rowPlace returns where in a row the i-th of its words is. The dynamic words
// and the others begin at whole vectors.
func (g *program) rowPlace(i int) int {
	if dynamic, _ := g.dynamicWords(); i >= dynamic {
		return i + (dynamic+15)/16*16 - dynamic
	}
	return i
}

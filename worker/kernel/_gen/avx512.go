package main

import (
	"fmt"
	"slices"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	avx512LaneBits = 4
	avx512Lanes    = 1 << avx512LaneBits
	zmmBytes       = 64

	// avx512Streams is how many vectors are computed side by side, sharing the
	// loads from the table. One waits for its own results. Two have the pipes
	// busy for 94 % of the time; four for 96 %, because there is more that a
	// pipe can take next, and for more there are not enough registers.
	avx512Streams = 4

	// avx512Lag is how many operations each stream is behind the one before.
	// In step they would all want a rotation at once, which only one of the
	// pipes can do.
	avx512Lag = 4

	// avx512Ahead is how many operations before its use a word of a row is
	// refreshed.
	avx512Ahead = 16
)

// The sizes of what the generated functions and their callers share, in
// 32-bit words except for tableSize, which is in vectors.
const (
	tableSize = 96
	rowSize   = 64
	freshSize = 32 // the dynamic words of a row
)

// avx512 writes the AVX-512 functions.
type avx512 struct{ *build.Context }

// at returns the place of the i-th 32-bit word after base.
func at(base reg.Register, word int) operand.Mem { return operand.Mem{Base: base, Disp: 4 * word} }

// vectorAt returns the place of the i-th vector after base.
func vectorAt(base reg.Register, i int) operand.Mem {
	return operand.Mem{Base: base, Disp: zmmBytes * i}
}

// begin starts a function. The parameters are pointers to arrays, and numbers.
func (g avx512) begin(name, signature string, doc ...string) {
	g.Function(name)
	g.Attributes(attr.NOSPLIT)
	g.Pragma("noescape")
	g.SignatureExpr(signature)
	g.Doc(doc...)
}

func (g avx512) end() {
	g.VZEROUPPER()
	g.RET()
}

// sideBySide writes what emit does for each of n streams, which may have no
// registers in common that it writes, one instruction of each in turn.
func (g avx512) sideBySide(n int, emit func(i int)) {
	file, _ := g.Result() // errors are kept until the end
	functions := file.Functions()
	f := functions[len(functions)-1]
	begin := len(f.Nodes)
	var streams [][]ir.Node
	for i := range n {
		from := len(f.Nodes)
		emit(i)
		streams = append(streams, slices.Clone(f.Nodes[from:]))
	}
	f.Nodes = f.Nodes[:begin]
	for at := range streams[0] {
		for _, s := range streams {
			f.Nodes = append(f.Nodes, s[at])
		}
	}
}

func (g avx512) param(name string) reg.Register { return g.Load(g.Param(name), g.GP64()) }

// step writes the function that fills the table for one step.
func (g avx512) step(p *program) {
	numbers := g.numbers("avx512Numbers" + p.name())
	g.begin("avx512Step"+p.name(),
		fmt.Sprintf("func(table *[%d][16]uint32, lanes *[80][16]uint32, slow *[80]uint32)", tableSize),
		"avx512Step"+p.name()+" fills the table for the bits that slow is the message schedule of.")
	table, lanes, slow := g.param("table"), g.param("lanes"), g.param("slow")

	places := make(map[value]int)
	for i, v := range p.table {
		places[v] = i
	}
	vectors := make([]reg.VecVirtual, len(p.step)) // by id
	vector := func(v value) reg.VecVirtual {
		if v.kind == hoisted {
			return vectors[v.id]
		}
		z := g.ZMM()
		g.VPBROADCASTD(numbers(v.n), z)
		return z
	}
	for id, o := range p.step {
		z := g.ZMM()
		vectors[id] = z
		switch o.code {
		case opWord:
			g.VPBROADCASTD(at(slow, o.imm), z)
			if mask := p.slowMask(o.imm); mask != ^uint32(0) {
				g.VPANDD_BCST(numbers(mask), z, z)
			}
			if p.laneBits[o.imm] != 0 {
				g.VPXORD(vectorAt(lanes, o.imm), z, z)
			}
		case opAdd:
			if n := o.args[1]; n.kind == number {
				g.VPADDD_BCST(numbers(n.n), vector(o.args[0]), z)
			} else {
				g.VPADDD(vector(n), vector(o.args[0]), z)
			}
		case opRotate:
			g.VPROLD(operand.U8(o.imm), vector(o.args[0]), z)
		case opFunction:
			g.VMOVDQA32(vector(o.args[0]), z)
			g.VPTERNLOGD(operand.U8(o.imm), vector(o.args[2]), vector(o.args[1]), z)
		default:
			panic("an operation that no step has")
		}
		if i, ok := places[value{kind: hoisted, id: id}]; ok {
			g.VMOVDQU32(z, vectorAt(table, i))
		}
	}
	g.end()
}

// constants writes the numbers into the table that no step changes.
func (g avx512) constants(p *program) {
	numbers := g.numbers("avx512Constants" + p.name())
	g.begin("avx512Constants"+p.name(), fmt.Sprintf("func(table *[%d][16]uint32)", tableSize),
		"avx512Constants"+p.name()+" writes what is in the table for every step.")
	table := g.param("table")
	for i, v := range p.table {
		if v.kind == number {
			z := g.ZMM()
			g.VPBROADCASTD(numbers(v.n), z)
			g.VMOVDQU32(z, vectorAt(table, i))
		}
	}
	g.end()
}

// numbers returns a function that returns the places of numbers in a read-only
// array of that name. Each number is there once. It is for as long as no other such
// array is begun.
func (g avx512) numbers(name string) func(uint32) operand.Mem {
	base := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	places := make(map[uint32]int)
	global := g.Context
	return func(n uint32) operand.Mem {
		i, ok := places[n]
		if !ok {
			i = len(places)
			places[n] = i
			global.AppendDatum(operand.U32(n))
		}
		return base.Offset(4 * i)
	}
}

// rows writes the function that prepares the rows for a block.
func (g avx512) rows() {
	g.begin("avx512Rows", fmt.Sprintf("func(rows, raw *[%d][%d]uint32, change *[2][%[2]d]uint32)", 1<<vCount, rowSize),
		"avx512Rows makes rows from raw: each word xor change[0], plus change[1].")
	rows, raw, change, count := g.param("rows"), g.param("raw"), g.param("change"), g.GP64()
	var xor, add [rowSize / 16]reg.VecVirtual
	for i := range xor {
		xor[i], add[i] = g.ZMM(), g.ZMM()
		g.VMOVDQU32(vectorAt(change, i), xor[i])
		g.VMOVDQU32(vectorAt(change, len(xor)+i), add[i])
	}
	g.MOVQ(operand.U32(1<<vCount), count)
	loop(g.Context, "rows")
	for i := range xor {
		z := g.ZMM()
		g.VPXORD(vectorAt(raw, i), xor[i], z)
		g.VPADDD(add[i], z, z)
		g.VMOVDQU32(z, vectorAt(rows, i))
	}
	g.ADDQ(operand.I32(4*rowSize), rows)
	g.ADDQ(operand.I32(4*rowSize), raw)
	g.DECQ(count)
	g.JNZ(operand.LabelRef("rows"))
	g.end()
}

// hash writes the function that computes the digests of a number of rows.
func (g avx512) hash(p *program) {
	g.begin("avx512Hash"+p.name(),
		fmt.Sprintf("func(table *[%d][16]uint32, change *[2][%d]uint32, rows *[%d]uint32, fresh *[%d][%d]uint32, digests *[5][16]uint32, count int)",
			tableSize, freshSize, rowSize, avx512Streams, freshSize),
		"avx512Hash"+p.name()+" computes a vector of digests for each of count rows.",
		"What the step changes in rows is in change; fresh is room for the changed words.",
		fmt.Sprintf("count is a multiple of %d, and not 0.", avx512Streams))
	table, change, rows := g.param("table"), g.param("change"), g.param("rows")
	fresh, digests, count := g.param("fresh"), g.param("digests"), g.param("count")

	loop(g.Context, "rows")
	g.rounds(p, table, change, rows, fresh, digests)
	g.ADDQ(operand.I32(4*avx512Streams*rowSize), rows)
	g.ADDQ(operand.I32(avx512Streams*5*zmmBytes), digests)
	g.SUBQ(operand.I8(avx512Streams), count)
	g.JNZ(operand.LabelRef("rows"))
	g.end()
}

// rounds writes the loop of p, the streams taking turns operation by operation.
func (g avx512) rounds(p *program, table, change, rows, fresh, digests reg.Register) {
	places := make(map[value]int)
	for i, v := range p.table {
		places[v] = i
	}
	dynamic, added := p.dynamicWords()
	rowAt := func(s, word int) operand.Mem {
		if word < dynamic {
			return at(fresh, s*freshSize+word)
		}
		return at(rows, s*rowSize+p.rowPlace(word))
	}
	// refresh changes a dynamic word of a row. The CPU has nothing else to do for
	// its general registers; vectors would take operations from the rounds.
	refresh := func(s, word int) {
		z := g.GP32()
		g.MOVL(at(rows, s*rowSize+word), z)
		g.XORL(at(change, word), z)
		if word < added {
			g.ADDL(at(change, freshSize+word), z)
		}
		g.MOVL(z, rowAt(s, word))
	}
	last := make(map[int]int) // the last use of each looped value
	for id, o := range p.loop {
		for _, v := range o.args {
			if v.kind == looped {
				last[v.id] = id
			}
		}
	}
	for _, v := range p.digest {
		last[v.id] = len(p.loop)
	}

	var vectors [avx512Streams][]reg.VecVirtual
	var shared [][]reg.VecVirtual // what the streams load together
	emit := func(s, id int) {
		o := p.loop[id]
		if s == 0 {
			loaded := make([]reg.VecVirtual, len(o.args))
			for i, v := range o.args {
				if v.kind <= hoisted {
					loaded[i] = g.ZMM()
					g.VMOVDQU32(vectorAt(table, places[v]), loaded[i])
				}
			}
			shared = append(shared, loaded)
		}
		vector := func(i int) reg.VecVirtual {
			if z := shared[id][i]; z != nil {
				return z
			}
			return vectors[s][o.args[i].id]
		}
		z := g.ZMM()
		switch o.code {
		case opAdd, opXor:
			switch add, is := o.code == opAdd, o.args[1].kind == row; {
			case add && is:
				g.VPADDD_BCST(rowAt(s, o.args[1].id), vector(0), z)
			case add:
				g.VPADDD(vector(1), vector(0), z)
			default:
				g.VPXORD_BCST(rowAt(s, o.args[1].id), vector(0), z)
			}
		case opRotate:
			g.VPROLD(operand.U8(o.imm), vector(0), z)
		case opFunction:
			// It overwrites its first argument, of which this is the last use.
			if v := o.args[0]; v.kind == looped && last[v.id] == id {
				z = vector(0)
			} else {
				g.VMOVDQA32(vector(0), z)
			}
			g.VPTERNLOGD(operand.U8(o.imm), vector(2), vector(1), z)
		default:
			panic("an operation that no loop has")
		}
		vectors[s] = append(vectors[s], z)
	}
	for turn := range len(p.loop) + avx512Lag*(avx512Streams-1) + avx512Ahead {
		for s := range avx512Streams {
			id := turn - avx512Lag*s
			if id >= 0 && id < len(p.loop) {
				for _, v := range p.loop[id].args {
					if v.kind == row && v.id < dynamic {
						refresh(s, v.id)
					}
				}
			}
			if id -= avx512Ahead; id >= 0 && id < len(p.loop) {
				emit(s, id)
			}
		}
	}
	for s := range avx512Streams {
		for i, v := range p.digest {
			g.VMOVDQU32(vectors[s][v.id], vectorAt(digests, 5*s+i))
		}
	}
}

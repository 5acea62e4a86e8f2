package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The sieve serves up to some thousands of anchors. sieve.go, which has its tables
// and says what they mean, is its twin.
//
// Its first step looks at every place, so it is short: it is bound by the two pipes
// that permute bytes. What passes is written down, byte by byte, in vectors as full
// as can be; so the many tables of the second step cost little.

const (
	// sieveNumbers is how many numbers of two characters each the four characters of
	// a place make.
	sieveNumbers = 3
	// sieveTables is how many tables the first step has at most.
	sieveTables = 5
	// What is kept of each place that passes: its numbers, the bit that its flag would
	// be, and the number that this bit would be of.
	keptBit    = sieveNumbers
	keptNumber = sieveNumbers + 1
	keptBytes  = sieveNumbers + 2

	batchVectors = 32
	placeVectors = codeVectors - 1
	// keptRoom has room for all places of a batch, and for a vector behind them. (The
	// places are a multiple of what the second step looks at in one go.) It is whole
	// pages, so that what is kept of a place is at the same place of each: loads meet
	// fewer of the stores that they would wait for.
	keptRoom = 1 << 14
)

// keptAt returns the place of a byte of what is kept.
func keptAt(base reg.Register, which, offset int) operand.Mem {
	return operand.Mem{Base: base, Disp: which*keptRoom + offset}
}

// eachByte makes a vector of bytes.
func (m *match) eachByte(name string, of func(int) int) operand.Mem {
	base := m.StaticGlobal(name)
	m.DataAttributes(attr.RODATA | attr.NOPTR)
	for b := range zmmBytes {
		m.AppendDatum(operand.U8(of(b)))
	}
	return base
}

// sieve writes the first step. If few places pass, it is faster to jump over what
// writes them down.
func (m *match) sieve(name string, tables int, few bool) {
	m.begin(name,
		fmt.Sprintf("func(buckets *[%[1]d]byte, tables *[%[2]d][2][%[1]d]byte, texts *[%[3]d][%[1]d]byte, kept *[%[4]d][%[5]d]byte, count int) int",
			zmmBytes, sieveTables, textVectors, keptBytes, keptRoom),
		name+" keeps the places that pass the sieve's first step, and returns how many they are. buckets maps each text code to the bit",
		fmt.Sprintf("of its bucket. tables are in two halves; it uses %d. Behind what is kept it writes up to %d bytes more. count is not 0.", tables, zmmBytes-1))
	base, texts := m.param("tables"), m.param("texts")
	kept, count := m.param("kept"), m.param("count")
	// What it needs is in registers. A load that is at the same place of a page as
	// a store before it would wait for that, and there are many stores.
	buckets := m.load(vectorAt(m.param("buckets"), 0))
	halves := make([][2]reg.VecVirtual, tables)
	for i := range halves {
		halves[i] = [2]reg.VecVirtual{m.load(vectorAt(base, 2*i)), m.load(vectorAt(base, 2*i+1))}
	}
	bits := m.load(m.eachByte(name+"Bits", func(b int) int { return b }))
	begin, number, minusOne := m.GP64(), m.ZMM(), m.ZMM()
	m.VPXORD(number, number, number)
	m.VPTERNLOGD(operand.U8(ternaryOnes), minusOne, minusOne, minusOne)
	m.MOVQ(kept, begin)
	loop(m.Context, "vectors")
	var text, pairs [codeVectors]reg.VecVirtual
	// read makes the numbers of what begins in vector w, and loads the next.
	read := func(w int) {
		if w+1 < codeVectors {
			text[w+1] = m.load(vectorAt(texts, w+1))
		}
		if w < 0 {
			return
		}
		// A text code has six bits, so two bits less than a whole character on are four
		// times the next one's.
		z := m.ZMM()
		if w+1 < codeVectors {
			m.VPSHRDD(operand.U8(6), text[w+1], text[w], z)
		} else {
			m.VPSRLD(operand.U8(6), text[w], z)
		}
		m.VPXORD(text[w], z, z)
		pairs[w] = z
	}
	read(-1)
	read(0)
	for w := range placeVectors {
		in := m.lookUp(text[w], buckets)
		read(w + 1)
		numbers := [sieveNumbers]reg.VecVirtual{pairs[w], m.behind(pairs[:], w, 1), m.behind(pairs[:], w, 2)}
		found := make([]reg.VecVirtual, tables)
		for i := range found {
			found[i] = m.ZMM()
			if i < sieveNumbers {
				m.VMOVDQA32(numbers[i], found[i])
			} else {
				m.VPADDB(numbers[sieveNumbers-1], numbers[i-sieveNumbers], found[i])
			}
			m.VPERMI2B(halves[i][1], halves[i][0], found[i])
		}
		for i := 1; i < tables-1; i += 2 {
			m.VPTERNLOGD(operand.U8(ternaryAnd), found[i], found[i-1], in)
		}
		k, set := m.K(), m.GP64()
		m.VPTESTMB(found[tables-1], in, k)
		m.KMOVQ(k, set)
		skip := fmt.Sprintf("skip%d", w)
		if few {
			m.TESTQ(set, set)
			m.JZ(operand.LabelRef(skip))
		}
		at := m.ZMM()
		m.VPCOMPRESSB_Z(bits, k, at)
		keep := [keptBytes]reg.VecVirtual{keptBit: at, keptNumber: number}
		for i, n := range numbers {
			keep[i] = m.ZMM()
			m.VPERMB(n, at, keep[i])
		}
		// Half a vector, which is less often in two cache lines, is nearly always enough.
		for i, z := range keep {
			m.VMOVDQU64(z.AsY(), keptAt(kept, i, 0))
		}
		m.POPCNTQ(set, set)
		m.CMPQ(set, operand.I8(zmmBytes/2))
		enough := fmt.Sprintf("enough%d", w)
		m.JLS(operand.LabelRef(enough))
		for i, z := range keep {
			m.VMOVDQU32(z, keptAt(kept, i, 0))
		}
		m.Label(enough)
		m.ADDQ(set, kept)
		if few {
			m.Label(skip)
		}
		m.VPSUBB(minusOne, number, number)
	}
	for range textVectors - placeVectors {
		m.VPSUBB(minusOne, number, number)
	}
	m.endLoop(texts, count)
	m.SUBQ(begin, kept)
	m.Store(kept, m.ReturnIndex(0))
	m.end()
}

const (
	// siftMatrices is how many matrices the second step mixes the numbers by.
	siftMatrices = 5
	// siftHalves is how many vectors the bits of its buckets take.
	siftHalves = 2
	// siftStreams is how many vectors of places it looks at side by side, sharing the
	// tables.
	siftStreams = 3
	// siftTables is how many tables it has at most.
	siftTables = 24
)

// sift writes the second step: a Bloom filter with a table for each hash. sieve.go
// says what the hashes are.
func (m *match) sift() {
	m.begin("avx512Sift",
		fmt.Sprintf("func(matrices *[%d]uint64, buckets *[%d][%[3]d]byte, tables *[%[4]d][%[2]d][2][%[3]d]byte, pairs int, kept *[%[5]d][%[6]d]byte, count int, from uint32, flags *uint16) int",
			siftMatrices, siftHalves, zmmBytes, siftTables, keptBytes, keptRoom),
		"avx512Sift lists the flags of those of count places which also pass pairs pairs of tables, and returns how many they are.",
		"The first vector's flags begin at from. matrices are for VGF2P8AFFINEQB. buckets maps the lower six bits of the last mix to the bits of its bucket. Behind the flags",
		fmt.Sprintf("it writes up to %d more. Neither count is 0.", numberFlags/2-1))
	matrices, buckets, tables, pairs := m.param("matrices"), m.param("buckets"), m.param("tables"), m.param("pairs")
	kept, count, flags := m.param("kept"), m.param("count"), m.param("flags")
	from := m.ZMM()
	m.VPBROADCASTW(m.Load(m.Param("from"), m.GP32()), from)
	begin, zero, all, whole := m.GP64(), m.GP64(), m.GP64(), m.GP64()
	m.MOVQ(flags, begin)
	m.XORQ(zero, zero)
	m.MOVQ(operand.I32(-1), all)
	m.MOVQ(operand.U32(zmmBytes), whole)
	loop(m.Context, "places")
	var inside [siftStreams]reg.Register
	for i := range inside {
		n, mask := m.GP64(), m.GP64()
		m.MOVQ(count, n)
		m.SUBQ(operand.I32(zmmBytes*i), n)
		m.CMOVQLT(zero, n)
		m.CMPQ(n, whole)
		m.CMOVQGT(whole, n)
		m.BZHIQ(n, all, mask)
		inside[i] = m.K()
		m.KMOVQ(mask, inside[i])
	}
	var in [siftStreams][siftHalves]reg.VecVirtual
	var hash, step [siftStreams][2]reg.VecVirtual
	m.sideBySide(siftStreams, func(i int) {
		x, z, y := m.load(keptAt(kept, 0, zmmBytes*i)), m.load(keptAt(kept, 1, zmmBytes*i)), m.load(keptAt(kept, 2, zmmBytes*i))
		mixed := func(which int, n reg.VecVirtual) reg.VecVirtual {
			to := m.ZMM()
			m.VGF2P8AFFINEQB_BCST(operand.U8(0), operand.Mem{Base: matrices, Disp: 8 * which}, n, to)
			return to
		}
		u, s, v, t := mixed(0, x), mixed(1, z), mixed(2, y), m.ZMM()
		m.VPXORD(z, u, u)
		m.VPXORD(y, s, s)
		m.VPXORD(x, v, v)
		m.VPXORD(mixed(3, u), mixed(4, s), t)
		for j := range in[i] {
			in[i][j] = m.ZMM()
			m.VPERMB_Z(vectorAt(buckets, j), t, inside[i], in[i][j])
		}
		hash[i], step[i] = [2]reg.VecVirtual{u, s}, [2]reg.VecVirtual{v, t}
	})
	table, left := m.GP64(), m.GP64()
	m.MOVQ(tables, table)
	m.MOVQ(pairs, left)
	loop(m.Context, "tables")
	for j := range siftHalves {
		var found [siftStreams][2]reg.VecVirtual
		for i := range 2 {
			low, high := m.load(vectorAt(table, 2*(siftHalves*i+j))), m.load(vectorAt(table, 2*(siftHalves*i+j)+1))
			m.sideBySide(siftStreams, func(s int) {
				z := m.ZMM()
				m.VMOVDQA32(hash[s][i], z)
				m.VPERMI2B(high, low, z)
				found[s][i] = z
			})
		}
		m.sideBySide(siftStreams, func(s int) {
			m.VPTERNLOGD(operand.U8(ternaryAnd), found[s][1], found[s][0], in[s][j])
		})
	}
	m.sideBySide(siftStreams, func(s int) {
		for i := range 2 {
			m.VPADDB(step[s][i], hash[s][i], hash[s][i])
		}
		m.VPXORD(hash[s][1], step[s][0], step[s][0])
		m.VPADDB(hash[s][0], step[s][1], step[s][1])
	})
	m.ADDQ(operand.I32(2*siftHalves*2*zmmBytes), table)
	m.DECQ(left)
	m.JNZ(operand.LabelRef("tables"))
	for s := range siftStreams {
		k, n := m.K(), m.GP64()
		m.VPORD(in[s][1], in[s][0], in[s][0])
		m.VPTESTMB(in[s][0], in[s][0], k)
		m.KMOVQ(k, n)
		m.POPCNTQ(n, n)
		bits, numbers := m.load(keptAt(kept, keptBit, zmmBytes*s)), m.load(keptAt(kept, keptNumber, zmmBytes*s))
		m.VPCOMPRESSB_Z(bits, k, bits)
		m.VPCOMPRESSB_Z(numbers, k, numbers)
		list := func(half int) {
			flag, bit := m.ZMM(), m.ZMM()
			m.VPMOVZXBW(numbers.AsY(), flag)
			m.VPMOVZXBW(bits.AsY(), bit)
			m.VPSLLW(operand.U8(6), flag, flag)
			m.VPTERNLOGD(operand.U8(ternaryOr), from, bit, flag)
			m.VMOVDQU16(flag, operand.Mem{Base: flags, Disp: zmmBytes * half})
		}
		list(0)
		m.CMPQ(n, operand.I8(zmmBytes/2))
		enough := fmt.Sprintf("enough%d", s)
		m.JLS(operand.LabelRef(enough))
		m.VEXTRACTI64X4(operand.U8(1), bits, bits.AsY())
		m.VEXTRACTI64X4(operand.U8(1), numbers, numbers.AsY())
		list(1)
		m.Label(enough)
		m.LEAQ(operand.Mem{Base: flags, Index: n, Scale: 2}, flags)
	}
	m.ADDQ(operand.I32(siftStreams*zmmBytes), kept)
	m.SUBQ(operand.I32(siftStreams*zmmBytes), count)
	m.JG(operand.LabelRef("places"))
	m.SUBQ(begin, flags)
	m.SHRQ(operand.U8(1), flags)
	m.Store(flags, m.ReturnIndex(0))
	m.end()
}

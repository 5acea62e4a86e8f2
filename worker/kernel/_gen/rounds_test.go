package main

import (
	"crypto/sha1"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// TestProgram runs the programs of all plans, one candidate at a time, and
// compares with crypto/sha1.
func TestProgram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, laneCount := range []int{3, 4} {
		for n := 3; n <= 8; n++ {
			for _, p := range plans(n, laneCount, 22) {
				g := newProgram(p)
				for range 20 {
					secret := random.Uint64() >> (64 - 8*n)
					if got, want := run(g, secret), digest(n, secret); got != want {
						t.Fatalf("%d bytes, %v: digest of %x = %x, want %x", n, &p, secret, got, want)
					}
				}
			}
		}
	}
}

func digest(n int, secret uint64) (d [5]uint32) {
	sum := sha1.Sum(binary.BigEndian.AppendUint64(nil, secret)[8-n:])
	for i := range d {
		d[i] = binary.BigEndian.Uint32(sum[4*i:])
	}
	return d
}

// run interprets g for the candidate.
func run(g *program, secret uint64) (d [5]uint32) {
	vMask := uint64(1)<<g.v.high() - 1
	laneMask := uint64(1)<<g.lane.high() - 1<<g.lane.low
	lane := expand(message(g.secretLen, secret&laneMask))
	v := expand(message(g.secretLen, secret&vMask))
	slowBlock := message(g.secretLen, secret&^laneMask&^vMask)
	slowBlock[g.secretLen/4] |= 0x80 << (24 - 8*(g.secretLen%4))
	slowBlock[15] = uint32(8 * g.secretLen)
	slow := expand(slowBlock)

	var step, loop []uint32
	get := func(v value) uint32 {
		switch v.kind {
		case hoisted:
			return step[v.id]
		case looped:
			return loop[v.id]
		}
		return v.n
	}
	rowOf := func(i int) uint32 {
		w := g.row[i]
		return (v[w.t] ^ slow[w.t]&w.mask) + w.add
	}
	do := func(o op) uint32 {
		args := make([]uint32, len(o.args))
		for i, a := range o.args {
			if args[i] = get(a); a.kind == row {
				args[i] = rowOf(a.id)
			}
		}
		switch o.code {
		case opWord:
			return lane[o.imm] ^ slow[o.imm]&g.slowMask(o.imm)
		case opAdd:
			return args[0] + args[1]
		case opXor:
			return args[0] ^ args[1]
		case opRotate:
			return bits.RotateLeft32(args[0], o.imm)
		}
		return function(o.imm).apply(args[0], args[1], args[2])
	}
	for _, o := range g.step {
		step = append(step, do(o))
	}
	for _, o := range g.loop {
		loop = append(loop, do(o))
	}
	for i, v := range g.digest {
		d[i] = get(v)
	}
	return d
}

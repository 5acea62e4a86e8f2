package main

import (
	"fmt"
	"slices"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// allocateVectors gives the vectors of f their registers, if none of them is
// needed across a label: each is free again with its last use. In such code
// that takes no more registers than there are values at a time; avo, which
// would do it otherwise, colours a graph and takes some more.
func allocateVectors(f *ir.Function) error {
	type life struct{ block, last int }
	lives := make(map[reg.ID]*life)
	vectors := func(registers []reg.Register) (ids []reg.ID) {
		for _, r := range registers {
			if r.Kind() == reg.KindVector && reg.ToPhysical(r) == nil && !slices.Contains(ids, r.ID()) {
				ids = append(ids, r.ID())
			}
		}
		return ids
	}
	block := 0
	for at, n := range f.Nodes {
		switch n := n.(type) {
		case ir.Label:
			block++
		case *ir.Instruction:
			for _, id := range vectors(n.Registers()) {
				l, ok := lives[id]
				if !ok {
					l = &life{block: block}
					lives[id] = l
				}
				if l.block != block {
					return nil
				}
				l.last = at
			}
		}
	}
	var free []reg.ID
	for _, r := range reg.Vector.Registers() {
		if !slices.Contains(free, r.ID()) {
			free = append(free, r.ID())
		}
	}
	slices.Sort(free)
	release := func(id reg.ID) {
		at, _ := slices.BinarySearch(free, id)
		free = slices.Insert(free, at, id)
	}
	allocation := reg.NewEmptyAllocation()
	for at, n := range f.Nodes {
		i, ok := n.(*ir.Instruction)
		if !ok {
			continue
		}
		in, out := vectors(i.InputRegisters()), vectors(i.OutputRegisters())
		for _, id := range in {
			if lives[id].last == at {
				release(allocation[id])
			}
		}
		for _, id := range out {
			if _, ok := allocation[id]; !ok {
				if len(free) == 0 {
					return fmt.Errorf("%s: more vectors than registers", f.Name)
				}
				allocation[id], free = free[0], free[1:]
			}
		}
		for _, id := range out {
			if lives[id].last == at && !slices.Contains(in, id) {
				release(allocation[id])
			}
		}
		for _, ops := range [][]operand.Op{i.Operands, i.Inputs, i.Outputs} {
			for at, op := range ops {
				ops[at] = operand.ApplyAllocation(op, allocation)
			}
		}
	}
	return nil
}

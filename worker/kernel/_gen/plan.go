package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// plan says which bits of a secret vary where. From the lowest bit of the
// index up:
//
//	v      counts from one vector to the next
//	step   the bits between v and lane, if any: count from one step to the next
//	lane   differs between the elements of a vector
//	outer  all bits above: fixed in a block
//
// v is at the bottom because the hits of one lane then come in index order:
// each lane walks a contiguous part of the block, and a block's hits in order
// are those of its lanes, one after the other.
type plan struct {
	secretLen int
	v, lane   bitRange
	split     [rounds]splitKind
	laneBits  words // support of lane
	vBits     words // support of v
	stepBits  words // support of the bits between v and lane
	terms     int   // sum of the words' terms
}

// vCount is the number of bits of v: enough that the cost of a step is small
// when shared by 2^vCount vectors.
const vCount = 8

func newPlan(secretLen int, lane bitRange) plan {
	p := plan{secretLen: secretLen, v: bitRange{0, vCount}, lane: lane}
	p.laneBits = p.lane.support(secretLen)
	p.vBits = p.v.support(secretLen)
	p.stepBits = p.step().support(secretLen)
	for t := range p.split {
		p.split[t] = split(p.laneBits[t], p.vBits[t])
		p.terms += p.split[t].terms()
	}
	return p
}

// step returns the bits between v and lane.
func (p *plan) step() bitRange { return bitRange{p.v.high(), p.lane.low - p.v.high()} }

// blockBits returns the number of bits that vary in a block.
func (p *plan) blockBits() int { return p.lane.high() }

// count returns how many words are of kind k.
func (p *plan) count(k splitKind) int {
	n := 0
	for _, s := range p.split {
		if s == k {
			n++
		}
	}
	return n
}

// dynamic reports whether what v contributes to word t changes with the step.
// In a sum the bits of the word that v changes have to be in v's part, with
// whatever else changes them; in a word of v alone, all bits are.
func (p *plan) dynamic(t int) bool {
	switch p.split[t] {
	case vWord:
		return p.stepBits[t] != 0
	case sumWord:
		return p.stepBits[t]&p.vBits[t] != 0
	}
	return false
}

// plans returns the plans for secrets of secretLen bytes that have 2^laneCount
// lanes and blocks of 2^maxBlock candidates at most. The one with the fewest
// terms comes first, and among equals the one with the smallest block.
func plans(secretLen, laneCount, maxBlock int) []plan {
	var all []plan
	for low := vCount; low+laneCount <= min(8*secretLen, maxBlock); low++ {
		all = append(all, newPlan(secretLen, bitRange{low, laneCount}))
	}
	slices.SortStableFunc(all, func(a, b plan) int { return cmp.Compare(a.terms, b.terms) })
	return all
}

// printPlans prints what the search has seen: the best few plans without a
// bound on the block, and the one chosen.
func printPlans(w io.Writer, secretLen, laneCount, maxBlock int) {
	const shown = 4
	fmt.Fprintf(w, "secrets of %d bytes, %d lanes:\n", secretLen, 1<<laneCount)
	all := plans(secretLen, laneCount, 8*secretLen)
	for _, p := range all[:min(shown, len(all))] {
		fmt.Fprintf(w, "           %v\n", &p)
	}
	best := plans(secretLen, laneCount, maxBlock)[0]
	fmt.Fprintf(w, "  chosen   %v\n           ", &best)
	for _, s := range best.split {
		fmt.Fprint(w, s)
	}
	fmt.Fprintln(w)
}

// String describes the plan in a line.
func (p *plan) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "lanes on bits %d-%d, blocks of 2^%d: %d terms", p.lane.low, p.lane.high()-1, p.blockBits(), p.terms)
	for k := fixedWord; k <= xorWord; k++ {
		fmt.Fprintf(&s, ", %d %s", p.count(k), k)
	}
	return s.String()
}

// name tells the plan from the others of one kernel.
func (p *plan) name() string { return fmt.Sprintf("%dx%d", p.secretLen, p.blockBits()) }

package main

import (
	"flag"
	"fmt"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "..", "directory of package kernel")
	flag.Parse()
	if err := generate(*dir); err != nil {
		log.Fatal(err)
	}
}

// maxBlocks bounds the candidates of a block, as powers of two. The larger they
// are, the more choice the search has; but a kernel has to look at a whole block
// before it can report the hits of it in order. So there are two plans: one for
// long searches with few hits, and one for all others.
var maxBlocks = []int{20, 16}

func generate(out string) error {
	ctx := newContext()
	g := avx512{ctx}
	var programs []*program
	for n := 3; n <= 8; n++ {
		for _, maxBlock := range maxBlocks {
			printPlans(os.Stdout, n, avx512LaneBits, maxBlock)
			p := newProgram(plans(n, avx512LaneBits, maxBlock)[0])
			dynamic, added := p.dynamicWords()
			fmt.Printf("           %d operations a vector and %d a step; %d vectors in the table, %d words in a row, of which %d change with the step, %d of them with a sum\n",
				len(p.loop), len(p.step), len(p.table), len(p.row), dynamic, added)
			programs = append(programs, p)
			g.constants(p)
			g.step(p)
			g.hash(p)
		}
	}
	g.rows()
	if err := assemble(ctx, out, "avx512hash"); err != nil {
		return err
	}
	ctx = newContext()
	m := newMatch(avx512{ctx})
	m.sequence(6)
	m.sequence(7)
	m.pieces()
	for characters := filterNeeds + 1; characters <= nameGroup; characters++ {
		m.filter(characters)
	}
	m.distance()
	// What works together is near together: with the hash between, there are no places
	// to spare in the first instruction cache.
	m.sieve("avx512Sieve5", sieveTables, false)
	m.sieve("avx512Sieve3Few", sieveNumbers, true)
	m.sieve("avx512Sieve3", sieveNumbers, false)
	m.sift()
	m.texts()
	m.keyed()
	m.near()
	m.bitmap()
	for _, words := range []int{bitmapWords, bitmapWords / 2} {
		m.words(words)
	}
	if err := assemble(ctx, out, "avx512match"); err != nil {
		return err
	}
	if err := writeAVX2(out); err != nil {
		return err
	}
	return writePlans(out, "avx512plan", "avx512", programs)
}

//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/hashfinder/hashfinder/jobs/search"
)

const (
	avx512Texts  = 7 // vectors of a hashed name's classes
	avx512Places = anchorPlaces

	// How many anchors the filters serve at most: for more, the next one is faster.
	avx512BucketsMost = 96
	avx512Bloom6Most  = 400
	avx512Bloom16Most = 1600
)

// avx512GroupFilter is a way to flag the hashed names that may have an anchor.
type avx512GroupFilter uint8

const (
	avx512ByBuckets avx512GroupFilter = iota
	avx512ByBloom6
	avx512ByBloom16
	avx512ByBitmap12
	avx512ByBitmap6
)

// avx512Group looks for a group's members in batches of digests.
type avx512Group struct {
	texts [avx512Batch][avx512Texts + 1][4 * avx512Lanes]uint8
	// found has what the filters find, by avx512FlagTables, in the first six numbers.
	found   [avx512Batch][8]uint64
	tables  [9][64]uint8 // for avx512Buckets
	pairs   [5][64]uint8 // for avx512Bloom6 and 16
	bloom   [2 * 16][64]uint8
	scratch [2 * (avx512Texts - 1)][4 * avx512Lanes]uint8

	some [avx512Batch]uint8 // which numbers of found are not 0
	// What matchGroup lists: flags, numbered through the batch; and of those of which
	// somebody may have the characters, the keys. All have room for what is written
	// behind the ends.
	listed [avx512Batch*avx512Places*avx512Lanes + 32]uint16
	keyed  [avx512Batch*avx512Places*avx512Lanes + 16]uint32
	keys   [avx512Batch*avx512Places*avx512Lanes + 16]uint32

	group   *group
	changes int // of the group, when tables were made
	filter  avx512GroupFilter
	table   *avx512FlagTable
}

// begin makes ready for the group's members.
func (a *avx512Group) begin(g *group) {
	if a.group == g && a.changes == g.changes {
		return
	}
	a.group, a.changes = g, g.changes
	a.found = [avx512Batch][8]uint64{}
	switch n := g.index.count; {
	case g.long:
		a.filter, a.table = avx512ByBitmap6, &avx512FlagTables[1]
		return
	case n > avx512Bloom16Most:
		a.filter, a.table = avx512ByBitmap12, &avx512FlagTables[2]
		return
	case n > avx512Bloom6Most:
		a.filter = avx512ByBloom16
	case n > avx512BucketsMost:
		a.filter = avx512ByBloom6
	default:
		a.filter = avx512ByBuckets
	}
	a.table = &avx512FlagTables[0]
	a.fill()
}

// pairNumber makes a number of seven bits from two folded characters, such that
// pairs of letters spread over all numbers.
func pairNumber(first, second uint8) uint8 { return (first*37 ^ second*5) & 127 }

// bloomCodes has random numbers for each folded character: what N and M are made
// of, for the first and the second of two.
var bloomCodes = newBloomCodes()

func newBloomCodes() (codes [4][foldMask + 1]uint8) {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // any numbers will do
	for i := range codes {
		for c := range codes[i] {
			codes[i][c] = uint8(random.Uint32())
		}
	}
	for c := range codes[2] { // M is odd, so that N + iM goes through all numbers
		codes[2][c] |= 1
		codes[3][c] &^= 1
	}
	return codes
}

// fill makes the tables of the filters in registers.
func (a *avx512Group) fill() {
	a.tables, a.pairs, a.bloom = [9][64]uint8{}, [5][64]uint8{}, [2 * 16][64]uint8{}
	// The first characters with the most anchors go each into the emptiest
	// bucket.
	var anchors [foldMask + 1]int
	for _, w := range a.group.members {
		if w != nil {
			for _, at := range w.anchors[:w.anchorCount] {
				anchors[w.name[at]&foldMask]++
			}
		}
	}
	order := make([]uint8, 0, len(anchors))
	for c := range anchors {
		order = append(order, uint8(c))
	}
	slices.SortStableFunc(order, func(x, y uint8) int { return anchors[y] - anchors[x] })
	var bucket [foldMask + 1]uint8
	var load [8]int
	for _, c := range order {
		b := 0
		for i := range load {
			if load[i] < load[b] {
				b = i
			}
		}
		bucket[c] = 1 << b
		load[b] += anchors[c]
	}
	for code, class := range codeClass {
		c := class & foldMask
		if anchors[c] > 0 {
			a.tables[0][code] = bucket[c]
		}
		a.tables[1][code] = pairNumber(c, 0)
		a.tables[2][code] = pairNumber(0, c)
		for i := range bloomCodes {
			a.pairs[1+i][code] = bloomCodes[i][c]
		}
	}
	a.pairs[0] = a.tables[0]
	for _, w := range a.group.members {
		if w == nil {
			continue
		}
		for _, at := range w.anchors[:w.anchorCount] {
			for i := range uint8(anchorLen - 1) {
				n := pairNumber(w.name[at+i]&foldMask, w.name[at+i+1]&foldMask)
				a.tables[3+2*i+n/64][n%64] |= bucket[w.name[at]&foldMask]
			}
			a.add(w.name[at:at+anchorLen], bucket[w.name[at]&foldMask])
		}
	}
}

// add puts an anchor into the tables of the Bloom filter.
func (a *avx512Group) add(anchor []uint8, bucket uint8) {
	pair := func(codes, at int) uint8 {
		return bloomCodes[codes][anchor[at]&foldMask] ^ bloomCodes[codes+1][anchor[at+1]&foldMask]
	}
	x, y := pair(0, 0), pair(0, 2)
	for t := 0; t < len(a.bloom); t += 4 {
		x += pair(2, 2)
		y += pair(2, 0)
		a.bloom[t+int(x&127)/64][x%64] |= bucket
		a.bloom[t+2+int(y&127)/64][y%64] |= bucket
	}
}

// filterBatch sets found for h's batch.
func (a *avx512Group) filterBatch(h *avx512Hasher) {
	codes, digests, texts, found := &avx512TextCodes, &h.digests[0], &a.texts[0], &a.found[0]
	const count = avx512Batch
	switch a.filter {
	case avx512ByBuckets:
		avx512Buckets(codes, &a.tables, digests, texts, found, count)
	case avx512ByBloom6:
		avx512Bloom6(codes, &a.pairs, (*[12][64]uint8)(a.bloom[:12]), &a.scratch, digests, texts, found, count)
	case avx512ByBloom16:
		avx512Bloom16(codes, &a.pairs, &a.bloom, &a.scratch, digests, texts, found, count)
	case avx512ByBitmap12:
		avx512Bitmap12(codes, &wordCodes, &a.group.bitmap[0], digests, texts, found, count)
	case avx512ByBitmap6:
		avx512Bitmap6(codes, &wordCodes, &a.group.bitmap[0], digests, texts, found, count)
	}
}

// Looking at what is found goes in turns, so that there are next to no branches
// that a CPU could predict wrongly: a list of the flags; those of which somebody may
// have the characters there; and hits.

// avx512Flag is what a flag of a vector stands for.
type avx512Flag struct {
	lane, place uint8
}

// avx512FlagTable has what the flags of a filter stand for, and for avx512Keyed
// where the texts have it.
type avx512FlagTable struct {
	flags [8 * 64]avx512Flag
	texts [8 * 64]uint32
}

// avx512FlagTables are those of the filters in registers, and those of the bitmap
// with six and with 12 words.
var avx512FlagTables = newAVX512FlagTables()

func newAVX512FlagTables() (tables [3]avx512FlagTable) {
	for i := range avx512Places * avx512Lanes {
		tables[0].flags[i] = avx512Flag{lane: uint8(i / 4 % avx512Lanes), place: uint8(i/64*4 + i%4)}
		word, behind := i/(2*avx512Lanes), i/avx512Lanes%2
		tables[1].flags[i] = avx512Flag{lane: uint8(i % avx512Lanes), place: uint8((4*word + behind) % avx512Places)}
		tables[2].flags[i] = avx512Flag{lane: uint8(i % avx512Lanes), place: uint8(2*word + behind)}
	}
	for t := range tables {
		for i, f := range tables[t].flags {
			word, bit := uint32(f.place/4*avx512Lanes+f.lane), uint32(f.place%4*8)
			tables[t].texts[i] = bit<<16 | word*4
		}
	}
	return tables
}

// matchGroup matches the group with the batch of which the first candidate has
// index at.
func (p *avx512Pass) matchGroup(at uint64) {
	a, x := p.group, &p.many.index
	a.filterBatch(p.vectors)
	avx512Some(&a.found[0], &a.some[0], avx512Batch)
	count := avx512List(&a.found[0], &a.some[0], &a.listed[0], avx512Batch/8)
	if count == 0 {
		return
	}
	count = avx512Keyed(&a.table.texts, &a.texts[0], &x.slots[0].after, uint32(x.shift), &a.listed[0], count, &a.keyed[0], &a.keys[0])
	for i, flag := range a.keyed[:count] {
		f := a.table.flags[flag%uint32(len(a.table.flags))]
		c := avx512Candidate{vector: uint8(flag / uint32(len(a.table.flags))), lane: f.lane}
		for n := x.node(x.slots[x.hash(a.keys[i])].head); n != nil; n = x.next(n) {
			begin, ok := n.begin(a.keys[i], int(f.place))
			if !ok {
				continue
			}
			w := uint8(begin / 4)
			eight := uint64(a.dword(c, w)) | uint64(a.dword(c, w+1))<<32
			shift := 8 * (begin % 4)
			eight = eight>>shift | uint64(a.dword(c, w+2))<<(64-shift)
			if n.near(eight) {
				p.hitOf(n, c, begin, at)
			}
		}
	}
}

// avx512Candidate is a candidate of a batch.
type avx512Candidate struct {
	vector, lane uint8
}

// hitOf adds a node's member to p.found if it is a hit.
func (p *avx512Pass) hitOf(n *anchorNode, c avx512Candidate, begin int, at uint64) {
	index := at + uint64(c.lane)<<p.vectors.plan.laneLow + uint64(c.vector)
	if index < p.at || index >= p.end {
		return
	}
	if n.whole() { // where its member has ended, hand leaves it out
		p.found = append(p.found, Hit{Query: int(n.query), Hit: search.Hit{Index: index}})
		p.lanes[c.lane]++
		return
	}
	var t text
	for w := range uint8(avx512Texts) {
		binary.LittleEndian.PutUint32(t[4*w:], p.group.dword(c, w))
	}
	t.end()
	if d, ok := p.many.distance(n, &t, begin, index); ok {
		p.found = append(p.found, Hit{Query: int(n.query), Hit: search.Hit{Index: index, Distance: d}})
		p.lanes[c.lane]++
	}
}

// dword returns the text codes of four characters.
func (a *avx512Group) dword(c avx512Candidate, w uint8) uint32 {
	return binary.LittleEndian.Uint32(a.texts[c.vector%avx512Batch][w%(avx512Texts+1)][4*(c.lane%avx512Lanes):])
}

// avx512TextCodes maps each code to its class, and says what the last character,
// which has no code, maps to.
var avx512TextCodes = newAVX512TextCodes()

func newAVX512TextCodes() (codes [2][64]uint8) {
	codes[0] = codeClass
	for i := range codes[1] {
		codes[1][i] = classPadding
	}
	return codes
}

// wordCodes maps each code to what counts for the number of a word.
var wordCodes = newWordCodes()

func newWordCodes() (codes [64]uint8) {
	for code, class := range codeClass {
		codes[code] = uint8(wordFold(class))
	}
	return codes
}

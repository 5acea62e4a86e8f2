//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/hashfinder/hashfinder/jobs/search"
)

const (
	// avx512GroupBatch is how many vectors are hashed before a group looks at them.
	// It keeps more of them than their digests.
	avx512GroupBatch = 16
	avx512Texts      = 7  // vectors of a hashed name's classes
	avx512Words      = 12 // words of the bitmap that a hashed name asks for
	avx512Places     = anchorPlaces

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
	avx512ByBitmap
)

// avx512Group looks for a group's members in batches of digests. With a bitmap
// it does that in three steps: the numbers of the words that tell, the words
// themselves, and the test of them. The second is done while the next batch is
// hashed.
type avx512Group struct {
	texts [avx512GroupBatch][avx512Texts + 1][4 * avx512Lanes]uint8
	words [avx512GroupBatch * avx512Words][avx512Lanes]uint32
	// found has what the filters find, by avx512Flags, in the first six numbers.
	found   [avx512GroupBatch][8]uint64
	tables  [9][64]uint8 // for avx512Buckets
	pairs   [5][64]uint8 // for avx512Bloom6 and 16
	bloom   [2 * 16][64]uint8
	scratch [2 * (avx512Texts - 1)][4 * avx512Lanes]uint8

	some [avx512GroupBatch]uint8 // which numbers of found are not 0
	// keyed is look's list, with room for one more than there can be.
	keyed [avx512GroupBatch*avx512Places*avx512Lanes + 1]avx512Keyed

	group   *group
	changes int // of the group, when tables were made
	filter  avx512GroupFilter
	perText int // words of the bitmap that a hashed name asks for
	flags   *[8 * 64]avx512Flag

	// The batch whose words are being fetched.
	pending bool
	at      uint64
}

// begin makes ready for the group's members.
func (a *avx512Group) begin(g *group) {
	a.pending = false
	if a.group == g && a.changes == g.changes {
		return
	}
	a.group, a.changes = g, g.changes
	switch n := g.index.count; {
	case g.long || n > avx512Bloom16Most:
		a.filter = avx512ByBitmap
	case n > avx512Bloom6Most:
		a.filter = avx512ByBloom16
	case n > avx512BucketsMost:
		a.filter = avx512ByBloom6
	default:
		a.filter = avx512ByBuckets
	}
	a.perText, a.flags = avx512Words, &avx512Flags[2]
	if g.long {
		a.perText, a.flags = avx512Words/2, &avx512Flags[1]
	}
	a.found = [avx512GroupBatch][8]uint64{}
	if a.filter != avx512ByBitmap {
		a.flags = &avx512Flags[0]
		a.fill()
	}
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

// hashGroup hashes the batch of a step that begins with a vector, and looks through
// it or, with a bitmap, through the one before. at is the index of its first
// candidate.
func (p *avx512Pass) hashGroup(vector int, at uint64) {
	h, a := p.vectors, p.group
	digests := &h.digests[0]
	if a.filter != avx512ByBitmap {
		h.hash(vector, avx512GroupBatch)
		switch a.filter {
		case avx512ByBuckets:
			avx512Buckets(&avx512TextCodes, &a.tables, digests, &a.texts[0], &a.found[0], avx512GroupBatch)
		case avx512ByBloom6:
			avx512Bloom6(&avx512TextCodes, &a.pairs, (*[12][64]uint8)(a.bloom[:12]), &a.scratch, digests, &a.texts[0], &a.found[0], avx512GroupBatch)
		default:
			avx512Bloom16(&avx512TextCodes, &a.pairs, &a.bloom, &a.scratch, digests, &a.texts[0], &a.found[0], avx512GroupBatch)
		}
		p.look(at)
		return
	}
	if !a.pending {
		h.hash(vector, avx512GroupBatch)
	} else {
		fetching := avx512GroupBatch * a.perText / avx512Words
		h.hashAndFetch(vector, avx512GroupBatch, fetching, &a.group.bitmap[0], &a.words[0])
		p.lookBitmap()
	}
	if a.perText == avx512Words {
		avx512Number12(&avx512TextCodes, &wordCodes, digests, &a.texts[0], &a.words[0], avx512GroupBatch)
	} else {
		avx512Number6(&avx512TextCodes, &wordCodes, digests, &a.texts[0], &a.words[0], avx512GroupBatch)
	}
	a.pending, a.at = true, at
}

// endGroup looks through the last batch of a block.
func (p *avx512Pass) endGroup() {
	if a := p.group; a.pending {
		avx512Fetch(&a.group.bitmap[0], &a.words[0], avx512GroupBatch*a.perText)
		p.lookBitmap()
		a.pending = false
	}
}

// lookBitmap tests the words of the batch that is pending, and looks at it.
func (p *avx512Pass) lookBitmap() {
	a := p.group
	if a.perText == avx512Words {
		avx512Test12(&a.texts[0], &a.words[0], &a.found[0], avx512GroupBatch)
	} else {
		avx512Test6(&a.texts[0], &a.words[0], &a.found[0], avx512GroupBatch)
	}
	p.look(a.at)
}

// Looking at what is found goes in two turns: places of which somebody may have the
// key, for which there are next to no branches that a CPU could predict wrongly; and
// hits.

// avx512Keyed is a place of a hashed name with the key of the characters there,
// and the head of the chain of those who may have it.
type avx512Keyed struct {
	vector, lane, place uint8
	key                 uint32
	head                int32
}

// avx512Flag is what a flag stands for.
type avx512Flag struct {
	lane, place uint8
}

// avx512Flags are those of the filters in registers, and those of the bitmap with
// six and with 12 words.
var avx512Flags = newAVX512Flags()

func newAVX512Flags() (flags [3][8 * 64]avx512Flag) {
	for i := range avx512Places * avx512Lanes {
		flags[0][i] = avx512Flag{lane: uint8(i / 4 % avx512Lanes), place: uint8(i/64*4 + i%4)}
		word, behind := i/(2*avx512Lanes), i/avx512Lanes%2
		flags[1][i] = avx512Flag{lane: uint8(i % avx512Lanes), place: uint8((4*word + behind) % avx512Places)}
		flags[2][i] = avx512Flag{lane: uint8(i % avx512Lanes), place: uint8(2*word + behind)}
	}
	return flags
}

// look adds to p.found the members that have an anchor at one of the places that
// were found, in the batch whose first candidate has index at.
func (p *avx512Pass) look(at uint64) {
	a, x := p.group, &p.many.index
	avx512Some(&a.found[0], &a.some[0], avx512GroupBatch)
	flags, keyed := a.flags, 0
	for half := range len(a.some) / 8 {
		for some := binary.LittleEndian.Uint64(a.some[8*half:]); some != 0; some &= some - 1 {
			number := bits.TrailingZeros64(some)
			v, i := uint8(8*half+number/8)%avx512GroupBatch, number%8
			for found := a.found[v][i]; found != 0; found &= found - 1 {
				f := flags[(i*64+bits.TrailingZeros64(found))%len(flags)]
				w := f.place / 4
				eight := uint64(a.dword(v, w, f.lane)) | uint64(a.dword(v, w+1, f.lane))<<32
				k := key(uint32(eight >> (8 * (f.place % 4))))
				head := x.heads[x.hash(k)]
				a.keyed[keyed] = avx512Keyed{v, f.lane, f.place, k, head}
				keyed += int(^uint32(head) >> 31)
			}
		}
	}
	for i := range a.keyed[:keyed] {
		k := &a.keyed[i]
		for n := x.node(k.head); n != nil; n = x.next(n) {
			begin, ok := n.begin(k.key, int(k.place))
			if !ok {
				continue
			}
			w := uint8(begin / 4)
			eight := uint64(a.dword(k.vector, w, k.lane)) | uint64(a.dword(k.vector, w+1, k.lane))<<32
			shift := 8 * (begin % 4)
			eight = eight>>shift | uint64(a.dword(k.vector, w+2, k.lane))<<(64-shift)
			if n.near(eight) {
				p.hitOf(n, k, begin, at)
			}
		}
	}
}

// hitOf adds a node's member to p.found if it is a hit.
func (p *avx512Pass) hitOf(n *anchorNode, k *avx512Keyed, begin int, at uint64) {
	index := at + uint64(k.lane)<<p.vectors.plan.laneLow + uint64(k.vector)
	if index < p.at || index >= p.end {
		return
	}
	var t text
	for w := range uint8(avx512Texts) {
		binary.LittleEndian.PutUint32(t[4*w:], p.group.dword(k.vector, w, k.lane))
	}
	t.end()
	if d, ok := p.many.distance(n, &t, begin, index); ok {
		p.found = append(p.found, Hit{Query: int(n.query), Hit: search.Hit{Index: index, Distance: d}})
		p.lanes[k.lane]++
	}
}

// dword returns the text codes of four characters.
func (a *avx512Group) dword(vector, w, lane uint8) uint32 {
	return binary.LittleEndian.Uint32(a.texts[vector%avx512GroupBatch][w%(avx512Texts+1)][4*(lane%avx512Lanes):])
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

//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
)

const (
	// avx512GroupBatch is how many vectors are hashed before a group looks at them.
	// It keeps more of them than their digests.
	avx512GroupBatch = 16
	avx512Texts      = 7  // vectors of a hashed name's classes
	avx512Words      = 12 // words of the bitmap that a hashed name asks for

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
	texts [avx512GroupBatch][avx512Texts][4 * avx512Lanes]uint8
	words [avx512GroupBatch * avx512Words][avx512Lanes]uint32
	// found has bit 4i+b of number w for a place 4w+b in lane i.
	found   [avx512GroupBatch][avx512Texts - 1]uint64
	tables  [9][64]uint8 // for avx512Buckets
	pairs   [5][64]uint8 // for avx512Bloom6 and 16
	bloom   [2 * 16][64]uint8
	scratch [2 * (avx512Texts - 1)][4 * avx512Lanes]uint8
	flags   [avx512GroupBatch * avx512Lanes / 64]uint64
	// wordFlags has bit 16w+i for word w and lane i.
	wordFlags [avx512GroupBatch][avx512Words * avx512Lanes / 64]uint64

	// Lists for look, for half a batch: all places that can be flagged, and one
	// more.
	places [avx512GroupBatch/2*avx512Lanes*anchorPlaces + 2]avx512Place
	keyed  [avx512GroupBatch/2*avx512Lanes*anchorPlaces + 2]avx512Keyed

	group   *group
	changes int // of the group, when tables were made
	filter  avx512GroupFilter
	perText int // words of the bitmap that a hashed name asks for

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
	a.perText = avx512Words
	if g.long {
		a.perText = avx512Words / 2
	}
	if a.filter != avx512ByBitmap {
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
			avx512Buckets(&codeClass, &a.tables, digests, &a.texts[0], &a.found[0], &a.flags[0], avx512GroupBatch)
		case avx512ByBloom6:
			avx512Bloom6(&codeClass, &a.pairs, (*[12][64]uint8)(a.bloom[:12]), &a.scratch, digests, &a.texts[0], &a.found[0], &a.flags[0], avx512GroupBatch)
		default:
			avx512Bloom16(&codeClass, &a.pairs, &a.bloom, &a.scratch, digests, &a.texts[0], &a.found[0], &a.flags[0], avx512GroupBatch)
		}
		p.lookFound(at)
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
		avx512Number12(&codeClass, &wordCodes, digests, &a.texts[0], &a.words[0], avx512GroupBatch)
	} else {
		avx512Number6(&codeClass, &wordCodes, digests, &a.texts[0], &a.words[0], avx512GroupBatch)
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

// Looking at what is flagged goes in three turns, each of which makes a list for
// the next one: places, those of them whose key somebody has, hits. The first two
// have next to no branches that a CPU could predict wrongly.

// avx512Place is a place of a lane's hashed name.
type avx512Place struct {
	vector, lane, place uint8
}

// lookFound looks at the places that a filter in registers has flagged.
func (p *avx512Pass) lookFound(at uint64) {
	a := p.group
	for half := 0; half < avx512GroupBatch; half += avx512GroupBatch / 2 {
		n := 0
		for v := half; v < half+avx512GroupBatch/2; v++ {
			if uint16(a.flags[v/4]>>(v%4*avx512Lanes)) == 0 {
				continue
			}
			for w, found := range a.found[v] {
				for {
					bit := bits.TrailingZeros64(found)
					a.places[n%len(a.places)] = avx512Place{uint8(v), uint8(bit / 4), uint8(4*w + bit%4)}
					n += int((found | -found) >> 63)
					found &= found - 1
					if found == 0 {
						break
					}
				}
			}
		}
		p.look(a.places[:n], at)
	}
}

// lookBitmap tests the words, and looks at the two places of each that is
// flagged.
func (p *avx512Pass) lookBitmap() {
	a := p.group
	step := 2
	if a.perText == avx512Words {
		avx512Test12(&a.texts[0], &a.words[0], &a.wordFlags[0], avx512GroupBatch)
	} else {
		avx512Test6(&a.texts[0], &a.words[0], &a.wordFlags[0], avx512GroupBatch)
		step = 4
	}
	for half := 0; half < avx512GroupBatch; half += avx512GroupBatch / 2 {
		n := 0
		for v := half; v < half+avx512GroupBatch/2; v++ {
			if f := &a.wordFlags[v]; f[0]|f[1]|f[2] == 0 {
				continue
			}
			for i, flags := range a.wordFlags[v] {
				for {
					bit := bits.TrailingZeros64(flags)
					place := avx512Place{uint8(v), uint8(bit % avx512Lanes), uint8((4*i + bit/avx512Lanes) * step)}
					a.places[n%len(a.places)] = place
					place.place++
					a.places[(n+1)%len(a.places)] = place
					n += 2 * int((flags|-flags)>>63)
					flags &= flags - 1
					if flags == 0 {
						break
					}
				}
			}
		}
		p.look(a.places[:n], a.at)
	}
}

// look adds to found the members that have an anchor at one of the places, in the
// batch whose first candidate has index at.
func (p *avx512Pass) look(places []avx512Place, at uint64) {
	a, x := p.group, &p.many.index
	n := 0
	for _, place := range places {
		w := place.place / 4
		eight := uint64(dword(&a.texts[place.vector%avx512GroupBatch][w%avx512Texts], place.lane)) |
			uint64(dword(&a.texts[place.vector%avx512GroupBatch][(w+1)%avx512Texts], place.lane))<<32
		k := key(uint32(eight >> (8 * (place.place % 4))))
		head := x.heads[x.hash(k)]
		a.keyed[n] = avx512Keyed{place, k, head}
		n += int(^uint32(head) >> 31)
	}
	for i := range a.keyed[:n] {
		place, k, node := a.keyed[i].place, a.keyed[i].key, x.node(a.keyed[i].head)
		for node != nil && node.key != k {
			node = x.next(node)
		}
		if node == nil {
			continue
		}
		index := at + uint64(place.lane)<<p.vectors.plan.laneLow + uint64(place.vector)
		if index < p.at || index >= p.end {
			continue
		}
		var t text
		for w := range avx512Texts {
			binary.LittleEndian.PutUint32(t[4*w:], dword(&a.texts[place.vector][w], place.lane))
		}
		t.end()
		before := len(p.found)
		p.found = p.many.compare(node, k, &t, int(place.place), index, p.found)
		p.lanes[place.lane] += len(p.found) - before
	}
}

// avx512Keyed is a place with the key of the characters there, and the head of the
// chain of those who may have it.
type avx512Keyed struct {
	place avx512Place
	key   uint32
	head  int32
}

// dword returns the four bytes of a lane.
func dword(vector *[4 * avx512Lanes]uint8, lane uint8) uint32 {
	return binary.LittleEndian.Uint32(vector[4*(lane%avx512Lanes):])
}

// wordCodes maps each code to what counts for the number of a word.
var wordCodes = newWordCodes()

func newWordCodes() (codes [64]uint8) {
	for code, class := range codeClass {
		codes[code] = uint8(wordFold(class))
	}
	return codes
}

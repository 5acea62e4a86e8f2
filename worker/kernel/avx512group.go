//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	// avx512GroupBatch is how many vectors are hashed before a group looks at them.
	// It keeps more of them than their digests.
	avx512GroupBatch = 16
	avx512Texts      = 7  // vectors of a hashed name's classes
	avx512Words      = 12 // words of the bitmap that a hashed name asks for
	// avx512BucketsMost is how many anchors the buckets serve: for more, the
	// bitmap is faster.
	avx512BucketsMost = 128
)

// avx512Group looks for a group's members in batches of digests. With a bitmap
// it does that in three steps: the numbers of the words that tell, the words
// themselves, and the test of them. The second is done while the next batch is
// hashed.
type avx512Group struct {
	texts  [avx512GroupBatch][avx512Texts][4 * avx512Lanes]uint8
	words  [avx512GroupBatch * avx512Words][avx512Lanes]uint32
	found  [avx512GroupBatch][avx512Texts - 1][4 * avx512Lanes]uint8
	tables [9][64]uint8 // for avx512Buckets
	flags  [avx512GroupBatch * avx512Lanes / 64]uint64
	// wordFlags has bit 16w+i for word w and lane i.
	wordFlags [avx512GroupBatch][avx512Words * avx512Lanes / 64]uint64

	group   *group
	changes int // of the group, when tables were made
	buckets bool
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
	a.buckets = !g.long && g.index.count <= avx512BucketsMost
	a.perText = avx512Words
	if g.long {
		a.perText = avx512Words / 2
	}
	if a.buckets {
		a.fill()
	}
}

// pairNumber makes a number of seven bits from two folded characters, such that
// pairs of letters spread over all numbers.
func pairNumber(first, second uint8) uint8 { return (first*37 ^ second*5) & 127 }

// fill makes the tables of the buckets.
func (a *avx512Group) fill() {
	a.tables = [9][64]uint8{}
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
		order = append(order, uint8(c)) //nolint:gosec // of five bits
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
	}
	for _, w := range a.group.members {
		if w == nil {
			continue
		}
		for _, at := range w.anchors[:w.anchorCount] {
			for i := range uint8(anchorLen - 1) {
				n := pairNumber(w.name[at+i]&foldMask, w.name[at+i+1]&foldMask)
				a.tables[3+2*i+n/64][n%64] |= bucket[w.name[at]&foldMask]
			}
		}
	}
}

// hash hashes the batch of a step that begins with a vector, and looks through
// it or, with a bitmap, through the one before. at is the index of its first
// candidate.
func (p *avx512Pass) hashGroup(vector int, at uint64) {
	h, a := p.vectors, p.group
	digests := &h.digests[0]
	if a.buckets {
		h.hash(vector, avx512GroupBatch)
		avx512Buckets(&codeClass, &a.tables, digests, &a.texts[0], &a.found[0], &a.flags[0], avx512GroupBatch)
		p.lookBuckets(at)
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
		avx512Number12(&codeClass, digests, &a.texts[0], &a.words[0], avx512GroupBatch)
	} else {
		avx512Number6(&codeClass, digests, &a.texts[0], &a.words[0], avx512GroupBatch)
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

// lookBuckets looks at the places that the buckets have flagged.
func (p *avx512Pass) lookBuckets(at uint64) {
	a := p.group
	for i, flags := range a.flags {
		for ; flags != 0; flags &= flags - 1 {
			bit := bits.TrailingZeros64(flags)
			v, lane := i*(64/avx512Lanes)+bit/avx512Lanes, bit%avx512Lanes
			for w := range a.found[v] {
				for found := dword(&a.found[v][w], lane); found != 0; {
					b := bits.TrailingZeros32(found) / 8
					found &^= 0xff << (8 * b)
					p.look(4*w+b, key(uint32(a.eight(v, w, lane)>>(8*b))), at, v, lane)
				}
			}
		}
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
	for v := range a.wordFlags {
		for i, flags := range a.wordFlags[v] {
			for ; flags != 0; flags &= flags - 1 {
				bit := bits.TrailingZeros64(flags)
				lane := bit % avx512Lanes
				place := (64/avx512Lanes*i + bit/avx512Lanes) * step
				x := a.eight(v, place/4, lane) >> (8 * (place % 4))
				p.look(place, key(uint32(x)), a.at, v, lane)
				p.look(place+1, key(uint32(x>>8)), a.at, v, lane)
			}
		}
	}
}

// look adds to found the members whose anchor, which has the key, is at a place
// of a lane's hashed name, in the batch whose first candidate has index at.
func (p *avx512Pass) look(place int, k uint32, at uint64, v, lane int) {
	g := p.many
	n := g.index.first(k)
	for ; n != nil && n.key != k; n = g.index.next(n) {
	}
	if n == nil {
		return
	}
	index := at + uint64(lane)<<p.vectors.plan.laneLow + uint64(v) //nolint:gosec // neither is negative
	if index < p.at || index >= p.end {
		return
	}
	var t text
	for w := range avx512Texts {
		binary.LittleEndian.PutUint32(t[4*w:], dword(&p.group.texts[v][w], lane))
	}
	t.end()
	before := len(p.found)
	p.found = g.compare(n, k, &t, place, index, p.found)
	p.lanes[lane] += len(p.found) - before
}

// eight returns the classes of the eight characters that begin with character 4w
// of a lane.
func (a *avx512Group) eight(v, w, lane int) uint64 {
	return uint64(dword(&a.texts[v][w], lane)) | uint64(dword(&a.texts[v][w+1], lane))<<32
}

// dword returns the four bytes of a lane.
func dword(vector *[4 * avx512Lanes]uint8, lane int) uint32 {
	return binary.LittleEndian.Uint32(vector[4*lane:])
}

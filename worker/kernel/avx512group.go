//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"

	"github.com/hashfinder/hashfinder/jobs/search"
)

const (
	avx512Texts = 7 // vectors of a hashed name's text codes
	// avx512TextBytes is the size of a vector of text codes.
	avx512TextBytes = 4 * avx512Lanes
	// avx512Flags is how many flags there are for a vector of candidates: one for each
	// byte of its texts, and of the vector behind them.
	avx512Flags = (avx512Texts + 1) * avx512TextBytes
	// avx512Most is how many places there are in a batch where an anchor may stand.
	avx512Most = avx512Batch * anchorPlaces * avx512Lanes
	// avx512Turn is how many batches are filtered before what is left of them is looked
	// at. A step's batches are whole turns, and the flags of one are 16 bits.
	avx512Turn = 4
	// avx512Ahead is how many flags are left at most when the next batch is filtered.
	avx512Ahead = 1 << 10
	// avx512Kept is how many places of a batch there is room for, and more: whole pages.
	avx512Kept = 1 << 14
	// avx512SieveFew is how many anchors at most let so little pass the sieve that most
	// vectors of candidates have nothing.
	avx512SieveFew = 150
)

// avx512Group looks for a group's members in batches of digests.
type avx512Group struct {
	// Aligned, as the hasher is.
	texts [avx512Turn * avx512Batch][avx512Texts + 1][avx512TextBytes]uint8
	sift  [siftTables][siftBuckets / 8]sieveTable // of the group's sieve
	// What is left of a batch's places: what the first step of the filter keeps; and of
	// a turn's: flags, and those of which somebody may have the characters, with their
	// keys. All have room for what is written behind the ends.
	kept      [5][avx512Kept]uint8
	words     [avx512Most/2 + avx512Lanes]uint32 // of the bitmap
	keyed     [avx512Ahead + avx512Most + avx512Lanes]uint32
	keys      [avx512Ahead + avx512Most + avx512Lanes]uint32
	wordFlags [avx512Most/2 + avx512Lanes]uint16
	listed    [avx512Ahead + avx512Most + 32]uint16
	count     int // of listed, that have not been looked at

	// codes maps each code to its class, with bit 7 set for the bitmap if no member has
	// it, and says what the last character, which has no code, maps to.
	codes [2][64]uint8
	pairs int // of tables of the sieve

	group   *group
	changes int // of the group, when all this was made ready
}

// begin makes ready for a part of a block, and for the group's members.
func (a *avx512Group) begin(g *group) {
	a.count = 0 // those that were left when the last part ended early
	if a.group == g && a.changes == g.changes {
		return
	}
	a.group, a.changes = g, g.changes
	a.pairs, a.sift = g.sieve.pairs(g.index.count), g.sieve.second
	for code, class := range codeClass {
		a.codes[0][code], a.codes[1][code] = class, classPadding
		if !g.sieve.serves() && g.classes>>class&1 == 0 {
			a.codes[0][code] |= 0x80
		}
	}
}

// filter lists the places in h's batch, the turn's batch-th, where there may be an anchor.
func (a *avx512Group) filter(h *avx512Hasher, batch int) {
	g, texts := a.group, &a.texts[batch*avx512Batch]
	flags, from := &a.listed[a.count], uint32(batch*avx512Batch*avx512Flags)
	avx512Text(&a.codes, &h.digests[0], texts, avx512Batch)
	if g.sieve.serves() {
		sieve := avx512Sieve3
		switch {
		case g.index.count <= avx512SieveFew:
			sieve = avx512Sieve3Few
		case g.sieve.tables == sieveTables:
			sieve = avx512Sieve5
		}
		count := sieve(&avx512SieveBuckets, &g.sieve.first, texts, &a.kept, avx512Batch)
		if count > 0 {
			a.count += avx512Sift(&siftMatrices, &avx512SiftBits, &a.sift, a.pairs, &a.kept, count, from, flags)
		}
		return
	}
	words := avx512Words12
	if g.long {
		words = avx512Words6
	}
	count := words(texts, &a.words, &a.wordFlags, avx512Batch, from)
	if count > 0 {
		a.count += avx512Bitmap(&g.bitmap[0], &a.words, &a.wordFlags, count, flags)
	}
}

// Looking at what is found goes step by step, so that there are next to no branches
// that a CPU could predict wrongly: a list of the flags; those of which somebody may
// have the characters there; and hits. Each step has to wait for the one before, so
// they are taken for several batches, a turn, in one go.

// matchGroup matches the group with a step's batch of which the first candidate has
// index at.
func (p *avx512Pass) matchGroup(at uint64, batch int) {
	batch %= avx512Turn
	p.group.filter(p.vectors, batch)
	if batch == avx512Turn-1 || p.group.count > avx512Ahead {
		p.look(at - uint64(batch*avx512Batch))
	}
}

// look looks at what is left of the places in a turn of which the first candidate has
// index at.
func (p *avx512Pass) look(at uint64) {
	a, x := p.group, &p.many.index
	count := a.count
	a.count = 0
	if count == 0 {
		return
	}
	count = avx512Keyed(&a.texts[0], &x.after[0], uint32(x.shift), &a.listed[0], count, &a.keyed[0], &a.keys[0])
	if count == 0 {
		return
	}
	count = avx512Near(&a.texts[0], &x.heads[0], uint32(x.shift), &x.nodes[0].head, count, &a.keyed[0], &a.keys[0])
	for i, flag := range a.keyed[:count] {
		c := avx512Candidate{vector: uint8(flag / avx512Flags), lane: uint8(flag / 4 % avx512Lanes)}
		place := int(flag/avx512TextBytes%(avx512Texts+1)*4 + flag%4)
		for n := x.node(x.heads[x.hash(a.keys[i])]); n != nil; n = x.next(n) {
			begin, ok := n.begin(a.keys[i], place)
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
	return binary.LittleEndian.Uint32(a.texts[c.vector%(avx512Turn*avx512Batch)][w%(avx512Texts+1)][4*(c.lane%avx512Lanes):])
}

// avx512SieveBuckets maps each class to the bit of its bucket.
var avx512SieveBuckets = newAVX512SieveBuckets()

func newAVX512SieveBuckets() (bits [64]uint8) {
	for class := range bits {
		bits[class] = 1 << sieveBucket(uint8(class))
	}
	return bits
}

// avx512SiftBits maps the lower six bits of a mix to the bits of their bucket.
var avx512SiftBits = newAVX512SiftBits()

func newAVX512SiftBits() (bits [siftBuckets / 8][64]uint8) {
	for mix := range uint8(64) {
		bucket := siftBucket(mix)
		bits[bucket/8][mix] = 1 << (bucket % 8)
	}
	return bits
}

package kernel

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// group is many queries that are looked for together. A filter, which all of
// them share, says at which places of a hashed name an anchor may stand; an index
// tells whose anchors these are, and then the whole name is compared.
//
// This is the twin that specifies the filters in assembly: they may flag more
// places than [group.match] looks at, and never fewer.
type group struct {
	// members are by the query's place; nil if none of them has it.
	members []*wanted
	count   int    // members
	live    int    // members that have not ended
	ends    uint64 // at and above it, members may have ended that are counted in live
	short   int    // members that have pieces of one anchor only
	index   anchorIndex

	// bitmap is the filter. For each anchor it has the character before, by the
	// three behind it, and the character behind, by the three before: bit i of
	// word w says that the character folded to i may be next to the three of
	// which w is the number.
	bitmap []uint32
	// sieve is another filter, with the same anchors if there are few enough for it.
	sieve sieve
	// classes has a bit for each class that a member has, or had.
	classes uint64
	stale   int // anchors that have left and are in bitmap and sieve still
	// long says that all pieces have two anchors, one of which is at a place
	// that leaves 0 or 1 when divided by four.
	long    bool
	changes int // counts the changes of members
}

const (
	// bitmapSize is the number of words of a bitmap: 128 KB.
	bitmapSize = 1 << (3 * foldBits)
	// staleMost is how many anchors that have left are kept at least.
	staleMost = 128
)

// newGroup returns a group of so many queries, at the beginning.
func newGroup(matchers []matcher) *group {
	g := &group{members: make([]*wanted, 0, len(matchers)), bitmap: make([]uint32, bitmapSize), ends: math.MaxUint64}
	for _, m := range matchers {
		g.add(m)
	}
	g.rebuild()
	return g
}

// add adds a query without its anchors.
func (g *group) add(m matcher) *wanted {
	w := newWanted(m)
	if m.query >= len(g.members) {
		g.members = append(g.members, make([]*wanted, m.query+1-len(g.members))...)
	}
	g.members[m.query] = w
	g.count++
	g.live++
	g.changes++
	g.ends = min(g.ends, m.end)
	if !m.long() {
		g.short++
	}
	return w
}

// join adds a query whose place is free.
func (g *group) join(m matcher) {
	w := g.add(m)
	if g.long && g.short > 0 || g.sieve.serves() && g.index.count+w.pieces() > sieveMost || g.index.full() {
		g.rebuild()
	} else {
		g.anchor(w)
	}
}

// leave removes the query at a place.
func (g *group) leave(place int) {
	w := g.members[place]
	g.members[place] = nil
	g.count--
	g.changes++
	if !w.ended {
		g.live--
	}
	if !w.long() {
		g.short--
	}
	for _, at := range w.anchors[:w.anchorCount] {
		g.index.remove(w, at)
	}
	if g.stale += w.anchorCount; g.stale > max(staleMost, g.index.count) {
		g.rebuild()
	}
}

// rebuild makes filters and index anew.
func (g *group) rebuild() {
	members := make([]*wanted, 0, g.count)
	count := 0
	for _, w := range g.members {
		if w != nil {
			members = append(members, w)
			count += w.pieces()
		}
	}
	clear(g.bitmap)
	g.sieve.reset(count)
	g.classes, g.stale = 0, 0
	g.long = !g.sieve.serves() && g.short == 0
	g.index.reset(count * g.anchorsOfPiece())
	// Those that have most to choose from come last.
	slices.SortStableFunc(members, func(a, b *wanted) int { return a.n/a.pieces() - b.n/b.pieces() })
	for _, w := range members {
		g.anchor(w)
	}
}

func (g *group) anchorsOfPiece() int {
	if g.long {
		return 2
	}
	return 1
}

// anchor chooses the anchors of a member, and puts them into filters and index.
func (g *group) anchor(w *wanted) {
	w.anchorCount = 0
	for _, class := range w.class[:w.n] {
		g.classes |= 1 << class
	}
	begins := g.cut(w)
	for i := range w.pieces() {
		end := w.n // of the piece
		if i+1 < w.pieces() {
			end = int(begins[i+1])
		}
		for j := range g.anchorsOfPiece() {
			at := begins[i] + uint8(2*j)
			c := w.name[at : at+anchorLen]
			g.bitmap[wordNumber(c[1], c[2], c[3])] |= 1 << (c[0] & foldMask)
			g.bitmap[wordNumber(c[0], c[1], c[2])] |= 1 << (c[3] & foldMask)
			if g.sieve.serves() {
				g.sieve.add(newSieveAnchor(c))
			}
			after := uint32(math.MaxUint32) // anything: it is of no piece, or of another
			if next := int(at) + anchorLen; next < end {
				after = 1 << (w.name[next] & foldMask)
			}
			g.index.add(w, at, after)
			w.anchors[w.anchorCount] = at
			w.anchorCount++
		}
	}
}

// cuts has where the anchors of each piece begin, or the first of two.
type cuts [search.MaxNameLen / anchorLen]uint8

// cut cuts a name into pieces, so that the anchors cost least.
func (g *group) cut(w *wanted) (begins cuts) {
	count, length := w.pieces(), anchorLen
	price := func(at int) int { return g.sieve.price(newSieveAnchor(w.name[at : at+anchorLen])) }
	if !g.sieve.serves() {
		// Many names have the same endings.
		price = func(at int) int { return g.index.chain(w.keyAt(uint8(at))) }
		length = min(anchorLen+1, w.n/count) // what the index tells about, with the character behind
	}
	if g.long {
		length = longPiece
	}
	// From the last piece to the first: the least that it and those behind it cost if
	// it begins at a place or later, and where it begins then.
	var best [len(begins)][search.MaxNameLen + 1]uint8
	var costs, behind [search.MaxNameLen + 1]int
	for i := count - 1; i >= 0; i-- {
		least, where := math.MaxInt, 0
		for at := w.n - length*(count-i); at >= length*i; at-- {
			if c := price(at) + behind[at+length]; c <= least {
				least, where = c, at
			}
			costs[at], best[i][at] = least, uint8(where)
		}
		behind = costs
	}
	from := uint8(0)
	for i := range count {
		begins[i] = best[i][from]
		from = begins[i] + uint8(length)
	}
	return begins
}

// hit appends the hits of the candidate at index to hits, which have those of
// the other queries from the n-th on.
func (g *group) hit(d digest, index uint64, hits []Hit, n int) []Hit {
	begin := len(hits)
	hits = g.match(d, index, hits)
	found := hits[begin:]
	if len(found) == 0 {
		return hits
	}
	slices.SortFunc(found, compareHits)
	found = slices.Compact(found)
	for i, h := range found {
		found[i] = g.accept(h)
	}
	hits = hits[:begin+len(found)]
	if begin > n {
		slices.SortFunc(hits[n:], compareHits)
	}
	return hits
}

// accept counts a hit, which may be its query's last.
func (g *group) accept(h Hit) Hit {
	w := g.members[h.Query]
	h = w.hit(h.Index, h.Distance)
	g.ends = min(g.ends, w.end)
	return h
}

// match appends the hits of the candidate at index to hits, in no order, some of
// them several times.
func (g *group) match(d digest, index uint64, hits []Hit) []Hit {
	var t text
	t.fill(d)
	step := 2
	if g.long {
		step = 4
	}
	// The word of characters place + 1 to place + 3 tells about the anchors at
	// place and at place + 1.
	for place := 0; place < anchorPlaces; place += step {
		word := g.bitmap[wordNumber(t[place+1], t[place+2], t[place+3])]
		if word>>(t[place]&foldMask)&1 != 0 {
			hits = g.look(&t, place, index, hits)
		}
		if word>>(t[place+anchorLen]&foldMask)&1 != 0 {
			hits = g.look(&t, place+1, index, hits)
		}
	}
	return hits
}

// look is match for the members that have the anchor that stands at the place.
func (g *group) look(t *text, place int, index uint64, hits []Hit) []Hit {
	k := t.keyAt(place)
	for n := g.index.first(k, t[place+anchorLen]); n != nil; n = g.index.next(n) {
		begin, ok := n.begin(k, place)
		if !ok || !n.near(binary.LittleEndian.Uint64(t[begin:])) {
			continue
		}
		if d, ok := g.distance(n, t, begin, index); ok {
			hits = append(hits, Hit{Query: int(n.query), Hit: search.Hit{Index: index, Distance: d}})
		}
	}
	return hits
}

// distance returns the distance of a node's member, and whether it is a hit where
// it begins at a place at which the node is near.
func (g *group) distance(n *anchorNode, t *text, begin int, index uint64) (d int, ok bool) {
	w := g.members[n.query]
	if index >= w.end {
		return 0, false
	}
	if d = w.mismatches(t, begin); d > w.bound {
		return 0, false
	}
	if d > 0 {
		d = w.nearest(t)
	}
	return d, true
}

// retire ends the members that end at or below at.
func (g *group) retire(at uint64) {
	if at < g.ends {
		return
	}
	g.live, g.ends = 0, math.MaxUint64
	for _, w := range g.members {
		if w == nil {
			continue
		}
		if w.ended = w.end <= at; !w.ended {
			g.live++
			g.ends = min(g.ends, w.end)
		}
	}
}

// at returns the member at a place, nil if there is none.
func (g *group) at(place int) *wanted {
	if place < len(g.members) {
		return g.members[place]
	}
	return nil
}

// lastEnd returns where the last of the members ends that have not ended.
func (g *group) lastEnd() (end uint64) {
	for _, w := range g.members {
		if w != nil && !w.ended {
			end = max(end, w.end)
		}
	}
	return end
}

// anchorIndex finds the members that have an anchor, by its key.
type anchorIndex struct {
	// By a hash of the key: which characters may come behind an anchor, bit i for the
	// one folded to i, so that most places are seen to have nobody's anchor without a
	// look at the nodes; and the first node of a chain, -1 for none.
	after []uint32
	heads []int32
	nodes []anchorNode
	free  int32 // the first of a chain of nodes
	count int   // nodes in use
	most  int   // nodes for which it is large enough
	shift uint
}

// anchorNode tells so much of a name that most places are seen not to have it
// without a look at the member.
type anchorNode struct {
	head  uint64 // the first eight classes of the name
	key   uint32
	next  int32
	query int32 // the member's place
	at    uint8 // in the name
	last  uint8 // place where the name can begin
	// length is that of the name, longHead if head is not all of it.
	length uint8
	bound  uint8
}

// longHead is the length of names that are longer than a node's head.
const longHead = 9

// begin returns where the name begins if its anchor is at a place, and whether it
// can. k is the key there.
func (n *anchorNode) begin(k uint32, place int) (begin int, ok bool) {
	begin = place - int(n.at)
	return begin, n.key == k && uint(begin) <= uint(n.last)
}

// near reports whether the name's head is near enough to eight classes.
func (n *anchorNode) near(eight uint64) bool {
	differ := (eight ^ n.head) & headMasks[n.length%16]
	return differ == 0 || unequal(differ) <= int(n.bound)
}

// whole reports whether nearness is all that it takes for a hit, at distance 0.
func (n *anchorNode) whole() bool { return n.bound == 0 && n.length < longHead }

// headMasks are for names of so many characters.
var headMasks = [16]uint64{
	0, 1<<8 - 1, 1<<16 - 1, 1<<24 - 1, 1<<32 - 1, 1<<40 - 1, 1<<48 - 1, 1<<56 - 1, 1<<64 - 1, 1<<64 - 1,
}

// reset empties the index, and makes room for so many nodes and some more.
func (x *anchorIndex) reset(count int) {
	bits := uint(8)
	for 1<<bits < 2*count || 1<<bits < min(indexSlots*count, indexSlotsMost) {
		bits++
	}
	if len(x.heads) != 1<<bits {
		x.after, x.heads = make([]uint32, 1<<bits), make([]int32, 1<<bits)
	}
	clear(x.after)
	for i := range x.heads {
		x.heads[i] = -1
	}
	x.nodes = slices.Grow(x.nodes[:0], count)
	x.free, x.count, x.shift = -1, 0, 32-bits
	x.most = min(max(2*count, indexLeast), len(x.heads))
}

const (
	// indexSlots is how many slots there are for a node, or less if that would be more
	// than indexSlotsMost, but at least two.
	indexSlots     = 8
	indexSlotsMost = 1 << 14
	// indexLeast is how many nodes every index has room for.
	indexLeast = 64
)

// full reports whether it should be made anew, because it has twice as many nodes as
// it was made for, or as many as slots.
func (x *anchorIndex) full() bool { return x.count > x.most }

// hash is Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3,
// section 6.4).
func (x *anchorIndex) hash(key uint32) uint32 { return key * 0x9e3779b1 >> x.shift }

// add adds a member's anchor. after tells what may come behind it.
func (x *anchorIndex) add(w *wanted, at uint8, after uint32) {
	i := x.free
	if i >= 0 {
		x.free = x.nodes[i].next
	} else {
		i = int32(len(x.nodes))
		x.nodes = append(x.nodes, anchorNode{})
	}
	k := w.keyAt(at)
	slot := x.hash(k)
	x.nodes[i] = anchorNode{
		head: binary.LittleEndian.Uint64(w.name[:]), key: k, next: x.heads[slot], query: int32(w.query),
		at: at, last: uint8(search.HashedNameLen - w.n), length: uint8(min(longHead, w.n)), bound: uint8(w.bound),
	}
	x.heads[slot] = i
	x.after[slot] |= after
	x.count++
}

// remove may leave in after what came behind the anchor, while others are in the
// same chain.
func (x *anchorIndex) remove(w *wanted, at uint8) {
	slot := x.hash(w.keyAt(at))
	for p := &x.heads[slot]; *p >= 0; p = &x.nodes[*p].next {
		i := *p
		if n := &x.nodes[i]; int(n.query) == w.query && n.at == at {
			*p, n.next, x.free = n.next, x.free, i
			x.count--
			break
		}
	}
	if x.heads[slot] < 0 {
		x.after[slot] = 0
	}
}

// first returns the first node that may have the key with a class behind it, nil for
// none.
func (x *anchorIndex) first(key uint32, behind uint8) *anchorNode {
	slot := x.hash(key)
	if x.after[slot]>>(behind&foldMask)&1 == 0 {
		return nil
	}
	return x.node(x.heads[slot])
}

func (x *anchorIndex) next(n *anchorNode) *anchorNode { return x.node(n.next) }

func (x *anchorIndex) node(i int32) *anchorNode {
	if i < 0 {
		return nil
	}
	return &x.nodes[i]
}

// chain returns how many nodes there are where those with the key are.
func (x *anchorIndex) chain(key uint32) int {
	count := 0
	for n := x.node(x.heads[x.hash(key)]); n != nil; n = x.next(n) {
		count++
	}
	return count
}

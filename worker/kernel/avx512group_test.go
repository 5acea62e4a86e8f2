//go:build amd64 && !purego

package kernel

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// manyTrial is a batch of random digests, and a group of names of which some are in
// them.
type manyTrial struct {
	hasher *avx512Hasher
	texts  [avx512Batch][avx512Lanes]text
	group  *group
	avx512 *avx512Group
	batch  int // of the turn
}

func newManyTrial(random *rand.Rand, members, shortest int) *manyTrial {
	m := &manyTrial{hasher: new(avx512Hasher), avx512: new(avx512Group), batch: random.IntN(avx512Turn)}
	var matchers []matcher
	for v := range m.texts {
		for lane := range m.texts[v] {
			var b [20]byte
			for i := range m.hasher.digests[v] {
				word := random.Uint32()
				m.hasher.digests[v][i][lane] = word
				binary.BigEndian.PutUint32(b[4*i:], word)
			}
			m.texts[v][lane].fill(digest{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:])})
			if len(matchers) < members {
				name := base64.StdEncoding.EncodeToString(b[:])
				length := shortest + random.IntN(7)
				at := random.IntN(search.HashedNameLen - 1 - length)
				distance := random.IntN(length/shortest) * random.IntN(2)
				matchers = append(matchers, newMatcher(len(matchers), Query{
					Query:   search.Query{Name: name[at : at+length], Ideal: -1, Interesting: distance},
					End:     math.MaxUint64,
					MaxHits: 1,
				}))
			}
		}
	}
	for len(matchers) < members {
		name := make([]byte, shortest+random.IntN(7))
		for i := range name {
			name[i] = 'a' + byte(random.IntN(26))
		}
		matchers = append(matchers, newMatcher(len(matchers), Query{Query: search.Query{Name: string(name), Ideal: -1}, End: math.MaxUint64, MaxHits: 1}))
	}
	m.group = newGroup(matchers)
	m.avx512.begin(m.group)
	return m
}

// places calls f for all places, in the order of their flags.
func (m *manyTrial) places(f func(flag int, t *text, place int)) {
	for v := range m.texts {
		for w := range anchorPlaces / 4 {
			for b := range avx512TextBytes {
				f((m.batch*avx512Batch+v)*avx512Flags+w*avx512TextBytes+b, &m.texts[v][b/4], 4*w+b%4)
			}
		}
	}
}

// checkTexts compares the text codes, but for bit 7.
func (m *manyTrial) checkTexts(t *testing.T) {
	t.Helper()
	m.places(func(flag int, text *text, place int) {
		v, w, b := flag/avx512Flags, flag%avx512Flags/avx512TextBytes, flag%avx512TextBytes
		if got := m.avx512.texts[v][w][b] & 0x7f; got != text[place] {
			t.Fatalf("vector %d, lane %d, character %d: text code %d, want %d", v, b/4, place, got, text[place])
		}
	})
}

// TestAVX512Sieve has batches go through both steps of the sieve, and compares what
// passes with what its tables say.
func TestAVX512Sieve(t *testing.T) {
	requireAVX512(t)
	random := rand.New(rand.NewPCG(7, 7))
	for _, members := range []int{1, 20, 300, 1000, 1100, 2000} {
		for _, fill := range []string{"nothing", "anchors", "everything"} {
			t.Run(fmt.Sprintf("%d/%s", members, fill), func(t *testing.T) {
				m := newManyTrial(random, members, 4)
				s := &m.group.sieve
				if fill != "anchors" {
					entries := uint8(0)
					if fill == "everything" {
						entries = math.MaxUint8
					}
					for n := range uint8(sieveEntries) {
						for i := range s.first {
							*sieveEntry(&s.first[i], n) = entries
						}
						for i := range s.second {
							*sieveEntry(&s.second[i][0], n), *sieveEntry(&s.second[i][1], n) = entries, entries
						}
					}
				}
				a := m.avx512
				sieves := map[string]func(*[64]byte, *[sieveTables][2][64]byte, *[8][64]byte, *[5][len(a.kept[0])]byte, int) int{
					"3": avx512Sieve3, "3Few": avx512Sieve3Few,
				}
				if s.tables == sieveTables {
					sieves = map[string]func(*[64]byte, *[sieveTables][2][64]byte, *[8][64]byte, *[5][len(a.kept[0])]byte, int) int{"5": avx512Sieve5}
				}
				texts := &a.texts[m.batch*avx512Batch]
				avx512Text(&a.codes, &m.hasher.digests[0], texts, avx512Batch)
				m.checkTexts(t)
				var kept [][5]byte
				var places []sieveAnchor
				m.places(func(flag int, text *text, place int) {
					four := newSieveAnchor(text[place : place+anchorLen])
					for i, n := range four.numbers[:s.tables] {
						if *sieveEntry(&s.first[i], n)>>four.bucket&1 == 0 {
							return
						}
					}
					in := flag - m.batch*avx512Batch*avx512Flags
					kept = append(kept, [5]byte{four.numbers[0], four.numbers[1], four.numbers[2], byte(in % 64), byte(in / 64)})
					places = append(places, four)
				})
				for name, sieve := range sieves {
					count := sieve(&avx512SieveBuckets, &s.first, texts, &a.kept, avx512Batch)
					if count != len(kept) {
						t.Fatalf("sieve %s kept %d, want %d", name, count, len(kept))
					}
					for i, want := range kept {
						if got := [5]byte{a.kept[0][i], a.kept[1][i], a.kept[2][i], a.kept[3][i], a.kept[4][i]}; got != want {
							t.Fatalf("sieve %s kept %d at %d, want %d", name, got, i, want)
						}
					}
				}
				if len(kept) == 0 {
					return
				}
				from := uint16(m.batch * avx512Batch * avx512Flags)
				for _, pairs := range []int{1, 2, siftTables / 2} {
					var want []uint16
					for i, four := range places {
						h, passes := four.hashes(), true
						for table := range 2 * pairs {
							passes = passes && *sieveEntry(&s.second[table][h.bucket/8], h.hash[table%2])>>(h.bucket%8)&1 != 0
							if table%2 == 1 {
								h.next()
							}
						}
						if passes {
							want = append(want, from+uint16(kept[i][4])<<6+uint16(kept[i][3]))
						}
					}
					count := avx512Sift(&siftMatrices, &avx512SiftBits, &s.second, pairs, &a.kept, len(kept), uint32(from), &a.listed[0])
					if !slices.Equal(a.listed[:count], want) {
						t.Fatalf("%d pairs: %d of %d flags, want %d", pairs, count, len(kept), len(want))
					}
				}
			})
		}
	}
}

// TestAVX512Bitmap looks batches up in bitmaps from empty to full.
func TestAVX512Bitmap(t *testing.T) {
	requireAVX512(t)
	random := rand.New(rand.NewPCG(8, 8))
	for _, shortest := range []int{4, longPiece} {
		for _, fill := range []string{"nothing", "anchors", "everything"} {
			t.Run(fmt.Sprintf("%d/%s", shortest, fill), func(t *testing.T) {
				m := newManyTrial(random, sieveMost+100, shortest)
				if m.group.sieve.serves() || m.group.long != (shortest == longPiece) {
					t.Fatal("the group has another filter")
				}
				if fill != "anchors" {
					for i := range m.group.bitmap {
						m.group.bitmap[i] = 0
						if fill == "everything" {
							m.group.bitmap[i] = math.MaxUint32
						}
					}
				}
				var want []uint16
				m.places(func(flag int, text *text, place int) {
					begin, bit := place, text[place] // of the word's three characters
					if place%2 == 0 {
						begin++
					} else {
						bit = text[place+anchorLen-1]
					}
					if m.group.long && place%4 > 1 {
						return
					}
					for _, class := range text[begin : begin+3] {
						if m.group.classes>>class&1 == 0 {
							return
						}
					}
					if m.group.bitmap[wordNumber(text[begin], text[begin+1], text[begin+2])]>>(bit&foldMask)&1 != 0 {
						want = append(want, uint16(flag))
					}
				})
				m.avx512.filter(m.hasher, m.batch)
				got := m.avx512.listed[:m.avx512.count]
				m.checkTexts(t)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Fatalf("%d flags, want %d:\n%d\n%d", len(got), len(want), got, want)
				}
			})
		}
	}
}

// TestAVX512Keyed tells flags apart, from none to all that there can be, by whether
// the index has somebody's anchor there, and then whether that may be the name; the
// plain code does that again.
func TestAVX512Keyed(t *testing.T) {
	requireAVX512(t)
	random := rand.New(rand.NewPCG(5, 5))
	for _, members := range []int{1, 300, 3000} {
		m := newManyTrial(random, members, 4)
		a, x := m.avx512, &m.group.index
		a.filter(m.hasher, m.batch)                 // writes the texts
		for _, one := range []int{1, 1000, 10, 2} { // of so many flags, one is set
			t.Run(fmt.Sprintf("%d members, one in %d", members, one), func(t *testing.T) {
				count := 0
				var keyed, keys, nearFlags, nearKeys []uint32
				m.places(func(flag int, text *text, place int) {
					if random.IntN(one) > 0 {
						return
					}
					a.listed[count] = uint16(flag)
					count++
					k := text.keyAt(place)
					n := x.first(k, text[place+anchorLen])
					if n == nil {
						return
					}
					keyed, keys = append(keyed, uint32(flag)), append(keys, k)
					begin := place - int(n.at)
					if n.next >= 0 || uint(begin) <= uint(n.last) && n.near(binary.LittleEndian.Uint64(text[begin:])) {
						nearFlags, nearKeys = append(nearFlags, uint32(flag)), append(nearKeys, k)
					}
				})
				got := avx512Keyed(&a.texts[0], &x.after[0], uint32(x.shift), &a.listed[0], count, &a.keyed[0], &a.keys[0])
				if !slices.Equal(a.keyed[:got], keyed) || !slices.Equal(a.keys[:got], keys) {
					t.Fatalf("%d of %d flags with keys, want %d", got, count, len(keyed))
				}
				if got == 0 {
					return
				}
				got = avx512Near(&a.texts[0], &x.heads[0], uint32(x.shift), &x.nodes[0].head, got, &a.keyed[0], &a.keys[0])
				if !slices.Equal(a.keyed[:got], nearFlags) || !slices.Equal(a.keys[:got], nearKeys) {
					t.Fatalf("%d of %d flags are near, want %d", got, len(keyed), len(nearFlags))
				}
			})
		}
	}
}

// TestAVX512Turns has so much pass the filters that what is left of it is looked at
// before a turn is over, and finds what the generic kernel finds.
func TestAVX512Turns(t *testing.T) {
	requireAVX512(t)
	random := rand.New(rand.NewPCG(9, 9))
	var queries []Query
	var matchers []matcher
	for i := range 1000 {
		name := make([]byte, 4+random.IntN(3))
		for at := range name {
			name[at] = 'a' + byte(random.IntN(26))
		}
		queries = append(queries, Query{Query: search.Query{Name: string(name), Ideal: -1}, End: math.MaxUint64, MaxHits: math.MaxInt})
		matchers = append(matchers, newMatcher(i, queries[i]))
	}
	lo := search.LengthStart(4)
	hi := lo + 1<<17
	scan := func(scan func(Report) uint64) (all []Hit) {
		if through := scan(func(_ uint64, hits []Hit) { all = append(all, hits...) }); through != hi {
			t.Fatalf("searched up to %d, want %d", through, hi)
		}
		return all
	}
	var stop atomic.Bool
	want := scan(func(report Report) uint64 { return Generic{}.Scan(queries, lo, hi, &stop, report) })
	for _, passes := range []string{"the second step", "both steps"} {
		t.Run(passes, func(t *testing.T) {
			g := newGroup(matchers)
			for n := range uint8(sieveEntries) {
				for i := range g.sieve.second {
					*sieveEntry(&g.sieve.second[i][0], n), *sieveEntry(&g.sieve.second[i][1], n) = math.MaxUint8, math.MaxUint8
				}
				for i := range g.sieve.first {
					if passes == "both steps" {
						*sieveEntry(&g.sieve.first[i], n) = math.MaxUint8
					}
				}
			}
			got := scan(func(report Report) uint64 {
				return AVX512{}.scanPass(pass{many: g, hasher: newHasher()}, len(queries), lo, hi, &stop, report)
			})
			if len(want) == 0 || !slices.Equal(got, want) {
				t.Fatalf("%d hits, want %d", len(got), len(want))
			}
		})
	}
}

// TestAVX512IndexLayout says what the assembly takes for granted.
func TestAVX512IndexLayout(t *testing.T) {
	var node anchorNode
	for name, offsets := range map[string][2]uintptr{
		"node":   {unsafe.Sizeof(node), 24},
		"next":   {unsafe.Offsetof(node.next), 12},
		"at":     {unsafe.Offsetof(node.at), 20},
		"last":   {unsafe.Offsetof(node.last), 21},
		"length": {unsafe.Offsetof(node.length), 22},
		"bound":  {unsafe.Offsetof(node.bound), 23},
	} {
		if offsets[0] != offsets[1] {
			t.Errorf("%s: %d, want %d", name, offsets[0], offsets[1])
		}
	}
}

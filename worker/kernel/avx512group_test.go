//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// TestAVX512Lists lists flags of batches, from none to all that there can be, and
// tells apart those of whose characters the index has some, which the plain code
// does again.
func TestAVX512Lists(t *testing.T) {
	requireAVX512(t)
	random := rand.New(rand.NewPCG(5, 5))
	for _, members := range []int{1, 3000} {
		var matchers []matcher
		for i := range members {
			name := make([]byte, 4+random.IntN(7))
			for i := range name {
				name[i] = 'a' + byte(random.IntN(26))
			}
			matchers = append(matchers, newMatcher(i, Query{Query: search.Query{Name: string(name)}, End: math.MaxUint64, MaxHits: 1}))
		}
		g := newGroup(matchers)
		for number, table := range avx512FlagTables {
			for _, one := range []int{0, 1, 1000, 10, 2} { // in so many flags, one is set
				t.Run(fmt.Sprintf("%d members, table %d, one in %d", members, number, one), func(t *testing.T) {
					a := new(avx512Group)
					for v := range a.texts {
						for w := range a.texts[v][:avx512Texts] {
							for i := range a.texts[v][w] {
								a.texts[v][w][i] = codeClass[random.IntN(64)]
							}
						}
					}
					var listed []uint16
					var keyed, keys []uint32
					for v := range a.found {
						for i := range avx512Places * avx512Lanes {
							if one == 0 || random.IntN(one) > 0 {
								continue
							}
							a.found[v][i/64] |= 1 << (i % 64)
							flag := v*len(table.flags) + i
							listed = append(listed, uint16(flag))
							f := table.flags[i]
							var four [5]uint8
							for i := range four {
								at := int(f.place) + i
								four[i] = a.texts[v][at/4][4*int(f.lane)+at%4]
							}
							k := key(binary.LittleEndian.Uint32(four[:]))
							if g.index.first(k, four[4]) != nil {
								keyed, keys = append(keyed, uint32(flag)), append(keys, k)
							}
						}
					}
					avx512Some(&a.found[0], &a.some[0], avx512Batch)
					count := avx512List(&a.found[0], &a.some[0], &a.listed[0], avx512Batch/8)
					if !slices.Equal(a.listed[:count], listed) {
						t.Fatalf("listed %d flags, want %d:\n%v\n%v", count, len(listed), a.listed[:count], listed)
					}
					if count == 0 {
						return
					}
					count = avx512Keyed(&table.texts, &a.texts[0], &g.index.slots[0].after, uint32(g.index.shift), &a.listed[0], count, &a.keyed[0], &a.keys[0])
					if !slices.Equal(a.keyed[:count], keyed) || !slices.Equal(a.keys[:count], keys) {
						t.Fatalf("%d flags with keys, want %d", count, len(keyed))
					}
				})
			}
		}
	}
}

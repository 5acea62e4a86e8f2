package kernelbench

import (
	"context"
	"crypto/sha1" //nolint:gosec // SHA-1 is what is measured, nothing is protected by it
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// Case is a search that is measured.
type Case struct {
	SecretLength int   // of the candidates, in bytes, 0 to 7
	NameLength   int   // of each query, 1 to 28, or of the longest of Names
	Distance     int   // that each query reports, or the largest of Names
	Queries      int   // of the pass, at least 1; at most 10,000 words
	Names        Names // Letters if not given
}

// Names says what the names of a case are.
type Names string

const (
	// Letters are names of NameLength letters, drawn with a seed, at Distance.
	Letters Names = ""
	// Random are names of 4 to 10 letters, drawn with a seed, at distance 0.
	Random Names = "random"
	// Words are English words of 4 to 10 letters, at distance 0.
	Words Names = "words"
	// Mixed are a third each names of 4 to 10 letters at distance 0, of 8 to 12
	// at distance 1, and of 12 to 16 at distance 2, drawn with a seed.
	Mixed Names = "mixed"
)

// wordList has 10,000 English words of 4 to 10 letters in alphabetical order:
// every fifth of those in Debian's package wamerican, which are taken from SCOWL,
// copyright 2000-2011 by Kevin Atkinson. (Permission to use, copy, modify,
// distribute and sell these word lists is granted without fee, provided that
// this notice appears in all copies and in supporting documentation.)
//
//go:embed words.txt
var wordList string

// Cases returns the searches that every kernel is measured by.
func Cases() []Case {
	return []Case{
		// Secrets of every length that a search may reach.
		{3, 6, 0, 1, Letters},
		{4, 6, 0, 1, Letters},
		{5, 6, 0, 1, Letters},
		{6, 6, 0, 1, Letters},
		{7, 6, 0, 1, Letters},
		// Names of other lengths.
		{4, 4, 0, 1, Letters},
		{4, 8, 0, 1, Letters},
		{4, 10, 0, 1, Letters},
		// Distances. At the last, one candidate in seven is a hit.
		{4, 6, 1, 1, Letters},
		{4, 6, 2, 1, Letters},
		{4, 8, 1, 1, Letters},
		{4, 8, 2, 1, Letters},
		{4, 4, 2, 1, Letters},
		// Several queries in one pass.
		{4, 6, 0, 4, Letters},
		{4, 6, 0, 8, Letters},
	}
}

// One is the search that those for several names compare with.
func One() Case { return Case{SecretLength: 4, NameLength: 6, Queries: 1} }

// SetCases returns searches for many names at once.
func SetCases() []Case {
	var cases []Case
	for _, n := range []int{8, 64, 1000, 10000} {
		cases = append(cases,
			Case{SecretLength: 4, NameLength: 10, Queries: n, Names: Random},
			Case{SecretLength: 4, NameLength: 10, Queries: n, Names: Words},
			Case{SecretLength: 4, NameLength: 16, Distance: 2, Queries: n, Names: Mixed})
	}
	return cases
}

// String returns c as the name of a benchmark.
func (c Case) String() string {
	if c.Names != Letters {
		return fmt.Sprintf("secret=%d/names=%s/queries=%d", c.SecretLength, c.Names, c.Queries)
	}
	return fmt.Sprintf("secret=%d/name=%d/distance=%d/queries=%d", c.SecretLength, c.NameLength, c.Distance, c.Queries)
}

// queries returns queries for names of letters, always the same. No hit ends
// them, so that what is measured is the search and not its beginning: at
// distance 0 a name of four letters is found within a millisecond.
func (c Case) queries() []kernel.Query {
	queries := make([]kernel.Query, c.Queries)
	words := strings.Fields(wordList)
	for i := range queries {
		random := rand.New(rand.NewPCG(uint64(i), 0)) //nolint:gosec // nothing is secret about them
		letters := make([]byte, search.MaxNameLen)
		for at := range letters {
			letters[at] = byte('a' + random.IntN(26))
		}
		name, distance := string(letters), c.Distance
		switch c.Names {
		case Letters:
			name = name[:c.NameLength]
		case Random:
			name = name[:4+random.IntN(7)]
		case Words:
			name = words[i*len(words)/c.Queries]
		case Mixed:
			distance = i % 3
			name = name[:[]int{4, 8, 12}[distance]+random.IntN([]int{7, 5, 5}[distance])]
		}
		queries[i] = kernel.Query{Query: search.Query{Name: name, Ideal: -1, Interesting: distance}, End: math.MaxUint64}
	}
	return queries
}

// Work is what can be measured: it goes on until stop is set. Now and then it calls
// more with the number of candidates that it has done, and sets stop if that returns
// false. It returns how many it has done in the end.
type Work func(stop *atomic.Bool, more func(done uint64) bool) uint64

// Work searches with k through all secrets of c's length, again and again.
func (c Case) Work(k kernel.Kernel) Work {
	queries := c.queries()
	lo, hi := search.LengthStart(c.SecretLength), search.LengthStart(c.SecretLength+1)
	return func(stop *atomic.Bool, more func(done uint64) bool) uint64 {
		searched := uint64(0) // in earlier rounds
		for {
			through := k.Scan(queries, lo, hi, stop, func(through uint64, _ []kernel.Hit) {
				if !more(searched + through - lo) {
					stop.Store(true)
				}
			})
			searched += through - lo
			if stop.Load() {
				return searched
			}
		}
	}
}

// sha1Every is the number of hashes between two looks at the clock.
const sha1Every = 1 << 12

// SHA1 is a [Work], the yardstick: it calls crypto/sha1.Sum for secrets of four
// bytes, and neither encodes nor compares.
func SHA1(stop *atomic.Bool, more func(hashed uint64) bool) uint64 {
	hashed, sink := uint64(0), byte(0)
	for !stop.Load() {
		for range sha1Every {
			var secret [4]byte
			binary.BigEndian.PutUint32(secret[:], uint32(hashed))
			sum := sha1.Sum(secret[:]) //nolint:gosec // see the import
			sink ^= sum[0]
			hashed++
		}
		if !more(hashed) {
			stop.Store(true)
		}
	}
	keep.Store(uint32(sink))
	return hashed
}

// keep has the compiler believe that the hashes are needed.
var keep atomic.Uint32

// rounds is how many times each work has its turn.
const rounds = 5

// Rates are what was measured of a work, round by round, in candidates per second.
type Rates [rounds]float64

// Median returns the median of the rates.
func (r Rates) Median() float64 {
	slices.Sort(r[:])
	return r[rounds/2]
}

// To returns the ratio of r to other, which was measured in turn with it: the median
// of those of the rounds.
func (r Rates) To(other Rates) float64 {
	for i := range r {
		r[i] /= other[i]
	}
	return r.Median()
}

// InTurn measures works in turn, so that each has its share of what the machine does
// meanwhile. All turns of one are about d together. A turn begins with a work's first
// report and ends with one: what it takes to begin, two microseconds a name, is left
// out. When ctx ends, InTurn returns its error within milliseconds.
func InTurn(ctx context.Context, d time.Duration, works ...Work) ([]Rates, error) {
	rates := make([]Rates, len(works))
	for round := range rounds {
		for i, work := range works {
			var err error
			if rates[i][round], err = rate(ctx, d/rounds, work); err != nil {
				return nil, err
			}
		}
	}
	return rates, nil
}

func rate(ctx context.Context, d time.Duration, work Work) (float64, error) {
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var start time.Time
	var first uint64 // candidates of the first report
	var used time.Duration
	// Between two of its reports, a kernel has no work in hand that would be lost to
	// the rate.
	n := work(&stop, func(n uint64) bool {
		if start.IsZero() {
			first, start, used = n, time.Now(), threadTime()
			return true
		}
		return time.Since(start) < d
	})
	used = threadTime() - used
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return float64(n-first) / used.Seconds(), nil
}

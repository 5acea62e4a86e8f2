package kernel

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// sieve tells places of hashed names where an anchor of a group may stand from those
// where none does, for up to some thousands of anchors. A kernel goes through it in two
// steps, the first of which looks at all places, and the second at what has passed.
//
// In the first step, characters one and two make a number, two and three another, and
// three and four a third, and there is a table for each. An anchor is in one of eight
// buckets, by its first character, and the entries of its numbers have the bucket's bit.
// For more than some anchors there are two tables more, for sums of two numbers.
//
// How much passes depends on how full the tables are. Most names have several fours of
// characters that could be their anchor, and [sieve.price] tells of which of them the
// tables have most already. Chosen so, the anchors of a thousand random names let a third
// of the places through that they would otherwise, and those of a thousand words too.
//
// The second step is a Bloom filter (B. Bloom, Space/time trade-offs in hash coding with
// allowable errors, 1970), with a table for each hash.
type sieve struct {
	first  [sieveTables]sieveTable
	used   [sieveTables][sieveBuckets]int // bits that are set
	tables int                            // of first, that are in use: 0 for none, with too many anchors
	second [siftTables][siftBuckets / 8]sieveTable
}

const (
	sieveNumbers = 3
	sieveTables  = 5 // of the first step, for more than sieveSome anchors; else sieveNumbers
	siftTables   = 24
	sieveSome    = 1200
	// sieveMost is how many anchors the sieve serves. With more, too much passes.
	sieveMost = 4000

	sieveEntries = 128 // of a table
	sieveBuckets = 8
	siftBuckets  = 16 // of the second step
)

// sieveTable is a table in two vectors.
type sieveTable = [2][sieveEntries / 2]uint8

// sieveEntry returns the entry that the lower seven bits of a number say.
func sieveEntry(t *sieveTable, n uint8) *uint8 {
	return &t[n/(sieveEntries/2)%2][n%(sieveEntries/2)]
}

// reset empties the sieve, for so many anchors.
func (s *sieve) reset(anchors int) {
	*s = sieve{}
	switch {
	case anchors <= sieveSome:
		s.tables = sieveNumbers
	case anchors <= sieveMost:
		s.tables = sieveTables
	}
}

// serves reports whether the sieve is in use.
func (s *sieve) serves() bool { return s.tables > 0 }

// sieveBucket returns the bucket of a class. Of the four in a bucket, no two have the
// same lower two bits: those are in the number.
func sieveBucket(class uint8) uint8 { return (class>>2 + 2*class) % sieveBuckets }

// sieveAnchor is what the sieve knows of four characters in a row.
type sieveAnchor struct {
	numbers [sieveTables]uint8 // by table, of which the lower seven bits are the entry's
	bucket  uint8
}

func newSieveAnchor(four []uint8) (a sieveAnchor) {
	for i := range sieveNumbers {
		a.numbers[i] = four[i] ^ four[i+1]<<2
	}
	for i := range sieveTables - sieveNumbers {
		a.numbers[sieveNumbers+i] = a.numbers[i] + a.numbers[sieveNumbers-1]
	}
	a.bucket = sieveBucket(four[0])
	return a
}

// price returns how much more would pass the first step with an anchor: it is about in
// proportion, if the tables are independent.
func (s *sieve) price(a sieveAnchor) int {
	before, after := 1, 1
	for i, n := range a.numbers[:s.tables] {
		used := s.used[i][a.bucket]
		before *= used
		after *= used + 1 - int(*sieveEntry(&s.first[i], n)>>a.bucket&1)
	}
	return after - before
}

// add adds an anchor.
func (s *sieve) add(a sieveAnchor) {
	bit := uint8(1) << a.bucket
	for i, n := range a.numbers[:s.tables] {
		if entry := sieveEntry(&s.first[i], n); *entry&bit == 0 {
			*entry |= bit
			s.used[i][a.bucket]++
		}
	}
	h := a.hashes()
	for i := range s.second {
		*sieveEntry(&s.second[i][h.bucket/8], h.hash[i%2]) |= 1 << (h.bucket % 8)
		if i%2 == 1 {
			h.next()
		}
	}
}

// siftHashes are an anchor's hashes for two tables of the second step.
type siftHashes struct {
	hash, step [2]uint8
	bucket     uint8
}

func (a sieveAnchor) hashes() (h siftHashes) {
	x, z, y := a.numbers[0], a.numbers[1], a.numbers[2]
	h.hash = [2]uint8{siftMixed[0][x] ^ z, siftMixed[1][z] ^ y}
	h.step = [2]uint8{siftMixed[2][y] ^ x, siftMixed[3][h.hash[0]] ^ siftMixed[4][h.hash[1]]}
	h.bucket = siftBucket(h.step[1])
	return h
}

// next moves on to the next two tables. With steps that stay the same (A. Kirsch, M.
// Mitzenmacher, Less hashing, same performance, 2006) up to four times as much passes, as
// among so few entries many anchors have half of their hashes in common then.
func (h *siftHashes) next() {
	h.hash[0] += h.step[0]
	h.hash[1] += h.step[1]
	h.step[0] ^= h.hash[1]
	h.step[1] += h.hash[0]
}

// siftBucket returns the bucket that the lower six bits of a mix are for.
func siftBucket(mix uint8) uint8 { return mix % 64 / (64 / siftBuckets) }

// siftMatrices are for VGF2P8AFFINEQB, and siftMixed is what they make of each number.
var siftMatrices, siftMixed = newSiftMatrices()

func newSiftMatrices() (matrices [5]uint64, mixed [5][256]uint8) {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // any numbers will do
	for i := range matrices {
		matrices[i] = random.Uint64()
		for n := range mixed[i] {
			for row := range 8 { // makes bit 7-row
				product := uint8(matrices[i]>>(8*row)) & uint8(n)
				mixed[i][n] |= uint8(bits.OnesCount8(product)%2) << (7 - row)
			}
		}
	}
	return matrices, mixed
}

// pairs returns how many pairs of tables of the second step are worth their time, with
// so many anchors.
func (s *sieve) pairs(anchors int) int {
	const few = 0.3 // that may pass in 16 hashed names
	passes := 0.0   // that pass the first step
	for b := range sieveBuckets {
		part := 16.0 * anchorPlaces / sieveBuckets
		for i := range s.used[:s.tables] {
			part *= float64(s.used[i][b]) / sieveEntries
		}
		passes += part
	}
	if passes <= few {
		return 1
	}
	full := -math.Expm1(-float64(anchors) / (siftBuckets * sieveEntries))
	return max(1, min(siftTables/2, int(math.Ceil(math.Log(few/passes)/math.Log(full)/2))))
}

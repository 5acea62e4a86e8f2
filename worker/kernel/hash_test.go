package kernel

import (
	"crypto/sha1"
	"fmt"
	"testing"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// TestHasher compares both ways to hash with crypto/sha1.Sum at the start, in
// the middle and at the end of every length.
func TestHasher(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprintf("slow=%t", slow), func(t *testing.T) {
			h := newHasher()
			if h.slow {
				t.Error("the encoded state of crypto/sha1 is not what the hasher was made for")
			}
			h.slow = slow
			for n := range maxSecretLen + 1 {
				start := search.LengthStart(n)
				count := min(300, start*255+1) // all of the short lengths
				for _, lo := range []uint64{start, start + start*100, start + start*254} {
					h.start(lo)
					for index := lo; index < lo+count && search.SecretLen(index) == n; index++ {
						sum := sha1.Sum(search.AppendSecret(nil, index))
						if got, want := h.next(), newDigest(&sum); got != want {
							t.Fatalf("digest of index %d = %x, want %x", index, got, want)
						}
					}
				}
			}
		})
	}
}

func BenchmarkHasher(b *testing.B) {
	for _, slow := range []bool{false, true} {
		b.Run(fmt.Sprintf("slow=%t", slow), func(b *testing.B) {
			b.ReportAllocs()
			h := newHasher()
			h.slow = slow
			h.start(search.LengthStart(4))
			for b.Loop() {
				h.next()
			}
		})
	}
}

package kernel

import (
	"crypto/sha1" //nolint:gosec // SHA-1 is what is searched, nothing is protected by it
	"encoding"
	"encoding/binary"
	"hash"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// maxSecretLen is the length of the longest secret that has an index.
const maxSecretLen = 8

// digest is a SHA-1: its first, second and last 8, 8 and 4 bytes as big-endian
// numbers.
type digest struct {
	first, second uint64
	last          uint32
}

// hasher returns the SHA-1 of one secret after the other.
//
// sha1.Sum spends more time on copying and padding than on the hash. The
// hasher keeps one block, padded already (FIPS 180-4, section 5.1.1), in which
// it only counts up. It gives the block to crypto/sha1 and reads the chaining
// value, which after the last block is the digest, from the encoded state:
// 55 ns instead of 97 on an AMD EPYC with SHA instructions. That the state is
// encoded this way is not promised, so newHasher tries it out.
type hasher struct {
	block  [sha1.BlockSize]byte
	secret []byte // the beginning of block
	// head is block's first 8 bytes as a number, of the secret that is next.
	// Adding step to it counts the secret up and leaves the padding alone.
	head, step uint64

	sha   hash.Hash
	state encoding.BinaryAppender // sha
	buf   []byte                  // for the encoded state
	slow  bool                    // the encoded state is not as it should be
}

// stateDigest is where the encoded state of crypto/sha1 has the chaining
// value, after four bytes that identify it.
const stateDigest = 4

func newHasher() *hasher {
	h := &hasher{sha: sha1.New(), buf: make([]byte, 0, 128)} //nolint:gosec // see the import
	h.state, _ = h.sha.(encoding.BinaryAppender)
	h.start(search.LengthStart(maxSecretLen))
	h.slow = h.state == nil || h.next() != sumDigest(make([]byte, maxSecretLen))
	return h
}

// start makes the secret at index the next one.
func (h *hasher) start(index uint64) {
	h.block = [sha1.BlockSize]byte{}
	h.secret = search.AppendSecret(h.block[:0], index)
	n := len(h.secret)
	h.block[n] = 0x80
	h.block[sha1.BlockSize-1] = byte(8 * n)
	h.head = binary.BigEndian.Uint64(h.block[:])
	h.step = 1 << (8 * (maxSecretLen - n)) // 0 for the only secret of no bytes
}

// next returns the digest of the next secret and counts up. The secrets
// returned since start must be of one length.
func (h *hasher) next() digest {
	binary.BigEndian.PutUint64(h.block[:], h.head)
	h.head += h.step
	if h.slow {
		return sumDigest(h.secret)
	}
	h.sha.Reset()
	h.sha.Write(h.block[:])
	state, err := h.state.AppendBinary(h.buf)
	if err != nil || len(state) < stateDigest+sha1.Size {
		return digest{} // newHasher sees that
	}
	return newDigest((*[sha1.Size]byte)(state[stateDigest:]))
}

// sumDigest returns the digest of secret by the front door.
func sumDigest(secret []byte) digest {
	sum := sha1.Sum(secret) //nolint:gosec // see the import
	return newDigest(&sum)
}

func newDigest(sum *[sha1.Size]byte) digest {
	return digest{
		first:  binary.BigEndian.Uint64(sum[0:]),
		second: binary.BigEndian.Uint64(sum[8:]),
		last:   binary.BigEndian.Uint32(sum[16:]),
	}
}

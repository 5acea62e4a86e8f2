package search

import "math"

// maxTransitions bounds the work of exactChance to two or three milliseconds.
const maxTransitions = 1 << 14

// openState is what matters of a hashed name's first characters: for each
// alignment of the name that has begun and not ended, how many mismatches it
// may still have, plus one. It is indexed by how many characters of the name
// are past; 0 stands for no such alignment, or one that can no longer hit.
type openState [MaxNameLen]uint8

// weighted is an openState and its probability.
type weighted struct {
	state  openState
	chance float64
}

// exactChance returns the probability that a uniform digest is within distance
// d of name. It walks the places of the hashed name and keeps the probability
// of each openState without a hit so far. At d = 0 there is one state for each
// length of the matched prefix: the Knuth-Morris-Pratt automaton of the name.
// It returns false where there are so many states that the walk would take
// more than maxTransitions.
func exactChance(name string, d int) (p float64, ok bool) {
	states := []weighted{{chance: 1}}
	work := 0
	for place := range HashedNameLen {
		var chances [128]float64 // by folded character
		for i := range len(name) {
			chances[fold(name[i])] = chance(name[i], place)
		}
		var next []weighted // not the map: sums must not depend on its order
		seen := make(map[openState]int, len(states))
		for _, s := range states {
			if place+len(name) <= HashedNameLen {
				s.state[0] = uint8(d) + 1
			}
			move := func(c byte, chance float64) {
				if chance == 0 {
					return
				}
				after, hit := s.state.step(name, c)
				if hit {
					p += s.chance * chance
					return
				}
				i, ok := seen[after]
				if !ok {
					i = len(next)
					seen[after] = i
					next = append(next, weighted{state: after})
				}
				next[i].chance += s.chance * chance
			}
			rest := 1.0 // exact, for chances are 64ths
			waited := wanted(name, &s.state)
			for _, c := range waited {
				move(c, chances[c])
				rest -= chances[c]
			}
			move(0, rest) // all other characters lead to one state
			if work += len(waited) + 1; work > maxTransitions {
				return 0, false
			}
		}
		states = next
	}
	return p, true
}

// wanted returns the characters, folded and each once, that an alignment of
// state has next.
func wanted(name string, state *openState) []byte {
	var seen [128]bool
	var chars []byte
	for past := range len(name) {
		if c := fold(name[past]); state[past] > 0 && !seen[c] {
			seen[c] = true
			chars = append(chars, c)
		}
	}
	return chars
}

// step returns the state after the folded character c, and whether that makes
// a hit certain.
func (s *openState) step(name string, c byte) (after openState, hit bool) {
	for past := range len(name) {
		left := s[past]
		if left == 0 {
			continue
		}
		if fold(name[past]) != c {
			left--
		}
		toCome := len(name) - past - 1
		if int(left) > toCome {
			return openState{}, true
		}
		if toCome > 0 {
			after[past+1] = left
		}
	}
	return after, false
}

// independentChance approximates exactChance where that is too much work: it
// takes the alignments as independent of each other, 1 − Π(1 − p), and each
// alignment's p is exact. Its error is the correlation of the alignments. By
// measurement (estimate_test.go holds it) it is within 5 % for names of
// different letters, and small wherever p is. It is too high by up to 3/4 for
// names that repeat one piece, such as "abcabcabc", at distances near their
// length. Names of one or two letters, the worst case, have few states.
func independentChance(name string, d int) float64 {
	miss := 0.0 // the logarithm of the product, lest a tiny p is lost
	for start := range HashedNameLen - len(name) + 1 {
		miss += math.Log1p(-alignmentChance(name, start, d))
	}
	return -math.Expm1(miss)
}

// alignmentChance returns the probability that the alignment at start has at
// most d mismatches.
func alignmentChance(name string, start, d int) float64 {
	var mass [MaxNameLen + 1]float64 // by the number of mismatches
	mass[0] = 1
	for i := range len(name) {
		p := chance(name[i], start+i)
		for m := min(i+1, d); m >= 0; m-- {
			mass[m] *= p
			if m > 0 {
				mass[m] += mass[m-1] * (1 - p)
			}
		}
	}
	sum := 0.0
	for _, p := range mass[:d+1] {
		sum += p
	}
	return min(sum, 1)
}

package search

import "math"

// Estimate tells how many candidates a search takes until its ideal hit, the
// digests taken as independent and uniform. Its zero value is no estimate; use
// [NewEstimate].
type Estimate struct {
	p float64
}

// NewEstimate returns the estimate for the ideal distance of q, which must be
// valid. It takes three milliseconds at most, and mostly much less. Where the exact
// probability would take longer it is approximated: see independentChance.
func NewEstimate(q Query) Estimate {
	p, ok := exactChance(q.Name, q.Ideal)
	if !ok {
		p = independentChance(q.Name, q.Ideal)
	}
	return Estimate{p: min(p, 1)} // rounding may have gone beyond
}

// PerCandidate returns the probability that one candidate is an ideal hit,
// above 0 and at most 1.
func (e Estimate) PerCandidate() float64 { return e.p }

// Expected returns the mean number of candidates up to and including the first
// ideal hit.
func (e Estimate) Expected() float64 { return 1 / e.p }

// Quantile returns the smallest whole number of candidates that contain an
// ideal hit with probability p at least: 0 for p ≤ 0, infinity for p ≥ 1
// unless every candidate is a hit.
func (e Estimate) Quantile(p float64) float64 {
	switch {
	case p <= 0:
		return 0
	case e.p >= 1:
		return 1
	case p >= 1:
		return math.Inf(1)
	}
	return math.Ceil(math.Log1p(-p) / math.Log1p(-e.p))
}

// FoundBy returns the probability that n candidates contain an ideal hit,
// 1 − (1−p)^n, without loss of precision where p is tiny. It is 0 for n ≤ 0.
func (e Estimate) FoundBy(n float64) float64 {
	switch {
	case n <= 0:
		return 0
	case e.p >= 1:
		return 1
	}
	return -math.Expm1(n * math.Log1p(-e.p))
}

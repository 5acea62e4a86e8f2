package search

// Hit is a candidate within the distance that a query reports.
type Hit struct {
	Index    uint64
	Distance int
}

// Evaluate looks at one index the plain way. It returns the candidate's
// distance, and whether that is one that q reports.
func Evaluate(q Query, index uint64) (Hit, bool) {
	var b [maxSecretLen]byte
	hashed := HashedName(AppendSecret(b[:0], index))
	d := Distance(q.Name, &hashed)
	return Hit{Index: index, Distance: d}, d <= q.Bound()
}

// Scan is the reference that every kernel is compared with: it yields the hits
// in [lo, hi) in index order up to and including the first ideal one, or until
// yield returns false. It looks at a few million candidates a second at best.
func Scan(q Query, lo, hi uint64, yield func(Hit) bool) {
	for index := lo; index < hi; index++ {
		hit, ok := Evaluate(q, index)
		if !ok {
			continue
		}
		if !yield(hit) || hit.Distance <= q.Ideal {
			return
		}
	}
}

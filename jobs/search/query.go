package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Profile names this package's index space (all bytestrings), its hash
// (base64 of SHA-1) and its match (case-insensitive Hamming distance).
const Profile = "sha1-base64"

// MaxNameLen is the length in bytes of the longest name that can be looked for.
const MaxNameLen = HashedNameLen

// Query is what one search looks for. The zero value is not valid.
type Query struct {
	// Name is the desired name, 1 to MaxNameLen printable ASCII characters.
	Name string `json:"name"`
	// Ideal is the largest distance that ends the search, 0 to len(Name).
	Ideal int `json:"ideal"`
	// Interesting is the largest distance that is reported, 0 to len(Name).
	// At or below Ideal it has no effect: only the ideal hit is reported.
	Interesting int `json:"interesting"`
}

// QueryError says which field of a query cannot be accepted, and why.
type QueryError struct {
	// Field is "desired_name", "ideal_hamming_distance" or
	// "interesting_hamming_distance".
	Field string
	// Description completes the sentence that the field begins.
	Description string
	// Unsatisfiable is set when the query is well formed but no hash can
	// ever come as close to its name as it wants.
	Unsatisfiable bool
}

// Error returns the field and the description as one sentence.
func (e *QueryError) Error() string { return e.Field + " " + e.Description }

const (
	fieldName        = "desired_name"
	fieldIdeal       = "ideal_hamming_distance"
	fieldInteresting = "interesting_hamming_distance"
)

// Validate returns nil when q can be searched for, otherwise a [*QueryError]
// about its first fault. A query whose ideal distance no 160-bit value can
// reach is refused; the interesting distance may be out of reach.
func (q Query) Validate() error {
	n := len(q.Name)
	if n < 1 || n > MaxNameLen {
		return &QueryError{Field: fieldName, Description: fmt.Sprintf("must have 1 to %d characters, not %d", MaxNameLen, n)}
	}
	for i := range n {
		if q.Name[i] < 0x20 || q.Name[i] > 0x7e {
			return &QueryError{Field: fieldName, Description: fmt.Sprintf("must be printable ASCII, byte %d is 0x%02x", i, q.Name[i])}
		}
	}
	for _, d := range []struct {
		field string
		value int
	}{{fieldIdeal, q.Ideal}, {fieldInteresting, q.Interesting}} {
		if d.value < 0 || d.value > n {
			return &QueryError{Field: d.field, Description: fmt.Sprintf("must be 0 to %d, the length of the name, not %d", n, d.value)}
		}
	}
	if least := leastDistance(q.Name); least > q.Ideal {
		return &QueryError{
			Field:         fieldIdeal,
			Description:   fmt.Sprintf("must be at least %d for this name, the smallest distance that any hash can reach, not %d", least, q.Ideal),
			Unsatisfiable: true,
		}
	}
	return nil
}

// Bound returns the largest distance that the search reports.
func (q Query) Bound() int { return max(q.Ideal, q.Interesting) }

// Encode returns q as JSON in its one canonical form, such as
// {"name":"doctor","ideal":0,"interesting":2}. Only a valid query is sure to
// come back from [DecodeQuery].
func (q Query) Encode() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // '<', '>' and '&' are ordinary characters of a name
	// A string and two integers always have a JSON form, and a Buffer takes all.
	_ = enc.Encode(q)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// DecodeQuery reads what [Query.Encode] wrote. Unknown fields, anything after
// the object and an invalid query are errors, the last a [*QueryError].
func DecodeQuery(data []byte) (Query, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var q Query
	if err := dec.Decode(&q); err != nil {
		return Query{}, fmt.Errorf("decode query: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Query{}, errors.New("decode query: data after the object")
	}
	if err := q.Validate(); err != nil {
		return Query{}, fmt.Errorf("decode query: %w", err)
	}
	return q, nil
}

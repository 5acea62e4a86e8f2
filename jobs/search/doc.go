// Package search says what a search is: the query, the space of secrets that
// it is looked for in, the distance that decides, and how long it may take.
//
// A search names a string and looks through all bytestrings, the secrets, in
// order of increasing length. A secret's hashed name is the base64 form of its
// SHA-1, 28 characters of which the last is '='. The distance is the least
// number of differing characters, upper and lower case being equal, over all
// substrings of the hashed name that are as long as the desired name.
//
// Everything here is the plain form, written to be read and to be compared
// with: package worker/kernel computes the same much faster, and each of its
// hits is checked with [Evaluate].
//
// Least use:
//
//	q := search.Query{Name: "doctor", Ideal: 0, Interesting: 2}
//	if err := q.Validate(); err != nil {
//		return err
//	}
//	fmt.Println(search.NewEstimate(q).Expected(), "candidates expected")
//	search.Scan(q, 0, 1<<24, func(h search.Hit) bool {
//		fmt.Printf("%x %d\n", search.AppendSecret(nil, h.Index), h.Distance)
//		return true
//	})
//
// All functions are pure and safe for concurrent use. The package imports
// nothing but the standard library, and nothing outside it and its kernels
// knows of SHA-1.
package search

package search_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs/search"
)

func TestValidate(t *testing.T) {
	const (
		name        = "desired_name"
		ideal       = "ideal_hamming_distance"
		interesting = "interesting_hamming_distance"
	)
	for _, test := range []struct {
		about         string
		query         search.Query
		field         string // "" is valid
		unsatisfiable bool
	}{
		{"zero value", search.Query{}, name, false},
		{"one character", search.Query{Name: "a"}, "", false},
		{"28 characters", search.Query{Name: strings.Repeat("a", 28), Ideal: 1}, "", false},
		{"28 characters, the last one free", search.Query{Name: strings.Repeat("a", 27) + "="}, "", false},
		{"29 characters", search.Query{Name: strings.Repeat("a", 29), Ideal: 29}, name, false},
		{"control character", search.Query{Name: "a\x1f", Ideal: 2}, name, false},
		{"delete", search.Query{Name: "a\x7f", Ideal: 2}, name, false},
		{"not ASCII", search.Query{Name: "é", Ideal: 2}, name, false},
		{"first and last printable", search.Query{Name: " ~", Ideal: 2}, "", false},
		{"ideal below 0", search.Query{Name: "abc", Ideal: -1}, ideal, false},
		{"ideal at the length", search.Query{Name: "abc", Ideal: 3}, "", false},
		{"ideal above the length", search.Query{Name: "abc", Ideal: 4}, ideal, false},
		{"interesting below 0", search.Query{Name: "abc", Interesting: -1}, interesting, false},
		{"interesting at the length", search.Query{Name: "abc", Interesting: 3}, "", false},
		{"interesting above the length", search.Query{Name: "abc", Interesting: 4}, interesting, false},
		{"outside base64", search.Query{Name: "a-b"}, ideal, true},
		{"outside base64 but allowed for", search.Query{Name: "a-b", Ideal: 1}, "", false},
		{"interesting out of reach", search.Query{Name: "a--", Ideal: 2, Interesting: 1}, "", false},
		{"padding at the end", search.Query{Name: "="}, "", false},
		{"padding in front", search.Query{Name: "=a"}, ideal, true},
		{"padding twice", search.Query{Name: "=="}, ideal, true},
		{"four bits before the padding", search.Query{Name: "a="}, "", false},
		{"four bits, by the lower case", search.Query{Name: "C="}, "", false},
		{"four bits, by the upper case", search.Query{Name: "i="}, "", false},
		{"four bits, digit", search.Query{Name: "8="}, "", false},
		{"five bits", search.Query{Name: "B="}, ideal, true},
		{"five bits, digit", search.Query{Name: "1="}, ideal, true},
		{"five bits but allowed for", search.Query{Name: "B=", Ideal: 1}, "", false},
		{"27 characters fit once before the padding", search.Query{Name: strings.Repeat("a", 27)}, "", false},
		{"27 characters that do not", search.Query{Name: strings.Repeat("b", 27)}, ideal, true},
		{"26 characters", search.Query{Name: strings.Repeat("b", 26)}, "", false},
	} {
		t.Run(test.about, func(t *testing.T) {
			err := test.query.Validate()
			if test.field == "" {
				if err != nil {
					t.Errorf("Validate(%+v) = %v, want nil", test.query, err)
				}
				return
			}
			var got *search.QueryError
			if !errors.As(err, &got) {
				t.Fatalf("Validate(%+v) = %v, want a *QueryError", test.query, err)
			}
			if got.Field != test.field || got.Unsatisfiable != test.unsatisfiable {
				t.Errorf("Validate(%+v) = %+v, want field %s, unsatisfiable %t", test.query, got, test.field, test.unsatisfiable)
			}
		})
	}
}

func TestUnsatisfiableSaysWhatIsReachable(t *testing.T) {
	err := search.Query{Name: "B=", Interesting: 2}.Validate()
	got, want := err.Error(), "ideal_hamming_distance must be at least 1 for this name, the smallest distance that any hash can reach, not 0"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestUnsatisfiableIsExact compares with what the strict base64 decoder of the
// standard library accepts: the best hashed name is built, character by
// character and in either case, around each alignment.
func TestUnsatisfiableIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := drawName().Draw(t, "name")
		ideal := rapid.IntRange(0, len(name)).Draw(t, "ideal")
		least, best := len(name), [28]byte{}
		for start := range 28 - len(name) + 1 {
			if hashed := closest(name, start); search.Distance(name, &hashed) <= least {
				least, best = search.Distance(name, &hashed), hashed
			}
		}
		err := search.Query{Name: name, Ideal: ideal}.Validate()
		if got, want := err == nil, least <= ideal; got != want {
			t.Fatalf("Validate of %q at %d = %v, but %s has distance %d", name, ideal, err, best[:], least)
		}
	})
}

// closest returns the hashed name of some digest that has as many characters
// of name at start as can stand there.
func closest(name string, start int) [28]byte {
	hashed := [28]byte([]byte(strings.Repeat("A", 27) + "="))
	for i := range len(name) {
		for _, c := range []string{strings.ToUpper(name[i : i+1]), strings.ToLower(name[i : i+1])} {
			try := hashed
			try[start+i] = c[0]
			sum, err := base64.StdEncoding.Strict().DecodeString(string(try[:]))
			if err == nil && len(sum) == 20 {
				hashed = try
			}
		}
	}
	return hashed
}

// drawName draws names of all lengths, many with an end that cannot be.
func drawName() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		end := rapid.SampledFrom([]string{"", "=", "a=", "b=", "C=", "=="}).Draw(t, "end")
		return rapid.StringOfN(rapid.RuneFrom([]rune("aAbBcC18+/=-")), 1, 28-len(end), -1).Draw(t, "beginning") + end
	})
}

func TestBound(t *testing.T) {
	for _, test := range []struct{ ideal, interesting, want int }{{0, 0, 0}, {1, 0, 1}, {0, 2, 2}, {2, 2, 2}} {
		q := search.Query{Name: "doctor", Ideal: test.ideal, Interesting: test.interesting}
		if got := q.Bound(); got != test.want {
			t.Errorf("Bound of %+v = %d, want %d", q, got, test.want)
		}
	}
}

func TestEncode(t *testing.T) {
	for _, test := range []struct {
		query search.Query
		want  string
	}{
		{search.Query{Name: "doctor", Interesting: 2}, `{"name":"doctor","ideal":0,"interesting":2}`},
		{search.Query{Name: `<"\&>`, Ideal: 5, Interesting: 1}, `{"name":"<\"\\&>","ideal":5,"interesting":1}`},
	} {
		if got := string(test.query.Encode()); got != test.want {
			t.Errorf("Encode of %+v = %s, want %s", test.query, got, test.want)
		}
	}
}

func TestDecodeQuery(t *testing.T) {
	for _, test := range []struct {
		about, data string
		want        search.Query
		fails       bool
	}{
		{about: "canonical", data: `{"name":"doctor","ideal":0,"interesting":2}`, want: search.Query{Name: "doctor", Interesting: 2}},
		{about: "other order and white space", data: " {\"ideal\": 1,\n\"name\": \"doctor\"}\n", want: search.Query{Name: "doctor", Ideal: 1}},
		{about: "empty", data: ``, fails: true},
		{about: "null", data: `null`, fails: true},
		{about: "not an object", data: `"doctor"`, fails: true},
		{about: "unknown field", data: `{"name":"doctor","limit":1}`, fails: true},
		{about: "trailing object", data: `{"name":"doctor"}{}`, fails: true},
		{about: "trailing bracket", data: `{"name":"doctor"}]`, fails: true},
		{about: "trailing bytes", data: "{\"name\":\"doctor\"}\x00", fails: true},
		{about: "cut", data: `{"name":"doctor"`, fails: true},
		{about: "fraction", data: `{"name":"doctor","ideal":0.5}`, fails: true},
		{about: "invalid query", data: `{"name":"doctor","ideal":7}`, fails: true},
		{about: "unsatisfiable query", data: `{"name":"a b"}`, fails: true},
		{about: "invalid UTF-8", data: "{\"name\":\"\xff\",\"ideal\":1}", fails: true},
	} {
		t.Run(test.about, func(t *testing.T) {
			got, err := search.DecodeQuery([]byte(test.data))
			if test.fails != (err != nil) {
				t.Fatalf("DecodeQuery = %v, want an error: %t", err, test.fails)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("DecodeQuery (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeQueryNamesTheField(t *testing.T) {
	_, err := search.DecodeQuery([]byte(`{"name":"doctor","ideal":7}`))
	var got *search.QueryError
	if !errors.As(err, &got) || got.Field != "ideal_hamming_distance" {
		t.Errorf("got %v, want a *QueryError about the ideal distance", err)
	}
}

func FuzzDecodeQuery(f *testing.F) {
	f.Add([]byte(`{"name":"doctor","ideal":0,"interesting":2}`))
	f.Add([]byte(`{"name":"<\"\\&>","ideal":5}`))
	f.Add([]byte(`{"NAME":"B=","ideal":1} `))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := search.DecodeQuery(data)
		if err != nil {
			return
		}
		if err := q.Validate(); err != nil {
			t.Errorf("accepted an invalid query: %v", err)
		}
		if got, err := search.DecodeQuery(q.Encode()); err != nil || got != q {
			t.Errorf("DecodeQuery(Encode(%+v)) = %+v, %v", q, got, err)
		}
	})
}

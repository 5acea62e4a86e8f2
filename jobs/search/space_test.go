package search_test

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs/search"
)

func TestIndexes(t *testing.T) {
	for _, test := range []struct {
		about, secret string
		index         uint64
	}{
		{"empty", "", 0},
		{"first of one byte", "\x00", 1},
		{"last of one byte", "\xff", 256},
		{"first of two bytes", "\x00\x00", 257},
		{"second of two bytes", "\x00\x01", 258},
		{"last of two bytes", "\xff\xff", 65792},
		{"first of three bytes", "\x00\x00\x00", 65793},
		{"pO0G", "\xa4\xed\x06", 10874375},
		{"first of eight bytes", strings.Repeat("\x00", 8), 0x0101010101010101},
		{"last of seven bytes", strings.Repeat("\xff", 7), 0x0101010101010100},
		{"last index", strings.Repeat("\xfe", 8), math.MaxUint64},
	} {
		t.Run(test.about, func(t *testing.T) {
			if got := string(search.AppendSecret(nil, test.index)); got != test.secret {
				t.Errorf("AppendSecret(%d) = %x, want %x", test.index, got, test.secret)
			}
			if got, err := search.IndexOf([]byte(test.secret)); err != nil || got != test.index {
				t.Errorf("IndexOf(%x) = %d, %v, want %d", test.secret, got, err, test.index)
			}
			if got, want := search.SecretLen(test.index), len(test.secret); got != want {
				t.Errorf("SecretLen(%d) = %d, want %d", test.index, got, want)
			}
		})
	}
}

func TestIndexOfWithoutIndex(t *testing.T) {
	for _, secret := range []string{
		strings.Repeat("\xfe", 7) + "\xff",
		strings.Repeat("\xff", 8),
		strings.Repeat("\x00", 9),
	} {
		if got, err := search.IndexOf([]byte(secret)); err == nil {
			t.Errorf("IndexOf(%x) = %d, want an error", secret, got)
		}
	}
}

func TestLengthStart(t *testing.T) {
	want := uint64(0)
	for n := range 9 {
		if got := search.LengthStart(n); got != want {
			t.Errorf("LengthStart(%d) = %d, want %d", n, got, want)
		}
		want = want*256 + 1
	}
}

func TestIndexRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Shifted, so that all lengths are drawn.
		index := rapid.Uint64().Draw(t, "index") >> rapid.IntRange(0, 63).Draw(t, "shift")
		secret := search.AppendSecret([]byte("before"), index)[len("before"):]
		if got, err := search.IndexOf(secret); err != nil || got != index {
			t.Fatalf("IndexOf(%x) = %d, %v, want %d", secret, got, err, index)
		}
		if index == math.MaxUint64 {
			return
		}
		next := search.AppendSecret(nil, index+1)
		if len(next) < len(secret) || len(next) == len(secret) && bytes.Compare(secret, next) >= 0 {
			t.Fatalf("%x comes before %x", secret, next)
		}
	})
}

func TestSecretRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "secret")
		index, err := search.IndexOf(secret)
		if err != nil {
			if len(secret) < 8 {
				t.Fatalf("IndexOf(%x): %v", secret, err)
			}
			return
		}
		if got := search.AppendSecret(nil, index); !bytes.Equal(got, secret) {
			t.Fatalf("AppendSecret(%d) = %x, want %x", index, got, secret)
		}
	})
}

func TestGrid(t *testing.T) {
	want := []uint64{65793, 16843009, 4311810305, 1103823438081, 282578800148737, 72340172838076673}
	if got := search.Grid(); !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
}

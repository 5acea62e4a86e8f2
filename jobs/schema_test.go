package jobs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// Whoever finds another version's data says so and leaves them alone.
func TestJoin(t *testing.T) {
	const key = "hashfinder:{p0}:schema"
	for _, test := range []struct{ about, stored, want string }{
		{"empty", "", ""},
		{"its own", "1", ""},
		{"older", "0", "an older version"},
		{"newer", "2", "a newer version"},
		{"strange", "x", "a newer version"},
	} {
		t.Run(test.about, func(t *testing.T) {
			jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
				client := open()
				left := test.stored
				if test.stored == "" {
					left = "1"
				} else if err := client.Set(t.Context(), key, test.stored, 0).Err(); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					err := jobs.NewStore(client).Join(t.Context())
					if test.want == "" && err != nil {
						t.Errorf("got %v, want nil", err)
					}
					if test.want != "" && (!errors.Is(err, jobs.ErrSchema) || !strings.Contains(err.Error(), test.want)) {
						t.Errorf("got %v, want ErrSchema with %q", err, test.want)
					}
				}
				if got, err := client.Get(t.Context(), key).Result(); got != left || err != nil {
					t.Errorf("it left schema %q, %v, want %q", got, err, left)
				}
			})
		})
	}
}

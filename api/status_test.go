package api

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/hashfinder/hashfinder/jobs"
)

// TestNotReplicated shows that what replicas have not confirmed is told apart from a store that does not answer.
func TestNotReplicated(t *testing.T) {
	err := fmt.Errorf("acknowledge job x: %w: %w", jobs.ErrUnavailable, jobs.ErrNotReplicated)
	st, known := statusOf(t.Context(), err, "id")
	if !known {
		t.Errorf("it is taken for an unknown error: %v", st)
	}
	wantError(t, st.Err(), codes.Unavailable, reasonNotReplicated)
}

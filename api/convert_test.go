package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// constants returns the values of the string constants of a type that ../jobs/job.go declares.
func constants(t *testing.T, typeName string) []string {
	t.Helper()
	return constantsOf(t, "../jobs/job.go", typeName)
}

// constantsOf returns the values of the string constants of a type that a file declares.
func constantsOf(t *testing.T, path, typeName string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typeName {
			for _, value := range spec.Values {
				values = append(values, strings.Trim(value.(*ast.BasicLit).Value, `"`))
			}
		}
		return false
	})
	return values
}

// TestEnums shows that each state and reason has a value of its own in the proto, and each value a state or reason.
func TestEnums(t *testing.T) {
	var gotStates, gotReasons []string
	for state, value := range states {
		gotStates = append(gotStates, string(state))
		if back, ok := stateNamed(value.String()); !ok || back != state {
			t.Errorf("%s becomes %s, which becomes %s", state, value, back)
		}
	}
	seen := map[hashfinderv1.Job_EndReason]bool{0: true}
	for reason, value := range reasons {
		gotReasons = append(gotReasons, string(reason))
		if seen[value] {
			t.Errorf("%s becomes %s, as another does", reason, value)
		}
		seen[value] = true
	}
	for _, test := range []struct {
		got, want []string
		values    int
	}{
		{gotStates, constants(t, "State"), len(hashfinderv1.Job_State_name)},
		{gotReasons, constants(t, "Reason"), len(hashfinderv1.Job_EndReason_name)},
	} {
		slices.Sort(test.got)
		slices.Sort(test.want)
		if diff := cmp.Diff(test.want, test.got); diff != "" || len(test.got) != test.values-1 {
			t.Errorf("of %d values (-want +got):\n%s", test.values, diff)
		}
	}
	for _, name := range []string{"", "STATE_UNSPECIFIED", "running"} {
		if state, ok := stateNamed(name); ok {
			t.Errorf("%q is state %s", name, state)
		}
	}
}

func TestSecondsOf(t *testing.T) {
	for _, test := range []struct {
		seconds float64
		want    time.Duration
		unset   bool
	}{
		{seconds: 0, want: 0},
		{seconds: 1.5, want: 1500 * time.Millisecond},
		{seconds: 315_576_000_000, unset: true},
		{seconds: math.Inf(1), unset: true},
		{seconds: math.NaN(), unset: true},
		{seconds: -1, unset: true},
	} {
		got := secondsOf(test.seconds)
		if (got == nil) != test.unset || got.AsDuration() != test.want {
			t.Errorf("%v: got %v, want %v", test.seconds, got, test.want)
		}
	}
	if got := secondsOf(315_575_999_999.5); got.CheckValid() != nil || got.GetSeconds() != 315_575_999_999 {
		t.Errorf("got %v", got)
	}
}

func TestProgressOf(t *testing.T) {
	e := search.NewEstimate(search.Query{Name: "doctor"})
	progress := jobs.Progress{Searched: 1 << 30, InFlight: 2, Redone: 3, Rate: 1e6}
	got := progressOf(&progress, e, true)
	if got.GetProbabilityFound() != e.FoundBy(1<<30) || got.GetEtaP50().AsDuration().Seconds() < e.Quantile(0.5)/1e6-1 {
		t.Errorf("got %v", got)
	}
	for name, got := range map[string]*hashfinderv1.Progress{
		"ended":   progressOf(&progress, e, false),
		"no rate": progressOf(&jobs.Progress{Searched: 1}, e, true),
	} {
		if got.EtaP50 != nil || got.EtaP90 != nil || got.EtaP99 != nil {
			t.Errorf("%s: got ETAs %v", name, got)
		}
	}
}

func TestEstimatesAreBounded(t *testing.T) {
	e := newEstimates()
	q := search.Query{Name: "a"}
	for i := range maxEstimates + 10 {
		e.made[search.Query{Name: uuid.NewString(), Ideal: i}] = search.Estimate{}
		if len(e.made) > maxEstimates {
			break
		}
	}
	if got := e.of(q); got != search.NewEstimate(q) || len(e.made) != 1 {
		t.Errorf("got %v, keeping %d", got, len(e.made))
	}
}

// TestTokens takes page tokens and etags there and back.
func TestTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, filter := uuid.New().String(), rapid.String().Draw(t, "filter")
		if got, err := readPageToken(newPageToken(id, filter), filter); err != nil || got != id {
			t.Errorf("page token of %s: got %q, %v", id, got, err)
		}
		revision := rapid.Uint64Range(1, math.MaxUint64).Draw(t, "revision")
		if got := revisionOf(etagOf(revision)); got != revision {
			t.Errorf("etag of %d: got %d", revision, got)
		}
	})
}

func FuzzPageToken(f *testing.F) {
	f.Add("", "")
	f.Add(newPageToken(uuid.Nil.String(), "x"), "x")
	f.Fuzz(func(t *testing.T, token, filter string) {
		id, err := readPageToken(token, filter)
		if err == nil && token != "" && newPageToken(id, filter) != token {
			t.Errorf("%q is read as %q, whose token is another", token, id)
		}
	})
}

func FuzzJobID(f *testing.F) {
	f.Add(someJob)
	f.Add("jobs/{01980000-0000-7000-8000-000000000000}")
	f.Fuzz(func(t *testing.T, name string) {
		if id, err := jobID(name); err == nil && (jobName(id) != name || len(id) != 36) {
			t.Errorf("%q is read as %q", name, id)
		}
		if id, err := requestUUID(name); err == nil && id != "" && len(id) != 36 {
			t.Errorf("%q is read as request id %q", name, id)
		}
	})
}

// TestStoredQuery shows that a fault in what is stored is not blamed on the request.
func TestStoredQuery(t *testing.T) {
	for _, spec := range []jobs.Spec{
		{Profile: "other", Query: search.Query{Name: "a"}.Encode()},
		{Profile: search.Profile, Query: search.Query{}.Encode()},
		{Profile: search.Profile},
	} {
		_, err := newEstimates().jobOf(&jobs.Job{Spec: spec})
		if st, known := statusOf(t.Context(), err, "id"); known || st.Code() != codes.Internal {
			t.Errorf("got %v for %+v", st, spec)
		}
	}
}

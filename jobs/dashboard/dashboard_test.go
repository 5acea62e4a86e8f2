package dashboard_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/dashboard"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/search"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// browser calls a handler.
type browser struct{ handler http.Handler }

func (b browser) do(t *testing.T, method, path string) (status int, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, dashboard.Path+path, http.NoBody)
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// get reads an answer of the API.
func (b browser) get(t *testing.T, path string, into any) {
	t.Helper()
	status, body := b.do(t, http.MethodGet, path)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d: %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("GET %s: %v: %s", path, err, body)
	}
}

// payload is how a task is shown.
func (b browser) payload(t *testing.T, queue, id string) string {
	t.Helper()
	var task struct{ Payload string }
	b.get(t, "/api/queues/"+queue+"/tasks/"+id, &task)
	return task.Payload
}

func (b browser) size(t *testing.T, queue string) int {
	t.Helper()
	var got struct{ Current struct{ Size int } }
	b.get(t, "/api/queues/"+queue, &got)
	return got.Current.Size
}

func submit(t *testing.T, client redis.UniversalClient, attached bool) jobs.Job {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store := jobs.NewStore(client)
	relay := jobs.NewRelay(store, log)
	defer relay.Close()
	job, err := jobs.NewService(store, jobs.NewQueue(client), relay, jobs.Limits{}, log).Submit(t.Context(), jobs.Request{
		Tenant: jobs.DefaultTenant,
		Spec: jobs.Spec{
			Profile: search.Profile, Query: search.Query{Name: "<doctor>", Ideal: 2}.Encode(), Grid: []uint64{65_793}, Attached: attached,
			Budget: jobs.Budget{Candidates: 1 << 20},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestPage(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := browser{dashboard.New(open(), true)}
		for _, path := range []string{"/", "/queues/batch"} { // the second is a place within the page
			if status, body := b.do(t, http.MethodGet, path); status != http.StatusOK || !strings.Contains(body, "<html") {
				t.Errorf("GET %s: got %d: %.200s", path, status, body)
			}
		}
	})
}

func TestQueuesAndTickets(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		client := open()
		b := browser{dashboard.New(client, true)}
		store := jobs.NewStore(client)
		for queue, attached := range map[string]bool{jobs.QueueInteractive: true, jobs.QueueBatch: false} {
			job := submit(t, client, attached)
			ticket := jobs.Ticket{Sweep: job.ID, Number: "1", Queue: queue, Jobs: []string{job.ID}}
			want := "<doctor> jobs/" + job.ID
			if got := b.payload(t, queue, ticket.ID()); got != want {
				t.Errorf("a ticket that waits: got %q, want %q", got, want)
			}
			chunk, err := store.Claim(t.Context(), ticket, "attempt", "worker", 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			want = fmt.Sprintf("<doctor> [%d, %d) jobs/%s", chunk.Lo, chunk.Hi, job.ID)
			if got := b.payload(t, queue, ticket.ID()); got != want {
				t.Errorf("a ticket that was used: got %q, want %q", got, want)
			}
			// The other one waits still.
			ticket.Number = "2"
			if got := b.payload(t, queue, ticket.ID()); strings.Contains(got, "[") {
				t.Errorf("a ticket that waits beside a used one: got %q", got)
			}
		}
		var list struct{ Queues []struct{ Queue string } }
		b.get(t, "/api/queues", &list)
		var names []string
		for _, queue := range list.Queues {
			names = append(names, queue.Queue)
		}
		if slices.Sort(names); !slices.Equal(names, []string{jobs.QueueBatch, jobs.QueueInteractive}) {
			t.Errorf("got the queues %v", names)
		}
	})
}

func TestForeignTasksAreShownAsSuch(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		client := open()
		b := browser{dashboard.New(client, true)}
		for i, payload := range []string{"", "\xff\x00<script>", "{}", `{"sweep":"s"}`} {
			id := fmt.Sprint(i)
			task := asynq.NewTask("other", []byte(payload), asynq.TaskID(id), asynq.Queue(jobs.QueueBatch))
			if _, err := asynq.NewClientFromRedisClient(client).EnqueueContext(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			if got := b.payload(t, jobs.QueueBatch, id); got != "not a ticket" {
				t.Errorf("payload %q: got %q", payload, got)
			}
		}
		// A query that this version does not know is shown as it is.
		text, err := json.Marshal(jobs.Ticket{Sweep: "s", Number: "1", Queue: jobs.QueueBatch, Jobs: []string{"a", "b"}, Query: "new query"})
		if err != nil {
			t.Fatal(err)
		}
		task := asynq.NewTask(jobs.TaskType, text, asynq.TaskID("new"), asynq.Queue(jobs.QueueBatch), asynq.ProcessIn(time.Hour))
		if _, err := asynq.NewClientFromRedisClient(client).EnqueueContext(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if got, want := b.payload(t, jobs.QueueBatch, "new"), "new query jobs/a, jobs/b"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		client := open()
		job := submit(t, client, false)
		task := "/api/queues/batch/pending_tasks/" + job.ID + ":t1"
		reader, writer := browser{dashboard.New(client, true)}, browser{dashboard.New(client, false)}
		before := reader.size(t, jobs.QueueBatch)
		for _, call := range [][2]string{
			{http.MethodDelete, task},
			{http.MethodPost, task + ":archive"},
			{http.MethodDelete, "/api/queues/batch"},
			{http.MethodPost, "/api/queues/batch:pause"},
			{http.MethodDelete, "/api/queues/batch/pending_tasks:delete_all"},
			{http.MethodPost, "/api/queues/batch/active_tasks:cancel_all"},
			{http.MethodPut, task},
		} {
			if status, body := reader.do(t, call[0], call[1]); status < 400 || status >= 500 {
				t.Errorf("%s %s: got %d: %s, want it refused", call[0], call[1], status, body)
			}
		}
		if got := reader.size(t, jobs.QueueBatch); got != before || before == 0 {
			t.Errorf("got %d tasks, want %d as before", got, before)
		}
		if status, body := writer.do(t, http.MethodDelete, task); status >= 300 {
			t.Errorf("delete where it is allowed: got %d: %s", status, body)
		}
		if got := reader.size(t, jobs.QueueBatch); got != before-1 {
			t.Errorf("got %d tasks, want %d", got, before-1)
		}
	})
}

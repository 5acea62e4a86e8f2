package worker_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/jobstest/tap"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
	"github.com/hashfinder/hashfinder/worker/kernel"
	"github.com/hashfinder/hashfinder/worker/workertest"
)

// world is a whole system in a bubble of virtual time: a Redis, front ends, workers and a queue between them, all of
// whose calls take time, and can be lost, repeated or held up.
type world struct {
	plan     plan
	begin    time.Time
	redis    *miniredis.Miniredis
	recorder *history.Recorder
	scripts  *tap.Scripts
	queue    *virtualQueue
	quiet    atomic.Bool    // no more noise
	mute     atomic.Bool    // what is published is lost
	ended    chan struct{}  // the world
	late     sync.WaitGroup // calls that are still on their way,
	onTheWay atomic.Int64   // as many
	clients  sync.WaitGroup
	losses   []*history.Op // while there are some

	mu      sync.Mutex
	thrown  map[string]uint64
	awaited []*awaited
	fronts  []*front
	workers []*virtualWorker
	all     []*process // that ever were
	known   []string   // jobs

	presence, attendance presence // of all processes; of workers
}

// virtualRun plays a plan in virtual time, and returns what happened. It is to be called in a bubble.
func virtualRun(t *testing.T, p plan, scripts *tap.Scripts) []history.Event {
	t.Helper()
	w := &world{
		plan: p, begin: time.Now(), redis: miniredis.NewMiniRedis(), scripts: scripts, ended: make(chan struct{}),
		thrown: map[string]uint64{},
	}
	w.recorder = history.NewRecorderWithClock("client", func() int64 { return int64(time.Since(w.begin)) })
	w.presence = presence{recorder: w.recorder, absence: history.Nobody}
	w.attendance = presence{recorder: w.recorder, absence: history.NoWorker}
	w.queue = &virtualQueue{world: w, wake: make(chan struct{}), pending: map[string][]jobs.Ticket{}}
	if p.Noise > 0 {
		w.losses = append(w.losses, w.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Losses}))
	}
	if p.QueueLoss > 0 {
		w.losses = append(w.losses, w.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Tickets}))
	}
	if conn, err := w.redis.Dial(); err != nil { // which starts it
		t.Fatal(err)
	} else {
		conn.Close()
	}
	w.redis.Server().SetPreHook(w.lose)
	var helpers sync.WaitGroup
	helpers.Go(w.passTime)
	if err := scripts.Preload(t.Context(), w.newProcess("loader").client); err != nil {
		t.Fatal(err)
	}
	for range p.Fronts {
		w.addFront()
	}
	for _, wp := range p.Workers {
		w.addWorker(wp)
	}
	for i := range p.Jobs {
		w.clients.Go(func() { w.client(i, &p.Jobs[i]) })
	}
	for i := range p.Faults {
		w.clients.Go(func() { w.strike(&p.Faults[i]) })
	}
	w.clients.Wait()
	w.heal()
	w.settle(t)

	w.mu.Lock()
	fronts, workers := w.fronts, w.workers
	w.mu.Unlock()
	for _, v := range workers {
		v.stop()
	}
	for _, f := range fronts {
		f.stop()
	}
	w.late.Wait()
	for _, p := range w.all {
		p.client.Close()
	}
	close(w.ended)
	helpers.Wait()
	w.redis.Close()
	return w.recorder.Events()
}

// presence records when there is none of some processes.
type presence struct {
	recorder *history.Recorder
	absence  string // the fault that it is

	mu   sync.Mutex
	here int
	none *history.Op // while none is here
}

// count counts n processes in, or out.
func (p *presence) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.here += n; {
	case p.here == 0:
		p.none = p.recorder.Begin(history.Event{Kind: history.Fault, Fault: p.absence})
	case p.none != nil:
		p.none.End(history.Event{})
		p.none = nil
	}
}

// enter counts the process in, as one of each of these.
func (p *process) enter(as ...*presence) {
	p.counted = as
	for _, as := range p.counted {
		as.count(1)
	}
}

// leave counts the process out, once.
func (p *process) leave() {
	p.left.Do(func() {
		for _, as := range p.counted {
			as.count(-1)
		}
	})
}

// passTime lets keys expire, which miniredis does not do by itself.
func (w *world) passTime() {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-w.ended:
			return
		case <-ticker.C:
			w.redis.FastForward(250 * time.Millisecond)
		}
	}
}

// lose drops what is published while the world is mute.
func (w *world) lose(c *server.Peer, cmd string, _ ...string) bool {
	if cmd != "PUBLISH" || !w.mute.Load() || w.quiet.Load() {
		return false
	}
	c.WriteInt(0)
	return true
}

// chance returns a number in [0, 1) that follows from the seed, from who asks for what, and from how often they have. So
// it depends as little as can be on which goroutine is first.
func (w *world) chance(who, what string) float64 {
	key := who + " " + what
	w.mu.Lock()
	w.thrown[key]++
	n := w.thrown[key]
	w.mu.Unlock()
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%d %s %d", w.plan.Seed, key, n)
	return rand.New(rand.NewPCG(hash.Sum64(), n)).Float64()
}

// upTo returns a time below d, by chance.
func (w *world) upTo(d time.Duration, who, what string) time.Duration {
	return time.Duration(w.chance(who, what) * float64(d))
}

// process is a process of the world: it runs, or is stopped, cut off from Redis, or dead.
type process struct {
	world  *world
	name   string
	client *redis.Client
	dead   chan struct{}

	counted []*presence
	left    sync.Once

	mu      sync.Mutex
	stalled chan struct{} // closed when it goes on; nil while it runs
	cut     chan struct{} // closed when Redis is there again; nil while it is
	trap    *trap
	conns   []net.Conn
}

var (
	errDead    = errors.New("the process is dead")
	errNetwork = errors.New("the connection broke")
)

func (w *world) newProcess(kind string) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &process{world: w, name: fmt.Sprintf("%s-%d", kind, len(w.all)+1), dead: make(chan struct{})}
	w.all = append(w.all, p)
	p.client = redis.NewClient(&redis.Options{
		Dialer: p.dial, MaxRetries: 3, PoolSize: 1000, ContextTimeoutEnabled: true, DisableIdentity: true, Protocol: 2,
		DialerRetries: 1,
		// It would ask the resolver, whose channels are not of the bubble.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	p.client.AddHook(&tap.Hook{Scripts: w.scripts, Recorder: w.recorder, Process: p.name, Around: p.around})
	return p
}

func (p *process) dial(context.Context, string, string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil { // what a dead process has sent may still arrive
		return nil, errNetwork
	}
	conn, served := bufferedPipe()
	p.world.redis.Server().ServeConn(served)
	p.conns = append(p.conns, conn)
	return conn, nil
}

// disconnect breaks all connections, those of pub/sub too.
func (p *process) disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
}

func (p *process) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// run waits while the process is stopped, and tells whether it is alive.
func (p *process) run() bool {
	for {
		p.mu.Lock()
		stalled := p.stalled
		p.mu.Unlock()
		if stalled == nil {
			return !p.isDead()
		}
		select {
		case <-stalled:
		case <-p.dead:
			return false
		}
	}
}

// reach waits for a while for Redis, and tells whether it is there.
func (p *process) reach(ctx context.Context) error {
	if !p.run() {
		return errDead
	}
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut == nil {
		return ctx.Err()
	}
	patience := time.NewTimer(p.world.upTo(3*time.Second, p.name, "patience"))
	defer patience.Stop()
	select {
	case <-cut:
		return p.reach(ctx)
	case <-patience.C:
		return errNetwork
	case <-p.dead:
		return errDead
	case <-ctx.Done():
		return ctx.Err()
	}
}

// around makes a call to Redis take its time and its chances.
func (p *process) around(ctx context.Context, call tap.Call) error {
	w := p.world
	if call.Name == "hello" || call.Name == "script" {
		return call.Do() // go-redis greets Redis under locks, where time would not pass
	}
	if !p.run() {
		return errDead // whatever its goroutines still do
	}
	p.spring(call, false)
	w.tell(p, call.Name, false)
	if err := p.reach(ctx); err != nil {
		return err
	}
	if call.Name == "submit" && !w.quiet.Load() && w.chance(p.name, "echo") < 0.25 {
		p.later(call, w.upTo(3*time.Second, p.name, "echo")) //nolint:contextcheck // it outlives the call
	}
	time.Sleep(50*time.Microsecond + w.upTo(time.Millisecond, p.name, call.Name))
	noise := w.plan.Noise
	if call.Name == "submit" || call.Name == "cancel" {
		noise *= 5 // there are few of those
	}
	if !w.quiet.Load() && w.chance(p.name, "noise in "+call.Name) < noise {
		return p.disturb(ctx, call)
	}
	if err := p.reach(ctx); err != nil {
		return err
	}
	err := call.Do()
	time.Sleep(50*time.Microsecond + w.upTo(time.Millisecond, p.name, call.Name))
	p.spring(call, true)
	w.tell(p, call.Name, true)
	if !p.run() {
		return errDead
	}
	return err
}

// disturb makes a call that something is wrong with.
func (p *process) disturb(ctx context.Context, call tap.Call) error {
	w := p.world
	kind := int(w.chance(p.name, "kind") * 6)
	if call.Again == nil {
		kind %= 3
	}
	pause := w.upTo(2*time.Second, p.name, "pause")
	switch kind {
	case 0: // it does not get there
		time.Sleep(pause)
		return errNetwork
	case 1: // its answer does not come back
		if err := call.Do(); err != nil {
			return err
		}
		time.Sleep(pause)
		return errNetwork
	case 2: // it is slow
		time.Sleep(pause)
	case 3: // it is sent again after its answer was lost
		_ = call.Again(ctx) // what becomes of it is what the test is about
		time.Sleep(pause)
	case 4: // its answer does not come, and it arrives long after
		p.later(call, 4*pause) //nolint:contextcheck // as above
		time.Sleep(pause)
		return errNetwork
	case 5: // a copy of it arrives long after
		p.later(call, 4*pause) //nolint:contextcheck // as above
	}
	if err := p.reach(ctx); err != nil {
		return err
	}
	return call.Do()
}

// trap does something to a process when it makes a call.
type trap struct {
	call  string
	after bool // the call, not before it
	late  func(tap.Call)
	shut  func()
}

// spring shuts the trap, if it is set for this.
func (p *process) spring(call tap.Call, after bool) {
	p.mu.Lock()
	t := p.trap
	if t == nil || t.call != call.Name || t.after != after {
		p.mu.Unlock()
		return
	}
	p.trap = nil
	p.mu.Unlock()
	t.shut()
	if !after {
		t.late(call)
	}
}

// await waits until the process makes a call, and does something to it then; false when it makes none for long.
func (p *process) await(f *faultPlan, do func()) bool {
	if f.On == "" {
		do()
		return true
	}
	shut := make(chan struct{})
	t := &trap{call: f.On, after: f.After, late: func(call tap.Call) { p.arrive(f, call) }, shut: func() {
		do()
		close(shut)
	}}
	p.mu.Lock()
	if p.trap != nil { // one at a time
		p.mu.Unlock()
		return false
	}
	p.trap = t
	p.mu.Unlock()
	select {
	case <-shut:
		return true
	case <-p.dead:
	case <-time.After(5 * time.Second):
	}
	p.mu.Lock()
	waiting := p.trap == t
	if waiting {
		p.trap = nil
	}
	p.mu.Unlock()
	if !waiting { // it shuts just now
		<-shut
	}
	return !waiting
}

// arrive lets a call that a fault struck have its effect, if it is to have one.
func (p *process) arrive(f *faultPlan, call tap.Call) {
	switch {
	case f.Takeover:
		// Each of the next claims may be of the chunk that the call is about.
		w := p.world
		begin := time.Now()
		w.belated(func() {
			for time.Since(begin) < 8*time.Second && w.await("claim", true, p, begin.Add(2900*time.Millisecond))() {
				_ = call.Again(context.Background()) // what becomes of it is what the test is about
			}
		})
	case f.Late > 0:
		p.later(call, f.Late)
	}
}

// awaited is a call that somebody waits for.
type awaited struct {
	call   string
	after  bool // the call, not before it
	except *process
	from   time.Time
	made   chan struct{}
}

// await returns a function that waits until a process, not except, makes a call from a time on; false if none does so
// for long.
func (w *world) await(call string, after bool, except *process, from time.Time) (seen func() bool) {
	a := &awaited{call, after, except, from, make(chan struct{})}
	w.mu.Lock()
	w.awaited = append(w.awaited, a)
	w.mu.Unlock()
	return func() bool {
		select {
		case <-a.made:
			return true
		case <-time.After(15 * time.Second):
			return false
		}
	}
}

// tell wakes those that wait for a call.
func (w *world) tell(p *process, call string, after bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaited = slices.DeleteFunc(w.awaited, func(a *awaited) bool {
		made := a.call == call && a.after == after && a.except != p && !time.Now().Before(a.from)
		if made {
			close(a.made)
		}
		return made
	})
}

// later makes a call some time from now, whatever has become of the process.
func (p *process) later(call tap.Call, delay time.Duration) {
	w := p.world
	w.belated(func() {
		time.Sleep(delay)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = call.Again(ctx) // as above
	})
}

// kill ends the process without any of its own doing.
func (p *process) kill() {
	close(p.dead)
	p.leave()
	p.world.recorder.Note(history.Event{Kind: history.Fault, Fault: history.Kill, Target: p.name})
	p.disconnect()
}

// seize brings the process into a state, which field tells of: its stalled or cut. It returns what ends that; nil when
// it is in that state already.
func (p *process) seize(fault string, field *chan struct{}) (free func()) {
	over := make(chan struct{})
	p.mu.Lock()
	if *field != nil {
		p.mu.Unlock()
		return nil
	}
	*field = over
	p.mu.Unlock()
	op := p.world.recorder.Begin(history.Event{Kind: history.Fault, Fault: fault, Target: p.name})
	if fault == history.Cut {
		p.disconnect()
	}
	return func() {
		op.End(history.Event{})
		p.mu.Lock()
		*field = nil
		p.mu.Unlock()
		close(over)
	}
}

// hold keeps the process in a state for a while.
func (p *process) hold(fault string, field *chan struct{}, f *faultPlan) {
	var free func()
	if !p.await(f, func() { free = p.seize(fault, field) }) || free == nil {
		return
	}
	select {
	case <-time.After(f.For):
	case <-p.dead:
	}
	free()
}

// virtualWorker is a worker in virtual time.
type virtualWorker struct {
	*process
	cancel context.CancelFunc
	ended  chan struct{}
}

func (w *world) addWorker(p workerPlan) {
	v := &virtualWorker{process: w.newProcess("worker"), ended: make(chan struct{})}
	k := workertest.Record(&virtualKernel{process: v.process, rate: p.Rate}, w.recorder, v.name)
	k.Start()
	run := worker.NewUntested(worker.Config{
		Queues: []string{jobs.QueueInteractive, jobs.QueueBatch},
		Redis:  v.client, Source: &virtualSource{w.queue, v.process}, Store: jobs.NewStore(v.client),
		Queue: &virtualEnqueuer{w.queue, v.process}, Concurrency: p.Slots, Kernel: k, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	v.enter(&w.presence, &w.attendance)
	var reconciling sync.WaitGroup
	reconciling.Go(func() { // as in every process
		jobs.NewReconciler(jobs.NewStore(v.client), &virtualEnqueuer{w.queue, v.process}, slog.New(slog.DiscardHandler)).Run(ctx)
	})
	go func() {
		defer close(v.ended)
		defer reconciling.Wait()
		if err := run.Run(ctx); err != nil || ctx.Err() == nil {
			w.recorder.Note(history.Event{Kind: history.Fault, Fault: history.Exit, Target: v.name, Error: fmt.Sprint(err)})
		}
	}()
	w.mu.Lock()
	w.workers = append(w.workers, v)
	w.mu.Unlock()
}

// stop lets the worker drain, if it is alive.
func (v *virtualWorker) stop() {
	v.cancel()
	<-v.ended
	v.leave()
}

// front is a front end in virtual time, with a reconciler.
type front struct {
	*process
	service *jobs.Service
	relay   *jobs.Relay
	ctx     context.Context //nolint:containedctx // it ends with the process that this is
	cancel  context.CancelFunc
	ended   chan struct{}
}

func (w *world) addFront() {
	f := &front{process: w.newProcess("front"), ended: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	store, queue := jobs.NewStore(f.client), &virtualEnqueuer{w.queue, f.process}
	f.relay = jobs.NewRelay(store, log)
	f.service = jobs.NewService(store, queue, f.relay, jobs.Limits{}, log)
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.enter(&w.presence)
	go func() {
		defer close(f.ended)
		jobs.NewReconciler(store, queue, log).Run(f.ctx)
	}()
	w.mu.Lock()
	w.fronts = append(w.fronts, f)
	w.mu.Unlock()
}

func (f *front) stop() {
	f.cancel()
	<-f.ended
	f.leave()
	f.relay.Close()
}

// someFront returns a front end that is alive.
func (w *world) someFront(who string) *front {
	for {
		w.mu.Lock()
		fronts := w.fronts
		w.mu.Unlock()
		if len(fronts) > 0 {
			return fronts[int(w.chance(who, "front")*float64(len(fronts)))]
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// worker returns a worker, and takes it out of the world when it is to end; nil if there is none.
func (w *world) worker(n int, ends bool) *virtualWorker {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.workers) == 0 {
		return nil
	}
	v := w.workers[n%len(w.workers)]
	if ends {
		w.workers = slices.DeleteFunc(slices.Clone(w.workers), func(other *virtualWorker) bool { return other == v })
	}
	return v
}

// front is what worker is, for front ends.
func (w *world) front(n int, ends bool) *front {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fronts) == 0 {
		return nil
	}
	f := w.fronts[n%len(w.fronts)]
	if ends {
		w.fronts = slices.DeleteFunc(slices.Clone(w.fronts), func(other *front) bool { return other == f })
	}
	return f
}

func (w *world) processes() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*process
	for _, v := range w.workers {
		all = append(all, v.process)
	}
	for _, f := range w.fronts {
		all = append(all, f.process)
	}
	return all
}

// strike lets a fault befall the system, for its time.
func (w *world) strike(f *faultPlan) {
	time.Sleep(f.At)
	switch f.Kind {
	case "kill worker", "drain worker":
		v := w.worker(f.Target, true)
		if v == nil {
			return
		}
		if f.Kind == "kill worker" && !v.await(f, v.kill) {
			v.kill()
		}
		v.stop()
		time.Sleep(f.For)
		w.addWorker(workerPlan{Slots: 1, Rate: 500_000})
	case "kill workers":
		w.killWorkers(f)
	case "stall worker":
		if v := w.worker(f.Target, false); v != nil {
			v.hold(history.Stall, &v.stalled, f)
		}
	case "cut worker":
		if v := w.worker(f.Target, false); v != nil {
			v.hold(history.Cut, &v.cut, f)
		}
	case "kill front":
		v := w.front(f.Target, true)
		if v == nil {
			return
		}
		v.kill()
		v.stop()
		time.Sleep(f.For)
		w.addFront()
	case "stall front":
		if v := w.front(f.Target, false); v != nil {
			v.hold(history.Stall, &v.stalled, &faultPlan{For: f.For})
		}
	case "cut front":
		if v := w.front(f.Target, false); v != nil {
			v.hold(history.Cut, &v.cut, &faultPlan{For: f.For})
		}
	case "outage":
		op := w.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Outage})
		var held sync.WaitGroup
		for _, p := range w.processes() {
			held.Go(func() { p.hold(history.Cut, &p.cut, &faultPlan{For: f.For}) })
		}
		held.Wait()
		op.End(history.Event{})
	case "mute":
		op := w.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Losses})
		w.mute.Store(true)
		time.Sleep(f.For)
		w.mute.Store(false)
		op.End(history.Event{})
	case "disconnect":
		op := w.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Losses})
		for _, p := range w.processes() {
			p.disconnect()
		}
		time.Sleep(time.Second) // until go-redis has subscribed again
		op.End(history.Event{})
	}
}

// killWorkers kills all workers when one of them makes a call, so that nobody has a copy of its chunk. What it was
// sending arrives when the chunk is another's: its lease has run out, and there is a new worker.
func (w *world) killWorkers(f *faultPlan) {
	struck := faultPlan{On: "commit", Takeover: true}
	if f.After {
		struck.On = "flush"
	}
	if f.On == "renew" {
		struck.On = f.On
	}
	var all []*virtualWorker
	for v := w.worker(0, true); v != nil; v = w.worker(0, true) {
		all = append(all, v)
	}
	kill := sync.OnceFunc(func() {
		for _, v := range all {
			v.kill()
		}
	})
	var armed sync.WaitGroup
	for _, v := range all {
		armed.Go(func() { v.await(&struck, kill) })
	}
	armed.Wait()
	kill()
	for _, v := range all {
		v.stop()
	}
	time.Sleep(3*time.Second + f.For/16)
	w.addWorker(workerPlan{Slots: 1, Rate: 300_000})
}

// belated does what comes late. All of it is done before the world ends.
func (w *world) belated(do func()) {
	w.onTheWay.Add(1)
	w.late.Go(func() {
		defer w.onTheWay.Add(-1)
		do()
	})
}

// heal ends all faults.
func (w *world) heal() {
	w.quiet.Store(true)
	for w.onTheWay.Load() > 0 { // no Wait: some more may begin
		time.Sleep(100 * time.Millisecond)
	}
	for _, op := range w.losses {
		op.End(history.Event{})
	}
	w.mu.Lock()
	fronts, workers := len(w.fronts), len(w.workers)
	w.mu.Unlock()
	if fronts == 0 {
		w.addFront()
	}
	if workers == 0 {
		w.addWorker(workerPlan{Slots: 1, Rate: 1_000_000})
	}
}

// settleTime is more than any job can need once nothing is wrong any more: what is left of it, a lease, a ticket that
// was lost, the end of an orphan's grace.
const settleTime = 60 * time.Second

// settle waits until all jobs have ended, and looks at each a last time.
func (w *world) settle(t *testing.T) {
	t.Helper()
	front := w.someFront("settle")
	deadline := time.Now().Add(settleTime)
	for _, id := range w.known {
		for time.Now().Before(deadline) {
			job, err := front.service.Get(front.ctx, jobs.DefaultTenant, id)
			if err == nil && job.State.Terminal() || errors.Is(err, jobs.ErrNotFound) {
				break
			}
			time.Sleep(250 * time.Millisecond)
		}
	}
	w.recorder.Note(history.Event{Kind: history.Fault, Fault: history.Settled})
	for _, id := range w.known {
		w.get(front, id)
		w.watch(front, id, 0, 5*time.Second)
	}
}

// virtualQueue carries tickets as asynq does, each at least once, unless the plan says that it loses them.
type virtualQueue struct {
	world *world

	mu      sync.Mutex
	wake    chan struct{} // closed when there is something new
	pending map[string][]jobs.Ticket
}

func (q *virtualQueue) put(t jobs.Ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending[t.Queue] = append(q.pending[t.Queue], t)
	close(q.wake)
	q.wake = make(chan struct{})
}

func (q *virtualQueue) has(t jobs.Ticket) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, other := range q.pending[t.Queue] {
		if other.ID() == t.ID() {
			return true
		}
	}
	return false
}

// take returns the next ticket; false when ctx has ended.
func (q *virtualQueue) take(ctx context.Context, queue string) (jobs.Ticket, bool) {
	for {
		q.mu.Lock()
		wake := q.wake
		if all := q.pending[queue]; len(all) > 0 && ctx.Err() == nil {
			q.pending[queue] = all[1:]
			q.mu.Unlock()
			return all[0], true
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return jobs.Ticket{}, false
		case <-wake:
		}
	}
}

// virtualEnqueuer is the queue as one process sees it.
type virtualEnqueuer struct {
	queue   *virtualQueue
	process *process
}

func (e *virtualEnqueuer) Enqueue(ctx context.Context, tickets []jobs.Ticket) error {
	w := e.queue.world
	for _, t := range tickets {
		if err := e.process.reach(ctx); err != nil {
			return fmt.Errorf("%w: %w", jobs.ErrUnavailable, err)
		}
		time.Sleep(w.upTo(time.Millisecond, e.process.name, "enqueue"))
		if e.queue.has(t) {
			continue
		}
		chance := w.chance(e.process.name, "ticket")
		if w.quiet.Load() {
			chance = 1
		}
		switch {
		case chance < w.plan.QueueLoss:
		case chance < 2*w.plan.QueueLoss:
			e.queue.put(t)
			e.queue.put(t)
		default:
			e.queue.put(t)
		}
	}
	return nil
}

// virtualSource is the queue as a worker sees it.
type virtualSource struct {
	queue   *virtualQueue
	process *process
}

func (s *virtualSource) Serve(ctx context.Context, queue string, slots int, handle func(context.Context, jobs.Ticket) (string, error)) error {
	var handlers sync.WaitGroup
	for range slots {
		handlers.Go(func() {
			for {
				ticket, ok := s.queue.take(ctx, queue)
				if !ok || !s.process.run() {
					return
				}
				time.Sleep(s.queue.world.upTo(5*time.Millisecond, s.process.name, "take"))
				if _, err := handle(ctx, ticket); err != nil && s.process.run() {
					s.queue.world.belated(func() {
						time.Sleep(time.Second)
						s.queue.put(ticket)
					})
				}
			}
		})
	}
	<-ctx.Done()
	drained := make(chan struct{})
	go func() {
		handlers.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(5 * time.Second):
	}
	return nil
}

// virtualKernel finds the hits of tables, and takes virtual time for it.
type virtualKernel struct {
	process *process
	rate    float64
}

func (*virtualKernel) Name() string { return "virtual" }

// kernelStep is how often the kernel looks at its stop flag.
const kernelStep = 5 * time.Millisecond

func (k *virtualKernel) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	q := queries[0] // a sweep has one job
	end, found := min(hi, q.End), 0
	step := min(kernel.ReportEvery, uint64(k.rate*kernelStep.Seconds()))
	hits := table(string(q.Encode()))
	for at := lo; at < end; {
		through := min(at+step, end)
		time.Sleep(time.Duration(float64(through-at) / k.rate * float64(time.Second)))
		if !k.process.run() || stop.Load() {
			return at
		}
		var some []kernel.Hit
		for _, hit := range between(hits, at, through) {
			some = append(some, kernel.Hit{Hit: search.Hit{Index: hit.Index, Distance: hit.Distance}})
			if found++; hit.Ideal || q.MaxHits > 0 && found == q.MaxHits {
				report(hit.Index+1, some)
				return hit.Index + 1
			}
		}
		report(through, some)
		at = through
	}
	return end
}

// outcome classifies what a call of the service returned.
func outcome(err error) history.Outcome {
	var field *jobs.FieldError
	var quota *jobs.QuotaError
	var after *jobs.RangeError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return history.OK
	case errors.Is(err, jobs.ErrNotFound):
		return history.NotFound
	case errors.Is(err, jobs.ErrEnded):
		return history.Ended
	case errors.Is(err, jobs.ErrLogLost):
		return history.DataLoss
	case errors.Is(err, jobs.ErrRequestUsed), errors.As(err, &field), errors.As(err, &quota), errors.As(err, &after):
		return history.Refused
	}
	return history.Unknown
}

// end is the end of an operation that returned a job.
func end(job *jobs.Job, err error) history.Event {
	e := history.Event{Outcome: outcome(err)}
	if err != nil {
		e.Error = err.Error()
		return e
	}
	e.Job, e.Seen = job.ID, history.Of(job)
	return e
}

// client is a client with one job.
func (w *world) client(n int, p *jobPlan) {
	time.Sleep(p.At)
	request := jobs.Request{
		Tenant: jobs.DefaultTenant, RequestID: fmt.Sprintf("request-%d", n),
		Spec: jobs.Spec{
			Profile: search.Profile, Query: p.query().Encode(), Grid: search.Grid(), Attached: p.Attached,
			Budget: jobs.Budget{Candidates: p.Candidates, Hits: p.Hits, Duration: p.Duration},
		},
	}
	who := request.RequestID
	var others sync.WaitGroup
	defer others.Wait()
	if p.Twice {
		others.Go(func() { w.submit(who+" again", request) })
	}
	id := w.submit(who, request)
	if id == "" {
		return
	}
	if p.Cancel > 0 {
		others.Go(func() {
			time.Sleep(p.Cancel)
			if p.AtCommit {
				w.await("commit", false, nil, time.Now())()
			}
			w.cancel(who, id, p.Wait)
		})
	}
	for _, watcher := range p.Watchers {
		others.Go(func() {
			time.Sleep(watcher.At)
			for i, after := 0, uint64(0); i <= watcher.Again; i++ {
				after = w.watch(w.someFront(who), id, after, watcher.For)
			}
		})
	}
	for range p.Gets {
		time.Sleep(w.upTo(2*time.Second, who, "get"))
		w.get(w.someFront(who), id)
	}
}

// submit submits until it is known what came of it.
func (w *world) submit(who string, request jobs.Request) string {
	for range 20 {
		f := w.someFront(who)
		op := w.recorder.Begin(history.Event{
			Kind: history.Submit, Process: f.name, Tenant: request.Tenant, Request: request.RequestID, Spec: history.OfSpec(&request.Spec),
		})
		job, err := f.service.Submit(f.ctx, request)
		op.End(end(&job, err))
		if err == nil {
			w.mu.Lock()
			if !slices.Contains(w.known, job.ID) {
				w.known = append(w.known, job.ID)
			}
			w.mu.Unlock()
			return job.ID
		}
		if outcome(err) != history.Unknown {
			return ""
		}
		time.Sleep(w.upTo(time.Second, who, "retry"))
	}
	return ""
}

func (w *world) get(f *front, id string) {
	op := w.recorder.Begin(history.Event{Kind: history.Get, Process: f.name, Tenant: jobs.DefaultTenant, Job: id})
	job, err := f.service.Get(f.ctx, jobs.DefaultTenant, id)
	op.End(end(&job, err))
}

func (w *world) cancel(who, id string, wait time.Duration) {
	for range 5 {
		f := w.someFront(who)
		op := w.recorder.Begin(history.Event{Kind: history.Cancel, Process: f.name, Tenant: jobs.DefaultTenant, Job: id})
		job, err := f.service.Cancel(f.ctx, jobs.DefaultTenant, id, jobs.CancelledByClient, wait)
		op.End(end(&job, err))
		if outcome(err) != history.Unknown {
			return
		}
		time.Sleep(w.upTo(time.Second, who, "retry"))
	}
}

// watch follows a job for some time, and returns the sequence number that it has come to.
func (w *world) watch(f *front, id string, after uint64, d time.Duration) uint64 {
	ctx, cancel := context.WithTimeout(f.ctx, d)
	defer cancel()
	op := w.recorder.Begin(history.Event{Kind: history.Watch, Process: f.name, Tenant: jobs.DefaultTenant, Job: id, After: after})
	watcher, _, err := f.service.Watch(ctx, jobs.DefaultTenant, id, after)
	if err != nil {
		op.End(history.Event{Outcome: outcome(err), Error: err.Error()})
		return after
	}
	defer watcher.Close()
	for {
		event, err := watcher.Next(ctx)
		switch {
		case ctx.Err() != nil && err != nil:
			op.End(history.Event{Outcome: history.Aborted})
			return after
		case err != nil:
			op.End(history.Event{Outcome: outcome(err), Error: err.Error()})
			return after
		case event.Progress != nil:
			op.Note(history.Event{Seen: history.OfProgress(event.Progress)})
		case event.Hit != nil:
			after = event.Sequence
			op.Note(history.Event{Sequence: after, Hit: event.Hit})
		default:
			after = event.Sequence
			op.Note(history.Event{Sequence: after, Seen: history.Of(event.End)})
		}
	}
}

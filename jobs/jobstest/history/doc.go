// Package history records what a running system was seen to do, and checks it against what hashfinder promises.
//
// A [Recorder] takes the events of one process: what clients asked and were told, what streams brought, what workers
// were granted and committed, which ranges a kernel searched and when, and which faults there were. All times are of
// one monotonic clock, so the files of several processes of one machine are merged by [Read] into one [History].
//
// [History.Check] runs the checkers, one for each promise. A checker knows only what the history shows: it never
// complains of what may have been right, so a sparse history is checked little, not wrongly. What each needs is said
// at its declaration. Most need the client's side alone; the promises about computing need the kernel's batches
// (package workertest records those), and the fencing of attempts needs the ledger's calls (package tap).
//
// Batches name the query that they look for, not its job: a kernel knows no jobs. So jobs of one history must not
// share a query; [History.Check] says so when they do. Names are compared without regard to case, so that a different
// spelling makes a different query with the same answer.
package history

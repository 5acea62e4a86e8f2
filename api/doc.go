// Package api is the edge of hashfinder: what clients reach over gRPC and HTTP. It turns requests into calls of
// [jobs.Service], and what comes back into responses; it holds no state of a job itself, so that any number of front
// ends may serve the same jobs.
//
//   - hash_name.HashFinder: a search that lives as long as its call. Each call is an attached job, whose name is in
//     the header "hashfinder-job" of the response.
//   - hashfinder.v1.JobService: searches as jobs.
//   - the standard health service, and gRPC reflection where it is wanted.
//   - HTTP: /healthz, and a dashboard below /queues/ where there is one.
//
// It guarantees that bad input is refused before anything is stored; that every error of its own carries an ErrorInfo
// of domain "hashfinder", and one that it does not know shows the client nothing but an id that the log has too; that
// the job of a Find or FindRange call is told to stop on every way out of the call, or, when Redis is away then,
// ends as an orphan ten seconds later; and that a stream that ends because of the server, or of a client that does
// not read, ends with UNAVAILABLE and can be resumed.
//
// It does not authenticate: every caller is [jobs.DefaultTenant].
//
// Least use:
//
//	server := api.New(api.Config{Service: service})
//	go server.ServeGRPC(listener)
//	…
//	server.Shutdown(ctx)
package api

// Package hashfinderv1 holds the generated code of hashfinder.v1: searches as
// jobs, submitted once, run by many workers, watched by any number of clients and
// cancelled with confirmation. jobs.proto documents each call and field.
package hashfinderv1

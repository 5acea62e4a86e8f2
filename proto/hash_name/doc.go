// Package hash_name holds the generated code of the wire contract that existing
// clients of HashFinder speak: Find and FindRange. It is frozen; what hashfinder
// offers beyond it is in package hashfinderv1.
package hash_name

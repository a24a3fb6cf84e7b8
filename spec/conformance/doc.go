// Package conformance holds skep against the code of `docker stack deploy` itself:
// docker/cli's own loader and converter run in process as the oracle, and what they
// make of a compose file is compared, field by field, with what package spec makes
// of it.
//
// It holds tests only, in a module of its own, so that nothing of the oracle is part
// of skep. It speaks to no engine: what an engine makes of the objects is package
// e2e's to show.
//
// What differs on purpose is data, in testdata/differences.yaml, and is shown in
// docs/compose.md. A difference that is not there fails the tests; so does an entry
// that nothing needs.
package conformance

// Package faults is a proxy between skep and an engine that makes the engine look as
// broken as a test asks for: slow, gone, cut off in the middle of an answer, silent. It
// also writes down every request, so that a test can say what was asked of the engine
// and what never was.
//
//	p, err := faults.Listen(faults.Options{Engine: "unix:///run/docker.sock"})
//	defer p.Close()
//	skep run --host p.Host() …
//
//	p.Add(faults.Rule{Operation: "ServiceUpdate", Nth: 2, Fault: faults.CutAfter()})
//	rec := p.Recorded()
//
// It never invents what an engine says but where a fault asks for it, and it never
// repeats a request: what reaches the engine, reaches it once.
package faults

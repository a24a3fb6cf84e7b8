package reconcile

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// A CaughtPanic is a panic of a goroutine that worked for a pass, raised again where
// the pass is made: there whoever makes it can tell whose it was. In its own goroutine
// nobody could, and it would be the end of the process.
type CaughtPanic struct {
	Value any
	Trace []byte // of where it was
}

func (p *CaughtPanic) String() string { return fmt.Sprint(p.Value) }

// panics keeps the first panic of several goroutines. The zero value is ready.
type panics struct {
	mu    sync.Mutex
	first *CaughtPanic
}

// catch is to be deferred in each goroutine.
func (p *panics) catch() {
	v := recover()
	if v == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = &CaughtPanic{v, debug.Stack()}
	}
}

// raise panics as one of the goroutines did, all of which must have ended.
func (p *panics) raise() {
	if p.first != nil {
		panic(p.first)
	}
}

package controller

import (
	"fmt"
	"sync"
	"time"
)

const (
	// pulseEvery is how often a loop that has nothing to do shows that it lives.
	pulseEvery = 10 * time.Second
	// pulseLimit is how long a loop may be silent: longer than anything one does
	// between two beats has to take.
	pulseLimit = 2 * time.Minute
)

// health knows when each loop of the process last showed that it lives.
type health struct {
	now func() time.Time
	mu  sync.Mutex
	at  map[string]time.Time
}

func newHealth(now func() time.Time, loops ...string) *health {
	h := &health{now: now, at: map[string]time.Time{}}
	for _, l := range loops {
		h.at[l] = now()
	}
	return h
}

func (h *health) beat(loop string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[loop] = h.now()
}

// check is nil while every loop lives.
func (h *health) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for loop, at := range h.at {
		if silent := h.now().Sub(at); silent > pulseLimit {
			return fmt.Errorf("the %s loop has been stuck for %s (restart skep, and report it with a goroutine dump: kill -QUIT)", loop, silent.Round(time.Second))
		}
	}
	return nil
}

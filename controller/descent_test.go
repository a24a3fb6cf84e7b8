package controller

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skep-io/skep/spec"
)

// A repository on a mount that hangs holds no pass up, and what asks for it does not pile
// up; when it is back it is asked again.
func TestDescentOnAMountThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDescents("specs")
		var asked atomic.Int32
		back := make(chan struct{})
		d.ask = func(string, string) (spec.Descent, error) {
			asked.Add(1)
			<-back
			return spec.DescentNewer, nil
		}
		for range 3 {
			start := time.Now()
			if _, err := d.tell("a", "b"); err == nil || !strings.Contains(err.Error(), "did not answer") || fromEngine(err) {
				t.Errorf("%v", err)
			}
			if took := time.Since(start); took > descentLimit {
				t.Errorf("it took %s", took)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		close(back)
		synctest.Wait()
		if got, err := d.tell("a", "b"); got != spec.DescentNewer || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		d.ask = func(string, string) (spec.Descent, error) { panic("damaged") }
		if _, err := d.tell("a", "b"); err == nil || !strings.Contains(err.Error(), "panic") {
			t.Errorf("%v", err)
		}
	})
}

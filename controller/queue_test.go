package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

func TestBackoffGrowsWithinItsSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newSpreadBackoff(retryFirst, retryMost)
		want := retryFirst
		for range rapid.IntRange(1, 20).Draw(t, "failures") {
			got := b.When("a")
			low, high := time.Duration(float64(want)*(1-retrySpread)), time.Duration(float64(want)*(1+retrySpread))
			if got < low || got > high {
				t.Fatalf("waits %s, want %s to %s", got, low, high)
			}
			want = min(2*want, retryMost)
		}
		b.Forget("a")
		if got := b.When("a"); got > 2*retryFirst {
			t.Fatalf("waits %s after success", got)
		}
	})
}

func TestEngineBackoffGrowsAndResets(t *testing.T) {
	b := backoff{first: engineFirst, most: engineMost}
	for i, want := range []time.Duration{1, 2, 4, 8, 15, 15, 15} {
		want *= time.Second
		if got := b.wait(); got < want*4/5 || got > want*6/5 {
			t.Errorf("wait %d is %s, want about %s", i, got, want)
		}
	}
	b.reset()
	if got := b.wait(); got > 2*engineFirst {
		t.Errorf("wait after reset is %s", got)
	}
}

func TestQueueHoldsEachNameOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(newQueueMetrics(prometheus.NewRegistry()))
		defer q.work.ShutDown()
		for range 100 {
			q.changed("a", "b")
			q.look("a")
			q.settled("a", time.Second)
		}
		if n := q.work.Len(); n != 2 {
			t.Errorf("%d names", n)
		}
		for range 2 {
			name, _ := q.work.Get()
			q.work.Done(name)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := q.work.Len(); n != 1 {
			t.Errorf("100 requests for later gave %d names", n)
		}
	})
}

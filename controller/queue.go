package controller

import (
	"math/rand/v2"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// How long a stack whose pass failed waits for the next one: doubled with every
// failure in a row, and spread so that stacks that failed together do not come
// back together.
const (
	retryFirst  = time.Second
	retryMost   = time.Minute
	retrySpread = 0.2 // ± this share
)

// A queue holds the names of stacks that want a pass, each once however often it
// is added. A name that is being worked on is handed out again only when that
// work is done, so no two workers are ever on the same stack.
type queue struct {
	work workqueue.TypedRateLimitingInterface[string]
}

func newQueue(metrics workqueue.MetricsProvider) *queue {
	return &queue{workqueue.NewTypedRateLimitingQueueWithConfig(
		newSpreadBackoff(retryFirst, retryMost),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: "stacks", MetricsProvider: metrics},
	)}
}

// changed asks for a pass now: something is different for these stacks, so what
// failed before may succeed.
func (q *queue) changed(stacks ...string) {
	for _, s := range stacks {
		q.work.Forget(s)
		q.work.Add(s)
	}
}

// look asks for a pass now, except for stacks that wait out a failure: their own
// writes cause events too, which must not turn a backoff into a loop.
func (q *queue) look(stacks ...string) {
	for _, s := range stacks {
		if q.work.NumRequeues(s) == 0 {
			q.work.Add(s)
		}
	}
}

// resume asks for a pass now for stacks whose time had come and that were held up: a
// backoff that they were in goes on.
func (q *queue) resume(stacks ...string) {
	for _, s := range stacks {
		q.work.Add(s)
	}
}

// failed asks for a pass after the stack's backoff.
func (q *queue) failed(stack string) { q.work.AddRateLimited(stack) }

// settled ends the stack's backoff, and asks for a pass after d where d is not 0.
func (q *queue) settled(stack string, d time.Duration) {
	q.work.Forget(stack)
	if d > 0 {
		q.work.AddAfter(stack, d)
	}
}

// spreadBackoff is an exponential backoff per item with jitter.
type spreadBackoff struct {
	workqueue.TypedRateLimiter[string]
}

func newSpreadBackoff(first, most time.Duration) spreadBackoff {
	return spreadBackoff{workqueue.NewTypedItemExponentialFailureRateLimiter[string](first, most)}
}

func (b spreadBackoff) When(item string) time.Duration {
	return spread(b.TypedRateLimiter.When(item))
}

// spread is d, up to retrySpread longer or shorter.
func spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - retrySpread + 2*retrySpread*rand.Float64()))
}

// A backoff is the same for one thing, from one goroutine.
type backoff struct {
	first, most, next time.Duration
}

// wait is how long to wait after another failure.
func (b *backoff) wait() time.Duration {
	b.next = min(max(b.next*2, b.first), b.most)
	return spread(b.next)
}

// reset forgets the failures so far.
func (b *backoff) reset() { b.next = 0 }

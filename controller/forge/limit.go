package forge

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// What those may cost who have no secret. A request takes a token, of its address and of
// all, and gets it back where it was genuine: so forgeries use them up, and hooks do not,
// however many come. As many may be under way as the daemon takes connections.
const (
	burstEach = 32
	burstAll  = 128
	againEach = 3 * time.Second
	againAll  = 250 * time.Millisecond
	// addressesMost is how many addresses are counted apart.
	addressesMost = 1024
)

// A bucket holds tokens, of which one comes back every so often.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was right
}

func (b *bucket) refill(now time.Time, burst int, every time.Duration) {
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(float64(burst), b.tokens+float64(passed)/float64(every))
	}
	b.at = now
}

// wait is how long until there is a token; 0: there is one.
func (b *bucket) wait(every time.Duration) time.Duration {
	if b.tokens >= 1 {
		return 0
	}
	return time.Duration((1 - b.tokens) * float64(every))
}

// A limiter counts those who cannot prove who they are.
type limiter struct {
	mu   sync.Mutex
	all  bucket
	each map[netip.Prefix]*bucket
}

func newLimiter(now time.Time) *limiter {
	return &limiter{all: bucket{burstAll, now}, each: map[netip.Prefix]*bucket{}}
}

// take takes a token for a request from an address, or says how long to wait for one.
func (l *limiter) take(from string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.refill(now, burstAll, againAll)
	mine := l.of(from, now)
	if wait = max(l.all.wait(againAll), mine.wait(againEach)); wait > 0 {
		return wait
	}
	l.all.tokens--
	mine.tokens--
	return 0
}

// give gives it back.
func (l *limiter) give(from string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.tokens = min(burstAll, l.all.tokens+1)
	mine := l.of(from, now)
	mine.tokens = min(burstEach, mine.tokens+1)
}

// of is an address's bucket. Where there are too many, those that are full are let go,
// and else it is one that only the limit for all holds for.
func (l *limiter) of(from string, now time.Time) *bucket {
	at := network(from)
	b := l.each[at]
	if b == nil {
		b = &bucket{burstEach, now}
		if len(l.each) >= addressesMost {
			l.sweep(now)
		}
		if len(l.each) < addressesMost {
			l.each[at] = b
		}
	}
	b.refill(now, burstEach, againEach)
	return b
}

func (l *limiter) sweep(now time.Time) {
	for at, b := range l.each {
		if b.refill(now, burstEach, againEach); b.tokens >= burstEach {
			delete(l.each, at)
		}
	}
}

// network is what counts as one sender: an address, or of IPv6 the network that is given
// to one customer. What is no address is one sender too.
func network(from string) netip.Prefix {
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	addr, err := netip.ParseAddr(from)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

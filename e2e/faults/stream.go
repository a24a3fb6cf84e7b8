package faults

import (
	"context"
	"net/http"
	"sync"
)

// A stream is a stream of events that goes through the proxy.
type stream struct {
	cut  context.CancelFunc // closes it on skep's side
	lost context.CancelFunc // closes it on the engine's side
	mu   sync.Mutex
	mute bool
}

func (s *stream) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = true
}

func (s *stream) silenced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mute
}

// CutStreams closes the event streams that are open.
func (p *Proxy) CutStreams() { p.each(func(s *stream) { s.cut() }) }

// SilenceStreams swallows all events of the streams that are open, which stay open: what
// an engine does that has lost touch with its Swarm.
func (p *Proxy) SilenceStreams() { p.each((*stream).silence) }

// HalfOpenStreams closes the streams that are open on the engine's side only: what skep
// is left with when the other end's machine is gone.
func (p *Proxy) HalfOpenStreams() {
	p.each(func(s *stream) {
		s.silence()
		s.lost()
	})
}

// SilenceNewStreams does that to every stream that opens from now on, until Clear.
func (p *Proxy) SilenceNewStreams() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streamy = (*stream).silence
}

// Streams is how many event streams are open.
func (p *Proxy) Streams() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.streams)
}

func (p *Proxy) each(f func(*stream)) {
	p.mu.Lock()
	var open []*stream
	for s := range p.streams {
		open = append(open, s)
	}
	p.mu.Unlock()
	for _, s := range open {
		f(s)
	}
}

// follow passes events on as they come, until one side ends or a fault does.
func (p *Proxy) follow(ctx context.Context, w http.ResponseWriter, answer *http.Response) {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	engine, lost := context.WithCancel(ctx)
	defer lost()
	defer context.AfterFunc(engine, func() { _ = answer.Body.Close() })()
	s := &stream{cut: cut, lost: lost}
	p.open(s)
	defer p.gone(s)

	out := http.NewResponseController(w)
	copyHead(w, answer)
	_ = out.Flush()
	buffer := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(buffer)
		if n > 0 && !s.silenced() {
			_, _ = w.Write(buffer[:n])
			_ = out.Flush()
		}
		if err == nil {
			continue
		}
		if s.silenced() {
			<-ctx.Done() // nobody is there any more, and nobody says so
		}
		hangUp(w)
		return
	}
}

func (p *Proxy) open(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[s] = true
	if p.streamy != nil {
		p.streamy(s)
	}
}

func (p *Proxy) gone(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.streams, s)
}

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// held is a pass's result that only the controller knows of.
func held(reason, message string) reconcile.Result {
	r := result(reconcile.Held, false, reconcile.Stalled)
	r.Reason, r.Message = reason, message
	return r
}

func TestPublishesWhatTheSwarmCannotTell(t *testing.T) {
	f := newFakeNotes()
	inDaemon(t, func(w *world) {
		w.keepIn(f)
		w.snapshot = broken(snapshot(stack("a", "1"), stack("b", "1"), stack("c", "1"), stack("d", "1")), "a", "line 3: not a map")
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			switch in.Name {
			case "b":
				return held("IngressPortTaken", "stack x publishes port 80")
			case "c":
				return held("RolledBack", "release 3 failed")
			case "d":
				return held(reconcile.Orphaned, "its file is gone; 3 objects stay")
			}
			return good()
		}
	}, func(t *testing.T, w *world) {
		w.sleep(10 * time.Second)
		p := f.published(t)
		if p == nil || !p.Source.Ready || len(p.Stacks) != 3 || p.Stacks[2].Reason != reconcile.Orphaned || p.Stacks[0].Stack != "a" || p.Stacks[0].Reason != sourceInvalid ||
			len(p.Stacks[0].Findings) != 1 || p.Stacks[1].Reason != "IngressPortTaken" || p.Stacks[1].Release != -1 {
			t.Fatalf("%+v", p)
		}
		since := p.Stacks[0].Since
		if n := f.takeWrites(); n != 1 {
			t.Errorf("%d writes", n)
		}
		w.sleep(20 * time.Minute)
		if n := f.takeWrites(); n > 0 {
			t.Errorf("%d writes in a steady state", n)
		}
		w.put(&spec.Snapshot{Err: &spec.SourceError{Reason: spec.SourceMissing, Err: errors.New("it does not exist")}})
		w.sleep(10 * time.Second)
		p = f.published(t)
		if p.Source.Ready || p.Source.Reason != spec.SourceMissing || p.Source.Message == "" || p.Source.Since.IsZero() || len(p.Stacks) != 3 || !p.Stacks[0].Since.Equal(since) {
			t.Errorf("%+v", p)
		}
		w.with(func() { w.reconcile = func(context.Context, reconcile.Input) reconcile.Result { return good() } })
		w.files(stack("a", "2"), stack("b", "2"), stack("c", "1"), stack("d", "2"))
		w.sleep(10 * time.Second)
		if p := f.published(t); !p.Empty() {
			t.Errorf("mended, and %+v", p)
		}
	})
}

// Where nothing is the matter nothing is written, and another controller that finds the
// same as the one before it writes nothing either.
func TestPublishesNothingForNothing(t *testing.T) {
	f := newFakeNotes()
	inDaemon(t, func(w *world) { w.keepIn(f); w.snapshot = snapshot(stack("a", "1")) }, func(_ *testing.T, w *world) { w.sleep(10 * time.Minute) })
	if got := f.names(); len(got) > 0 {
		t.Fatalf("notes %v", got)
	}
	for i := range 2 {
		inDaemon(t, func(w *world) {
			w.keepIn(f)
			w.snapshot = broken(snapshot(stack("a", "1")), "b", "bad")
		}, func(_ *testing.T, w *world) { w.sleep(10 * time.Minute) })
		if n := f.takeWrites(); n != 1-i {
			t.Errorf("controller %d wrote %d times", i, n)
		}
	}
}

// However much happens, a write comes in 5 s at most; and where only words differ, in a
// minute.
func TestPublishesSeldom(t *testing.T) {
	for _, tt := range []struct {
		words bool
		most  int
	}{{false, 13}, {true, 3}} {
		f, i := newFakeNotes(), 0
		inDaemon(t, func(w *world) {
			w.keepIn(f)
			w.snapshot = snapshot(stack("a", "1"))
			w.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
				i++
				r := held("Drifted", fmt.Sprint("in another way ", i))
				if !tt.words {
					r.Reason = fmt.Sprint("Reason", i)
				}
				r.Requeue = 300 * time.Millisecond
				return r
			}
		}, func(t *testing.T, w *world) {
			w.sleep(time.Minute)
			if n := f.takeWrites(); n == 0 || n > tt.most {
				t.Errorf("%d writes in a minute", n)
			}
		})
	}
}

// An engine that refuses to keep it is told once, and asked again.
func TestPublishingThatFails(t *testing.T) {
	f := newFakeNotes()
	inDaemon(t, func(w *world) {
		w.keepIn(f)
		f.err = errors.New("403 forbidden")
		w.snapshot = broken(snapshot(stack("a", "1")), "b", "bad")
	}, func(t *testing.T, w *world) {
		w.sleep(5 * time.Minute)
		if n := w.logs.FilterMessage("report cannot be published").FilterLevelExact(1).Len(); n != 1 {
			t.Errorf("told %d times", n)
		}
		if f.reads > 40 {
			t.Errorf("asked %d times in 5 minutes", f.reads)
		}
		f.mu.Lock()
		f.err = nil
		f.mu.Unlock()
		w.sleep(time.Minute)
		if f.published(t) == nil {
			t.Error("it was not published when that was allowed")
		}
	})
}

// What pages read at the same time is not what the publisher works on: it cuts that to
// size, and writes into it when it was published.
func TestPublishingChangesNothingThatPagesRead(t *testing.T) {
	f := newFakeNotes()
	inDaemon(t, func(w *world) {
		w.keepIn(f)
		w.snapshot = broken(snapshot(stack("a", "1")), "a", "line 3: not a map")
	}, func(t *testing.T, w *world) {
		seen := map[*Published]bool{}
		for range 1000 {
			w.sleep(10 * time.Millisecond)
			if p := w.page.c.kept.told.Load(); p != nil {
				seen[p] = true
			}
		}
		if p := f.published(t); p == nil || p.At.IsZero() || len(seen) == 0 {
			t.Fatalf("published %+v, pages read %d", p, len(seen))
		}
		for p := range seen {
			if !p.At.IsZero() {
				t.Errorf("what pages read was written to: %s", p.At)
			}
		}
	})
}

// Whatever is the matter with however many stacks, the report fits, counts what it left
// out, and is read as it was written.
func TestPublishedFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, long := rapid.SampledFrom([]int{0, 1, 10, 100, 1000, 5000}).Draw(t, "stacks"), rapid.SampledFrom([]int{1, 100, maxPublishedWords}).Draw(t, "words")
		p := Published{Source: PublishedSource{Ready: rapid.Bool().Draw(t, "ready"), Message: strings.Repeat("ä", long)}}
		for i := range n {
			s := PublishedStack{Stack: fmt.Sprintf("stack%06d", i), Reason: "PortTaken", Message: strings.Repeat("<", long)}
			for range i % 6 {
				s.Findings = append(s.Findings, spec.Finding{File: "a.yml", Message: strings.Repeat("x", long)})
			}
			p.Stacks = append(p.Stacks, s)
		}
		whole := len(p.text()) <= maxPublished
		fitted := p.fitted()
		if len(fitted.text()) > maxPublished || len(fitted.Stacks)+fitted.Omitted != n || whole && fitted.Omitted > 0 {
			t.Fatalf("%d bytes, %d stacks and %d omitted of %d", len(fitted.text()), len(fitted.Stacks), fitted.Omitted, n)
		}
		if read := parsePublished(fitted.text()); read == nil || read.text() != fitted.text() {
			t.Fatal("it is read as something else")
		}
		if differs, _ := fitted.news(&fitted); differs {
			t.Fatal("it differs from itself")
		}
	})
}

func FuzzPublished(f *testing.F) {
	good, err := json.Marshal(Published{Source: PublishedSource{Reason: "SourceMissing"}, Stacks: []PublishedStack{{Stack: "a"}}})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"", "null", "[]", "{", string(good), `{"stacks":[{"release":"x"}]}`, `{"prune":{"names":null}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p := parsePublished(text); p != nil {
			_, _ = Published{}.after(p).news(p)
			if len(p.fitted().text()) > maxPublished && len(p.Source.Message) < 1000 && p.Prune == nil && p.Policy == nil && len(p.Lost) == 0 {
				t.Error("it does not fit")
			}
		}
	})
}

// What is the matter with a source began when that was told of this source first.
func TestSourcesArePublishedSince(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0).UTC() }
	was := Published{Sources: []PublishedSource{{Name: "infra", Reason: "SourceMissing", Since: at(1)}, {Name: "shops", Reason: "SourceEmpty", Since: at(2)}}}
	now := Published{Sources: []PublishedSource{{Name: "shops", Reason: "SourceMissing", Since: at(9)}, {Name: "infra", Reason: "SourceMissing", Since: at(9)}}}
	got := now.after(&was)
	if !got.Sources[0].Since.Equal(at(9)) || !got.Sources[1].Since.Equal(at(1)) || !now.Sources[1].Since.Equal(at(9)) {
		t.Errorf("%+v", got.Sources)
	}
	if differs, wordsOnly := got.news(&was); !differs || wordsOnly {
		t.Errorf("news: %t, of words only %t", differs, wordsOnly)
	}
}

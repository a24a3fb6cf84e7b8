package controller

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

// TestFoldNeverLosesAStack scans a directory in every state it can be in, at any
// pace: whatever happens, a stack is given up only after complete scans have missed
// it for vanishAfter without a break, and a problem of its own never changes what
// is in force.
func TestFoldNeverLosesAStack(t *testing.T) {
	names := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		var d desired
		missed := map[string]time.Time{} // since when, without a break
		for range rapid.IntRange(1, 30).Draw(t, "scans") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "s")) * time.Second)
			scan := drawScan(t, names)
			live := rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(t, "live")
			before := d
			var changed []string
			d, changed = before.fold(scan, live, now)

			if !scan.Complete {
				if !maps.Equal(d.stacks, before.stacks) || !maps.Equal(d.gone, before.gone) || len(changed) > 0 {
					t.Fatal("an incomplete scan changed something")
				}
				continue
			}
			for _, name := range names {
				if scan.Gone(name) {
					if _, ok := missed[name]; !ok {
						missed[name] = now
					}
				} else {
					delete(missed, name)
				}
				since, missing := missed[name]
				if d.gone[name] && (!missing || now.Sub(since) < VanishAfter) {
					t.Fatalf("%s was given up too early", name)
				}
				if d.gone[name] && d.stacks[name] != nil {
					t.Fatalf("%s is both gone and in force", name)
				}
				if before.stacks[name] != nil && d.stacks[name] == nil && !d.gone[name] {
					t.Fatalf("%s was forgotten", name)
				}
				if scan.Problems[name] != nil && d.stacks[name] != before.stacks[name] {
					t.Fatalf("a problem of %s changed what is in force", name)
				}
				if s := scan.Stacks[name]; s != nil && !reflect.DeepEqual(d.stacks[name], s) {
					t.Fatalf("%s is not as the scan has it", name)
				}
				differs := fingerprint(d.stacks[name]) != fingerprint(before.stacks[name]) || d.gone[name] != before.gone[name]
				if differs && !slices.Contains(changed, name) {
					t.Fatalf("nobody is told that %s changed", name)
				}
			}
			if len(d.missing) > 0 && d.again(now) <= 0 {
				t.Fatal("no scan is due that could tell what is missing to be gone")
			}
		}
	})
}

func drawScan(t *rapid.T, names []string) *spec.Snapshot {
	if rapid.IntRange(0, 4).Draw(t, "unreadable") == 0 {
		return &spec.Snapshot{Err: errors.New("unreadable")}
	}
	s := snapshot()
	for _, name := range names {
		switch state := rapid.SampledFrom([]string{"1", "2", "broken", "absent", "absent"}).Draw(t, name); state {
		case "absent":
		case "broken":
			broken(s, name, "bad")
		default:
			s.Stacks[name] = stack(name, state)
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "nameless") == 0 {
		s.Nameless = []string{"x.yml"}
	}
	return s
}

func TestFoldOfTheSameScanChangesNothing(t *testing.T) {
	var d desired
	now := time.Unix(0, 0)
	d, changed := d.fold(broken(snapshot(stack("a", "1")), "b", "bad"), []string{"a", "b"}, now)
	equal(t, "first", changed, []string{"a", "b"})
	_, changed = d.fold(broken(snapshot(stack("a", "1")), "b", "bad"), []string{"a", "b"}, now)
	equal(t, "again", changed, nil)
}

func TestIncompleteScanWithoutAReasonHasOne(t *testing.T) {
	d, _ := desired{}.fold(&spec.Snapshot{}, nil, time.Unix(0, 0))
	if d.err == nil {
		t.Error("it counts as ready")
	}
}

// A stack that was read again as it was stays the same object, so that a pass over
// it sees at a glance that there is nothing new.
func TestFoldKeepsTheSameStack(t *testing.T) {
	now := time.Unix(0, 0)
	first := snapshot(stack("a", "1"), stack("b", "1"))
	d, _ := desired{}.fold(first, nil, now)
	next, _ := d.fold(snapshot(stack("a", "1"), stack("b", "2")), nil, now)
	if next.stacks["a"] != first.Stacks["a"] || next.stacks["b"] == first.Stacks["b"] {
		t.Errorf("a is the same: %v, b is the same: %v", next.stacks["a"] == first.Stacks["a"], next.stacks["b"] == first.Stacks["b"])
	}
	commit := snapshot(stack("a", "1"))
	commit.Stacks["a"].Source.Commit = &spec.Commit{Hash: "1"}
	if next, _ = d.fold(commit, nil, now); next.stacks["a"] == first.Stacks["a"] {
		t.Error("it is of another commit, which has to be seen")
	}
}

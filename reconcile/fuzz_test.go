package reconcile

import (
	"bytes"
	"compress/gzip"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// FuzzRemembered puts whatever there is in the place of what skep keeps of a stack: the
// data and the labels of a release's record, and the labels of a state. What cannot be
// understood counts for nothing: passes come to an end, no other stack is written to, and
// nothing of the stack is changed, removed or taken back for it.
func FuzzRemembered(f *testing.F) {
	web := `{"key":"web","name":"shop_web","spec":{"Name":"shop_web","TaskTemplate":{"ContainerSpec":{"Image":"app:9"}}}}`
	for _, data := range []string{
		"", "null", "{}", `{"format":2}`, `{"format":1}`, `{"format":1,"desired":{"stack":"blog"}}`,
		`{"format":1,"desired":{"stack":"shop"}}`,
		`{"format":1,"desired":{"stack":"shop","services":[` + web + `]},"pins":[{"service":"shop_web"}],"changed":{"shop_web":"-"}}`,
		`{"format":1,"desired":{"stack":"shop","services":[{"name":"shop_web","spec":{"Name":"shop_web","TaskTemplate":{"PluginSpec":{}},"Mode":{"ReplicatedJob":{}}}}]}}`,
		`{"format":1,"desired":{"stack":"shop","services":[{"name":"blog_web","spec":{"Name":"blog_web"}}]},"left":[{"Kind":"service","Name":"blog_web"}]}`,
		`{"format":1,"desired":{"stack":"shop","services":[` + web + `,` + web + `],"networks":[{}],"configs":[{"name":"x","plain":"x"}],"secrets":[{"name":"x","plain":"x"}]},"deadline":-1,"bake":-1}`,
	} {
		f.Add([]byte(data), "")
		f.Add([]byte(data), "skep.phase=Failed")
	}
	for _, labels := range []string{
		"skep.phase=", "skep.phase=Good", "skep.release=x", "skep.release=-1", "skep.release=9223372036854775807", "skep.release=1", "skep.stack=blog", "skep.digest=",
		"skep.owner=other", "skep.kind=state", "skep.corrected=a@b,@,c@\nskep.corrected-at=never", "skep.started=0000\nskep.ended=9999-01-01T00:00:00Z", "skep.by=hand\nskep.of=-5",
		"skep.reverts=,,\nskep.failed=,", "skep.suspended=x\nskep.pin=0\nskep.pinned=x\nskep.prune-plan=1\nskep.prune-of=-1\nskep.stale=99999999999999999999",
	} {
		f.Add([]byte("damaged"), labels)
	}
	f.Fuzz(func(t *testing.T, data []byte, lines string) {
		labels := map[string]string{}
		for line := range strings.SplitSeq(lines, "\n") {
			if key, value, ok := strings.Cut(line, "="); ok {
				labels[key] = value
			}
		}
		checkState(t, labels)
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(data)
		_ = z.Close()
		_, _ = unpack(data, "shop")
		// Of all that cannot be read it is the same: the labels alone count.
		if _, err := unpack(packed.Bytes(), "shop"); err == nil || len(labels) > 0 {
			checkDamage(t, packed.Bytes(), labels)
		}
	})
}

// checkState says that a state is read as it was written, and that no damage sets a
// suspended stack free.
func checkState(t *testing.T, labels map[string]string) {
	t.Helper()
	written := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := parseState(labels, written)
	if again := parseState(s.labels(labels, "skep", "shop"), written); !again.equal(s) && !s.odd() {
		t.Errorf("%+v is read as %+v", s, again)
	}
	if _, asked := labels[labelSuspended]; asked && !s.IsSuspended() {
		t.Error("a suspended stack is set free")
	}
}

// odd says that a state has what a label does not keep as it is: a long sentence, or a
// year that no time in a label can have.
func (s State) odd() bool {
	return len(s.Why) > maxMessage || slices.ContainsFunc([]time.Time{s.Suspended, s.Pinned, s.PardonedAt, s.PruneSince}, func(at time.Time) bool {
		return at.UTC().Year() < 1 || at.UTC().Year() > 9999
	})
}

// checkDamage has passes made over a stack one of whose records says something else.
func checkDamage(t *testing.T, data []byte, labels map[string]string) {
	t.Helper()
	w := damagedWorld(t)
	var at string
	for id, c := range w.engine.configs {
		if c.Spec.Name == "skep-release-shop-2" {
			at, c.Spec.Data, c.Spec.Labels = id, data, maps.Clone(c.Spec.Labels)
			maps.Copy(c.Spec.Labels, labels)
			w.engine.configs[id] = c
		}
	}
	record := w.engine.configs[at]
	r := parseRelease(&record)
	w.restart()
	w.engine.takeWrites()
	// What a record that can be read says is to be believed.
	understood := r != nil && isRecord(&record) && (!r.damaged || slices.Contains([]Phase{PhaseProgressing, PhaseFailed, PhaseSuperseded}, r.Phase))
	touched := w.afterDamage(t)
	if len(touched) > 0 && !understood {
		t.Fatalf("a record that cannot be understood had skep write %v", touched)
	}
	w.stack = one("app:3-bad")
	w.afterDamage(t)
	if strings.Contains(w.images(), "bad") && !understood {
		t.Fatalf("a bad version is left running: %s", w.images())
	}
	h, err := w.r.History(context.Background(), "shop")
	if err == nil {
		_, _ = w.r.Status(context.Background(), "shop")
		for _, e := range h.Releases {
			_, _ = w.r.Compare(context.Background(), "shop", e.Number)
		}
	}
}

// damagedWorld has a stack with two healthy releases, and another stack beside it.
func damagedWorld(t *testing.T) *world {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.settle()
	shop := w.stack
	w.stack = makeStack("blog", service("blog", "web", "blog:1"))
	w.settle()
	w.stack = shop
	return w
}

// afterDamage makes passes until nothing is written any more, sees that the other stack
// is left alone, and returns what was written into services.
func (w *world) afterDamage(t *testing.T) (touched []string) {
	t.Helper()
	quiet := 0
	for range 200 {
		w.r.Reconcile(context.Background(), Input{Name: w.stack.Name, Stack: w.stack})
		w.engine.advance(time.Minute)
		w.engine.turn()
		writes := w.engine.takeWrites()
		for _, write := range writes {
			switch {
			case strings.Contains(write, "blog"), !strings.Contains(w.images(), "blog_web=blog:1"):
				t.Fatalf("another stack was written to: %s", write)
			case !strings.Contains(write, " config skep-"):
				touched = append(touched, write)
			}
		}
		if quiet++; len(writes) > 0 {
			quiet = 0
		}
		if quiet > 12 { // longer than any deadline of the stack's
			return touched
		}
	}
	t.Fatalf("passes do not come to an end; %v", touched)
	return nil
}

// What cannot be read of a release is told for as long as the release is remembered, by
// passes and by status, and of every one.
func TestDamagedRecordIsTold(t *testing.T) {
	w := damagedWorld(t)
	for id, c := range w.engine.configs {
		if strings.HasPrefix(c.Spec.Name, "skep-release-shop-") {
			c.Spec.Data = []byte("junk")
			w.engine.configs[id] = c
		}
	}
	w.restart()
	settled := w.settle()
	status, err := w.r.Status(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range [][]spec.Finding{settled.Findings, status.Findings} {
		n := 0
		for _, f := range found {
			if f.Code == "record-damaged" && f.Severity == spec.Warning {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d records are told of: %v", n, found)
		}
	}
}

// Nothing but a record of a release is one, whatever its labels say: a number that cannot
// be counted on from, and a config with another name, are passed over.
func TestWhatIsNoRecord(t *testing.T) {
	labels := func(number string) map[string]string {
		return map[string]string{labelKind: KindRelease, labelStack: "shop", labelRelease: number, labelPhase: string(PhaseHealthy), LabelOwner: "skep"}
	}
	for name, l := range map[string]map[string]string{
		"skep-release-shop-9223372036854775807": labels("9223372036854775807"),
		"shop_mine":                             labels("7"),
		"skep-release-blog-7":                   labels("7"),
		"skep-release-shop-07":                  labels("07"),
	} {
		w := newWorld(t, one("app:1"))
		w.settle()
		if _, err := w.engine.ConfigCreate(t.Context(), swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name, Labels: l}}); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.stack = one("app:2")
		if w.settle(); w.phases() != "1:Healthy 2:Healthy" {
			t.Errorf("with config %s: releases %s", name, w.phases())
		}
	}
}

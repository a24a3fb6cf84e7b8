package controller

import (
	"errors"
	"maps"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// Each finding is told once a revision of the stack's files, at its severity's level,
// however its words change with the Swarm; and again when the files change.
func TestFindingsAreToldOnceARevision(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	r := newReport(zap.New(core))
	stack := func(fingerprint string) *spec.Stack {
		return &spec.Stack{Name: "shop", Source: spec.Source{Fingerprint: fingerprint}, Findings: []spec.Finding{
			{File: "shop.yml", Line: 3, Severity: spec.Warning, Code: "image-untagged", Message: "no tag"},
			{File: "shop.yml", Line: 9, Severity: spec.Info, Code: "unused", Message: "nobody uses it"},
		}}
	}
	missing := func(nodes string) reconcile.Result {
		return reconcile.Result{Stack: "shop", Outcome: reconcile.Waiting, Findings: []spec.Finding{
			{File: "shop.yml", Severity: spec.Warning, Code: "bind-missing-on-nodes", Service: "web", Message: "/srv on " + nodes},
		}}
	}
	pass := func(s *spec.Stack, nodes string) []string {
		r.pass(reconcile.Input{Name: "shop", Stack: s}, missing(nodes), time.Second)
		var told []string
		for _, e := range logs.TakeAll() {
			if e.Message == "finding" {
				told = append(told, e.Level.String()+" "+e.ContextMap()["reason"].(string))
			}
		}
		return told
	}
	for i, tt := range []struct {
		fingerprint, nodes string
		want               int
	}{{"1", "n1", 2}, {"1", "n1", 0}, {"1", "n1, n2", 0}, {"2", "n2", 2}, {"2", "n2", 0}} {
		if told := pass(stack(tt.fingerprint), tt.nodes); len(told) != tt.want {
			t.Errorf("pass %d told %v, want %d", i, told, tt.want)
		}
	}
}

// What is found of the directory itself is told when it comes, once, and again when it
// comes again; a scan that was not complete says nothing of it.
func TestFindingsOfTheDirectoryAreToldOnce(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	r := newReport(zap.New(core))
	bare := []spec.Finding{{File: "blog", Severity: spec.Warning, Code: "no-compose-file", Message: "no compose file"}}
	d := desired{}
	for i, tt := range []struct {
		findings []spec.Finding
		complete bool
		want     int
	}{{bare, true, 1}, {bare, true, 0}, {nil, false, 0}, {bare, true, 0}, {nil, true, 0}, {bare, true, 1}} {
		next, _ := d.fold(&spec.Snapshot{Findings: tt.findings, Complete: tt.complete, Err: errors.New("unreadable")}, nil, time.Now())
		r.source(d, next, nil)
		told := logs.FilterMessage("finding").Len()
		logs.TakeAll()
		if told != tt.want {
			t.Errorf("scan %d told %d findings, want %d", i, told, tt.want)
		}
		d = next
	}
}

// Of a file that does not load each finding is told at its own severity's level: only
// what keeps it from loading is an error.
func TestFindingsOfABrokenFileHaveTheirLevels(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	r := newReport(zap.New(core))
	d, _ := desired{}.fold(&spec.Snapshot{Complete: true, Problems: map[string][]spec.Finding{"shop": {
		{File: "shop.yml", Line: 1, Severity: spec.Warning, Code: "image-untagged", Message: "no tag"},
		{File: "shop.yml", Line: 2, Severity: spec.Error, Code: "invalid-port", Message: "no port"},
		{File: "shop.yml", Line: 3, Severity: spec.Info, Code: "unused", Message: "nobody uses it"},
	}}}, nil, time.Now())
	for scan, want := range []map[string]zapcore.Level{{"image-untagged": zapcore.WarnLevel, "invalid-port": zapcore.ErrorLevel, "unused": zapcore.DebugLevel}, {}} {
		r.source(desired{}, d, nil)
		told := map[string]zapcore.Level{}
		for _, e := range logs.TakeAll() {
			told[e.ContextMap()["reason"].(string)] = e.Level
			if e.ContextMap()["stack"] != "shop" {
				t.Errorf("%s names no stack", e.Message)
			}
		}
		if !maps.Equal(told, want) {
			t.Errorf("scan %d told %v, want %v", scan, told, want)
		}
	}
}

// What is logged of a pass has the revision of what it is about: of a release by hand that
// is not the file's, and a stack whose file is gone has the one that it had.
func TestRevisionIsThatOfWhatAPassIsAbout(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	r := newReport(zap.New(core))
	stack := &spec.Stack{Name: "shop", Source: spec.Source{Fingerprint: "1", Revision: "of-the-file"}}
	happened := func(res reconcile.Result) reconcile.Result {
		res.Stack, res.Transitions = "shop", []reconcile.Transition{{Action: "rollout-started"}}
		return res
	}
	for _, tt := range []struct {
		name   string
		stack  *spec.Stack
		result reconcile.Result
		want   any
	}{
		{"by file", stack, reconcile.Result{Release: &reconcile.Release{Number: 2, Revision: "of-the-release", By: reconcile.ByFile}}, "of-the-file"},
		{"by hand", stack, reconcile.Result{Release: &reconcile.Release{Number: 3, Revision: "of-release-1", By: reconcile.ByHand, Of: 1}}, "of-release-1"},
		{"its file is gone", nil, reconcile.Result{Gone: &reconcile.Release{Number: 2, Revision: "of-the-release"}}, "of-the-release"},
		{"it was never released", nil, reconcile.Result{}, nil},
	} {
		r.pass(reconcile.Input{Name: "shop", Stack: tt.stack}, happened(tt.result), time.Second)
		for _, e := range logs.TakeAll() {
			if got := e.ContextMap()["revision"]; got != tt.want {
				t.Errorf("%s: %s: revision %v, want %v", tt.name, e.Message, got, tt.want)
			}
		}
	}
	before := desired{stacks: map[string]*spec.Stack{"shop": stack}}
	r.source(before, desired{revision: "without-the-file", gone: map[string]bool{"shop": true}}, []string{"shop"})
	if all := logs.TakeAll(); len(all) != 1 || all[0].ContextMap()["revision"] != "of-the-file" {
		t.Errorf("%+v", all)
	}
}

package controller

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A report tells the log what became different, once. The same thing again is told
// at debug level, so that a steady state, a good or a bad one, is silent.
type report struct {
	log *zap.Logger

	mu     sync.Mutex
	engine string // why the engine is away, as told; empty while it is not
	stream string
	specs  map[string]string // by source: why it is not ready, as told
	broken string            // why the policy file cannot be read
	kept   string            // why nothing can be kept in the Swarm
	told   map[string]told   // by stack
	unused []spec.Finding    // rules of the policy that are for no stack, as told
	// findings are those about the directory itself, which hold and were told.
	findings []spec.Finding
}

// told is what was said about a stack and still holds.
type told struct {
	problem  string // why its file does not load
	failure  string // why its passes fail
	waiting  bool   // for another stack
	of       string // the fingerprint that findings are about
	findings []spec.Finding
}

func newReport(log *zap.Logger) *report {
	return &report{log: log, told: map[string]told{}, specs: map[string]string{}}
}

// again keeps *said up to date and says how loudly text is to be told: level where
// it is new, debug where it was said before.
func again(said *string, text string, level zapcore.Level) zapcore.Level {
	if *said == text {
		return zapcore.DebugLevel
	}
	*said = text
	return level
}

func (r *report) engineDown(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Log(again(&r.engine, err.Error(), zapcore.ErrorLevel), "engine is away, nothing is reconciled", zap.Error(err))
}

func (r *report) engineUp(outage time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engine = ""
	r.log.Info("engine is back", zap.Duration("duration", outage))
}

func (r *report) streamLost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	level := again(&r.stream, err.Error(), zapcore.WarnLevel)
	if r.engine != "" {
		level = zapcore.DebugLevel // that was told already
	}
	r.log.Log(level, "event stream lost, drift is seen at resync only until it is back", zap.Error(err))
}

func (r *report) streamOpen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	level := zapcore.DebugLevel
	if r.stream != "" {
		level, r.stream = zapcore.InfoLevel, ""
	}
	r.log.Log(level, "event stream is open")
}

// notKept tells that what was found cannot be published; nil: it can.
func (r *report) notKept(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.kept = ""
		return
	}
	r.log.Log(again(&r.kept, err.Error(), zapcore.WarnLevel), "report cannot be published", zap.Error(err))
}

// pruneWaits tells that stacks are not removed before somebody confirms it.
func (r *report) pruneWaits(b *reconcile.Blockade) {
	r.log.Warn("removal waits for a person", zap.String("reason", reconcile.PruneBlocked), zap.String("detail", b.Why()))
}

// looksAgain tells why a run takes its time.
func (r *report) looksAgain(stacks []string, after time.Duration) {
	r.log.Info("stacks have no file, the directory is read again before they are removed",
		zap.String("detail", strings.Join(stacks, ", ")), zap.Duration("duration", after))
}

func (r *report) pruneConfirmed(id string, stacks []string) {
	r.log.Info("removal is confirmed", zap.String("action", "prune-confirmed"), zap.String("detail", id+": "+strings.Join(stacks, ", ")))
}

func (r *report) pruneEnds(id string) {
	r.log.Info("confirmation has come to its end", zap.String("action", "prune-ended"), zap.String("detail", id))
}

// source tells what a scan changed.
func (r *report) source(before, next desired, changed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readable(next)
	for _, name := range changed {
		r.stackChanged(name, before, next)
	}
	for name, findings := range next.problems {
		r.problem(name, findings)
	}
	for name, t := range r.told {
		if next.problems[name] == nil && t.problem != "" {
			t.problem = ""
			r.told[name] = t
			r.log.Info("stack's file has no error any more", zap.String("stack", name))
		}
	}
}

func (r *report) readable(next desired) {
	for _, s := range next.sources {
		r.sourceStands(s, len(next.sources) > 1)
	}
	for _, f := range next.findings {
		if !slices.Contains(r.findings, f) {
			tellFinding(r.log, f)
		}
	}
	r.findings = next.findings
}

// sourceStands tells of a source that is not ready, and when it is again. Why one may be
// old has an age in it, and is told by its reason, once.
func (r *report) sourceStands(s standing, named bool) {
	log, said := r.log, r.specs[s.name]
	if named {
		log = log.With(zap.String("source", s.name))
	}
	switch {
	case s.err != nil && s.kept:
		log.Log(again(&said, spec.SourceReason(s.err), zapcore.ErrorLevel), "source is not up to date, what was read last stays in force",
			zap.String("reason", spec.SourceReason(s.err)), zap.Error(s.err))
	case s.err != nil:
		log.Log(again(&said, s.err.Error(), zapcore.ErrorLevel), "specs cannot be read, what was read last stays in force", zap.Error(s.err))
	case said != "":
		said = ""
		log.Info("specs can be read again", zap.String("revision", s.revision))
	}
	r.specs[s.name] = said
}

// rules tells of rules of the policy that are for no stack, once for as long as they are.
func (r *report) rules(unused []spec.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range unused {
		if !slices.Contains(r.unused, f) {
			tellFinding(r.log, f)
		}
	}
	r.unused = unused
}

func (r *report) stackChanged(name string, before, next desired) {
	log := r.log.With(zap.String("stack", name))
	switch was := before.stacks[name]; {
	case next.stacks[name] != nil:
		log = log.With(zap.String("revision", next.stacks[name].Source.Revision))
	case was != nil: // the directory's is not that of a stack which left it
		log = log.With(zap.String("revision", was.Source.Revision))
	}
	switch {
	case next.gone[name] && !before.gone[name]:
		log.Info("stack's file is gone")
	case next.stacks[name] == nil:
	case before.stacks[name] == nil:
		log.Info("stack's file is new")
	case fingerprint(before.stacks[name]) != fingerprint(next.stacks[name]):
		log.Info("stack's file changed")
	}
}

func (r *report) problem(name string, findings []spec.Finding) {
	t := r.told[name]
	level := again(&t.problem, firstError(findings), zapcore.ErrorLevel)
	r.told[name] = t
	if level == zapcore.DebugLevel {
		return
	}
	log := r.log.With(zap.String("stack", name))
	for _, f := range findings {
		if f.Severity == spec.Error {
			log.Log(level, "stack's file does not load, the stack stays as it is", zap.String("reason", f.Code), zap.String("detail", f.String()))
			continue
		}
		tellFinding(log, f) // of the same file, and no reason why it does not load
	}
}

// pass tells what a pass found and did.
func (r *report) pass(in reconcile.Input, result reconcile.Result, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.told[in.Name]
	log := r.log.With(fields(in, result)...)
	for _, tr := range result.Transitions {
		transition(log, tr)
	}
	t.failed(log, result)
	t.waits(log, in.Blocked, result)
	t.found(log, in.Stack, result.Findings)
	r.told[in.Name] = t
	log.Debug("pass", zap.String("result", string(result.Outcome)), zap.String("reason", result.Reason), zap.String("detail", result.Message), zap.Duration("duration", took))
}

func fields(in reconcile.Input, result reconcile.Result) []zap.Field {
	fields := []zap.Field{zap.String("stack", in.Name)}
	switch { // a release by hand is not of the file's revision
	case result.Gone != nil:
		fields = append(fields, zap.String("revision", result.Gone.Revision))
	case result.Release != nil && result.Release.By == reconcile.ByHand:
		fields = append(fields, zap.String("revision", result.Release.Revision))
	case in.Stack != nil:
		fields = append(fields, zap.String("revision", in.Stack.Source.Revision))
	}
	if result.Release != nil {
		fields = append(fields, zap.Int("release", result.Release.Number))
	}
	return fields
}

// failed tells a failure when it is a new one, and its end.
func (t *told) failed(log *zap.Logger, result reconcile.Result) {
	if result.Outcome != reconcile.Failed {
		if t.failure != "" {
			t.failure = ""
			log.Info("passes succeed again")
		}
		return
	}
	err := result.Err
	if err == nil {
		err = errors.New(sentence(result))
	}
	level := again(&t.failure, err.Error(), zapcore.ErrorLevel)
	extra := []zap.Field{zap.String("reason", result.Reason), zap.Error(err)}
	if p, ok := errors.AsType[*panicError](err); ok && level == zapcore.ErrorLevel {
		extra = append(extra, zap.ByteString("stacktrace", p.trace))
	}
	log.Log(level, "pass failed, it is repeated with growing pauses", extra...)
}

// waits tells that a stack waits for another, once for as long as it does.
func (t *told) waits(log *zap.Logger, blocked string, result reconcile.Result) {
	if blocked == "" || result.Outcome != reconcile.Waiting {
		t.waiting = false
		return
	}
	if !t.waiting {
		t.waiting = true
		log.Info("stack waits for another", zap.String("reason", result.Reason), zap.String("detail", blocked))
	}
}

// found tells each finding once for each version of the stack's files.
func (t *told) found(log *zap.Logger, stack *spec.Stack, more []spec.Finding) {
	if of := fingerprint(stack); of != t.of {
		t.of, t.findings = of, nil
	}
	findings := more
	if stack != nil {
		findings = slices.Concat(stack.Findings, more)
	}
	for _, f := range findings {
		if slices.ContainsFunc(t.findings, func(said spec.Finding) bool { return reconcile.SameFinding(said, f) }) {
			continue
		}
		t.findings = append(t.findings, f)
		tellFinding(log, f)
	}
}

func tellFinding(log *zap.Logger, f spec.Finding) {
	fields := []zap.Field{zap.String("reason", f.Code), zap.String("detail", f.String())}
	if f.Service != "" {
		fields = append(fields, zap.String("service", f.Service))
	}
	log.Log(severityLevel(f.Severity), "finding", fields...)
}

func severityLevel(s spec.Severity) zapcore.Level {
	switch s {
	case spec.Error:
		return zapcore.ErrorLevel
	case spec.Warning:
		return zapcore.WarnLevel
	}
	return zapcore.DebugLevel
}

// transition tells what happened in a pass: info where it is good; where a person
// should look, error for a rollout that failed and else warn.
func transition(log *zap.Logger, t reconcile.Transition) {
	level := zapcore.InfoLevel
	if t.Bad {
		level = zapcore.WarnLevel
		if t.Action == "rollout-failed" {
			level = zapcore.ErrorLevel
		}
	}
	fields := []zap.Field{zap.String("action", t.Action), zap.String("reason", t.Reason), zap.String("detail", t.Message)}
	if t.Service != "" {
		fields = append(fields, zap.String("service", t.Service))
	}
	if t.Duration > 0 {
		fields = append(fields, zap.Duration("duration", t.Duration))
	}
	log.Log(level, "stack changed", fields...)
}

// forget drops what was said about a stack that is no more.
func (r *report) forget(stack string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.told, stack)
}

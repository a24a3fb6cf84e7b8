package spec

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// readSafely is read, where a panic is a problem of the stack that it was about: one
// file that skep cannot cope with must not take the others down with it.
func (s *Scanner) readSafely(ctx context.Context, at site) (r reading) {
	if p := caught(func() { r = s.read(ctx, at) }); p != "" {
		r = s.unread(ctx, at, p)
	}
	return r
}

// unread is the reading of a site that made skep panic. Should even looking for its
// stack's name do so, the name is the one it had, or any.
func (s *Scanner) unread(ctx context.Context, at site, why string) reading {
	findings := []Finding{{File: at.at(), Severity: Error, Code: "internal", Message: why}}
	old := s.memo[at.key]
	var r reading
	if caught(func() { r = broken(at, old, s.imprints(ctx, at, at.files), findings) }) == "" {
		return r
	}
	r = reading{site: at, findings: findings, unsure: true, names: []string{at.name}, memo: memo{name: old.name}}
	if old.name != "" && old.name != at.name {
		r.names = append(r.names, old.name)
	}
	return r
}

// caught runs f. It returns "" or, of a panic in f, a sentence that says where it was.
func caught(f func()) (why string) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		why = fmt.Sprintf("skep failed, in %s: %s (this is a bug in skep: please report it with the file)", whereFrom(), panicked(v))
	}()
	f()
	return ""
}

// panicked is what was panicked with, told only where that is the runtime's: else there
// may be a value of a file in it.
func panicked(v any) string {
	if err, ok := v.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a %T", v)
}

// whereFrom is the place that panicked: the first of the stack below the runtime.
func whereFrom() string {
	pcs := make([]uintptr, 40)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for panicked := false; ; {
		frame, more := frames.Next()
		switch {
		case strings.HasPrefix(frame.Function, "runtime."):
			panicked = true
		case panicked:
			return fmt.Sprintf("%s (%s:%d)", frame.Function[strings.LastIndex(frame.Function, "/")+1:], filepath.Base(frame.File), frame.Line)
		}
		if !more {
			return "a place unknown"
		}
	}
}

package controller

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/spec"
)

// policyEvery is how often the policy file is looked at. It is read whole: it is small,
// and one that is put in another's place in a step further up tells no watch. What is
// found twice in a row counts: a policy that is just being written may lack the rules
// at its end, which deny.
const policyEvery = time.Second

// maxPolicy is how much of the file is read; package spec refuses less than that.
const maxPolicy = 1 << 20

// A policyFile keeps the policy that is in force: the newest that could be read. While
// the file cannot be, the last good one stays: nothing is allowed because a file broke.
type policyFile struct {
	file    string
	text    []byte // that the policy in force was made of; look alone uses it
	found   []byte // the text that the last look found
	wrong   error  // what was wrong with the file when it was told last
	current atomic.Pointer[spec.ClusterPolicy]
	broken  atomic.Pointer[policyProblem] // nil: what the file says is in force
}

// A policyProblem is why what a policy file says is not in force.
type policyProblem struct {
	err   error
	since time.Time
}

// openPolicy reads a policy for the first time, when a broken one is an error; nil for
// no file.
func openPolicy(file string) (*policyFile, error) {
	if file == "" {
		return nil, nil
	}
	p := &policyFile{file: file}
	if _, err := p.look(); err != nil {
		return nil, err
	}
	return p, nil
}

// policy is the one in force, nil where there is none.
func (p *policyFile) policy() *spec.ClusterPolicy {
	if p == nil {
		return nil
	}
	return p.current.Load()
}

// problem is why the file's policy is not the one in force; nil: it is, or there is none.
func (p *policyFile) problem() *policyProblem {
	if p == nil {
		return nil
	}
	return p.broken.Load()
}

// see looks at the file, and keeps why it could not be read since when. News says that
// this is something else than before.
func (p *policyFile) see(now time.Time) (changed, news bool, err error) {
	changed, err = p.look()
	was := p.broken.Load()
	switch {
	case err == nil:
		p.broken.Store(nil)
		return changed, was != nil, nil
	case was == nil:
		p.broken.Store(&policyProblem{err, now})
	default:
		p.broken.Store(&policyProblem{err, was.since})
	}
	return false, was == nil || was.err.Error() != err.Error(), err
}

// look reads the file, and says whether another policy is in force than before.
func (p *policyFile) look() (changed bool, err error) {
	defer func() { p.wrong = err }()
	text, err := readBounded(p.file, maxPolicy)
	if err != nil {
		p.found = nil
		return false, fmt.Errorf("read policy: %w", err)
	}
	again := bytes.Equal(text, p.found) && p.found != nil
	p.found = text
	switch inForce := p.current.Load() != nil; {
	case inForce && bytes.Equal(text, p.text):
		return false, nil
	case inForce && !again:
		return false, p.wrong
	}
	next, err := spec.ParseClusterPolicy(p.file, text)
	if err != nil {
		return false, err
	}
	p.text = text
	p.current.Store(next)
	return true, nil
}

// inOtherHands says how those who write stacks may be able to write the policy too; "" if
// that is not to be seen.
func inOtherHands(file, specs string) string {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o002 != 0 {
		return "everybody can write it (chmod o-w)"
	}
	file, err1 := realPath(file)
	specs, err2 := realPath(specs)
	if in, err := filepath.Rel(specs, file); err1 == nil && err2 == nil && err == nil && filepath.IsLocal(in) {
		return "it is in the specs directory (keep it elsewhere)"
	}
	return ""
}

func realPath(file string) (string, error) {
	whole, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(whole)
}

func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// watchPolicy looks at the policy file until ctx ends, and asks for a pass over every
// stack when another policy is in force. That the file's is not is told by the log, the
// metrics and the report.
func (c *controller) watchPolicy(ctx context.Context) {
	every := time.NewTicker(policyEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		changed, news, err := c.policy.see(c.Now())
		c.report.policy(c.policy.file, changed, err)
		if news {
			poke(c.kept.hint)
			c.page.changed()
		}
		if changed {
			c.tellUnusedRules()
			c.queue.changed(c.desired.Load().names()...)
		}
	}
}

// tellUnusedRules tells of rules that are for none of the directory's stacks, when that
// was read: one that is misspelt forbids nothing.
func (c *controller) tellUnusedRules() {
	if d := c.desired.Load(); d.loaded && d.err == nil {
		c.report.rules(c.policy.policy().Unused(spec.SitesOf(d.stacks, d.problems)))
	}
}

// policyBroken says why the policy file cannot be read, as it was told; "": it can.
func (r *report) policyBroken() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// policy tells that another policy is in force, or why none of the file's is.
func (r *report) policy(file string, changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.log.Log(again(&r.broken, err.Error(), zapcore.ErrorLevel), "policy cannot be read, the last good one stays in force", zap.Error(err))
		return
	}
	if changed || r.broken != "" {
		r.broken = ""
		r.log.Info("policy is in force", zap.String("detail", file))
	}
}

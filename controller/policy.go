package controller

import (
	"bytes"
	"context"
	"errors"
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
	began   bool   // there was a first look, which alone believes what it finds once
	current atomic.Pointer[spec.ClusterPolicy]
	broken  atomic.Pointer[policyProblem] // nil: what the file says is in force
}

// A policyProblem is why what a policy file says is not in force.
type policyProblem struct {
	err   error
	since time.Time
}

// openPolicy reads a policy for the first time; nil for no file. Where it cannot be read
// the error says why, and none is in force: see missing.
func openPolicy(file string, now time.Time) (*policyFile, error) {
	if file == "" {
		return nil, nil
	}
	p := &policyFile{file: file}
	_, _, err := p.see(now)
	p.began = true
	return p, err
}

// policy is the one in force, nil where no file was named. Until a file could be read it
// allows nothing.
func (p *policyFile) policy() *spec.ClusterPolicy {
	if p == nil {
		return nil
	}
	if policy := p.current.Load(); policy != nil {
		return policy
	}
	return &spec.ClusterPolicy{File: p.file}
}

// missing is why no policy is in force, though a file was named: it could not be read
// since this controller started. Nothing is done before it can.
func (p *policyFile) missing() error {
	if p == nil || p.current.Load() != nil {
		return nil
	}
	if b := p.broken.Load(); b != nil {
		return b.err
	}
	return errors.New("the policy was not read yet")
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
	case (inForce || p.began) && !again:
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

// PolicyInOtherHands says how those who write stacks may be able to write the policy too;
// "" if that is not to be seen. Specs are the specs directories, "" for one that is not
// known.
func PolicyInOtherHands(file string, specs ...string) string {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o002 != 0 {
		return "everybody can write it (chmod o-w)"
	}
	file, err := realPath(file)
	if err != nil {
		return ""
	}
	for _, dir := range specs {
		if dir == "" {
			continue
		}
		dir, err := realPath(dir)
		if err != nil {
			continue
		}
		if in, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(in) {
			return "it is in the specs directory (keep it elsewhere)"
		}
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
		c.report.policy(c.policy.file, changed, c.policy.missing() != nil, err)
		if news {
			poke(c.kept.hint)
			c.page.changed()
		}
		if changed {
			c.feeds.readAgain() // the first one: no directory was read without it
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

// policy tells that another policy is in force, or why none of the file's is; missing
// says that there was none before either.
func (r *report) policy(file string, changed, missing bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		what := "policy cannot be read, the last good one stays in force"
		if missing {
			what = "policy cannot be read, nothing is done before it can"
		}
		r.log.Log(again(&r.broken, err.Error(), zapcore.ErrorLevel), what, zap.Error(err))
		return
	}
	if changed || r.broken != "" {
		r.broken = ""
		r.log.Info("policy is in force", zap.String("detail", file))
	}
}

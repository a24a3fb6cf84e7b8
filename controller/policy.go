package controller

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/spec"
)

// policyEvery is how often the policy file is looked at. It is read whole: it is small,
// and one that is put in another's place in a step further up tells no watch.
const policyEvery = 2 * time.Second

// maxPolicy is how much of the file is read; package spec refuses less than that.
const maxPolicy = 1 << 20

// A policyFile keeps the policy that is in force: the newest that could be read. While
// the file cannot be, the last good one stays: nothing is allowed because a file broke.
type policyFile struct {
	file    string
	text    []byte // that the policy in force was made of; look alone uses it
	current atomic.Pointer[spec.ClusterPolicy]
	broken  atomic.Value // a string: why the file cannot be read, "" while it can
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

// look reads the file, and says whether another policy is in force than before.
func (p *policyFile) look() (changed bool, err error) {
	text, err := readBounded(p.file, maxPolicy)
	if err != nil {
		return false, fmt.Errorf("read policy: %w", err)
	}
	if p.current.Load() != nil && bytes.Equal(text, p.text) {
		return false, nil
	}
	next, err := spec.ParseClusterPolicy(p.file, text)
	if err != nil {
		return false, err
	}
	p.text = text
	p.current.Store(next)
	return true, nil
}

// tell notes why the file cannot be read, nil for that it can, and says whether that
// is new.
func (p *policyFile) tell(err error) (news bool) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	was, _ := p.broken.Swap(text).(string)
	return was != text
}

// trouble is why the file cannot be read, "" while it can or there is none.
func (p *policyFile) trouble() string {
	if p == nil {
		return ""
	}
	text, _ := p.broken.Load().(string)
	return text
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
// stack when another policy is in force.
func (c *controller) watchPolicy(ctx context.Context) {
	every := time.NewTicker(policyEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		changed, err := c.policy.look()
		c.report.policy(c.policy.file, changed, err)
		if c.policy.tell(err) {
			c.page.changed()
		}
		if changed {
			c.queue.changed(c.desired.Load().names()...)
		}
	}
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

package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// A sshRemote speaks git's protocol with a program at the other end of an ssh
// connection. Each question is a connection of its own.
type sshRemote struct {
	at     address
	config *ssh.ClientConfig
}

func newSSHRemote(c *Config, at address) (*sshRemote, error) {
	key, err := c.signer()
	if err != nil {
		return nil, sourceError(GitDenied, err)
	}
	known, err := knownhosts.NewDB(c.KnownHostsFile)
	if err != nil {
		return nil, sourceError(GitUntrusted, fmt.Errorf("read the known hosts: %w", err))
	}
	hostport, user := at.hostport("22"), at.user
	if user == "" {
		user = defaultUser
	}
	return &sshRemote{at, &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback:   known.HostKeyCallback(),
		HostKeyAlgorithms: known.HostKeyAlgorithms(hostport),
		Timeout:           dialLimit,
	}}, nil
}

// A talk is one run of git-upload-pack at the other end.
type talk struct {
	in   io.WriteCloser
	out  io.Reader
	said *lastWords
	once sync.Once
	stop func()
}

// open connects and starts the program. The talk ends with ctx.
func (s *sshRemote) open(ctx context.Context) (*talk, error) {
	hostport := s.at.hostport("22")
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "tcp", hostport)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.at, err)
	}
	release := context.AfterFunc(ctx, func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, hostport, s.config)
	if err != nil {
		release()
		conn.Close()
		return nil, s.explain(err)
	}
	client := ssh.NewClient(c, channels, requests)
	t := &talk{said: &lastWords{}}
	t.stop = func() {
		release()
		client.Close()
	}
	session, err := client.NewSession()
	if err == nil {
		session.Stderr = t.said
		t.in, _ = session.StdinPipe()
		t.out, _ = session.StdoutPipe()
		err = session.Start("git-upload-pack " + shellQuoted(s.at.path))
	}
	if err != nil {
		t.close()
		return nil, fmt.Errorf("start git-upload-pack at %s: %w", s.at, spoken(err))
	}
	return t, nil
}

// close ends the talk.
func (t *talk) close() { t.once.Do(t.stop) }

// explain adds to an error what the other side said about it.
func (t *talk) explain(err error) error {
	if said := t.said.String(); said != "" {
		return fmt.Errorf("%w (the server said: %s)", err, said)
	}
	return err
}

func (s *sshRemote) refs(ctx context.Context) (*packp.AdvRefs, error) {
	t, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer t.close()
	adv, err := readRefs(t.out)
	if err != nil {
		return nil, t.explain(fmt.Errorf("ask %s: %w", s.at, err))
	}
	_ = pktline.NewEncoder(t.in).Flush() // nothing else is wanted: a parting, no more
	return adv, nil
}

func (s *sshRemote) fetch(ctx context.Context, q request) (*delivery, error) {
	t, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	d, err := s.ask(t, q)
	if err != nil {
		t.close()
		return nil, t.explain(fmt.Errorf("ask %s: %w", s.at, err))
	}
	d.close = func() error {
		t.close()
		return nil
	}
	return d, nil
}

func (s *sshRemote) ask(t *talk, q request) (*delivery, error) {
	var err error
	if q.advertised, err = readRefs(t.out); err != nil {
		return nil, err
	}
	body, err := q.encode()
	if err != nil {
		return nil, err
	}
	if _, err := t.in.Write(body); err != nil {
		return nil, err
	}
	return q.answer(t.out)
}

// explain says what a failed handshake means.
func (s *sshRemote) explain(err error) error {
	switch {
	case knownhosts.IsHostKeyChanged(err):
		return refused(GitUntrusted, "%s shows another host key than the known hosts have (if it was changed on purpose, replace the line)", s.at)
	case knownhosts.IsHostUnknown(err):
		return refused(GitUntrusted, "the known hosts have no key of %s (add it: ssh-keyscan, and compare it with what the host's owner says)", s.at)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return refused(GitDenied, "%s refuses the ssh key (add its public half as a deploy key)", s.at)
	case errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("connect to %s: %w", s.at, spoken(err))
}

func (s *sshRemote) secrets() []string { return nil }
func (s *sshRemote) end()              {}

// shellQuoted is a word as the shell at the other end has to be given it.
func shellQuoted(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// lastWords keeps the beginning of what was written to it.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := maxSpoken - len(w.text); room > 0 {
		w.text = append(w.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return clean(string(w.text))
}

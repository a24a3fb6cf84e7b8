package controller

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/skep-io/skep/controller/forge"
)

// hookPath is where forges say that something was pushed.
const hookPath = "/hooks/git"

// hookSecrets are the secrets that hooks are signed with. They follow their file: while
// that is gone or holds none, no hook is believed.
type hookSecrets struct {
	rereader
	file    string
	secrets forge.Secrets
}

func newHookSecrets(file string, now func() time.Time, log *zap.Logger) (*hookSecrets, error) {
	s := &hookSecrets{rereader: rereader{now: now, log: log}, file: file}
	s.due()
	if err := s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *hookSecrets) read() error {
	s.secrets = forge.Secrets{}
	text, err := readSmall(s.file)
	if err != nil {
		return fmt.Errorf("read the secrets of webhooks: %w (see --git-webhook-secret-file)", err)
	}
	if s.secrets, err = forge.ParseSecrets(string(text)); err != nil {
		return fmt.Errorf("read the secrets of webhooks: %s: %w", s.file, err)
	}
	return nil
}

// newest gives those that are good now.
func (s *hookSecrets) newest() forge.Secrets {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.due() {
		s.tell("no webhook is believed", s.read())
	}
	return s.secrets
}

// openSite is the daemon's HTTP side with all that answers there; nil: there is none.
func (c *controller) openSite() (*site, error) {
	hook, err := c.hook() // before a port is taken
	if err != nil || c.Listen == "" {
		return nil, err
	}
	s, err := c.site()
	if err != nil {
		return nil, err
	}
	s.door.hook = hook
	return s, nil
}

// hook is what answers forges; nil where nobody has a secret.
func (c *controller) hook() (http.Handler, error) {
	if c.WebhookSecretFile == "" {
		return nil, nil
	}
	secrets, err := newHookSecrets(c.WebhookSecretFile, c.Now, c.Logger)
	if err != nil {
		return nil, err
	}
	c.metrics.hears()
	return forge.NewHook(secrets.newest, c.look, c.metrics.heard, c.Now), nil
}

var errNoListener = errors.New("webhooks need an address to come to: give --listen one, or leave out --git-webhook-secret-file")

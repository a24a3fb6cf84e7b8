package forge

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const (
	// minSecret is how long a secret has to be, in bytes: fewer can be guessed.
	minSecret = 16
	maxSecret = 512
	// maxSecrets is how many there may be at a time: each costs a hash over the body.
	maxSecrets = 8
	// signingPrefix begins a secret of Standard Webhooks: base64 follows.
	signingPrefix = "whsec_"
)

// Secrets are what webhooks are signed with. They print as nothing.
type Secrets struct {
	plain   [][]byte // as they stand; what GitHub, Gitea, Bitbucket and skep sign with, and what GitLab sends
	signing [][]byte // decoded, of Standard Webhooks
}

// ParseSecrets reads one secret a line; empty lines and those that begin with # are
// passed over. With several, each is good, so that one can be replaced by the next. Its
// errors name lines by their number and show nothing of them.
func ParseSecrets(text string) (Secrets, error) {
	var s Secrets
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := s.add(line); err != nil {
			return Secrets{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if n := s.count(); n == 0 {
		return Secrets{}, errors.New("there is no secret in it (`openssl rand -hex 32` makes one)")
	} else if n > maxSecrets {
		return Secrets{}, fmt.Errorf("%d secrets are more than the %d that there may be", n, maxSecrets)
	}
	return s, nil
}

func (s *Secrets) add(line string) error {
	encoded, signing := strings.CutPrefix(line, signingPrefix)
	key := []byte(line)
	if signing {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return errors.New("what follows whsec_ is no base64 (copy the signing token as the forge shows it)")
		}
	}
	switch {
	case len(key) < minSecret:
		return fmt.Errorf("the secret has %d bytes, fewer than %d: it could be guessed (`openssl rand -hex 32` makes one)", len(key), minSecret)
	case len(key) > maxSecret:
		return fmt.Errorf("the secret has more than %d bytes", maxSecret)
	case signing:
		s.signing = append(s.signing, key)
	default:
		s.plain = append(s.plain, key)
	}
	return nil
}

func (s Secrets) count() int { return len(s.plain) + len(s.signing) }

// Format prints nothing of them, whatever the verb.
func (s Secrets) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%d secrets", s.count()) }

// MarshalText has no encoder show them.
func (s Secrets) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d secrets", s.count()), nil }

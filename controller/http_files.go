package controller

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// lookAgain is how often, at most, a file is read for whether it changed. It is
	// read rather than looked at: a file that was swapped, by a link too, may have the
	// same size and time.
	lookAgain = time.Second
	minToken  = 16        // characters: fewer can be guessed
	maxPEM    = 256 << 10 // bytes of a file that is read here
)

// A rereader reads files now and then, and says when to.
type rereader struct {
	now func() time.Time
	log *zap.Logger

	mu     sync.Mutex
	looked time.Time
	told   string // the trouble that the log already has
}

// due says, at most once in lookAgain, that it is time. The caller has the lock. A
// clock that was set back makes it due.
func (r *rereader) due() bool {
	now := r.now()
	if since := now.Sub(r.looked); since >= 0 && since < lookAgain {
		return false
	}
	r.looked = now
	return true
}

// tell logs trouble once, and that it is over; nil is none.
func (r *rereader) tell(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == r.told:
	case err != nil:
		r.log.Warn(what, zap.Error(err))
	default:
		r.log.Info(what + ": over")
	}
	r.told = text
}

// A token is what opens the pages, kept as its hash. It follows its file: while that
// is gone, empty or too short nobody gets in, so that a token can be taken back.
type token struct {
	rereader
	file string
	hash [sha256.Size]byte
	good bool
}

// newToken reads a token from a file: one line of at least minToken characters.
func newToken(file string, now func() time.Time, log *zap.Logger) (*token, error) {
	t := &token{rereader: rereader{now: now, log: log}, file: file}
	t.due()
	if err := t.read(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *token) read() error {
	t.good = false
	b, err := readSmall(t.file)
	if err != nil {
		return fmt.Errorf("read the token: %w (see --http-token-file)", err)
	}
	word := strings.TrimSpace(string(b))
	if len(word) < minToken || strings.ContainsAny(word, "\r\n") {
		return fmt.Errorf("read the token: %s does not hold one line of %d characters or more (`openssl rand -hex 32` makes a token)", t.file, minToken)
	}
	t.hash, t.good = sha256.Sum256([]byte(word)), true
	return nil
}

// opens says whether a request has the token: as a bearer token, or as the password of
// whatever user, which browsers ask for. The time it takes tells nothing of the token.
func (t *token) opens(r *http.Request) bool {
	given, ok := "", false
	if _, password, basic := r.BasicAuth(); basic {
		given, ok = password, true
	} else if scheme, word, found := strings.Cut(r.Header.Get("Authorization"), " "); found && strings.EqualFold(scheme, "Bearer") {
		given, ok = strings.TrimSpace(word), true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.due() {
		t.tell("nobody gets in by the token", t.read())
	}
	hash := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(hash[:], t.hash[:]) == 1 && ok && t.good
}

// A keyPair is a certificate with its key that follows its files. While they do not
// belong together, as between the two writes of a renewal, the old one serves.
type keyPair struct {
	rereader
	cert, key string
	pair      *tls.Certificate
}

func newKeyPair(cert, key string, now func() time.Time, log *zap.Logger) (*keyPair, error) {
	if cert == "" || key == "" {
		return nil, errors.New("serve over TLS: a certificate and its key are needed (give both --http-tls-cert and --http-tls-key)")
	}
	k := &keyPair{rereader: rereader{now: now, log: log}, cert: cert, key: key}
	k.due()
	if err := k.read(); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *keyPair) read() error {
	cert, err := readSmall(k.cert)
	if err != nil {
		return fmt.Errorf("read the certificate: %w (see --http-tls-cert)", err)
	}
	key, err := readSmall(k.key)
	if err != nil {
		return fmt.Errorf("read the certificate's key: %w (see --http-tls-key)", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("read the certificate %s with the key %s: %w", k.cert, k.key, err)
	}
	k.pair = &pair
	return nil
}

// certificate gives the newest, for tls.Config.
func (k *keyPair) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.due() {
		k.tell("the certificate is as old as it was", k.read())
	}
	return k.pair, nil
}

// readSmall reads a file that is of a person's making.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(b) > maxPEM {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxPEM)
	}
	return b, err
}

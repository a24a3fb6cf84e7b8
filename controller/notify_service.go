package controller

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/skep-io/skep/reconcile"
)

// A service sends messages by a library that knows many: Slack, Discord, mail and so on.
// The library's calls have no end that can be asked for; one that hangs is left alone,
// and no other begins before it has come back.
type service struct {
	url    string
	titled bool          // it takes a title, which its URL does not set
	busy   chan struct{} // holds a value while a call is under way

	mu   sync.Mutex
	open types.Service // nil: not made yet
}

// asksFirst are services whose library logs in when it is set up: that is done with the
// first message.
var asksFirst = []string{"matrix"}

// withTitle are services that have a title beside the text, and the library's own name in
// it where nothing else is said.
var withTitle = []string{"smtp", "gotify", "pushbullet"}

// left out: what it says goes to this process's own log, and nowhere.
const notAService = "logger"

func newService(scheme, address string) (*service, error) {
	name, _, _ := strings.Cut(scheme, "+")
	known := (&router.ServiceRouter{}).ListServices()
	if name == notAService || !slices.Contains(known, name) {
		return nil, fmt.Errorf("there is no service of the URL's kind (there are http, https, %s)", strings.Join(services(known), ", "))
	}
	s := &service{url: address, titled: slices.Contains(withTitle, name) && !setsTitle(address), busy: make(chan struct{}, 1)}
	if !slices.Contains(asksFirst, name) {
		if _, err := s.made(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func services(known []string) []string {
	known = slices.DeleteFunc(slices.Clone(known), func(name string) bool { return name == notAService })
	slices.Sort(known)
	return known
}

// setsTitle says that a URL has a title of its own.
func setsTitle(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	for key := range u.Query() {
		if strings.EqualFold(key, "title") || strings.EqualFold(key, "subject") {
			return true
		}
	}
	return false
}

// made is the library's service, made when it is asked for first.
func (s *service) made() (types.Service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		return s.open, nil
	}
	made, err := (&router.ServiceRouter{}).Locate(s.url)
	if err != nil {
		return nil, fmt.Errorf("its URL is not understood: %s", conceal(err.Error(), s.url))
	}
	s.open = made
	return made, nil
}

var errHangs = errors.New("the service did not answer in time")

func (s *service) send(ctx context.Context, m Message) error {
	select {
	case s.busy <- struct{}{}:
	default:
		return errHangs
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-s.busy }()
		var err error
		if panicked := protect(func() error { err = s.sendNow(m); return nil }); panicked != nil {
			err = errors.New("the service's library failed in a way that it should not")
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errHangs
	}
}

func (s *service) sendNow(m Message) error {
	to, err := s.made()
	if err != nil {
		return err
	}
	more := types.Params{}
	if s.titled {
		more["title"] = reconcile.Printable(m.Title)
	}
	if err := to.Send(m.plain(), &more); err != nil {
		return errors.New(conceal(err.Error(), s.url))
	}
	return nil
}

// maxSendError is how much of a service's error is told, in characters.
const maxSendError = 200

var anyURL = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"']+`)

// conceal takes out of a text what could be of a URL: each URL, whatever it is, and each
// part of this one that is longer than three characters, but for the service's name.
func conceal(text, address string) string {
	text = anyURL.ReplaceAllString(text, "…")
	parts := map[string]bool{}
	for _, form := range []string{address, unescaped(address)} {
		scheme, rest, _ := strings.Cut(form, "://")
		for _, part := range strings.FieldsFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' }) {
			parts[part] = len(part) > 3 && part != scheme
		}
	}
	var secret []string
	for part, is := range parts {
		if is {
			secret = append(secret, part)
		}
	}
	slices.SortFunc(secret, func(a, b string) int { return len(b) - len(a) })
	for _, part := range secret {
		text = strings.ReplaceAll(text, part, "…")
	}
	if r := []rune(words(text)); len(r) > maxSendError {
		return string(r[:maxSendError-1]) + "…"
	}
	return words(text)
}

func unescaped(address string) string {
	if plain, err := url.PathUnescape(address); err == nil {
		return plain
	}
	return address
}

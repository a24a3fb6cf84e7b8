package controller

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/skep-io/skep/spec"
)

// A Target is where messages are sent. Its URL is a secret, and never shown.
type Target struct {
	name, id string
	sender   sender
}

// Name is what x-skep.notify calls it.
func (t Target) Name() string { return t.name }

// maxTargets is how many there may be.
const maxTargets = 50

// maxNotifyFile is how much of a file of URLs, or of a key, is read, in bytes.
const maxNotifyFile = 64 << 10

// ParseTargets reads who is to be told: each is URL, or NAME=URL. A URL of http or https
// is a webhook, signed with key unless that is empty; every other one is shoutrrr's.
// What it returns names places by their position and never shows a URL.
func ParseTargets(targets []string, key []byte) ([]Target, error) {
	if len(targets) > maxTargets {
		return nil, fmt.Errorf("%d notifiers are more than the %d that there may be", len(targets), maxTargets)
	}
	var out []Target
	of := map[string]int{}
	for i, text := range targets {
		name, address := splitTarget(text)
		if !spec.IsNotifierName(name) {
			return nil, fmt.Errorf("notifier %d: its name has other than small letters, digits and -, or more than 32 of them (write NAME=URL)", i+1)
		}
		sender, err := newSender(address, key)
		if err != nil {
			return nil, fmt.Errorf("notifier %d (%s): %w", i+1, name, err)
		}
		of[name]++
		t := Target{name: name, id: name, sender: sender}
		if n := of[name]; n > 1 {
			t.id = fmt.Sprintf("%s-%d", name, n)
		}
		out = append(out, t)
	}
	for i, t := range out { // team-2 can be a name, too
		if slices.ContainsFunc(out[i+1:], func(other Target) bool { return other.id == t.id }) {
			return nil, fmt.Errorf("two notifiers would both be called %s: give one another name", t.id)
		}
	}
	return out, nil
}

// splitTarget parts a name from a URL; none is the default one's.
func splitTarget(text string) (name, address string) {
	before, after, ok := strings.Cut(text, "=")
	if !ok || strings.ContainsAny(before, ":/") {
		return defaultNotifier, text
	}
	return before, after
}

func newSender(address string, key []byte) (sender, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme == "":
		return nil, errors.New("this is no URL (write SERVICE://…, or https://… for a webhook)")
	case u.Scheme == "http" || u.Scheme == "https":
		return newWebhook(u, key)
	}
	return newService(u.Scheme, address)
}

// ReadTargets reads a file of notifiers: one a line, as ParseTargets takes them. Empty
// lines and those that begin with # are passed over.
func ReadTargets(file string) ([]string, error) {
	text, err := readNotifyFile(file)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out, nil
}

// ReadNotifyKey reads the key that webhooks are signed with. White space at its ends is
// no part of it.
func ReadNotifyKey(file string) ([]byte, error) {
	text, err := readNotifyFile(file)
	if err != nil {
		return nil, err
	}
	key := strings.TrimSpace(text)
	if len(key) < minNotifyKey {
		return nil, fmt.Errorf("the key in %s has %d characters, fewer than %d: it could be guessed (openssl rand -hex 32 makes one)", file, len(key), minNotifyKey)
	}
	return []byte(key), nil
}

// minNotifyKey is how long a key has to be, in bytes.
const minNotifyKey = 16

func readNotifyFile(file string) (string, error) {
	text, err := readBounded(file, maxNotifyFile+1)
	if err != nil {
		var path *os.PathError
		errors.As(err, &path)
		return "", fmt.Errorf("read %s: %w", file, cmp.Or(unwrapped(path), err))
	}
	if len(text) > maxNotifyFile {
		return "", fmt.Errorf("read %s: it has more than %d bytes", file, maxNotifyFile)
	}
	return string(text), nil
}

func unwrapped(path *os.PathError) error {
	if path == nil {
		return nil
	}
	return path.Err
}

// Package leaks plants values that nobody may ever see into the tests' stacks, and
// looks for them in all that skep puts out: as they are, in the encodings by which
// such a thing usually gets out, and in halves. It judges nothing but bytes.
package leaks

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Kind says where a planted value has its rightful place.
type Kind int

const (
	// Secret is a secret's payload: it belongs into the secret itself, and nowhere else.
	Secret Kind = iota
	// Env is the value of a variable that looks secret: it belongs into the service, and
	// into the data of the release's record, which is needed to go back.
	Env
)

// A Watch knows what was planted, and remembers where it was seen. Its zero value is
// ready to use.
type Watch struct {
	mu      sync.Mutex
	planted []planted
	longest int // bytes of the longest form
	found   map[string]bool
	looked  int
}

type planted struct {
	name  string
	kind  Kind
	forms map[string]string // what it looks like, by the name of the encoding
}

// Plant makes up a value. It has signs in it that encodings change, and none that YAML
// or a shell would want quoted within double quotes.
func (w *Watch) Plant(name string, kind Kind) string {
	value := "planted/" + rand.Text() + "+" + rand.Text()
	w.Mind(name, kind, value)
	return value
}

// Mind watches for a value that something else made.
func (w *Watch) Mind(name string, kind Kind, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := planted{name: name, kind: kind, forms: forms(value)}
	w.planted = append(w.planted, p)
	for _, f := range p.forms {
		w.longest = max(w.longest, len(f))
	}
}

// forms are all that a value may look like, whole or by half.
func forms(value string) map[string]string {
	half := len(value) / 2
	all := map[string]string{}
	for part, b := range map[string][]byte{"": []byte(value), "the first half ": []byte(value[:half]), "the second half ": []byte(value[half:])} {
		text := string(b)
		quoted, _ := json.Marshal(text) // a string has a JSON form
		all[part+"as it is"] = text
		all[part+"in hex"] = hex.EncodeToString(b)
		all[part+"in upper-case hex"] = strings.ToUpper(hex.EncodeToString(b))
		all[part+"in hex with spaces"] = fmt.Sprintf("% x", b)
		all[part+"in a query"] = url.QueryEscape(text)
		all[part+"in a path"] = url.PathEscape(text)
		all[part+"in JSON"] = strings.Trim(string(quoted), `"`)
		all[part+"quoted"] = strings.Trim(strconv.Quote(text), `"`)
		all[part+"in HTML"] = html.EscapeString(text)
		all[part+"as bytes"] = strings.Trim(fmt.Sprint(b), "[]")
		all[part+"as JSON bytes"] = strings.ReplaceAll(strings.Trim(fmt.Sprint(b), "[]"), " ", ",")
		for shift := range 3 {
			name := fmt.Sprintf("%sin base64, after %d bytes", part, shift)
			all[name] = inner(base64.RawStdEncoding, b, shift)
			all[name+", for URLs"] = inner(base64.RawURLEncoding, b, shift)
		}
	}
	return all
}

// inner is what base64 makes of b somewhere within a longer text: without the letters
// at both ends that depend on what is around it.
func inner(e *base64.Encoding, b []byte, shift int) string {
	s := e.EncodeToString(append(make([]byte, shift), b...))
	from := (shift*8 + 5) / 6
	to := (shift + len(b)) * 8 / 6
	return s[from:to]
}

// Look searches an output, or a part of one, for all that was planted but the kinds
// that may be there.
func (w *Watch) Look(where string, output []byte, rightful ...Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked += len(output)
	for _, p := range w.planted {
		if slices.Contains(rightful, p.kind) {
			continue
		}
		for how, form := range p.forms {
			if bytes.Contains(output, []byte(form)) {
				if w.found == nil {
					w.found = map[string]bool{}
				}
				w.found[fmt.Sprintf("%s has %s, %s", where, p.name, how)] = true
			}
		}
	}
}

// Looked is how many bytes were searched.
func (w *Watch) Looked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looked
}

// Found tells what was seen where it has no place. It never has the value itself.
func (w *Watch) Found() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for s := range w.found {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// Writer looks through all that is written to it, however it is cut into pieces, and
// hands it on to next.
func (w *Watch) Writer(where string, next io.Writer) io.Writer {
	return &writer{watch: w, where: where, next: next}
}

type writer struct {
	watch *Watch
	where string
	next  io.Writer

	mu   sync.Mutex
	tail []byte // the end of what was written before
}

func (x *writer) Write(p []byte) (int, error) {
	x.mu.Lock()
	text := append(x.tail, p...)
	x.watch.Look(x.where, text)
	x.watch.mu.Lock()
	keep := max(0, x.watch.longest-1)
	x.watch.mu.Unlock()
	x.tail = bytes.Clone(text[max(0, len(text)-keep):])
	x.mu.Unlock()
	return x.next.Write(p)
}

// Package rights holds the list of all that skep may ask of an engine, and a gate
// that stands before one in the tests: it lets through what the list names, refuses
// the rest as a filtering socket proxy does, and writes down what was asked. It never
// changes a request or an answer, and makes no faults.
package rights

import (
	"bufio"
	_ "embed"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

//go:embed rights.txt
var text string

// Who asks, each for what those before it ask for too; but logs, which only looks besides.
var Who = []string{"look", "ask", "act", "run", logs}

// logs are what only a person asks for, by the verb of that name.
const logs = "logs"

// A Right is one kind of request.
type Right struct {
	Method string
	Path   string // below the API's version, with {id} and {image}
	Who    string // the first of Who that needs it

	path *regexp.Regexp
}

func (r Right) String() string { return r.Method + " " + r.Path }

// List is rights.txt.
func List() []Right {
	list, err := parse(text)
	if err != nil {
		panic(err) // it is part of the binary, and tested
	}
	return list
}

// For is what one of Who may ask for.
func For(who string) []Right {
	most := slices.Index(Who, who)
	return slices.DeleteFunc(List(), func(r Right) bool {
		if who == logs {
			return r.Who != logs && r.Who != "look"
		}
		return slices.Index(Who, r.Who) > most
	})
}

// OfVerb is which of Who a verb of the command line is.
func OfVerb(verb string) string {
	switch verb {
	case "run", "logs":
		return verb
	case "apply":
		return "act"
	case "rollback", "suspend", "resume", "prune":
		return "ask"
	}
	return "look"
}

func parse(text string) ([]Right, error) {
	var list []Right
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || !slices.Contains(Who, f[2]) || !strings.HasPrefix(f[1], "/") {
			return nil, fmt.Errorf("rights: %q is not a method, a path and who asks", line)
		}
		r := Right{Method: f[0], Path: f[1], Who: f[2]}
		var err error
		if r.path, err = pattern(r.Path); err != nil {
			return nil, fmt.Errorf("rights: %q: %w", line, err)
		}
		if slices.ContainsFunc(list, func(o Right) bool { return o.String() == r.String() }) {
			return nil, fmt.Errorf("rights: %s is there twice", r)
		}
		list = append(list, r)
	}
	return list, lines.Err()
}

// pattern is what a path matches as a whole. A ping has no version, all else has one.
func pattern(path string) (*regexp.Regexp, error) {
	p := regexp.QuoteMeta(path)
	p = strings.ReplaceAll(p, `\{id\}`, `[A-Za-z0-9][A-Za-z0-9_.-]*`)
	p = strings.ReplaceAll(p, `\{image\}`, `[A-Za-z0-9][A-Za-z0-9_.:@/-]*`)
	if path != "/_ping" {
		p = `/v1\.[0-9]+` + p
	}
	return regexp.Compile(`^` + p + `$`)
}

// allows says whether a request is of this kind. The path is taken as it was sent:
// one that an engine would clean, or decode into another, is of no kind.
func (r Right) allows(method, path string) bool {
	return r.Method == method && r.path.MatchString(path) && !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

// of finds the right that a request needs, or -1.
func of(list []Right, r *http.Request) int {
	return slices.IndexFunc(list, func(x Right) bool { return x.allows(r.Method, r.URL.EscapedPath()) })
}

package faults

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/skep-io/skep/controller"
)

// A Request is one that came to the proxy, and what became of it.
type Request struct {
	At        time.Time
	Method    string
	Path      string // without the API version: /services/create
	Query     string // as it was sent
	Version   string // the API version in the path, "1.51"; empty where there is none
	Operation string // its name in skep's metrics
	Object    string // the name in a written object's body, else the ID in the path
	Status    int    // what the engine, or a fault, answered; 0: nothing, or not yet
	Fault     string // what was done to it, in words; empty: nothing
	Sent      bool   // the engine got it
}

// Write says that the request is more than a question.
func (q Request) Write() bool { return q.Method != http.MethodGet && q.Method != http.MethodHead }

var versioned = regexp.MustCompile(`^/v([0-9]+\.[0-9]+)(/.*)$`)

// describe reads a request, whose body is given, as a recorder tells it.
func describe(r *http.Request, body []byte) Request {
	q := Request{At: time.Now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Operation: controller.Operation(r.Method, r.URL.Path)}
	if m := versioned.FindStringSubmatch(q.Path); m != nil {
		q.Version, q.Path = m[1], m[2]
	}
	var named struct{ Name string }
	if len(body) > 0 && json.Unmarshal(body, &named) == nil {
		q.Object = named.Name
	}
	if parts := strings.Split(strings.Trim(q.Path, "/"), "/"); q.Object == "" && len(parts) > 1 && parts[1] != "create" {
		q.Object = parts[1]
	}
	return q
}

package leaks

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxRecord bounds what a record is unpacked to.
const maxRecord = 64 << 20

// LookAtRequest searches what skep says to an engine, but for where a value has its
// place: a secret's payload in that secret, a variable in the service and in the data
// of a record.
func (w *Watch) LookAtRequest(r *http.Request, body []byte) {
	where := "the engine, " + r.Method + " " + r.URL.Path
	if u, err := r.URL.Parse(r.URL.RequestURI()); err == nil {
		w.Look(where+": its URL", []byte(u.String()))
	}
	if len(body) == 0 {
		return
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		w.Look(where, body)
		return
	}
	kind := kindOf(r.URL.Path)
	for field, value := range object {
		at := fmt.Sprintf("%s: %s", where, field)
		switch {
		case kind == "secrets" && field == "Data":
		case kind == "services" && field == "TaskTemplate":
			w.Look(at, value, Env)
		case kind == "configs" && field == "Data":
			w.Look(at, unpacked(value), Env)
		default:
			w.Look(at, value)
		}
	}
}

// kindOf is the collection that a path is in.
func kindOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) > 1 && strings.HasPrefix(parts[0], "v1.") {
		parts = parts[1:]
	}
	return parts[0]
}

// unpacked is a config's data as it is read: out of base64, and out of gzip where it
// is a record. What is neither is given back as it is.
func unpacked(value json.RawMessage) []byte {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return value
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return value
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return data
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxRecord))
	if err != nil {
		return data
	}
	return plain
}

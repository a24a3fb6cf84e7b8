package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"

	"github.com/skep-io/skep/controller"
)

// newHook gives the URL of a webhook that writes what it gets into a file, a message a
// line: its stack, event, release and ID.
func newHook(done func(func()), file string) string {
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var m controller.Message
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			err = json.NewDecoder(r.Body).Decode(&m)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		release := -1
		if m.Release != nil {
			release = *m.Release
		}
		_, _ = fmt.Fprintln(f, m.Stack, m.Event, release, m.ID)
		_ = f.Close()
	}))
	done(s.Close)
	return s.URL + "/hook"
}

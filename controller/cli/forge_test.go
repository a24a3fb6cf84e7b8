package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"sync"
)

var statusPath = regexp.MustCompile(`^/api/v1/repos/acme/stacks/statuses/([0-9a-f]{40})$`)

// newForge gives the URL of Gitea's API, with one repository acme/stacks, that writes the
// statuses it gets into a file, one a line: commit, context, state and description. Its
// token is that of the script forge.
func newForge(done func(func()), file string) string {
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		at := statusPath.FindStringSubmatch(r.URL.Path)
		if at == nil || r.Method != http.MethodPost || r.Header.Get("Authorization") != "token s3cr3t-0123456789" {
			http.Error(w, "there is no such repository, or not for you", http.StatusNotFound)
			return
		}
		var status struct{ State, Context, Description string }
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			err = json.NewDecoder(r.Body).Decode(&status)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintln(f, at[1], status.Context, status.State, status.Description)
		_ = f.Close()
	}))
	done(s.Close)
	return s.URL + "/api/v1"
}

package controller

import (
	"net"
	"net/http"
	"strings"
)

// A door stands between every client and the handlers: it turns away what skep never
// has any use for, gives every answer the fields that keep a browser from harm, and
// lets nobody see the pages without the token, where there is one.
//
// It answers in words of its own: nothing that a client sent is ever repeated.
type door struct {
	// hook answers at hookPath; nil: nothing is there. Its own signature is its key: a
	// forge has no token, and calls this machine by whatever name it has.
	hook  http.Handler
	token *token // nil: the pages are open
	// ownNameOnly has it answer under names of this machine alone. Without a token, on
	// loopback, nothing else keeps a web page that somebody looks at from reading what
	// is here: its own name could be made to lead to 127.0.0.1 (DNS rebinding).
	ownNameOnly bool
}

// guard lets everyone to the paths that open knows, forges to their hook, and to all
// others those who have the token.
func (d *door) guard(open byPath, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		switch {
		case r.URL.Path == hookPath && d.hook != nil:
			d.hook.ServeHTTP(w, r)
		case r.URL.Path == hookPath:
			refuse(w, http.StatusNotFound, "there is nothing here")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "nothing here changes anything: only GET and HEAD")
		case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
			refuse(w, http.StatusRequestEntityTooLarge, "no request here has a body")
		case d.ownNameOnly && !isLoopback(r.Host):
			refuse(w, http.StatusMisdirectedRequest, "ask by 127.0.0.1 or localhost (or give skep --http-token-file)")
		case open[r.URL.Path] != nil:
			open.ServeHTTP(w, r)
		case d.token != nil && !d.token.opens(r):
			w.Header().Add("WWW-Authenticate", `Bearer realm="skep"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="skep", charset="UTF-8"`)
			refuse(w, http.StatusUnauthorized, "the token is needed: as a bearer token, or as the password of any user")
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// refuse is say for a request whose connection is better not used again: what else
// of it may still come is not read.
func refuse(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Connection", "close")
	say(w, code, text)
}

// harden sets what every answer carries: a browser neither runs, frames, guesses nor
// keeps anything of it. There is no Strict-Transport-Security: that would hold for all
// ports of the host's name, and other services there are none of skep's business.
func harden(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// isLoopback says whether a host, with or without a port, is this machine under a
// name that nobody else can give to it.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

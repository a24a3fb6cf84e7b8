package forge

import (
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxHook is how many bytes a hook's body may have. Forges send less for a push: they
	// leave out commits beyond a number.
	maxHook = 1 << 20
	// hookTime is how long a body may take to arrive.
	hookTime = 8 * time.Second
)

// What comes of a request to a Hook: the values of the metric's label.
const (
	HookAccepted = "accepted"
	HookForged   = "forged"  // no signature, or one that does not hold
	HookTooLarge = "large"   // its body has more than 1 MiB
	HookLimited  = "limited" // too many came before it that did not hold
	HookBroken   = "broken"  // its body did not arrive, or it is no POST
)

// HookResults are all of them.
func HookResults() []string {
	return []string{HookAccepted, HookForged, HookTooLarge, HookLimited, HookBroken}
}

// A Hook is told by forges that something was pushed. It is an http.Handler for one path.
//
// A request is believed in one thing alone, that somebody who has a secret sent it. What
// it says is not read: the remotes are asked themselves. So sending one again, or late,
// does nothing but have skep look.
type Hook struct {
	// Secrets are those that are good now. Nobody gets in while there are none.
	Secrets func() Secrets
	// Look has every source look at its remote soon. It returns at once, and is called
	// however often.
	Look func()
	// Count is told what came of each request, one of HookResults.
	Count func(result string)
	// Now is the time.
	Now func() time.Time

	limits   *limiter
	patience time.Duration // how long a body may take
}

// NewHook is a Hook with nothing counted yet.
func NewHook(secrets func() Secrets, look func(), count func(result string), now func() time.Time) *Hook {
	return &Hook{Secrets: secrets, Look: look, Count: count, Now: now, limits: newLimiter(now()), patience: hookTime}
}

// ServeHTTP answers in words of its own: 202 where the hook is genuine, 401 where not, 405
// to what is no POST, 413 to a body that is too large, 429 with Retry-After where too many
// that were not genuine came before it, 400 where the body does not arrive. What it
// refuses it reads no further.
func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		h.end(w, HookBroken, http.StatusMethodNotAllowed, "hooks are posted")
		return
	}
	if wait := h.limits.take(r.RemoteAddr, h.Now()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		h.end(w, HookLimited, http.StatusTooManyRequests, "too many requests that are not genuine")
		return
	}
	if r.ContentLength > maxHook {
		h.end(w, HookTooLarge, http.StatusRequestEntityTooLarge, tooLarge)
		return
	}
	good, err := h.check(w, r)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		h.end(w, HookTooLarge, http.StatusRequestEntityTooLarge, tooLarge)
	case err != nil:
		h.end(w, HookBroken, http.StatusBadRequest, "the body did not arrive as a whole, or not in time")
	case !good:
		h.end(w, HookForged, http.StatusUnauthorized, "the request is signed by none of the secrets, or not now")
	default:
		h.limits.give(r.RemoteAddr, h.Now())
		h.Look()
		h.end(w, HookAccepted, http.StatusAccepted, "accepted")
	}
}

const tooLarge = "the body has more than a megabyte"

// check reads the body within its bounds.
func (h *Hook) check(w http.ResponseWriter, r *http.Request) (bool, error) {
	// Where a connection has no deadlines, its server's own have to do.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.patience))
	return h.Secrets().genuine(r.Header, http.MaxBytesReader(w, r.Body, maxHook), h.Now())
}

// end answers with a line of plain text.
func (h *Hook) end(w http.ResponseWriter, result string, code int, text string) {
	h.Count(result)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if code != http.StatusAccepted {
		w.Header().Set("Connection", "close") // the rest of it is not read
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}

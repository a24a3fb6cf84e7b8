package forge

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// How forges prove that a hook is theirs. Whatever headers a request has, it is genuine
// where one of them holds.
//
//	GitHub              X-Hub-Signature-256: sha256=HEX         over the body
//	Bitbucket           X-Hub-Signature: sha256=HEX             over the body
//	Gitea, Forgejo      X-Gitea-Signature: HEX                  over the body
//	                    X-Forgejo-Signature: HEX                over the body
//	GitLab              X-Gitlab-Token: SECRET
//	Standard Webhooks   webhook-signature: v1,BASE64 …          over ID.TIMESTAMP.BODY
//	skep                X-Skep-Signature-256: sha256=HEX        over TIMESTAMP.BODY
//
// All are HMAC-SHA256 but GitLab's, which sends the secret itself. Newer GitLab signs as
// Standard Webhooks say. The last one is skep's own webhook's, for those who have none of
// these.
const (
	headerGitHub    = "X-Hub-Signature-256"
	headerBitbucket = "X-Hub-Signature"
	headerGitea     = "X-Gitea-Signature"
	headerForgejo   = "X-Forgejo-Signature"
	headerGitLab    = "X-Gitlab-Token"

	headerStandardID    = "Webhook-Id"
	headerStandardTime  = "Webhook-Timestamp"
	headerStandardSigns = "Webhook-Signature"

	headerSkep     = "X-Skep-Signature-256"
	headerSkepTime = "X-Skep-Timestamp"

	// maxSignatures is how many are looked at in one webhook-signature: one for each key
	// that a sender rotates.
	maxSignatures = 8
	// clockSkew is how far a signed time may lie from now, before or after.
	clockSkew = 5 * time.Minute
)

// A claim is an HMAC-SHA256 that a request says to have been made of before and its body.
type claim struct {
	before string
	keys   [][]byte
	macs   [][]byte // any of them
}

// claims are those of a request. known is false where it has none that could hold, so
// that its body need not be read.
func (s Secrets) claims(h http.Header, now time.Time) (claims []claim, known bool) {
	body := claim{keys: s.plain} // hashed once, whoever it may be of
	for _, name := range []string{headerGitHub, headerBitbucket} {
		if mac, ok := prefixedHex(h.Get(name)); ok {
			body.macs = append(body.macs, mac)
		}
	}
	for _, name := range []string{headerGitea, headerForgejo} {
		if mac, ok := hexMAC(h.Get(name)); ok {
			body.macs = append(body.macs, mac)
		}
	}
	if len(body.macs) > 0 {
		claims = append(claims, body)
	}
	if at := h.Get(headerSkepTime); isRecent(at, now) {
		if mac, ok := prefixedHex(h.Get(headerSkep)); ok {
			claims = append(claims, claim{before: at + ".", keys: s.plain, macs: [][]byte{mac}})
		}
	}
	if c, ok := s.standard(h, now); ok {
		claims = append(claims, c)
	}
	return claims, len(claims) > 0
}

// standard is what a request claims by Standard Webhooks. An ID with a dot in it could
// make one message look like another.
func (s Secrets) standard(h http.Header, now time.Time) (claim, bool) {
	id, at := h.Get(headerStandardID), h.Get(headerStandardTime)
	if id == "" || strings.Contains(id, ".") || !isRecent(at, now) {
		return claim{}, false
	}
	c := claim{before: id + "." + at + ".", keys: s.signing}
	for i, text := range strings.Fields(h.Get(headerStandardSigns)) {
		encoded, ok := strings.CutPrefix(text, "v1,")
		if i == maxSignatures {
			break
		}
		if mac, err := base64.StdEncoding.DecodeString(encoded); ok && err == nil && len(mac) == sha256.Size {
			c.macs = append(c.macs, mac)
		}
	}
	return c, len(c.macs) > 0
}

// token says whether a request holds one of the secrets itself, as GitLab's do. given is
// false where it does not try to.
func (s Secrets) token(h http.Header) (holds, given bool) {
	text := h.Get(headerGitLab)
	hash, same := sha256.Sum256([]byte(text)), 0 // so that a secret's length is not told either
	for _, key := range s.plain {
		of := sha256.Sum256(key)
		same |= subtle.ConstantTimeCompare(hash[:], of[:])
	}
	return same == 1, text != ""
}

// genuine reads the body, and keeps nothing of it, and says whether a request is of
// somebody who has a secret. The time that it takes tells nothing of the secrets. Its
// error is the body's.
func (s Secrets) genuine(h http.Header, body io.Reader, now time.Time) (bool, error) {
	claims, known := s.claims(h, now)
	holds, given := s.token(h)
	if !known && (!given || !holds) {
		return false, nil
	}
	var sums [][]hash.Hash // by claim and key
	var all []io.Writer
	for _, c := range claims {
		var of []hash.Hash
		for _, key := range c.keys {
			sum := hmac.New(sha256.New, key)
			io.WriteString(sum, c.before) // never fails
			of, all = append(of, sum), append(all, sum)
		}
		sums = append(sums, of)
	}
	if _, err := io.Copy(io.MultiWriter(all...), body); err != nil {
		return false, err
	}
	same := 0
	if holds {
		same = 1
	}
	for i, c := range claims {
		for _, sum := range sums[i] {
			made := sum.Sum(nil)
			for _, mac := range c.macs {
				same |= subtle.ConstantTimeCompare(made, mac)
			}
		}
	}
	return same == 1, nil
}

// prefixedHex reads sha256=HEX.
func prefixedHex(text string) ([]byte, bool) {
	rest, ok := strings.CutPrefix(text, "sha256=")
	if !ok {
		return nil, false
	}
	return hexMAC(rest)
}

func hexMAC(text string) ([]byte, bool) {
	if len(text) != 2*sha256.Size {
		return nil, false
	}
	mac, err := hex.DecodeString(text)
	return mac, err == nil
}

var errNoTime = errors.New("no time")

// isRecent says whether a time, in seconds since 1970, is about now.
func isRecent(text string, now time.Time) bool {
	at, err := parseSeconds(text)
	if err != nil {
		return false
	}
	return now.Sub(at).Abs() <= clockSkew
}

// parseSeconds reads digits alone: a sign or a space would be signed with them, and mean
// the same.
func parseSeconds(text string) (time.Time, error) {
	if text == "" || len(text) > 12 || strings.Trim(text, "0123456789") != "" {
		return time.Time{}, errNoTime
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, errNoTime
	}
	return time.Unix(n, 0), nil
}

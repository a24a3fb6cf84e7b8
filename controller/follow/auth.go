package follow

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/registry"
)

// A login is what a person, or a robot, logged in to a registry with. It does not print.
type login struct{ user, password, identity, token string }

func (login) String() string   { return "•••" }
func (login) GoString() string { return "•••" }

// decodeLogin reads what reconcile.Credentials give.
func decodeLogin(encoded string) (login, error) {
	if encoded == "" {
		return login{}, nil
	}
	a, err := registry.DecodeAuthConfig(encoded)
	if err != nil {
		return login{}, fmt.Errorf("credentials that cannot be read") // its error may quote them
	}
	l := login{a.Username, a.Password, a.IdentityToken, a.RegistryToken}
	if both, err := base64.StdEncoding.DecodeString(a.Auth); l.user == "" && err == nil {
		l.user, l.password, _ = strings.Cut(strings.TrimRight(string(both), "\x00"), ":")
	}
	return l, nil
}

// authorize makes what the registry wants to see of its challenges (RFC 7235, and the
// token protocol of the distribution specification).
func (s *session) authorize(ctx context.Context, challenges []string) (header string, err error) {
	who, err := s.auth()
	if err != nil {
		return "", err
	}
	if who.token != "" {
		return "Bearer " + who.token, nil
	}
	for _, c := range challenges {
		scheme, rest, _ := strings.Cut(c, " ")
		params := paramsOf(rest)
		switch {
		case strings.EqualFold(scheme, "bearer") && params["realm"] != "":
			token, err := s.fetchToken(ctx, params, who)
			if err != nil {
				return "", err
			}
			return "Bearer " + token, nil
		case strings.EqualFold(scheme, "basic") && who.user != "":
			return basic(who), nil
		}
	}
	return "", &Refusal{Host: s.host, Status: http.StatusUnauthorized}
}

func basic(who login) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(who.user+":"+who.password))
}

var param = regexp.MustCompile(`([a-zA-Z_]+)=(?:"([^"]*)"|([^",\s]+))`)

func paramsOf(text string) map[string]string {
	out := map[string]string{}
	for _, m := range param.FindAllStringSubmatch(text, 50) {
		out[strings.ToLower(m[1])] = m[2] + m[3]
	}
	return out
}

// fetchToken asks the registry's own server of tokens for one that may pull this
// repository, and nothing else. A registry that is asked by TLS cannot have credentials
// sent without.
func (s *session) fetchToken(ctx context.Context, params map[string]string, who login) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" || realm.User != nil || realm.Scheme != "https" && realm.Scheme != s.base.Scheme {
		return "", fmt.Errorf("%s wants a token of a server that cannot be trusted with credentials", s.host)
	}
	q := url.Values{"service": {params["service"]}, "scope": {"repository:" + s.repository + ":pull"}}
	var req *http.Request
	if who.identity != "" {
		q.Set("grant_type", "refresh_token")
		q.Set("client_id", "skep")
		q.Set("refresh_token", who.identity)
		if req, err = http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(q.Encode())); err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else {
		at := *realm
		for key, values := range at.Query() {
			if _, ours := q[key]; !ours {
				q[key] = values
			}
		}
		at.RawQuery = q.Encode()
		if req, err = http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil); err == nil && who.user != "" {
			req.Header.Set("Authorization", basic(who))
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s wants a token of a server that cannot be asked", s.host)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return "", unreachable(realm.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", refusal(realm.Host, resp)
	}
	var answer struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if err := decode(resp.Body, maxToken, &answer); err != nil {
		return "", fmt.Errorf("%s gives no token: %w", realm.Host, err)
	}
	if answer.Token == "" {
		answer.Token = answer.Access
	}
	if answer.Token == "" || strings.ContainsAny(answer.Token, "\r\n") {
		return "", fmt.Errorf("%s gives no token", realm.Host)
	}
	return answer.Token, nil
}

package gitsync

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// An address is where a repository is, without anything that is secret.
type address struct {
	scheme string // https, http, ssh or file
	user   string // of https and ssh; "" where the URL names none
	host   string // with its port where that is not the scheme's own
	path   string // as the server is asked for it
}

// Redacted is a repository's URL as people may see it, and Host the host that its
// credentials are for; both are empty where it is none.
func Redacted(raw string) (shown, host string) {
	a, err := parseAddress(raw, true)
	if err != nil {
		return "", ""
	}
	return a.String(), a.host
}

// scpLike is ssh's short form: user@host:path.
var scpLike = regexp.MustCompile(`^(?:([^@/:]+)@)?([^@/:]+|\[[0-9A-Fa-f:]+\]):([^:].*)$`)

// parseAddress reads a repository's URL. Its errors never have the URL's user
// information in them.
func parseAddress(raw string, allowHTTP bool) (address, error) {
	if !strings.Contains(raw, "://") {
		m := scpLike.FindStringSubmatch(raw)
		if m == nil {
			return address{}, errors.New("this is no URL of a repository (write https://…, ssh://…, file:///… or user@host:path)")
		}
		// user:password@host/path, which would be shown as a path.
		if first, _, _ := strings.Cut(m[3], "/"); strings.Contains(first, "@") {
			return address{}, errors.New("the URL has a password in it, or no https:// before it (write https://HOST/PATH, and put the password into a file: --git-token-file)")
		}
		return address{"ssh", m[1], m[2], m[3]}.checked(allowHTTP)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return address{}, errors.New("this is no URL of a repository (its parts cannot be told apart)") // err has it in full
	}
	if _, set := u.User.Password(); set {
		return address{}, fmt.Errorf("the URL of %s has a password in it, which everybody sees (put it into a file: --git-token-file)", u.Host)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return address{}, fmt.Errorf("the URL of %s has something behind the path (leave out what begins with ? or #)", u.Host)
	}
	a := address{scheme: strings.ToLower(u.Scheme), user: u.User.Username(), host: strings.ToLower(u.Host), path: u.Path}
	if a.scheme == "ssh" && strings.HasPrefix(a.path, "/~") {
		a.path = a.path[1:] // a home directory, as git has it
	}
	return a.checked(allowHTTP)
}

// checked is a, if skep speaks to such an address.
func (a address) checked(allowHTTP bool) (address, error) {
	switch a.scheme {
	case "https", "ssh":
	case "http":
		if !allowHTTP && !a.loopback() {
			return address{}, fmt.Errorf("%s is asked without TLS (use https)", a)
		}
	case "file":
		if a.host != "" && a.host != "localhost" {
			return address{}, errors.New("a file URL has no host (write file:///srv/stacks.git)")
		}
		a.host, a.user = "", ""
	default:
		return address{}, fmt.Errorf("skep does not speak %s (use https, ssh or file)", a.scheme)
	}
	if a.scheme != "file" && a.hostname() == "" {
		return address{}, fmt.Errorf("the %s URL names no host", a.scheme)
	}
	if a.path == "" || a.path == "/" || strings.HasPrefix(a.path, "-") || strings.ContainsAny(a.path, "\x00\n\r") {
		return address{}, fmt.Errorf("the URL of %s names no repository", a.host)
	}
	return a, nil
}

// String is the address as people may see it.
func (a address) String() string {
	return a.scheme + "://" + a.host + "/" + strings.TrimPrefix(a.path, "/")
}

func (a address) hostname() string {
	return (&url.URL{Host: a.host}).Hostname()
}

// hostport is where to connect to, given the scheme's port.
func (a address) hostport(port string) string {
	if p := (&url.URL{Host: a.host}).Port(); p != "" {
		port = p
	}
	return net.JoinHostPort(a.hostname(), port)
}

func (a address) loopback() bool {
	ip := net.ParseIP(a.hostname())
	return a.hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

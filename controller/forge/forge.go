// Package forge speaks with the places where git repositories live: GitHub, GitLab,
// Gitea and Forgejo, Bitbucket. It has two jobs. A Hook hears that somebody pushed, and a
// Client writes at a commit what became of it.
//
// It never believes what a forge says beyond that it said something: a hook's body is
// hashed for its signature and thrown away, an answer to a status is a number and a time
// to wait. It never shows a secret, and a token goes to one host and no other. When to
// look, and what to tell, is for others to decide: it knows no stack and no release.
package forge

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
)

// A Repository is where a remote is, as its forge calls it. It holds no credentials.
type Repository struct {
	Host string // in small letters; with the port where a URL of https has another than its own
	Path string // OWNER/NAME, or GROUP/…/NAME; no slash at its ends and no .git
}

// String is HOST/PATH.
func (r Repository) String() string { return r.Host + "/" + r.Path }

// remoteSchemes are those of remotes that a forge may serve.
var remoteSchemes = []string{"https", "http", "ssh", "git", "git+ssh", "ssh+git"}

// sshHosts are names under which forges offer ssh on port 443.
var sshHosts = map[string]string{"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com", "altssh.bitbucket.org": "bitbucket.org"}

// pathSegment is what forges let people call owners, groups and repositories.
var pathSegment = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// ParseRemote reads a remote's address, a URL or HOST:PATH as ssh has it. It is false for
// what no forge serves: a path on this machine, or one without an owner. User and
// password are left out.
func ParseRemote(remote string) (Repository, bool) {
	remote = strings.TrimSpace(remote)
	var host, path string
	if strings.Contains(remote, "://") {
		u, err := url.Parse(remote)
		if err != nil || !slices.Contains(remoteSchemes, u.Scheme) || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
			return Repository{}, false
		}
		if host, path = u.Hostname(), u.Path; u.Scheme == "https" && u.Port() != "" && u.Port() != "443" {
			host = u.Host
		}
	} else {
		var ok bool
		if host, path, ok = strings.Cut(remote, ":"); !ok || strings.ContainsAny(host, "/\\") {
			return Repository{}, false
		}
		if host = host[strings.LastIndexByte(host, '@')+1:]; len(host) < 2 { // the letter of a drive
			return Repository{}, false
		}
	}
	r := Repository{Host: strings.ToLower(host), Path: strings.TrimSuffix(strings.Trim(path, "/"), ".git")}
	if name, ok := sshHosts[r.Host]; ok {
		r.Host = name
	}
	segments := strings.Split(r.Path, "/")
	if len(segments) < 2 || slices.ContainsFunc(segments, func(s string) bool { return !pathSegment.MatchString(s) || s == "." || s == ".." }) {
		return Repository{}, false
	}
	return r, true
}

// RepositoryOf reads of the work tree that dir lies in where its remote "origin" is. It
// is false where there is no work tree, no such remote, or none that a forge serves, and
// an error where a repository is there that cannot be read.
func RepositoryOf(dir string) (repo Repository, ok bool, err error) {
	defer func() {
		if v := recover(); v != nil { // of the library, over a file that somebody made
			repo, ok, err = Repository{}, false, fmt.Errorf("read the git repository of %s: %v", dir, v)
		}
	}()
	r, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return Repository{}, false, nil
	}
	if err != nil {
		return Repository{}, false, fmt.Errorf("open the git repository of %s: %w", dir, err)
	}
	config, err := r.Config()
	if err != nil {
		return Repository{}, false, fmt.Errorf("read the remotes of %s: %w", dir, err)
	}
	origin := config.Remotes["origin"]
	if origin == nil || len(origin.URLs) == 0 {
		return Repository{}, false, nil
	}
	repo, ok = ParseRemote(origin.URLs[0])
	return repo, ok, nil
}

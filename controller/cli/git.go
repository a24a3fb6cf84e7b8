package cli

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/controller/gitsync"
)

// gitFlags say which git repositories are sources, and how all of them are fetched.
type gitFlags struct {
	urls repositoriesValue
	of   SourceConfig // what holds for each of urls

	cache     string
	maxSize   sizeValue
	allowHTTP bool

	opened []*gitsync.Source
}

func (g *gitFlags) install(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&g.urls, "git", "Git repository of the stacks (https, ssh or file), or NAME=URL; repeatable")
	f.StringVar(&g.of.Ref, "git-ref", "main", "Branch or tag that is followed")
	f.StringVar(&g.of.Path, "git-path", "", "Folder of the repository that holds the stacks (default: its top)")
	f.DurationVar(&g.of.Interval, "git-interval", gitsync.DefaultInterval, "How often the repository is asked for something new")
	f.StringVar(&g.of.TokenFile, "git-token-file", "", "File with a token, for https")
	f.StringVar(&g.of.Username, "git-username", "", "User that goes with the token (default: the URL's, else git)")
	f.StringVar(&g.of.PasswordFile, "git-password-file", "", "File with user:password, for https")
	f.StringVar(&g.of.SSHKeyFile, "git-ssh-key-file", "", "File with a private key, for ssh")
	f.StringVar(&g.of.SSHPassphraseFile, "git-ssh-passphrase-file", "", "File with the passphrase of that key")
	f.StringVar(&g.of.KnownHosts, "git-known-hosts", "", "File with the keys of ssh hosts; no other host is trusted")
	f.StringVar(&g.of.CAFile, "git-ca-file", "", "Trust certificates signed by this CA only, for https")
	f.BoolVar(&g.of.AllowRewind, "git-allow-rewind", false, "Follow the branch to commits that do not descend from the last one, too")
	f.StringVar(&g.of.Verify, "git-verify", "", "File of those who have to have signed a commit: ssh's allowed signers, or an armored OpenPGP keyring")
	f.StringVar(&g.cache, "git-cache", "", "Directory for what is fetched (default: skep/git in the user's cache directory, else /var/cache/skep/git)")
	g.maxSize = sizeValue(gitsync.DefaultLimits.Pack)
	f.Var(&g.maxSize, "git-max-size", "Largest that a fetch, and the files of a commit, may be")
	f.BoolVar(&g.allowHTTP, "git-allow-http", false, "Fetch without TLS from other hosts too; credentials are never sent so")
	for _, name := range []string{"git-token-file", "git-password-file", "git-ssh-key-file", "git-ssh-passphrase-file", "git-known-hosts", "git-ca-file", "git-verify"} {
		_ = cmd.MarkFlagFilename(name)
	}
	_ = cmd.MarkFlagDirname("git-cache")
}

// repositoriesValue are URLs, each with a name or without.
type repositoriesValue []string

func (v *repositoriesValue) Set(s string) error {
	if s == "" {
		return fmt.Errorf("it names no repository (give URL, or NAME=URL)")
	}
	if !slices.Contains(*v, s) {
		*v = append(*v, s)
	}
	return nil
}

// String leaves out what a URL may have that nobody is to see.
func (v *repositoriesValue) String() string {
	var shown []string
	for _, value := range *v {
		name, url, named := namedDirectory(value)
		url, _ = gitsync.Redacted(url)
		if named {
			url = name + "=" + url
		}
		shown = append(shown, url)
	}
	return strings.Join(shown, ", ")
}

func (v *repositoriesValue) Type() string { return "url" }

// configs are the repositories that flags name. Credentials are for one host.
func (g *gitFlags) configs() ([]SourceConfig, error) {
	var all []SourceConfig
	first := ""
	for i, value := range g.urls {
		c := g.of
		c.Name, c.Git, _ = namedDirectory(value)
		_, host := gitsync.Redacted(c.Git)
		if i == 0 {
			first = host
		}
		if host != first && (c.TokenFile != "" || c.PasswordFile != "" || c.SSHKeyFile != "") {
			return nil, usagef("%s: the credentials are for %s (name repositories of several hosts in a file: --sources)", c.place(), first)
		}
		all = append(all, c)
	}
	return all, nil
}

// open makes a source of a repository. Nobody is asked before its Keep runs.
func (g *gitFlags) open(c SourceConfig) (controller.Source, error) {
	interval := c.Interval
	if interval == 0 {
		interval = g.of.Interval
	}
	if interval <= 0 {
		return controller.Source{}, usagef("--git-interval %s: must be more than nothing", interval)
	}
	source, err := gitsync.New(gitsync.Config{
		URL: c.Git, Ref: cmp.Or(c.Ref, "HEAD"), Path: c.Path, Cache: g.cacheOf(c), Interval: max(interval, time.Second),
		Limits:   gitsync.Limits{Pack: int64(g.maxSize), Tree: int64(g.maxSize)},
		Username: c.Username, TokenFile: c.TokenFile, PasswordFile: c.PasswordFile,
		SSHKeyFile: c.SSHKeyFile, SSHPassphraseFile: c.SSHPassphraseFile, KnownHostsFile: c.KnownHosts,
		CAFile: c.CAFile, VerifyFile: c.Verify, AllowHTTP: g.allowHTTP, AllowRewind: c.AllowRewind,
	})
	if err != nil {
		return controller.Source{}, err
	}
	g.opened = append(g.opened, source)
	return controller.Source{
		Name: cmp.Or(c.Name, controller.DefaultSource), Dir: source.Dir(), Remote: c.Git, Rewinds: c.AllowRewind,
		Keep: source.Run, State: source.State, Look: source.Look,
		Asked: func() controller.Asked {
			s := source.Status()
			return controller.Asked{Heard: s.Heard, Results: s.Looks}
		},
	}, nil
}

// close lets go of the caches.
func (g *gitFlags) close() {
	for _, s := range g.opened {
		_ = s.Close() // the process ends
	}
	g.opened = nil
}

// notInName is what a cache's name has not of a repository's.
var notInName = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// cacheOf is the cache of a repository: its own, by what is followed of it, so that
// several share a directory, and each finds its own again.
func (g *gitFlags) cacheOf(c SourceConfig) string {
	dir := g.cache
	if dir == "" {
		dir = filepath.Join("/var/cache", "skep", "git")
		if own, err := os.UserCacheDir(); err == nil {
			dir = filepath.Join(own, "skep", "git")
		}
	}
	sum := sha256.Sum256([]byte(c.shown() + "\x00" + c.Ref + "\x00" + c.Path))
	return filepath.Join(dir, fmt.Sprintf("%s-%x", strings.Trim(notInName.ReplaceAllString(c.base(), "-"), "-"), sum[:6]))
}

package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/controller/gitsync"
	"github.com/skep-io/skep/spec"
)

// A SourceConfig is an entry of a file of sources: a directory, or a git repository.
// Relative paths in it were taken to be below the folder of that file.
type SourceConfig struct {
	Name  string
	Specs string // the directory, empty for a git repository

	Git       string // the repository's URL, empty for a directory
	Ref       string // empty: what the repository's HEAD is
	Path      string // the folder in it that holds the stacks, empty: its top
	Interval  time.Duration
	Username  string
	TokenFile string
	// PasswordFile holds user:password.
	PasswordFile      string
	SSHKeyFile        string
	SSHPassphraseFile string
	KnownHosts        string
	CAFile            string
	// AllowRewind lets the ref move to a commit that does not descend from the one before.
	AllowRewind bool
	Verify      string // file of those whose signature a commit needs, empty: it needs none

	File string // of sources
	Line int    // of the entry in it
}

// maxSourcesFile bounds a file of sources, in bytes.
const maxSourcesFile = 1 << 20

// sourceFlags say where stacks are.
type sourceFlags struct {
	specs specsValue
	file  string
	git   gitFlags // of run alone
}

func (s *sourceFlags) install(cmd *cobra.Command) {
	cmd.Flags().Var(&s.specs, "specs", "Directory of the stacks, or NAME=DIR; repeatable")
	cmd.Flags().StringVar(&s.file, "sources", "", "File that names the sources of stacks, beside --specs")
	_ = cmd.MarkFlagDirname("specs")
	_ = cmd.MarkFlagFilename("sources", "yml", "yaml")
}

// none says that no source was named.
func (s *sourceFlags) none() bool { return len(s.specs) == 0 && s.file == "" && len(s.git.urls) == 0 }

// specsValue are directories, each with a name or without.
type specsValue []string

func (v *specsValue) Set(s string) error {
	if name, dir, named := namedDirectory(s); s == "" || named && dir == "" {
		return fmt.Errorf("%q names no directory (give DIR, or NAME=DIR)", cmp.Or(name, s))
	}
	if !slices.Contains(*v, s) { // the shell's completion parses flags twice
		*v = append(*v, s)
	}
	return nil
}

func (v *specsValue) String() string { return strings.Join(*v, ", ") }
func (v *specsValue) Type() string   { return "string" }

// namedDirectory takes NAME=DIR apart. A path with = in it is one where a slash comes
// before that, as in ./a=b.
func namedDirectory(s string) (name, dir string, named bool) {
	name, dir, named = strings.Cut(s, "=")
	if !named || controller.CheckSourceName(name) != nil {
		return "", s, false
	}
	return name, dir, true
}

// configs are the sources that flags and file name. One directory alone that has no name
// is called as it ever was; of several each is called as its folder.
func (s *sourceFlags) configs() ([]SourceConfig, error) {
	var all []SourceConfig
	for _, value := range s.specs {
		name, dir, _ := namedDirectory(value)
		all = append(all, SourceConfig{Name: name, Specs: dir})
	}
	repositories, err := s.git.configs()
	if err != nil {
		return nil, err
	}
	all = append(all, repositories...)
	if s.file != "" {
		more, err := readSources(s.file)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	if len(all) == 0 {
		return nil, errNoSpecs
	}
	for i := range all {
		x := &all[i]
		if x.Name == "" && len(all) > 1 {
			x.Name = x.base()
			if controller.CheckSourceName(x.Name) != nil {
				return nil, usagef("%s: a source cannot be called %q (%s)", x.place(), x.Name, x.named("give it a name:"))
			}
		}
		if n := slices.IndexFunc(all[:i], func(o SourceConfig) bool { return o.Name == x.Name }); n >= 0 {
			return nil, usagef("%s: there are two sources %s (%s)", x.place(), x.Name, x.rename())
		}
	}
	return all, nil
}

// place is where a source was named.
func (c *SourceConfig) place() string {
	if c.File != "" {
		return fmt.Sprintf("%s:%d", c.File, c.Line)
	}
	if c.Git != "" {
		return strings.TrimSpace("--git " + c.shown())
	}
	return "--specs " + c.Specs
}

// shown is the repository's URL as people may see it.
func (c *SourceConfig) shown() string {
	shown, _ := gitsync.Redacted(c.Git)
	return shown
}

// base is what a source is called that nobody gave a name.
func (c *SourceConfig) base() string {
	if c.Git != "" {
		return strings.TrimSuffix(path.Base(c.shown()), ".git")
	}
	return filepath.Base(filepath.Clean(c.Specs))
}

// rename is how it gets another name.
func (c *SourceConfig) rename() string {
	return c.named("give one another name:")
}

// named is an advice to give a name, with how.
func (c *SourceConfig) named(advice string) string {
	switch {
	case c.File != "":
		return advice
	case c.Git != "":
		return advice + " --git NAME=" + c.shown()
	}
	return advice + " --specs NAME=" + c.Specs
}

// sources are the sources as a daemon takes them.
func (a *app) sources(flags *sourceFlags) ([]controller.Source, error) {
	configs, err := flags.configs()
	if err != nil {
		return nil, err
	}
	var all []controller.Source
	for _, c := range configs {
		source := controller.Source{Name: cmp.Or(c.Name, controller.DefaultSource), Dir: c.Specs}
		if c.Git != "" {
			if a.openGit == nil {
				return nil, fmt.Errorf("%s: source %s is a git repository, which this skep cannot fetch (check it out, and name the directory with specs:)", c.place(), c.Name)
			}
			if source, err = a.openGit(c); err != nil {
				return nil, fmt.Errorf("%s: source %s: %w", c.place(), c.Name, err)
			}
		}
		all = append(all, source)
	}
	return all, nil
}

// readSpecs reads the sources, all of them and completely.
func (a *app) readSpecs(ctx context.Context, flags *sourceFlags, specs *specFlags) (*spec.Snapshot, error) {
	snapshot, err := a.scan(ctx, flags, specs)
	if err == nil && !snapshot.Complete {
		err = fmt.Errorf("read stacks: %w", snapshot.Err)
	}
	if err != nil {
		return nil, err
	}
	return snapshot, nil
}

// readSpecsAt reads the one directory that was named as a git ref has it, or all sources
// as they are where ref is empty.
func (a *app) readSpecsAt(ctx context.Context, flags *sourceFlags, ref string, specs *specFlags) (*spec.Snapshot, error) {
	if ref == "" {
		return a.readSpecs(ctx, flags, specs)
	}
	configs, err := flags.configs()
	if err != nil {
		return nil, err
	}
	if len(configs) > 1 || configs[0].Git != "" {
		return nil, usagef("--git-ref %s: reads one directory (name it alone with --specs)", ref)
	}
	o, err := specs.options(a.lookup)
	if err != nil {
		return nil, err
	}
	o.Part = configs[0].Name != ""
	snapshot, err := scanRef(ctx, configs[0].Specs, ref, o)
	if err != nil {
		return nil, fmt.Errorf("read stacks: %w", err)
	}
	return spec.Join(spec.Part{Name: configs[0].Name, Snapshot: snapshot}), nil
}

// scanRef reads a directory as a git ref has it, all of it. When it returns nothing of
// that is on disk any more.
func scanRef(ctx context.Context, dir, ref string, o spec.Options) (snapshot *spec.Snapshot, err error) {
	tree, err := spec.OpenRef(ctx, dir, ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	snapshot = tree.Scan(ctx, o)
	if !snapshot.Complete {
		return nil, snapshot.Err
	}
	return snapshot, nil
}

// scan reads the sources as far as they can be.
func (a *app) scan(ctx context.Context, flags *sourceFlags, specs *specFlags) (*spec.Snapshot, error) {
	configs, err := flags.configs()
	if err != nil {
		return nil, err
	}
	o, err := specs.options(a.lookup)
	if err != nil {
		return nil, err
	}
	o.Part = configs[0].Name != ""
	var parts []spec.Part
	for _, c := range configs {
		if c.Git != "" {
			return nil, fmt.Errorf("%s: source %s is a git repository, and only skep run fetches one (check it out, and name the directory with --specs)", c.place(), c.Name)
		}
		parts = append(parts, spec.Part{Name: c.Name, Snapshot: spec.Scan(ctx, c.Specs, o)})
	}
	return spec.Join(parts...), nil
}

// readSources reads a file of sources. Its error names the line of everything that is
// wrong in it.
func readSources(file string) ([]SourceConfig, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSourcesFile+1))
	if err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	if len(text) > maxSourcesFile {
		return nil, fmt.Errorf("read sources: %s is larger than %d bytes", file, maxSourcesFile)
	}
	return parseSources(file, text)
}

// A sourcesReader reads a file of sources, and gathers what is wrong in it.
type sourcesReader struct {
	file  string
	wrong []error
}

func parseSources(file string, text []byte) ([]SourceConfig, error) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	r := &sourcesReader{file: file}
	all := r.document(&doc)
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		r.say(doc.Line, "there is more than one document (keep the first, without ---)")
	}
	if len(r.wrong) > 0 {
		return nil, errors.Join(r.wrong...)
	}
	return all, nil
}

func (r *sourcesReader) say(line int, format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf("%s:%d: %s", r.file, max(line, 1), fmt.Sprintf(format, args...)))
}

func (r *sourcesReader) document(doc *yaml.Node) (all []SourceConfig) {
	if len(doc.Content) == 0 {
		r.say(1, "the file is empty (write sources: and a list of them)")
		return nil
	}
	top := r.mapping(doc.Content[0], "the file", []string{"sources"})
	list := top["sources"]
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		r.say(doc.Content[0].Line, "there are no sources (write sources: and a list of them, each with name: and specs: or git:)")
		return nil
	}
	for _, entry := range list.Content {
		if c := r.source(entry); !slices.ContainsFunc(all, func(o SourceConfig) bool { return o.Name == c.Name && c.Name != "" }) {
			all = append(all, c)
		} else {
			r.say(c.Line, "there are two sources %s (give one another name:)", c.Name)
		}
	}
	return all
}

// ofGit are the keys that a directory has no use for.
var ofGit = []string{"ref", "path", "interval", "username", "token-file", "password-file", "ssh-key-file", "ssh-passphrase-file", "known-hosts", "ca-file", "allow-rewind", "verify"}

func (r *sourcesReader) source(n *yaml.Node) SourceConfig {
	keys := r.mapping(n, "a source", append([]string{"name", "specs", "git"}, ofGit...))
	file := func(key string) string {
		name := r.text(keys, key)
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(r.file), name)
	}
	c := SourceConfig{
		Name: r.text(keys, "name"), Specs: file("specs"),
		Git: r.text(keys, "git"), Ref: r.text(keys, "ref"), Path: r.text(keys, "path"), Interval: r.duration(keys, "interval"),
		Username: r.text(keys, "username"), TokenFile: file("token-file"), SSHKeyFile: file("ssh-key-file"), KnownHosts: file("known-hosts"),
		AllowRewind: r.truth(keys, "allow-rewind"), Verify: file("verify"),
		PasswordFile: file("password-file"), SSHPassphraseFile: file("ssh-passphrase-file"), CAFile: file("ca-file"),
		File: r.file, Line: n.Line,
	}
	if n.Kind != yaml.MappingNode {
		return c // that was said
	}
	if err := controller.CheckSourceName(c.Name); err != nil {
		r.say(n.Line, "%s (write name:)", err)
	}
	switch specs, git := keys["specs"] != nil, keys["git"] != nil; {
	case specs == git:
		r.say(n.Line, "source %s needs specs: with a directory, or git: with a repository's URL, and not both", c.Name)
	case specs:
		for _, key := range ofGit {
			if k := keys[key]; k != nil {
				r.say(k.Line, "%s is for a git repository, and source %s is a directory (take it out)", key, c.Name)
			}
		}
	}
	return c
}

// mapping is what stands below a place, by its keys, which have to be known and to stand
// there once.
func (r *sourcesReader) mapping(n *yaml.Node, what string, known []string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		r.say(n.Line, "%s has to be keys with values (%s)", what, strings.Join(known, ", "))
		return nil
	}
	out := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case !slices.Contains(known, key.Value):
			r.say(key.Line, "%s is not known in %s (%s)", key.Value, what, orElse(meant(key.Value, known), "the keys are "+strings.Join(known, ", ")))
		case out[key.Value] != nil:
			r.say(key.Line, "%s stands in %s twice (keep one)", key.Value, what)
		default:
			out[key.Value] = value
		}
	}
	return out
}

// text is the value of a key, empty where it is not there.
func (r *sourcesReader) text(keys map[string]*yaml.Node, key string) string {
	n := keys[key]
	switch {
	case n == nil:
		return ""
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "":
		r.say(n.Line, "%s has to be text (give it a value, or take it out)", key)
		return ""
	}
	return n.Value
}

func (r *sourcesReader) duration(keys map[string]*yaml.Node, key string) time.Duration {
	text := r.text(keys, key)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		r.say(keys[key].Line, "%s: %q is no duration (write it like 1m or 30s)", key, text)
		return 0
	}
	return d
}

func (r *sourcesReader) truth(keys map[string]*yaml.Node, key string) bool {
	switch text := r.text(keys, key); text {
	case "true":
		return true
	case "", "false":
		return false
	default:
		r.say(keys[key].Line, "%s: %q is neither true nor false", key, text)
		return false
	}
}

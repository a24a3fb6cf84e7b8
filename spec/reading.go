package spec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"gopkg.in/yaml.v3"
)

// A reading is what came of one site.
type reading struct {
	site     site
	stack    *Stack // nil where there is a problem
	findings []Finding
	// names are those that the site claims: its stack's; where it is broken, every
	// one that its stack may be running under.
	names []string
	// unsure says that the stack may run under a name that is not among names.
	unsure bool
	memo   memo
}

// A memo is what is kept of a reading until the next scan.
type memo struct {
	name  string // of the last stack that loaded here
	file  string // the compose file that it was loaded from
	stack *Stack // nil where it did not load
	files map[string]imprint
	// proven says that files are what the stack was made of: they were the same
	// before and after it was loaded.
	proven bool
}

// An imprint tells one content of a file from another; the zero value: no such file.
type imprint struct {
	sum  [sha256.Size]byte
	blob plumbing.Hash // as git hashes it
	// failed says why there is no sum.
	failed  string
	changed time.Time // when the file says it was
}

// same says that both are the same content.
func (p imprint) same(q imprint) bool { return p.sum == q.sum && p.failed == q.failed }

// read loads the stack of a site, unless it is as it was.
func (s *Scanner) read(ctx context.Context, at site) reading {
	old := s.memo[at.key]
	if at.problem != nil {
		return broken(at, old, s.imprints(ctx, at, at.files), []Finding{*at.problem})
	}
	files := slices.Collect(maps.Keys(old.files))
	files = append(files, at.file, at.dotenv)
	before := s.imprints(ctx, at, files)
	if old.stack != nil && old.proven && old.file == at.file && maps.EqualFunc(before, old.files, imprint.same) {
		return reading{site: at, stack: old.stack, names: []string{old.name}, memo: old}
	}
	for try := 1; ; try++ {
		start := s.now().Add(-clockSlack)
		stack, findings := s.load(ctx, at.stackFile, s.o)
		files := []string{at.file, at.dotenv}
		if stack != nil {
			files = append(files, stack.Source.Files...)
		}
		after := s.imprints(ctx, at, files)
		switch moved, proven := compare(before, after, start); {
		case moved && try == maxRereads, ctx.Err() != nil:
			return broken(at, old, after, []Finding{{File: at.file, Severity: Error, Code: "unstable",
				Message: "the stack's files change while they are read (they are read again when they come to rest)"}})
		case moved:
			before = after
			s.rest(ctx)
		case stack == nil || hasError(findings):
			return broken(at, old, after, findings)
		default:
			m := memo{name: stack.Name, file: at.file, stack: stack, files: after, proven: proven}
			return reading{site: at, stack: stack, names: []string{stack.Name}, memo: m}
		}
	}
}

// compare tells from the imprints before and after a stack was loaded whether a file
// moved meanwhile, and whether it is proven that none did. A file that was not
// known before counts as moved when it was changed since the load started.
func compare(before, after map[string]imprint, start time.Time) (moved, proven bool) {
	proven = true
	for file, now := range after {
		was, known := before[file]
		proven = proven && known
		moved = moved || known && !was.same(now) || !known && now.changed.After(start)
	}
	return moved, proven && !moved
}

// broken is the reading of a site whose stack cannot be had.
func broken(at site, old memo, files map[string]imprint, findings []Finding) reading {
	r := reading{site: at, findings: findings, memo: memo{name: old.name, files: files}}
	claim := func(name string) {
		if name != "" && !slices.Contains(r.names, name) {
			r.names = append(r.names, name)
		}
	}
	for _, file := range at.files {
		name, sure := declaredName(at.root, file, at.name)
		claim(name)
		r.unsure = r.unsure || !sure
	}
	if len(at.files) == 0 {
		r.unsure = true
	}
	claim(old.name)
	if len(r.names) == 0 {
		claim(at.name)
	}
	return r
}

// nameLine is a stack's name where the text around it is not YAML.
var nameLine = regexp.MustCompile(`(?m)^name:[ \t]+["']?([^\s"'#]+)`)

// declaredName is the name of the stack that a file describes, fallback where it
// says none; and whether that is sure, which it is not in a file that cannot be
// parsed or whose name takes more than reading.
func declaredName(root *os.Root, file, fallback string) (name string, sure bool) {
	text, err := readText(root, file)
	if err != nil {
		return fallback, false
	}
	return nameIn(text, fallback)
}

// nameIn is declaredName of a file's text.
func nameIn(text []byte, fallback string) (name string, sure bool) {
	if checkText(text, 0) != nil {
		if m := nameLine.FindSubmatch(text[:min(len(text), maxTextSize)]); m != nil && !bytes.Contains(m[1], []byte("$")) {
			return string(m[1]), false
		}
		return fallback, false
	}
	var docs []yaml.Node
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		if d.Decode(&doc) != nil {
			break
		}
		docs = append(docs, doc)
	}
	if len(docs) != 1 || len(docs[0].Content) != 1 || docs[0].Content[0].Kind != yaml.MappingNode {
		return fallback, false
	}
	name, sure = fallback, true
	for top, i := docs[0].Content[0].Content, 0; i+1 < len(top); i += 2 {
		switch key, value := top[i], top[i+1]; {
		case key.Value == "name" && value.Kind == yaml.ScalarNode && !strings.Contains(value.Value, "$") && value.Value != "":
			name = value.Value
		case key.Value == "name", key.Value == "<<":
			sure = false
		}
	}
	return name, sure
}

// readText reads what there is of a regular file, up to a bit more than may be.
func readText(root *os.Root, file string) ([]byte, error) {
	f, err := openRegular(root, file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxTextSize+1))
}

// openRegular opens a file without waiting for the other end of a pipe.
func openRegular(root *os.Root, file string) (*os.File, error) {
	f, err := root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", file))
	}
	return f, nil
}

// clockSlack is how far a file system's clock may be behind the process's. Where it
// is further, a change in the middle of a stack's first load is found by the next
// scan, which does not take that load for proven.
const clockSlack = 100 * time.Millisecond

// imprints reads files.
func (s *Scanner) imprints(ctx context.Context, at site, files []string) map[string]imprint {
	out := make(map[string]imprint, len(files))
	for _, file := range files {
		if _, ok := out[file]; !ok && file != "" {
			out[file] = s.imprint(ctx, at.root, file)
		}
	}
	return out
}

// imprint reads a file, again while it moves under the reader.
func (s *Scanner) imprint(ctx context.Context, root *os.Root, file string) imprint {
	for range maxRereads {
		p, stable := s.imprintOnce(root, file)
		if stable || ctx.Err() != nil {
			return p
		}
		s.rest(ctx)
	}
	return imprint{failed: "it keeps changing", changed: s.now()}
}

// imprintOnce reads a file and says whether it stood still meanwhile.
func (s *Scanner) imprintOnce(root *os.Root, file string) (p imprint, stable bool) {
	f, err := openRegular(root, file)
	if errors.Is(err, fs.ErrNotExist) {
		return imprint{}, true
	}
	if err != nil {
		return imprint{failed: err.Error()}, true
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return imprint{failed: err.Error()}, true
	}
	sum, blob := sha256.New(), plumbing.NewHasher(plumbing.BlobObject, before.Size())
	buffer := make([]byte, min(before.Size()+1, 32<<10))
	n, err := io.CopyBuffer(io.MultiWriter(sum, blob), struct{ io.Reader }{f}, buffer)
	if err != nil {
		return imprint{failed: err.Error()}, true
	}
	after, err := root.Stat(file)
	if err != nil {
		return imprint{}, false
	}
	stable = n == before.Size() && os.SameFile(before, after) && before.Size() == after.Size() && before.ModTime().Equal(after.ModTime())
	p = imprint{blob: blob.Sum(), changed: after.ModTime()}
	sum.Sum(p.sum[:0])
	return p, stable
}

// name gives the Snapshot and its stacks their revision.
func (s *Scanner) name(snap *Snapshot, dir string, readings []reading) {
	files := map[string]imprint{}
	for _, r := range readings {
		for file, p := range r.memo.files {
			if p != (imprint{}) {
				files[file] = p
			}
		}
	}
	commit, err := s.git.at(dir, gitFiles(files))
	if err != nil {
		snap.Findings = append(snap.Findings, Finding{File: ".", Severity: Info, Code: "git-unreadable",
			Message: fmt.Sprintf("%v (the revision is the content's hash instead)", err)})
	}
	snap.Commit, snap.Revision = commit, revisionOf(commit, files, readings)
	for name, stack := range snap.Stacks {
		named := *stack
		named.Source.Revision, named.Source.Commit = snap.Revision, commit
		snap.Stacks[name] = &named
	}
}

// gitFiles are files as git knows them, sorted.
func gitFiles(files map[string]imprint) []gitFile {
	var out []gitFile
	for _, file := range slices.Sorted(maps.Keys(files)) {
		out = append(out, gitFile{file, files[file].blob})
	}
	return out
}

// revisionOf names what was read: by its commit, or by its content. A revision is
// shown to everybody, and a hash over a secret is something to guess it by: files
// that a secret's value came from go into it by name alone.
func revisionOf(c *Commit, files map[string]imprint, readings []reading) string {
	if c != nil {
		if c.Dirty {
			return c.Short + "-dirty"
		}
		return c.Short
	}
	hidden := secretFiles(readings)
	all := sha256.New()
	for _, file := range slices.Sorted(maps.Keys(files)) {
		p := files[file]
		if hidden[file] {
			p = imprint{}
		}
		fmt.Fprintf(all, "%q %x %q\n", file, p.sum, p.failed)
	}
	return "sha256:" + hex.EncodeToString(all.Sum(nil))[:12]
}

// secretFiles are the files that hold a value of a secret: those that are one as a
// whole, and all variables of a stack that takes secrets from elsewhere.
func secretFiles(readings []reading) map[string]bool {
	out := map[string]bool{}
	for _, r := range readings {
		if r.stack == nil {
			continue
		}
		for _, secret := range r.stack.Secrets {
			value := secret.Value.Reveal()
			if len(value) == 0 {
				continue
			}
			sum, found := sha256.Sum256(value), false
			for file, p := range r.memo.files {
				if p.sum == sum {
					out[file], found = true, true
				}
			}
			if !found {
				out[r.site.dotenv] = true
				for _, file := range r.stack.Source.variables {
					out[file] = true
				}
			}
		}
	}
	return out
}

// Package sops opens files that are kept encrypted in git: those of the program sops,
// as YAML, JSON, dotenv and binary, and plain age files. It does so by itself for age
// recipients that it has a key of, and by the program sops for the rest, where there
// is one.
//
// It works on bytes in memory. It never writes a file, never gives out a plaintext
// that was not authenticated as a whole, and no error of it tells a value, a key, or
// anything that either could be guessed by.
package sops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A Format is how an encrypted file is written.
type Format string

// The formats of sops are those it calls by these names; Age is a file of the program
// age, as bytes or armored.
const (
	YAML   Format = "yaml"
	JSON   Format = "json"
	Dotenv Format = "dotenv"
	Binary Format = "binary"
	INI    Format = "ini"
	Age    Format = "age"
)

// A File is one that is encrypted.
type File struct {
	Format Format
	data   []byte
	tree   []branch // its documents without metadata; nil for INI and Age
	meta   metadata
	vaults []string // addresses that it would have the program sops ask
	header ageHeader
}

// Why a file is not opened.
var (
	// ErrNoKey is of a file that is in order, as far as one can tell without its key,
	// and that no key there is opens.
	ErrNoKey = errors.New("no key opens it")
	// ErrDamaged is of a file that is not what was encrypted: cut off, merged by hand, or
	// changed by somebody.
	ErrDamaged = errors.New("it is damaged")
)

// refusal is an error of one of the kinds above, in words.
type refusal struct {
	kind error
	why  string
}

func (r *refusal) Error() string { return r.why }
func (r *refusal) Unwrap() error { return r.kind }

func noKey(format string, args ...any) error {
	return &refusal{ErrNoKey, fmt.Sprintf(format, args...)}
}

func damaged(format string, args ...any) error {
	return &refusal{ErrDamaged, fmt.Sprintf(format, args...)}
}

// What a file may be at most. The bounds are for whoever writes hostile ones.
const (
	maxSize       = 4 << 20 // of a file, in bytes
	maxNodes      = 100_000 // values and comments, with aliases expanded
	maxDepth      = 100
	maxMarks      = 200_000  // lines, commas and comments: what a parser's memory follows
	maxContext    = 64 << 20 // bytes of paths that values are bound to
	maxRecipients = 100
	maxPattern    = 1000 // characters of a regular expression
)

// What tells an encrypted file by its content. The first of each pair is a cheap look,
// so that texts that are none are not parsed.
var (
	sopsKey    = regexp.MustCompile(`(?m)(^|[{,])[ \t\r\n]*["']?sops["']?[ \t\r\n]*:`)
	sopsLine   = regexp.MustCompile(`(?m)^sops_mac=`)
	sopsINI    = regexp.MustCompile(`(?m)^\[sops\][ \t\r]*$`)
	sopsINIMac = regexp.MustCompile(`(?m)^mac[ \t]*=[ \t]*ENC\[`)
)

// Recognise tells an encrypted file by its content; its name, as sops does it, tells
// YAML, JSON, dotenv and binary apart where the content alone does not. It is nil for
// any other file: also for one that is called *.age or has a key named sops, without
// what makes it encrypted. An error, of the kind ErrDamaged, says that a file is
// encrypted, and cannot be read as such by anybody.
func Recognise(name string, data []byte) (*File, error) {
	if isAge(data) {
		header, err := readAgeHeader(data)
		if err != nil {
			return nil, err
		}
		return &File{Format: Age, data: data, header: header}, nil
	}
	format, ok := formatOf(name, data)
	if !ok {
		return nil, nil
	}
	if len(data) > maxSize {
		return nil, damaged("it is encrypted, and has more than the %d MiB that are read of such a file", maxSize>>20)
	}
	if format == INI {
		f := &File{Format: INI, data: data}
		f.vaults = vaultsNamed(f)
		return f, nil
	}
	return parse(format, data)
}

// formatOf is how a file is written that may be one of sops.
func formatOf(name string, data []byte) (Format, bool) {
	if !bytes.Contains(data, []byte("sops")) {
		return "", false
	}
	text := bytes.TrimPrefix(data, []byte("\ufeff"))
	base := path.Base(name)
	ext := path.Ext(base)
	hasKey := sopsKey.Match(text)
	object := bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{"))
	switch {
	case hasKey && (ext == ".yaml" || ext == ".yml"):
		return YAML, true
	case hasKey && object && ext == ".json":
		return JSON, true
	case hasKey && object:
		return Binary, true // or JSON, by what is in it
	case sopsLine.Match(text):
		return Dotenv, true
	case sopsINI.Match(text) && sopsINIMac.Match(text):
		return INI, true
	case hasKey && ext != ".env" && ext != ".ini" && ext != ".json":
		return YAML, true
	}
	return "", false
}

// parse reads a file of sops; nil where it has no metadata.
func parse(format Format, data []byte) (*File, error) {
	f := &File{Format: format, data: data}
	var err error
	switch format {
	case YAML:
		f.tree, err = readYAML(data)
	case JSON, Binary:
		f.tree, err = readJSON(data)
	case Dotenv:
		f.tree, err = readDotenv(data)
	}
	if err != nil {
		if !bytes.Contains(data, []byte(encPrefix)) {
			return nil, nil // no value in it is encrypted: it is somebody's text
		}
		return nil, damaged("it holds encrypted values and %v", err)
	}
	f.vaults = vaultsNamed(f)
	meta, ok := f.takeMetadata()
	if !ok {
		return nil, nil
	}
	if f.meta, err = readMetadata(meta); err != nil {
		return nil, err
	}
	if format == Binary && !f.isBinary() {
		f.Format = JSON
	}
	return f, nil
}

// isBinary says that an object is the envelope of any bytes.
func (f *File) isBinary() bool {
	if len(f.tree) != 1 || len(f.tree[0]) != 1 {
		return false
	}
	_, isText := f.tree[0][0].value.(string)
	return isText && f.tree[0][0].key == "data"
}

// takeMetadata takes the metadata out of the documents; false where there is none with
// a mac.
func (f *File) takeMetadata() (map[string]any, bool) {
	found := map[string]any{}
	for n := range f.tree {
		f.tree[n] = slices.DeleteFunc(f.tree[n], func(i item) bool {
			key, _ := i.key.(string)
			if f.Format == Dotenv {
				name, isMeta := strings.CutPrefix(key, "sops_")
				if isMeta && n == 0 {
					found[name] = i.value
				}
				return isMeta
			}
			if key == "sops" && n == 0 {
				if block, ok := plainTree(i.value).(map[string]any); ok {
					found = block
				}
			}
			return key == "sops"
		})
	}
	mac, ok := found["mac"].(string)
	return found, ok && mac != ""
}

// Recipients are the public keys that a file says it is encrypted for, and the names of
// other kinds of keys. A plain age file does not say.
func (f *File) Recipients() []string {
	var out []string
	for _, key := range f.meta.age {
		out = append(out, clean(key.recipient))
	}
	return append(out, f.meta.others...)
}

// Names are the keys that a file has at its top, which are not encrypted; nil where its
// format has none.
func (f *File) Names() []string {
	if f.Format == Binary || f.Format == Age || f.Format == INI {
		return nil
	}
	var out []string
	for _, document := range f.tree {
		for _, i := range document {
			if key, ok := i.key.(string); ok {
				out = append(out, key)
			}
		}
	}
	return out
}

// A Budget bounds what opening many files takes together. The zero value is a full one.
type Budget struct{ spent int }

// maxTries is how often a key is tried on a stanza; one try takes about 60 µs, for a
// post-quantum key several times that.
const maxTries = 20_000

// take says whether n more tries may be had.
func (b *Budget) take(n int) error {
	if b.spent += n; b.spent > maxTries {
		return noKey("the files of the stack have too many recipients together to try all keys on")
	}
	return nil
}

// Open decrypts a file. Its error is of the kind ErrNoKey or ErrDamaged, or ctx's.
func (k *Keys) Open(ctx context.Context, f *File, b *Budget) ([]byte, error) {
	switch {
	case f.Format == Age:
		return k.openAge(f, b)
	case k.mode == Always:
		return k.program.open(ctx, f)
	}
	plain, err := k.openNative(f, b)
	if !errors.Is(err, ErrNoKey) || k.mode == Never || k.program == nil {
		return plain, err
	}
	plain, failed := k.program.open(ctx, f)
	if errors.Is(failed, ErrNoKey) && f.forAgeAlone() {
		return nil, err // which says more
	}
	return plain, failed
}

// forAgeAlone says that all keys that would open a file of sops are of age.
func (f *File) forAgeAlone() bool {
	return f.Format != INI && !f.meta.shamir && len(f.meta.others) == 0
}

// openNative opens a file of sops without the program.
func (k *Keys) openNative(f *File, b *Budget) ([]byte, error) {
	if f.Format == INI {
		return nil, noKey("it is an INI file of sops, which only the program sops opens (have that in PATH, or encrypt it as YAML, JSON, dotenv or binary)")
	}
	if f.meta.shamir {
		return nil, noKey("its key is split over several key groups, which only the program sops puts together (have that in PATH, or encrypt it with one key group)")
	}
	if len(f.meta.age) == 0 {
		return nil, noKey("it is encrypted for no age key, but for %s, which only the program sops opens (have that in PATH, or encrypt it for an age key too)", listed(f.meta.others))
	}
	key, err := k.dataKey(f.meta.age, b)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if err := f.decrypt(key); err != nil {
		return nil, err
	}
	return f.plain()
}

// plain is the text of a tree that was decrypted, as sops writes it.
func (f *File) plain() ([]byte, error) {
	switch f.Format {
	case YAML:
		return writeYAML(f.tree)
	case JSON:
		return writeJSON(f.tree[0])
	case Dotenv:
		return writeDotenv(f.tree[0])
	}
	text, ok := f.tree[0][0].value.(string)
	if !ok {
		return nil, damaged("its data is no text")
	}
	return []byte(text), nil
}

// listed joins at most five words as a sentence does.
func listed(words []string) string {
	const most = 5
	if n := len(words); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), n-most)
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

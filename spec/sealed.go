package spec

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
	"unicode"

	"github.com/docker/docker/api/types/mount"

	"github.com/skep-io/skep/spec/sops"
)

// Files that are kept encrypted in git are decrypted here, between the reading of a file
// and its use, for the stack that names it: in memory alone. What was read, and goes into
// the stack's fingerprint, are the encrypted bytes.

// LabelMasked is a service's label that names, parted by spaces, the fields whose values
// are not to be shown, since they came out of encrypted files: "environment.DSN",
// "command". It stays on the live service, so that the value before is not shown either.
const LabelMasked = "skep.masked"

// A fileText is what a file holds that a stack names.
type fileText struct {
	data []byte
	// sealed says that it was encrypted, and that no value of it is to be shown.
	sealed bool
	// unopened says why it was not decrypted where that is only a warning: then data is
	// a stand-in. Else it is empty.
	unopened string
	// names are the keys that it has at its top, of a format that does not encrypt them.
	names []string
}

// A fileProblem says why a file cannot be had; the zero value: it can.
type fileProblem struct {
	text string
	kind problemKind
}

type problemKind int

const (
	notRead problemKind = iota // for a reason that the place which names the file has a code for
	locked                     // encrypted, and no key opens it
	damaged                    // encrypted, and not what was
)

// sealedProblem records a problem that is about an encrypted file; false where it is not.
func (r *report) sealedProblem(p fileProblem, at []string) bool {
	switch p.kind {
	case locked:
		r.fail("secret-not-decrypted", at, "%s", p.text)
	case damaged:
		r.fail("secret-damaged", at, "%s", p.text)
	default:
		return false
	}
	return true
}

// standIn is what a value is taken for that could not be decrypted: a number, a tag and
// a word of a path may all be it.
const standIn = "0"

// maxSealed bounds the encrypted files of a stack together, in bytes.
const maxSealed = 16 << 20

// readsSealed says whether the stack has its encrypted files decrypted: x-skep.decrypt of
// its own file, which is asked before anything else in it is understood.
func readsSealed(doc *document) bool {
	wanted, said := mapping(doc.tree, "x-skep")["decrypt"].(bool)
	return wanted || !said
}

// open decrypts a file's content, if it is encrypted; each file once. The file is the
// clean path of one in the stack's folder.
func (l *loading) open(file string, data []byte) (fileText, fileProblem) {
	if !l.decrypts {
		return fileText{data: data}, fileProblem{}
	}
	if known, ok := l.opened[file]; ok {
		return known.text, known.problem
	}
	text, problem := l.openOnce(file, data)
	if l.opened == nil {
		l.opened = map[string]openedFile{}
	}
	l.opened[file] = openedFile{text, problem}
	return text, problem
}

// An openedFile is what came of opening one.
type openedFile struct {
	text    fileText
	problem fileProblem
}

func (l *loading) openOnce(file string, data []byte) (fileText, fileProblem) {
	told := path.Clean(l.report.told(file))
	if l.sealed > maxSealed { // and nothing more is looked into
		return fileText{}, fileProblem{fmt.Sprintf("before %s, the stack's encrypted files have more than %d MiB together (name fewer, or split the stack)", told, maxSealed>>20), locked}
	}
	f, err := sops.Recognise(file, data)
	if f != nil || err != nil {
		l.sealed += len(data)
	}
	switch {
	case err != nil:
		return fileText{}, fileProblem{fmt.Sprintf("%s cannot be decrypted by anybody: %s", told, withRemedy(err, "encrypt it anew or, where it is meant as it is, say decrypt: false in x-skep")), damaged}
	case f == nil:
		return fileText{data: data}, fileProblem{}
	}
	if l.o.Lenient {
		return fileText{sealed: true, data: []byte(standIn), names: f.Names(),
			unopened: fmt.Sprintf("%s is encrypted%s, and was not decrypted: what depends on its values was not looked at (give --age-key-file FILE where there is a key)", told, forWhom(f))}, fileProblem{}
	}
	keys := l.o.Keys
	if keys == nil {
		keys = noKeys
	}
	plain, err := keys.Open(l.ctx, f, &l.budget)
	switch {
	case errors.Is(err, sops.ErrDamaged):
		return fileText{}, fileProblem{fmt.Sprintf("%s cannot be decrypted: %s", told, withRemedy(err, "encrypt it anew")), damaged}
	case err != nil:
		return fileText{}, fileProblem{fmt.Sprintf("%s is encrypted%s, and cannot be decrypted: %s", told, forWhom(f), withRemedy(err, "try again")), locked}
	}
	return fileText{data: plain, sealed: true, names: f.Names()}, fileProblem{}
}

// noKeys open nothing, and say what to do about that.
var noKeys, _ = sops.NewKeys("", sops.Never, nil)

// withRemedy is an error as a sentence that ends with what to do.
func withRemedy(err error, remedy string) string {
	if text := err.Error(); strings.HasSuffix(text, ")") {
		return text
	}
	return fmt.Sprintf("%v (%s)", err, remedy)
}

// forWhom tells for which public keys a file is encrypted, as far as it says so.
func forWhom(f *sops.File) string {
	const most = 5
	names := f.Recipients()
	if len(names) == 0 {
		return ""
	}
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", more))
	}
	return " for " + listed(names)
}

// sealVariables remembers variables that came out of an encrypted file.
func (l *loading) sealVariables(vars map[string]string) {
	for name, value := range vars {
		if l.report.sealed == nil {
			l.report.sealed = map[string]map[string]bool{}
		}
		if l.report.sealed[name] == nil {
			l.report.sealed[name] = map[string]bool{}
		}
		l.report.sealed[name][value] = true
	}
}

// isSealed says that a variable has a value that came out of an encrypted file.
func (c *concealment) isSealed(name, value string) bool { return c.sealed[name][value] }

// maxSealedWork is how often values out of encrypted files are looked for in texts. From
// there on all texts count as such: rather too much is hidden than too little.
const maxSealedWork = 20_000_000

// hides says whether a text is, or holds, a value that came out of an encrypted file.
func (c *converter) hides(text string) bool {
	if len(c.report.sealed) == 0 || text == "" {
		return false
	}
	if c.sealedValues == nil {
		c.sealedValues = map[string]bool{}
		for _, values := range c.report.sealed {
			for value := range values {
				if isSwitch(value) {
					continue // or half of all services would be masked
				}
				c.sealedValues[value] = true
				if len(value) >= minConcealed {
					c.sealedLong = append(c.sealedLong, value)
				}
			}
		}
		sort.Strings(c.sealedLong)
	}
	if c.sealedWork += len(c.sealedLong) * (1 + len(text)/64); c.sealedWork > maxSealedWork {
		return true
	}
	return c.sealedValues[text] || slices.ContainsFunc(c.sealedLong, func(value string) bool { return strings.Contains(text, value) })
}

// mask gives a service the label that says which of its fields are not to be shown.
// fromFiles are the variables that its encrypted env_files and label_files gave it.
func (c *converter) mask(s *Service, fromFiles map[string]bool) {
	var masked []string
	hide := func(section, key string) {
		if key != "" && !strings.ContainsFunc(key, unicode.IsSpace) { // else all of it: the label is parted by blanks
			section += "." + key
		}
		masked = append(masked, section)
	}
	container := s.Spec.TaskTemplate.ContainerSpec
	var direct []string
	for _, entry := range container.Env {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case fromFiles["environment."+name]:
			hide("environment", name)
		case c.hides(value):
			hide("environment", name)
			direct = append(direct, name)
		}
	}
	pairs := func(section string, values map[string]string) {
		for _, key := range sortedKeys(values) {
			if key != LabelImage && (fromFiles[section+"."+key] || c.hides(values[key])) {
				hide(section, key)
			}
		}
	}
	pairs("labels", container.Labels)
	pairs("sysctls", container.Sysctls)
	pairs("deploy.labels", s.Spec.Labels)
	if driver := s.Spec.TaskTemplate.LogDriver; driver != nil {
		pairs("logging.options", driver.Options)
	}
	list := func(section, key string, values ...string) {
		if slices.ContainsFunc(values, c.hides) {
			hide(section, key)
		}
	}
	list("command", "", container.Args...)
	list("entrypoint", "", container.Command...)
	list("extra_hosts", "", container.Hosts...)
	list("hostname", "", container.Hostname)
	list("user", "", container.User)
	list("working_dir", "", container.Dir)
	if container.Healthcheck != nil {
		list("healthcheck", "test", container.Healthcheck.Test...)
	}
	for _, m := range container.Mounts {
		list("volumes", m.Target, mountTexts(m)...)
	}
	if len(direct) > 0 {
		c.report.warn("secret-in-env", []string{"services", s.Key, "environment"}, "what came out of an encrypted file stands in %s of the service %s for all to read who may see the service (make it a secret, and have the program read it from its file under /run/secrets)", listed(direct), s.Key)
	}
	if len(masked) > 0 {
		slices.Sort(masked)
		s.Spec.Labels[LabelMasked] = strings.Join(slices.Compact(masked), " ")
	}
}

// mountTexts are the parts of a mount that a variable may have put a password into.
func mountTexts(m mount.Mount) []string {
	texts := []string{m.Source}
	if m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil {
		for _, value := range m.VolumeOptions.DriverConfig.Options {
			texts = append(texts, value)
		}
	}
	return texts
}

// tellSealed says of an encrypted env_file what becomes of its values, or why there are
// none.
func (c *converter) tellSealed(text fileText, file, kind string, at []string) {
	switch {
	case text.unopened != "":
		c.report.warn("secret-not-decrypted", at, "%s: %s", kind, text.unopened)
	case text.sealed && kind == "env_file":
		c.report.warn("secret-in-env", at, "%s is encrypted, and decrypted into the service, where its variables stand for all to read who may see the service (make those that are secret secrets, and have the program read them from their files under /run/secrets)", file)
	}
}

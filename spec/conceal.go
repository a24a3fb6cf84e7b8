package spec

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A value that a variable put into the file may be a secret which was meant for
// another place: a password where a file's path belongs. Findings go to logs, to
// notifiers and into the Swarm, so they name the variable in its stead.

// concealment is what a report knows of values that variables made.
type concealment struct {
	// written holds the paths of files as their author wrote them, by what they
	// became.
	written map[string]string
	// secrets holds the values of variables that are not told; used those that each
	// field of an object, and the object, has one of.
	secrets map[string]string
	used    map[field][]string
	// replacers put the names of a field's variables in place of their values, and pieces
	// tell of which a few letters in a row are.
	replacers map[field]*strings.Replacer
	pieces    map[field]map[string]string
	// taken are variables that secrets take their value from, whatever they are
	// called.
	taken map[string]bool
	// sealed are variables that came out of encrypted files, with the values that they
	// have there: whatever they are called.
	sealed map[string]map[string]bool
	// filling says that variables are being put in: what is found by that tells no
	// values.
	filling bool
}

// A field is a path in a document, of at most as many keys as an object's field has:
// what is below it may be in another form by the time that something is found there.
type field struct {
	doc  *document
	path string
}

func fieldAt(doc *document, at []string) field {
	return field{doc, strings.Join(at[:min(len(at), 3)], "\x00")}
}

// maxPath is how long a file's path may be (Linux: PATH_MAX).
const maxPath = 4096

// isPath says that a value is the path of a file, or folder, of the stack's.
func isPath(at []string) bool {
	switch {
	case len(at) > 0 && at[0] == "include":
		return true
	case len(at) > 2 && at[0] == "services":
		return at[2] == "env_file" || at[2] == "label_file" || at[2] == "extends"
	}
	return matches(at, "configs", "*", "file") || matches(at, "secrets", "*", "file")
}

// wrote remembers how a path was written that variables are in.
func (c *concealment) wrote(file, text string) {
	if c.written == nil {
		c.written = map[string]string{}
	}
	c.written[bare(file)] = text
}

// told is a file's path as findings tell it: as its author wrote it where variables
// are in it, from whichever folder it counts.
func (c *concealment) told(file string) string {
	for rest, more := bare(file), len(c.written) > 0 && len(file) <= maxPath; more; _, rest, more = strings.Cut(rest, "/") {
		if text, ok := c.written[rest]; ok {
			return text
		}
	}
	return file
}

// bare is a path without the part that is another one as soon as a folder is put
// before it.
func bare(file string) string {
	file = path.Clean(file)
	for strings.HasPrefix(file, "../") {
		file = file[len("../"):]
	}
	return file
}

// takenFrom remembers the variables that a document's secrets take their value from.
func (c *concealment) takenFrom(doc *document) {
	for key := range mapping(doc.tree, "secrets") {
		if name, ok := mapping(doc.tree, "secrets", key)["environment"].(string); ok {
			if c.taken == nil {
				c.taken = map[string]bool{}
			}
			c.taken[name] = true
		}
	}
}

// holdsSecret says whether the value of a variable is one that is not told.
func (c *concealment) holdsSecret(name, value string) bool {
	return len(value) >= minConcealed && (c.taken[name] || isSecretName(name) || c.isSealed(name, value))
}

// minConcealed is the length from which a value, or a part of one, is recognised in
// a sentence.
const minConcealed = 4

// uses remembers that the value at a path of the document has a secret variable in it.
func (r *report) uses(at []string, name, value string) {
	if r.used == nil {
		r.secrets, r.used, r.replacers = map[string]string{}, map[field][]string{}, map[field]*strings.Replacer{}
		r.pieces = map[field]map[string]string{}
	}
	r.secrets[name] = value
	for n := range min(len(at), 3) + 1 {
		where := fieldAt(r.doc, at[:n])
		if names := r.used[where]; len(names) == 0 || names[len(names)-1] != name {
			r.used[where] = append(names, name)
			delete(r.replacers, where)
			delete(r.pieces, where)
		}
	}
}

// conceal puts the variable's name where a finding about the value at a path tells
// the value of a secret variable that is in it, or in what is around it.
func (r *report) conceal(at []string, message string) string {
	if len(r.used) == 0 || r.filling {
		return message
	}
	docs, paths := r.of(at)
	for i, doc := range docs {
		where := fieldAt(doc, paths[i])
		message = r.withoutPieces(where, r.replacer(where).Replace(message))
	}
	return message
}

// inQuotes is what a message quotes.
var inQuotes = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|\\B'[^']*'|`[^`]*`")

// withoutPieces puts the variable's name in place of what is quoted and has a piece of
// its value in it: a parser may quote what it made of a value, as a size without its unit.
func (r *report) withoutPieces(where field, message string) string {
	if !strings.ContainsAny(message, "\"'`") {
		return message
	}
	pieces := r.piecesOf(where)
	if len(pieces) == 0 {
		return message
	}
	return inQuotes.ReplaceAllStringFunc(message, func(quoted string) string {
		for i := 1; i+minConcealed < len(quoted); i++ {
			if name, ok := pieces[quoted[i:i+minConcealed]]; ok {
				return quoted[:1] + "${" + name + "}" + quoted[len(quoted)-1:]
			}
		}
		return quoted
	})
}

// maxPieced is of how much of a value, in bytes, pieces are known.
const maxPieced = 4096

// piecesOf are the pieces of the values in a field, each with its variable's name.
func (r *report) piecesOf(where field) map[string]string {
	if known := r.pieces[where]; known != nil {
		return known
	}
	pieces := map[string]string{}
	for _, name := range r.used[where] {
		value := r.secrets[name]
		value = value[:min(len(value), maxPieced)]
		for i := 0; i+minConcealed <= len(value); i++ {
			pieces[value[i:i+minConcealed]] = name
		}
	}
	r.pieces[where] = pieces
	return pieces
}

// replacer is that of a field, of an object, or of a whole document.
func (r *report) replacer(where field) *strings.Replacer {
	if known := r.replacers[where]; known != nil {
		return known
	}
	var pairs []string
	for _, name := range r.used[where] {
		for _, part := range partsOf(r.secrets[name]) {
			pairs = append(pairs, part, "${"+name+"}")
		}
	}
	r.replacers[where] = strings.NewReplacer(pairs...)
	return r.replacers[where]
}

// maxParts is into how many parts a value is taken to pieces; a longer text is no
// password.
const maxParts = 16

// partsOf are the forms in which a sentence may tell a value: itself, in quotes, and
// the parts of it, for a parser tells the one that it stumbles on.
func partsOf(value string) []string {
	quoted := strconv.Quote(value)
	forms := []string{value, quoted[1 : len(quoted)-1]}
	parts := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t\n:/=@,;", r) })
	if len(parts) <= maxParts {
		slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
		forms = append(forms, parts...)
	}
	return slices.DeleteFunc(forms, func(form string) bool { return len(form) < minConcealed })
}

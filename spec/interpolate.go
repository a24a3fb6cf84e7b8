package spec

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What variables may add to a stack's files, all values together: they can
// multiply a small text into one that fills the machine.
const maxInterpolated = 8 << 20

// maxNesting bounds defaults inside of defaults, ${A:-${B:-…}}.
const maxNesting = 20

// An interpolator puts variables into the values of a compose file.
//
// It follows `docker stack deploy`: a default is literal text, so that a password
// hash in it stays whole, and a lone $ is an error. What that command does not
// know it takes from the compose specification: ${A:+x}, and a default that itself
// holds ${B}. Where that command's own reading is an accident it does not follow:
// a missing required variable is always an error, and $A-$B are two variables.
type interpolator struct {
	env    map[string]string
	report *report
	// used holds every variable that was asked for, with its value; unset ones
	// have none.
	used map[string]*string
	// growth counts what variables add, and says whether that may be; nil: it may.
	growth func(n int) bool
	// dollars says that a $ before neither a name nor a brace is one.
	dollars bool
	// find replaces env where it is set.
	find func(name string) (string, bool)
	// outer is that of the file which includes this one's, nil for the stack's own;
	// own holds the variables that only the included file has.
	outer *interpolator
	own   map[string]string
}

// with is an interpolator for a file that is included, with variables beside those
// that it shares, which win.
func (in *interpolator) with(own map[string]string) *interpolator {
	further := map[string]string{}
	for name, value := range own {
		if _, ok := in.value(name); !ok {
			further[name] = value
		}
	}
	return &interpolator{outer: in, own: further, env: in.env, report: in.report, used: in.used, growth: in.growth}
}

// value is that of a variable, without remembering that it was asked for.
func (in *interpolator) value(name string) (string, bool) {
	for ; in.outer != nil; in = in.outer {
		if value, ok := in.own[name]; ok {
			return value, true
		}
	}
	if in.find != nil {
		return in.find(name)
	}
	value, ok := in.env[name]
	return value, ok
}

// settle gives the objects of an included file, whose folder is dir, the variables
// that only it has, where they take them by name: the converter knows those of the
// stack alone.
func (in *interpolator) settle(tree map[string]any, dir string) {
	for key := range mapping(tree, "services") {
		switch env := mapping(tree, "services", key)["environment"].(type) {
		case map[string]any:
			for name, value := range env {
				if own, ok := in.ownValue(name); ok && text(value) == "" {
					env[name] = own
				}
			}
		case []any:
			for i, element := range env {
				name, value, _ := strings.Cut(text(element), "=")
				if own, ok := in.ownValue(name); ok && value == "" {
					env[i] = name + "=" + own
				}
			}
		}
	}
	for _, section := range []string{"configs", "secrets"} {
		for key := range mapping(tree, section) {
			object := mapping(tree, section, key)
			name, _ := object["environment"].(string)
			if own, ok := in.ownValue(name); ok {
				object["environment"] = in.alias(name, own, dir)
			}
		}
	}
}

// alias gives the stack a variable of an included file, under a name that no file can
// use: the same for the same value alone, since each file of a folder may have been
// included with variables of its own.
func (in *interpolator) alias(name, value, dir string) string {
	alias := name + " of " + dir
	for n := 2; ; n++ {
		if there, ok := in.env[alias]; !ok || there == value {
			in.env[alias] = value
			return alias
		}
		alias = fmt.Sprintf("%s of %s, %d", name, dir, n)
	}
}

// ownValue is the value of a variable that the stack's own file does not have.
func (in *interpolator) ownValue(name string) (string, bool) {
	if _, ok := in.peekShared(name); ok {
		return "", false
	}
	return in.value(name)
}

// tree interpolates all values below a path.
func (in *interpolator) tree(value any, at []string) any {
	switch v := value.(type) {
	case string:
		return in.scalar(v, at)
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range sortedKeys(v) {
			out[key] = in.tree(v[key], under(at, key))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = in.tree(element, under(at, strconv.Itoa(i)))
		}
		return out
	}
	return value
}

func (in *interpolator) scalar(text string, at []string) any {
	s := substitution{in: in, at: at}
	in.report.filling = true
	out, err := s.expand(text, 0)
	in.report.filling = false
	if err != nil {
		in.report.fail("variable", at, "%s: %s", strings.Join(at, "."), err)
		return text
	}
	if out != text && isPath(at) {
		in.report.wrote(out, text)
	}
	return cast(text, out, at, in.report)
}

// substitution is the work on one value.
type substitution struct {
	in *interpolator
	at []string
}

var errTooLong = errors.New("variables make the file larger than 8 MiB (shorten them)")

func (s *substitution) expand(text string, nesting int) (string, error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	if nesting > maxNesting {
		return "", fmt.Errorf("variables are nested more than %d deep (name fewer inside of each other)", maxNesting)
	}
	closing := closingBraces(text)
	var out strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '$' {
			next := strings.IndexByte(text[i:], '$')
			if next < 0 {
				next = len(text) - i
			}
			out.WriteString(text[i : i+next])
			i += next
			continue
		}
		value, length, err := s.variable(text, i, closing, nesting)
		if err != nil {
			return "", err
		}
		if s.in.growth != nil && !s.in.growth(len(value)) {
			return "", errTooLong
		}
		out.WriteString(value)
		i += length
	}
	return out.String(), nil
}

// variable reads what begins with the $ at i: its value and its length.
func (s *substitution) variable(text string, i int, closing map[int]int, nesting int) (string, int, error) {
	rest := text[i+1:]
	switch name := variableName(rest); {
	case strings.HasPrefix(rest, "$"):
		return "$", 2, nil
	case name != "":
		if _, set := s.in.peek(name); !set && s.partOfSecret(text, name) {
			s.in.report.warn("variable-unset", s.at, "%s: a $ begins the name of a variable that is not set and stands for nothing (write $$ for a dollar sign, or ${NAME} for a variable)", strings.Join(s.at, "."))
			return "", 1 + len(name), nil
		}
		value, _ := s.lookup(name)
		s.note(name, value)
		return value, 1 + len(name), nil
	case strings.HasPrefix(rest, "{"):
		end, ok := closing[i+1]
		if !ok {
			return "", 0, errors.New("a ${ has no closing brace (write ${NAME}, or $$ for a dollar sign)")
		}
		value, err := s.braced(text[i+2:end], nesting)
		return value, end + 1 - i, err
	}
	if s.in.dollars {
		return "$", 1, nil
	}
	return "", 0, errors.New("a $ is followed by neither a name nor a brace (write $$ for a dollar sign)")
}

// usualName is that of a variable as nearly all are called.
var usualName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// partOfSecret says that what follows a $ may be a part of a password rather than a
// variable's name: it is not told.
func (s *substitution) partOfSecret(text, name string) bool {
	if usualName.MatchString(name) || text == "$"+name || len(s.at) == 0 {
		return false
	}
	of := s.at[len(s.at)-1]
	if key, _, ok := strings.Cut(text, "="); ok { // in a list
		of = key
	}
	return isSecretName(of) || strings.Contains(text, "://")
}

// braced evaluates what stands between ${ and }.
func (s *substitution) braced(inner string, nesting int) (string, error) {
	name := variableName(inner)
	operator, word := splitOperator(inner[len(name):])
	if name == "" || (operator == "" && word != "") {
		return "", errors.New("a ${…} is neither a variable's name nor a name and an operator (write ${NAME}, ${NAME:-default} or ${NAME:?message})")
	}
	if operator == "" {
		value, _ := s.lookup(name)
		s.note(name, value)
		return value, nil
	}
	value, set := s.in.peek(name)
	present := set && (value != "" || !strings.HasPrefix(operator, ":"))
	switch strings.TrimPrefix(operator, ":") {
	case "+":
		if !present {
			return "", nil
		}
		return s.word(word, nesting)
	case "?":
		if !present {
			return "", fmt.Errorf("the variable %s is not set: %s (set it in the stack's .env, or allow it from the environment)", name, cmp.Or(word, "it is required"))
		}
	case "-":
		if !present {
			return s.word(word, nesting)
		}
	}
	s.note(name, value)
	return value, nil
}

// note remembers where a variable's value went that is not to be told.
func (s *substitution) note(name, value string) {
	if s.in.report.holdsSecret(name, value) {
		s.in.report.uses(s.at, name, value)
	}
}

// splitOperator parts what follows a variable's name into operator and word; there
// is no operator where it begins with none.
func splitOperator(text string) (operator, word string) {
	for _, known := range []string{":-", ":?", ":+", "-", "?", "+"} {
		if rest, ok := strings.CutPrefix(text, known); ok {
			return known, rest
		}
	}
	return "", text
}

// word is a default or alternative: literal, unless it names variables itself.
func (s *substitution) word(word string, nesting int) (string, error) {
	if strings.Contains(word, "${") {
		return s.expand(word, nesting+1)
	}
	if strings.Contains(word, "$$") {
		s.in.report.warn("dollar-in-default", s.at, "%s: a default is taken literally, $$ stays two dollar signs (write one)", strings.Join(s.at, "."))
	}
	return word, nil
}

// peek asks for a variable that may be unset.
func (in *interpolator) peek(name string) (string, bool) {
	if value, set := in.peekShared(name); set {
		return value, true
	}
	return in.value(name)
}

// peekShared asks for a variable of the stack's own file. Those of an included one
// are in a file that counts as a whole, so that they need not be remembered.
func (in *interpolator) peekShared(name string) (string, bool) {
	value, set := in.env[name]
	if set {
		in.used[name] = &value
	} else {
		in.used[name] = nil
	}
	return value, set
}

// lookup asks for a variable that ought to be set.
func (s *substitution) lookup(name string) (string, bool) {
	value, set := s.in.peek(name)
	if !set {
		s.in.report.unset(name, s.at, "stands for nothing in "+strings.Join(s.at, "."), ", or write ${"+name+":-default}")
	}
	return value, set
}

// variableName is the name that text begins with.
func variableName(text string) string {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || '9' < c) {
			return text[:i]
		}
	}
	return text
}

// closingBraces pairs each { with its }, the innermost first; one that has no
// partner ends at the next } after it. Computed once for a text, so that hostile
// braces cost no more than others.
func closingBraces(text string) map[int]int {
	pairs := map[int]int{}
	var open []int
	for i := range len(text) {
		switch text[i] {
		case '{':
			open = append(open, i)
		case '}':
			if n := len(open); n > 0 {
				pairs[open[n-1]] = i
				open = open[:n-1]
			}
		}
	}
	next := -1
	for i := len(text) - 1; i >= 0 && len(open) > 0; i-- {
		if text[i] == '}' {
			next = i
		}
		if n := len(open); open[n-1] == i {
			if next >= 0 {
				pairs[i] = next
			}
			open = open[:n-1]
		}
	}
	return pairs
}

// cast gives a value the type its field wants, where a variable made it text.
func cast(before, after string, at []string, r *report) any {
	if matches(at, "services", "*", "configs", "*", "mode") || matches(at, "services", "*", "secrets", "*", "mode") {
		return castMode(before, after, at, r)
	}
	for _, pattern := range booleans {
		if !matches(at, pattern...) {
			continue
		}
		switch strings.ToLower(after) {
		case "y", "yes", "true", "on":
			return true
		case "n", "no", "false", "off":
			return false
		}
	}
	return after
}

// castMode reads a file mode that was written as text. One that came out of a
// variable is decimal, as `docker stack deploy` reads it, which is rarely meant;
// one in quotes is octal, as in the compose specification.
func castMode(before, after string, at []string, r *report) any {
	base := 8
	if before != after {
		base = 10
	}
	mode, err := strconv.ParseUint(strings.TrimPrefix(after, "0o"), base, 32)
	if err != nil {
		r.fail("invalid-value", at, "%s: %q is not a file mode (write one like 0440)", strings.Join(at, "."), before)
		return 0
	}
	if base == 10 {
		r.warn("mode-decimal", at, "%s: a mode from a variable is read as the decimal number %d, which is %#o in octal (write the mode itself, or the variable in decimal)", strings.Join(at, "."), mode, mode)
	}
	return int(mode)
}

// booleans are the fields that hold yes or no.
var booleans = [][]string{
	{"services", "*", "healthcheck", "disable"},
	{"services", "*", "init"},
	{"services", "*", "privileged"},
	{"services", "*", "read_only"},
	{"services", "*", "stdin_open"},
	{"services", "*", "tty"},
	{"services", "*", "oom_kill_disable"},
	{"services", "*", "depends_on", "*", "required"},
	{"services", "*", "depends_on", "*", "restart"},
	{"services", "*", "volumes", "*", "read_only"},
	{"services", "*", "volumes", "*", "volume", "nocopy"},
	{"networks", "*", "external"},
	{"networks", "*", "internal"},
	{"networks", "*", "attachable"},
	{"networks", "*", "enable_ipv4"},
	{"networks", "*", "enable_ipv6"},
	{"volumes", "*", "external"},
	{"secrets", "*", "external"},
	{"configs", "*", "external"},
	{"x-skep", "suspend"},
	{"x-skep", "prune"},
}

// matches says whether a path fits a pattern, in which * stands for any key.
func matches(at []string, pattern ...string) bool {
	if len(at) != len(pattern) {
		return false
	}
	for i, key := range pattern {
		if key != "*" && key != at[i] {
			return false
		}
	}
	return true
}

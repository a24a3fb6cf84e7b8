package spec

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// parseDotenv reads a file of variables for interpolation, as compose does: KEY=VALUE
// a line, `export` before it and a comment behind it if one likes, values in single
// quotes taken as they are, those in double quotes with escapes and over several
// lines, and ${…} in both these and plain ones put in from lookup, else from the
// lines above. What variables add is bounded by grow, so that a few lines that double
// each other do not fill the machine. An error tells no value.
func parseDotenv(text string, lookup func(string) (string, bool), grow func(int) bool) (map[string]string, error) {
	d := dotenvParser{rest: strings.TrimPrefix(text, "\ufeff"), vars: map[string]string{}, lookup: lookup, grow: grow}
	for d.skip() {
		if err := d.statement(); err != nil {
			return nil, err
		}
	}
	return d.vars, nil
}

type dotenvParser struct {
	rest   string
	vars   map[string]string
	lookup func(string) (string, bool)
	grow   func(int) bool
}

var (
	errNotVariables   = errors.New("the file is not a list of variables (write a KEY=VALUE a line)")
	errDotenvVariable = errors.New("a $ in a value of the file is no variable, or a required one that is not set (put the value in single quotes if it is meant as it is)")
	dotenvExport      = regexp.MustCompile(`^export[ \t]+`)
	dotenvEscape      = regexp.MustCompile(`\\(?:[abcfnrtv$"\\]|0\d{0,3})`)
)

// skip goes to the next statement; false at the end.
func (d *dotenvParser) skip() bool {
	for {
		d.rest = strings.TrimLeftFunc(d.rest, unicode.IsSpace)
		if !strings.HasPrefix(d.rest, "#") {
			return d.rest != ""
		}
		_, d.rest, _ = strings.Cut(d.rest, "\n")
	}
}

// statement reads one variable. A KEY alone takes its value from lookup.
func (d *dotenvParser) statement() error {
	d.rest = strings.TrimPrefix(d.rest, dotenvExport.FindString(d.rest))
	end := strings.IndexAny(d.rest, "=:\n")
	if end < 0 {
		d.rest += "\n"
		end = len(d.rest) - 1
	}
	key := strings.TrimRightFunc(d.rest[:end], unicode.IsSpace)
	if key == "" || strings.ContainsFunc(key, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_.-[]", r)
	}) {
		return errNotVariables
	}
	alone := d.rest[end] == '\n'
	d.rest = d.rest[end+1:]
	if alone {
		if value, ok := d.lookup(key); ok {
			d.vars[key] = value
		}
		return nil
	}
	d.rest = strings.TrimLeft(d.rest, " \t\v\f\r\u0085\u00a0")
	value, err := d.value()
	d.vars[key] = value
	return err
}

// value reads what stands behind the = of a variable.
func (d *dotenvParser) value() (string, error) {
	if d.rest == "" || d.rest[0] != '\'' && d.rest[0] != '"' {
		var line string
		line, d.rest, _ = strings.Cut(d.rest, "\n")
		line, _, _ = strings.Cut(line, " #")
		return d.expand(strings.TrimRightFunc(line, unicode.IsSpace))
	}
	quote, value, escaped := d.rest[0], strings.Builder{}, false
	for i := 1; i < len(d.rest); i++ {
		c := d.rest[i]
		switch {
		case c == quote && !escaped:
			d.rest = d.rest[i+1:]
			if quote == '\'' {
				return value.String(), nil
			}
			return d.expand(unescape(value.String()))
		case c == '\\' && !escaped:
			escaped = true
			continue
		case escaped && c != quote:
			value.WriteByte('\\')
		}
		escaped = false
		value.WriteByte(c)
	}
	return "", errNotVariables
}

// unescape puts in what escapes in double quotes stand for; \$ is a dollar sign.
func unescape(text string) string {
	return dotenvEscape.ReplaceAllStringFunc(text, func(escape string) string {
		if escape == `\$` {
			return "$$"
		}
		if strings.HasPrefix(escape, `\0`) {
			escape = `\` + escape[2:]
		}
		char, _, _, err := strconv.UnquoteChar(escape, '"')
		if err != nil {
			return escape
		}
		return string(char)
	})
}

// expand puts variables into a value.
func (d *dotenvParser) expand(value string) (string, error) {
	in := &interpolator{report: &report{}, used: map[string]*string{}, growth: d.grow, dollars: true, find: func(name string) (string, bool) {
		if value, ok := d.lookup(name); ok {
			return value, true
		}
		value, ok := d.vars[name]
		return value, ok
	}}
	s := substitution{in: in}
	out, err := s.expand(value, 0)
	if err != nil && !errors.Is(err, errTooLong) {
		return "", errDotenvVariable
	}
	return out, err
}

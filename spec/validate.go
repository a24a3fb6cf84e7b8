package spec

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/validation"
)

// A fault is a value that the schema of compose files does not allow.
type fault struct {
	at      []string
	message string
}

// faults finds the values of a tree that the schema does not allow, each by
// itself: the schema's own error is any one of them, now this and now that.
func faults(tree map[string]any) []fault {
	var out []fault
	for _, section := range sortedKeys(tree) {
		out = append(out, isolate([]string{section}, tree[section])...)
	}
	if len(out) > 0 {
		return out
	}
	return contradictions(tree)
}

// contradictions finds what the schema allows and the library still refuses, such as a
// config that says nothing of what is in it: one of each object, in one order.
func contradictions(tree map[string]any) []fault {
	var out []fault
	for _, section := range sortedKeys(tree) {
		objects := mapping(tree, section)
		for _, key := range sortedKeys(objects) {
			if err := validation.Validate(nest([]string{section, key}, objects[key])); err != nil {
				out = append(out, fault{[]string{section, key}, firstLine(err.Error())})
			}
		}
	}
	return out
}

// isolate validates a value as the only one of its tree, and where it is at fault,
// those within it in the same way, to tell the innermost.
func isolate(at []string, value any) []fault {
	if number, ok := value.(float64); ok && (math.IsInf(number, 0) || math.IsNaN(number)) {
		return []fault{{at, fmt.Sprintf("%s is %v, which is neither text nor a number", strings.Join(at, "."), number)}}
	}
	err := schema.Validate(nest(at, value))
	if err == nil {
		return nil
	}
	var inner []fault
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			inner = append(inner, own(at, key, isolate(under(at, key), v[key]))...)
		}
	case []any:
		for i, element := range v {
			inner = append(inner, own(at, strconv.Itoa(i), isolate(under(at, strconv.Itoa(i)), element))...)
		}
	}
	if len(inner) > 0 {
		return inner
	}
	return []fault{{at, firstLine(err.Error())}}
}

// own keeps the faults that are the value's own: alone in its mapping, a value is
// also told what else the mapping needs.
func own(parent []string, key string, found []fault) []fault {
	var out []fault
	for _, f := range found {
		if len(f.at) > len(parent)+1 || strings.HasPrefix(f.message, strings.Join(under(parent, key), ".")) || strings.Contains(f.message, "'"+key+"'") {
			out = append(out, f)
		}
	}
	return out
}

// nest puts a value at a path of a tree that holds nothing else; every index of a
// list becomes the first.
func nest(at []string, value any) map[string]any {
	for i := len(at) - 1; i > 0; i-- {
		if _, err := strconv.Atoi(at[i]); err == nil && i > 2 {
			value = []any{value}
		} else {
			value = map[string]any{at[i]: value}
		}
	}
	return map[string]any{at[0]: value}
}

var unknownProperty = regexp.MustCompile(`additional propert(?:y|ies) '([^']+)'`)

// sentence puts the schema's words for people.
func (f fault) sentence(r *report) string {
	where, key := strings.Join(f.at, "."), f.at[len(f.at)-1]
	switch m := unknownProperty.FindStringSubmatch(f.message); {
	case strings.HasSuffix(f.message, " false schema"):
	case m != nil && m[1] != key:
		where, key = where+"."+m[1], m[1]
	case m == nil:
		return f.message + " (see the compose file reference for what may stand there)"
	}
	var known []string // of the keys of a service
	if len(f.at) == 3 && f.at[0] == "services" {
		known = append(sortedKeys(converted), sortedKeys(forbidden)...)
	}
	return where + " is not known" + r.orNearest(key, known)
}

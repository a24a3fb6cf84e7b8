package spec

import (
	"fmt"
	"math"
	"regexp"
	"slices"
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
			if _, isText := mapping(objects, key)["external"].(string); isText {
				continue // neither true nor false, which its cast says; the library's check panics at it
			}
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
	return []fault{{at, kinds(at, value, firstLine(err.Error()))}}
}

var ofKind = regexp.MustCompile(`^(\S+) must be an? [a-z]+(?: or [a-z]+)*$`)

// kinds corrects the schema's word for the kind of value that it wants, which is one
// of several where it takes several: what a list has twice is told of a list that it
// takes, else all kinds that it takes.
func kinds(at []string, value any, message string) string {
	m := ofKind.FindStringSubmatch(message)
	if m == nil || !strings.HasSuffix(strings.Join(at, "."), m[1]) {
		return message
	}
	var taken []string
	for _, kind := range []struct {
		name    string
		samples []any
	}{
		{"text", []any{"a", "1s"}}, {"a number", []any{1}}, {"true or false", []any{true}},
		{"a list", []any{[]any{}, []any{"a"}}}, {"a mapping", []any{map[string]any{}}},
	} {
		if slices.ContainsFunc(kind.samples, func(sample any) bool { return schema.Validate(nest(at, sample)) == nil }) {
			taken = append(taken, kind.name)
		}
	}
	if list, ok := value.([]any); ok && slices.Contains(taken, "a list") {
		seen := map[string]int{}
		for i, element := range list {
			printed := fmt.Sprintf("%T %v", element, element)
			if first, ok := seen[printed]; ok {
				return fmt.Sprintf("%s items at %d and %d are equal", m[1], first, i)
			}
			seen[printed] = i
		}
		return message
	}
	if len(taken) == 0 {
		return message
	}
	return m[1] + " must be " + strings.Join(taken, " or ")
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

// composeReference is the remedy where nothing better is known.
const composeReference = " (see https://docs.docker.com/reference/compose-file/ for what may stand there)"

func (f fault) remedy() string {
	switch key := f.at[len(f.at)-1]; {
	case strings.HasSuffix(f.message, " are equal"):
		return " (take one of them out)"
	case key == "memory" && strings.HasSuffix(f.message, " must be text"):
		return " (write it with its unit, such as 64M)"
	}
	return composeReference
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
		return f.message + f.remedy()
	}
	var known []string // of the keys of a service
	if len(f.at) == 3 && f.at[0] == "services" {
		known = append(sortedKeys(converted), sortedKeys(forbidden)...)
	}
	return where + " is not known" + r.orNearest(key, known)
}

package sops

import (
	"strconv"
	"time"
)

// A branch is a mapping in the order of its file, with the comments in it: order is a
// part of what a file's MAC is over.
type branch []item

// An item is a key with its value, or a comment: then its key is one.
type item struct {
	key   any // string or comment
	value any // see leaf; or branch or list
}

// A list is a sequence with the comments in it.
type list []any

// A comment is a line of one, without its #.
type comment struct {
	text   string
	inline bool // it stands behind a value
}

// leaf says whether a value is one that can be encrypted: text, int, float64, bool or
// a time.
func leaf(v any) bool {
	switch v.(type) {
	case string, int, float64, bool, time.Time:
		return true
	}
	return false
}

// macBytes is a value as the MAC has it: sops began in Python, whose words for booleans
// it kept.
func macBytes(v any) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case int:
		return strconv.AppendInt(nil, int64(v), 10)
	case float64:
		return strconv.AppendFloat(nil, v, 'f', -1, 64)
	case bool:
		if v {
			return []byte("True")
		}
		return []byte("False")
	case time.Time:
		text, _ := v.MarshalText() // of a year that has four digits, as a parser makes it
		return text
	}
	return nil
}

// plainTree is a value without its order and comments, as metadata is read.
func plainTree(v any) any {
	switch v := v.(type) {
	case branch:
		out := make(map[string]any, len(v))
		for _, i := range v {
			if key, ok := i.key.(string); ok {
				out[key] = plainTree(i.value)
			}
		}
		return out
	case list:
		out := make([]any, 0, len(v))
		for _, element := range v {
			if _, ok := element.(comment); !ok {
				out = append(out, plainTree(element))
			}
		}
		return out
	}
	return v
}

package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

var errNotJSON = errors.New("is not a JSON object, or not as sops writes it")

// A jsonReader turns tokens into trees.
type jsonReader struct {
	d     *json.Decoder
	nodes int
}

// readJSON reads an object, with its keys in order.
func readJSON(data []byte) ([]branch, error) {
	r := &jsonReader{d: json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))}
	r.d.UseNumber()
	v, err := r.next(0)
	if err != nil {
		return nil, err
	}
	b, ok := v.(branch)
	if _, err := r.d.Token(); !ok || !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	return []branch{b}, nil
}

// closing is the end of an object or a list.
type closing struct{}

// next reads a value.
func (r *jsonReader) next(depth int) (any, error) {
	if r.nodes++; r.nodes > 2*maxNodes || depth > maxDepth { // keys are counted too
		return nil, errTooMuch
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, errNotJSON
	}
	switch t := t.(type) {
	case json.Delim:
		switch t {
		case '{':
			return r.object(depth + 1)
		case '[':
			return r.list(depth + 1)
		}
		return closing{}, nil
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return int(n), nil
		}
		f, err := t.Float64()
		if err != nil {
			return nil, errNotJSON
		}
		return f, nil
	}
	return t, nil // text, bool or nil
}

func (r *jsonReader) object(depth int) (branch, error) {
	b := branch{}
	for {
		key, err := r.next(depth)
		if err != nil {
			return nil, err
		}
		if key == (closing{}) {
			return b, nil
		}
		name, ok := key.(string)
		if !ok {
			return nil, errNotJSON
		}
		value, err := r.next(depth)
		if err != nil {
			return nil, err
		}
		b = append(b, item{name, value})
	}
}

func (r *jsonReader) list(depth int) (list, error) {
	l := list{}
	for {
		value, err := r.next(depth)
		if err != nil {
			return nil, err
		}
		if value == (closing{}) {
			return l, nil
		}
		l = append(l, value)
	}
}

// writeJSON writes an object as sops does: indented by tabs.
func writeJSON(b branch) ([]byte, error) {
	var flat, out bytes.Buffer
	if putJSON(&flat, b) != nil || json.Indent(&out, flat.Bytes(), "", "\t") != nil {
		return nil, damaged("its values cannot be written as JSON")
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func putJSON(out *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case branch:
		return putEach(out, '{', '}', len(v), func(n int) error {
			key, err := json.Marshal(v[n].key)
			if err != nil {
				return err
			}
			out.Write(key)
			out.WriteByte(':')
			return putJSON(out, v[n].value)
		})
	case list:
		return putEach(out, '[', ']', len(v), func(n int) error { return putJSON(out, v[n]) })
	}
	text, err := json.Marshal(v)
	out.Write(text)
	return err
}

// putEach writes what stands between two brackets.
func putEach(out *bytes.Buffer, open, shut byte, n int, put func(int) error) error {
	out.WriteByte(open)
	for i := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := put(i); err != nil {
			return err
		}
	}
	out.WriteByte(shut)
	return nil
}

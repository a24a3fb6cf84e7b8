package leaks

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestLook(t *testing.T) {
	var w Watch
	v := w.Plant("the value", Secret)
	for name, text := range map[string]string{
		"plain":           "level=info password=" + v + " done",
		"base64":          base64.StdEncoding.EncodeToString([]byte(v)),
		"base64 within":   base64.StdEncoding.EncodeToString([]byte("user:" + v + "@host")),
		"base64 within 2": base64.StdEncoding.EncodeToString([]byte("xuser:" + v)),
		"base64 within 3": base64.StdEncoding.EncodeToString([]byte("xyuser:" + v + "\n")),
		"base64url":       base64.URLEncoding.EncodeToString([]byte(`{"password":"` + v + `"}`)),
		"hex":             hex.EncodeToString([]byte("a" + v)),
		"hex upper":       fmt.Sprintf("%X", v),
		"hex spaced":      fmt.Sprintf("% x", v),
		"query":           "GET /?token=" + url.QueryEscape(v),
		"path":            "GET /" + url.PathEscape(v),
		"JSON":            fmt.Sprintf(`{"a":%q}`, v),
		"bytes":           fmt.Sprint([]byte("x" + v)),
		"bytes, %#v":      strings.ReplaceAll(strings.ReplaceAll(fmt.Sprint([]byte(v)), " ", ","), "[", "["),
		"cut short":       v[:len(v)/2+3] + "…",
		"the end":         "…" + v[len(v)/2-1:],
		"cut in base64":   base64.StdEncoding.EncodeToString([]byte(v))[:len(v)],
	} {
		t.Run(name, func(t *testing.T) {
			found := Watch{planted: w.planted, longest: w.longest}
			found.Look("x", []byte(text))
			if len(found.Found()) == 0 {
				t.Errorf("it is not seen in %q", text)
			}
			if strings.Contains(strings.Join(found.Found(), "\n"), v) {
				t.Error("the finding has the value itself")
			}
			cut := Watch{planted: w.planted, longest: w.longest}
			var passed bytes.Buffer
			out := cut.Writer("x", &passed)
			for i := range len(text) {
				_, _ = out.Write([]byte(text[i : i+1]))
			}
			if len(cut.Found()) == 0 || passed.String() != text {
				t.Error("byte by byte it is not seen, or not handed on")
			}
		})
	}
	w.Look("x", []byte("planted/ •••"+v[:10]))
	if got := w.Found(); len(got) != 0 {
		t.Errorf("found in nothing: %q", got)
	}
	w.Look("x", []byte(v), Secret)
	if got := w.Found(); len(got) != 0 {
		t.Errorf("found where it may be: %q", got)
	}
}

func TestLookAtRequest(t *testing.T) {
	var plan Watch
	secret, env := plan.Plant("secret", Secret), plan.Plant("env", Env)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	record := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, s)
		_ = z.Close()
		return base64.StdEncoding.EncodeToString(b.Bytes())
	}
	labels := func(v string) map[string]any { return map[string]any{"skep.message": "it said " + v} }
	for _, tt := range []struct {
		name, path string
		body       map[string]any
		want       int
	}{
		{"a secret's own payload", "/v1.45/secrets/create", map[string]any{"Name": "s", "Data": b64(secret)}, 0},
		{"a secret's label", "/v1.45/secrets/create", map[string]any{"Labels": labels(secret)}, 1},
		{"a service's variable", "/v1.45/services/create", map[string]any{"TaskTemplate": map[string]any{"Env": []string{"P=" + env}}}, 0},
		{"a secret as a variable", "/v1.45/services/create", map[string]any{"TaskTemplate": map[string]any{"Env": []string{"P=" + secret}}}, 1},
		{"a variable in a service's label", "/v1.45/services/x/update", map[string]any{"Labels": labels(env)}, 1},
		{"a record's data with a variable", "/v1.45/configs/create", map[string]any{"Data": record(env)}, 0},
		{"a record's data with a secret", "/v1.45/configs/create", map[string]any{"Data": record(secret)}, 1},
		{"a config's data with a secret", "/v1.45/configs/create", map[string]any{"Data": b64("x" + secret)}, 1},
		{"a record's label with a variable", "/v1.45/configs/x/update", map[string]any{"Labels": labels(env)}, 1},
		{"a name", "/v1.45/networks/create", map[string]any{"Name": secret}, 1},
		{"a URL", "/v1.45/services?filters=" + url.QueryEscape(secret), nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := Watch{planted: plan.planted, longest: plan.longest}
			body, err := json.Marshal(tt.body)
			if err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequest(http.MethodPost, "http://engine"+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			w.LookAtRequest(r, body)
			if got := w.Found(); (len(got) > 0) != (tt.want > 0) {
				t.Errorf("found %q", got)
			}
			if w.Looked() == 0 {
				t.Error("nothing was searched")
			}
		})
	}
}

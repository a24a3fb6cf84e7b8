package spec

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"gopkg.in/yaml.v3"
)

// Whichever way a value is printed, alone or within something, it does not show: by all
// verbs and flags of package fmt, as JSON and YAML, in an error, in a panic, by a template.
func TestSensitivePrintsNothing(t *testing.T) {
	s := NewSensitive([]byte("planted"))
	type holder struct{ S Sensitive }
	type keeper struct { // whose methods package fmt cannot see
		s  Sensitive
		l  []Sensitive
		p  *Sensitive
		in map[string]Sensitive
	}
	kept := keeper{s, []Sensitive{s}, &s, map[string]Sensitive{"a": s}}
	values := []any{
		s, &s, holder{s}, &holder{s}, []Sensitive{s}, [1]Sensitive{s}, map[string]Sensitive{"a": s}, map[string]any{"a": s},
		kept, &kept, Secret{Value: s}, &Secret{Value: s}, Stack{Secrets: []Secret{{Value: s}}}, []any{kept},
	}
	var out strings.Builder
	for _, v := range values {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp!z" {
			for _, flags := range []string{"", "+", "#", " ", "0", "-", "+#", "# ", "40", ".3", "+.20"} {
				out.WriteString(fmt.Sprintf("%"+flags+string(verb), v))
			}
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(asJSON)
		asYAML, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(asYAML)
		func() {
			defer func() { fmt.Fprint(&out, recover()) }()
			panic(v)
		}()
		out.WriteString(fmt.Errorf("write %v: %w", v, errors.New(fmt.Sprint(v))).Error())
		if err := template.Must(template.New("").Parse("{{.}} {{printf \"%x\" .}} {{println .}}")).Execute(&out, v); err != nil {
			t.Fatal(err)
		}
	}
	asKey, err := json.Marshal(map[Sensitive]int{s: 1})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asKey)
	text := out.String()
	for _, leak := range []string{
		"planted", "plante", fmt.Sprintf("%x", "planted"), fmt.Sprintf("%X", "planted"), fmt.Sprintf("% x", "planted"),
		strings.Trim(fmt.Sprint([]byte("planted")), "[]"), fmt.Sprintf("%#v", []byte("planted")), fmt.Sprintf("%o", []byte("planted")),
		base64.StdEncoding.EncodeToString([]byte("planted")),
	} {
		if i := strings.Index(text, leak); i >= 0 {
			t.Errorf("%q shows in …%s…", leak, text[max(0, i-60):min(len(text), i+60)])
		}
	}
	if at := regexp.MustCompile(`\b112\b`).FindStringIndex(text); at != nil { // its first byte, and not a part of some address
		t.Errorf("a byte shows in …%s…", text[max(0, at[0]-60):min(len(text), at[1]+60)])
	}
	if !strings.Contains(text, masked) || string(s.Reveal()) != "planted" || (Sensitive{}).Reveal() != nil {
		t.Error("it does not say that something is there, or cannot be revealed")
	}
}

// Two of the same bytes are equal to a test that compares deeply.
func TestSensitiveIsComparedByItsBytes(t *testing.T) {
	if a := NewSensitive([]byte("a")); !reflect.DeepEqual(a, NewSensitive([]byte("a"))) || reflect.DeepEqual(a, NewSensitive([]byte("b"))) {
		t.Error("it is not")
	}
}

func TestFindingString(t *testing.T) {
	for want, f := range map[string]Finding{
		"a.yml:3:5: warning: code: message": {File: "a.yml", Line: 3, Column: 5, Severity: Warning, Code: "code", Message: "message"},
		"a.yml:3: error: code: message":     {File: "a.yml", Line: 3, Severity: Error, Code: "code", Message: "message"},
		"a.yml: info: code: message":        {File: "a.yml", Severity: Info, Code: "code", Message: "message"},
	} {
		if got := f.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

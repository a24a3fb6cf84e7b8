package spec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestSensitivePrintsNothing(t *testing.T) {
	s := NewSensitive([]byte("planted"))
	type holder struct{ S Sensitive }
	asJSON, err := json.Marshal(holder{s})
	if err != nil {
		t.Fatal(err)
	}
	out := string(asJSON) + s.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		out += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, holder{s}) + fmt.Sprintf(verb, &holder{s}) + fmt.Sprintf(verb, []Sensitive{s})
	}
	for _, leak := range []string{"planted", fmt.Sprintf("%x", "planted"), fmt.Sprint([]byte("planted"))} {
		if strings.Contains(out, leak) {
			t.Errorf("%q shows in %s", leak, out)
		}
	}
	if string(s.Reveal()) != "planted" {
		t.Error("it cannot be revealed")
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

//go:build sopsprogram

package sops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A maker makes up files.
type maker struct{ *rand.Rand }

func (m maker) text() string {
	parts := []string{"a", "Z", " ", "\n", ":", "#", "'", `"`, `\`, "ü", "世", "🐝", "-", "0", "1.0", "true", "null", "~", "=", "%", "{", "[", "&", "*", "!", "|", ">", "\t", "ENC[", "<"}
	var b strings.Builder
	for range m.IntN(8) {
		b.WriteString(parts[m.IntN(len(parts))])
	}
	return b.String()
}

func (m maker) key(n int) string {
	return fmt.Sprintf("%s%d%s", []string{"k", "K ", "a:b", "ü", "x-"}[m.IntN(5)], n, []string{"", "", "", "_unencrypted", "_sec"}[m.IntN(5)])
}

func (m maker) scalar() any {
	switch m.IntN(8) {
	case 0:
		return m.IntN(1000) - 500
	case 1:
		return m.NormFloat64() * 1e6
	case 2:
		return m.IntN(2) == 0
	case 3:
		return nil
	case 4:
		return m.Int64() - m.Int64()
	}
	return m.text()
}

func (m maker) tree(depth int) any {
	switch n := m.IntN(6); {
	case n == 0 && depth > 0:
		l := []any{}
		for range m.IntN(4) {
			l = append(l, m.tree(depth-1))
		}
		return l
	case n <= 2 && depth > 0:
		return m.mapping(depth - 1)
	}
	return m.scalar()
}

func (m maker) mapping(depth int) map[string]any {
	out := map[string]any{}
	for n := range m.IntN(5) {
		out[m.key(n)] = m.tree(depth)
	}
	return out
}

// commented puts comments between and behind lines where that leaves the tree as it is.
func (m maker) commented(text string) string {
	var b strings.Builder
	block := false
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		if strings.ContainsAny(line, "|>\"'") {
			block = true // from here on a line may be text
		}
		if !block && m.IntN(4) == 0 {
			b.WriteString(indent + "# " + strings.Map(func(r rune) rune {
				if r < ' ' {
					return '_'
				}
				return r
			}, m.text()) + "\n")
		}
		b.WriteString(line)
		if !block && m.IntN(6) == 0 && line != "" {
			b.WriteString(" # behind")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (m maker) file() (name, text string) {
	tree := m.mapping(3)
	tree["z"] = "last"
	switch m.IntN(4) {
	case 0:
		out, _ := json.Marshal(tree)
		return "x.json", string(out)
	case 1:
		var b strings.Builder
		for n := range 1 + m.IntN(5) {
			if m.IntN(3) == 0 {
				b.WriteString("#" + strings.ReplaceAll(m.text(), "\n", " ") + "\n")
			}
			fmt.Fprintf(&b, "K%d=%s\n", n, strings.ReplaceAll(m.text(), "\n", `\n`))
		}
		return "x.env", b.String()
	case 2:
		return "x.bin", m.text() + m.text() + "x"
	}
	out, _ := yaml.Marshal(tree)
	text = m.commented(string(out))
	if m.IntN(4) == 0 {
		out, _ := yaml.Marshal(m.mapping(2))
		text += "---\n" + string(out)
	}
	return "x.yaml", text
}

func TestAgainstTheProgram(t *testing.T) {
	dir := t.TempDir()
	key, err := filepath.Abs("testdata/key.txt")
	if err != nil {
		t.Fatal(err)
	}
	public := strings.TrimSpace(strings.SplitN(string(read(t, key)), "# public key: ", 2)[1])
	public, _, _ = strings.Cut(public, "\n")
	t.Setenv("SOPS_AGE_KEY_FILE", key)
	t.Setenv("SOPS_DISABLE_VERSION_CHECK", "1")
	seed := uint64(os.Getpid())
	m := maker{rand.New(rand.NewPCG(seed, 7))}
	kinds, refused := map[string]int{}, 0
	for range 400 {
		name, text := m.file()
		file := filepath.Join(dir, name)
		rules := []string{"", "", `, unencrypted_regex: '^k'`, `, encrypted_regex: '^(K|a)'`, ", encrypted_suffix: _sec", ", encrypted_comment_regex: a", ", unencrypted_comment_regex: '^ a'"}
		config := fmt.Sprintf("creation_rules: [{age: %s%s, mac_only_encrypted: %v}]\n", public, rules[m.IntN(len(rules))], m.IntN(3) == 0)
		for path, text := range map[string]string{file: text, filepath.Join(dir, "rules.yaml"): config} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		sealed, err := exec.Command("sops", "--config", filepath.Join(dir, "rules.yaml"), "encrypt", file).Output()
		if err != nil {
			refused++
			continue
		}
		if err := os.WriteFile(file, sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		want, theirs := exec.Command("sops", "decrypt", file).Output()
		got, ours := opened(t, file, sealed, key)
		same := bytes.Equal(got, want)
		if !same && ours == nil && name == "x.yaml" { // one of several lines that begins with blanks is written otherwise
			var a, b any
			same = yaml.Unmarshal(got, &a) == nil && yaml.Unmarshal(want, &b) == nil && reflect.DeepEqual(a, b)
		}
		if (theirs == nil) != (ours == nil) || theirs == nil && !same {
			t.Errorf("seed %d, %s, %s\n%s\nsealed to\n%s\nis\n%s\n%v\nand by sops\n%s\n%v", seed, name, config, text, sealed, got, ours, want, theirs)
			if kinds["failed"]++; kinds["failed"] > 3 {
				t.FailNow()
			}
			continue
		}
		if theirs != nil {
			name += " that neither opens"
		}
		kinds[name]++
	}
	t.Logf("compared %v, %d that sops did not seal", kinds, refused)
}

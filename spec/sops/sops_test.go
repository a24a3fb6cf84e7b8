package sops

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// keysOf are those of a file in testdata, without the program.
func keysOf(t *testing.T, file string) *Keys {
	t.Helper()
	k, err := NewKeys(file, Never, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// opened is what becomes of a file's content, with the keys of testdata.
func opened(t *testing.T, name string, data []byte, key string) ([]byte, error) {
	t.Helper()
	f, err := Recognise(name, data)
	if err != nil {
		return nil, err
	}
	if f == nil {
		t.Fatalf("%s is not recognised", name)
	}
	return keysOf(t, key).Open(t.Context(), f, &Budget{})
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sealedFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/sealed/*")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files in testdata/sealed: %v", len(files), err)
	}
	return files
}

// keyOf is the file with the key of a file.
func keyOf(file string) string {
	if strings.Contains(file, "pq") {
		return "testdata/pq.txt"
	}
	return "testdata/key.txt"
}

// What the programs sops and age sealed opens to what they make of it, byte for byte.
func TestOpensWhatTheProgramsSealed(t *testing.T) {
	t.Parallel()
	for _, file := range sealedFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			got, err := opened(t, file, read(t, file), keyOf(file))
			if err != nil {
				t.Fatal(err)
			}
			if want := read(t, "testdata/opened/"+filepath.Base(file)); !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Aliases do not make a small file a large one: whoever knows the public key could have
// it come to gigabytes, under a MAC that holds.
func TestAliasesDoNotMakeMuchOfLittle(t *testing.T) {
	t.Parallel()
	const sops = "sops: {mac: x, lastmodified: '2024-01-01T00:00:00Z', age: [{recipient: a, enc: b}]}\n"
	enc := encPrefix + "YQ==]"
	long, many := strings.Repeat("x", 50_000), 2_000
	for name, text := range map[string]string{
		"values":   "b: " + enc + "\na: [&a " + long + strings.Repeat(", *a", many) + "]\n",
		"sealed":   "a: [&a '" + encPrefix + long + "]'" + strings.Repeat(", *a", many) + "]\n",
		"keys":     "b: " + enc + "\na: [&a {? " + long + " : b}" + strings.Repeat(", *a", many) + "]\n",
		"comments": "b: " + enc + "\na:\n- &a\n  # " + long + "\n  b: c\n" + strings.Repeat("- *a\n", many),
	} {
		f, err := Recognise("a.yaml", []byte(text+sops))
		if f != nil || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := "a: [&a '" + encPrefix + "YQ==]'" + strings.Repeat(", *a", many) + "]\n"
	if f, err := Recognise("a.yaml", []byte(text+sops)); f == nil || err != nil {
		t.Errorf("aliases of little: %v", err)
	}
}

// Without the key a file is in order, and tells whom it is for.
func TestNoKey(t *testing.T) {
	t.Parallel()
	for _, file := range sealedFiles(t) {
		key := "testdata/other.txt"
		if strings.Contains(file, "two.") || strings.HasSuffix(file, ".age") { // sealed for that one too
			key = "testdata/pq.txt"
		}
		_, err := opened(t, file, read(t, file), key)
		if !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "age1") {
			t.Errorf("%s: %v", file, err)
		}
		_, err = opened(t, file, read(t, file), "")
		if !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "--age-key-file") {
			t.Errorf("%s without any key: %v", file, err)
		}
	}
	f, err := Recognise("two.yaml", read(t, "testdata/sealed/two.yaml"))
	if err != nil || len(f.Recipients()) != 2 || !strings.HasPrefix(f.Recipients()[0], "age1") {
		t.Errorf("recipients %q, %v", f.Recipients(), err)
	}
}

var value = regexp.MustCompile(`ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+),type:([a-z]+)\]`)

// Whatever is changed in an encrypted file without its key is found out, and no word of
// its values is told.
func TestFindsWhatWasChanged(t *testing.T) {
	t.Parallel()
	yaml := string(read(t, "testdata/sealed/encrypted-regex.yaml"))
	types := string(read(t, "testdata/sealed/types.yaml"))
	env := string(read(t, "testdata/sealed/app.env"))
	line := func(text, key string) string {
		return regexp.MustCompile(`(?m)^[ ]*` + key + `[:=].*\n`).FindString(text)
	}
	swap := func(text, a, b string) string {
		return strings.NewReplacer(a, b, b, a).Replace(text)
	}
	values := value.FindAllString(types, -1)
	for name, c := range map[string]struct{ file, text string }{
		"an open value":               {"x.yaml", strings.Replace(yaml, "kind: Secret", "kind: Public", 1)},
		"an open value is gone":       {"x.yaml", strings.Replace(yaml, "kind: Secret\n", "", 1)},
		"an open value is added":      {"x.yaml", "added: x\n" + yaml},
		"open values change places":   {"x.yaml", swap(yaml, line(yaml, "apiVersion"), line(yaml, "kind"))},
		"a value is in the clear":     {"x.yaml", strings.Replace(types, values[3], "clear", 1)},
		"values change places":        {"x.yaml", swap(types, values[3], values[4])},
		"an encrypted value is empty": {"x.yaml", strings.Replace(types, values[3], `""`, 1)},
		"an encrypted value is gone":  {"x.yaml", strings.Replace(types, line(types, "number"), "", 1)},
		"an encrypted value is twice": {"x.env", line(env, "ZEBRA") + env},
		"lines change places":         {"x.env", swap(env, line(env, "ZEBRA"), line(env, "ALPHA"))},
		"a type that there is not":    {"x.yaml", strings.Replace(types, "type:int]", "type:tree]", 1)},
		"another time":                {"x.yaml", regexp.MustCompile(`lastmodified: "20`).ReplaceAllString(types, `lastmodified: "19`)},
		"another rule":                {"x.yaml", strings.Replace(yaml, "encrypted_regex: ^data$", "encrypted_regex: ^none$", 1)},
		"the mac of another file":     {"x.yaml", strings.Replace(types, line(types, "    mac"), line(yaml, "    mac"), 1)},
		"a mac over less":             {"x.yaml", strings.Replace(types, "    lastmodified", "    mac_only_encrypted: true\n    lastmodified", 1)},
		"a key's document is cut":     {"x.yaml", regexp.MustCompile(`(?m)^ +-----END AGE.*\n`).ReplaceAllString(types, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.text == yaml || c.text == types || c.text == env {
				t.Fatal("nothing is changed")
			}
			got, err := opened(t, c.file, []byte(c.text), "testdata/key.txt")
			if !errors.Is(err, ErrDamaged) || got != nil {
				t.Fatalf("%q, %v", got, err)
			}
			tellsNothing(t, err)
		})
	}
}

// tellsNothing fails where a sentence has a part of a value of testdata in it.
func tellsNothing(t *testing.T, err error) {
	t.Helper()
	for _, word := range []string{"hunter2", "last letters", "fourth line", "ENC[", "42", "SECRET-KEY"} {
		if strings.Contains(err.Error(), word) {
			t.Errorf("it tells %q: %v", word, err)
		}
	}
}

// A byte that differs, or the end missing, is found out in a file of age.
func TestFindsWhatWasChangedInFilesOfAge(t *testing.T) {
	t.Parallel()
	data := read(t, "testdata/sealed/app.env.age")
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		if f, err := Recognise("x.age", changed); f == nil && err == nil && i < len(ageMagic) {
			continue // it does not begin as one
		}
		if got, err := opened(t, "x.age", changed, "testdata/key.txt"); err == nil && !bytes.Equal(got, read(t, "testdata/opened/app.env.age")) {
			t.Fatalf("with byte %d changed it is %q", i, got)
		}
		if got, err := opened(t, "x.age", data[:i+1], "testdata/key.txt"); i+1 > len(ageMagic) && i+1 < len(data) && err == nil {
			t.Fatalf("of %d bytes it is %q", i+1, got)
		}
	}
}

// A file is encrypted by what is in it, whatever it is called.
func TestRecognise(t *testing.T) {
	t.Parallel()
	yaml, env := read(t, "testdata/sealed/types.yaml"), read(t, "testdata/sealed/app.env")
	json, blob := read(t, "testdata/sealed/types.json"), read(t, "testdata/sealed/blob.bin")
	for _, c := range []struct {
		name string
		data []byte
		want Format
	}{
		{"a.yaml", yaml, YAML}, {"a.yml", yaml, YAML}, {"a.conf", yaml, YAML},
		{"a.json", json, JSON}, {"a", json, JSON}, {"a.yaml", json, YAML},
		{".env", env, Dotenv}, {"prod.env", env, Dotenv}, {"env.enc", env, Dotenv},
		{"key.pem", blob, Binary}, {"a.bin.enc", blob, Binary}, {"a.json", blob, JSON},
		{"a.ini", []byte("[x]\na = ENC[AES256_GCM,data:x]\n[sops]\nmac = ENC[AES256_GCM,data:x]\n"), INI},
		{"x", read(t, "testdata/sealed/app.env.age"), Age}, {"x", read(t, "testdata/sealed/blob.armored"), Age},

		{"a.age", []byte("no file of age"), ""},
		{"sops.yaml", []byte("sops: a word\nmac: another\n"), ""},
		{"a.yaml", []byte("sops:\n  version: 3\n  age: []\n"), ""},
		{"a.yaml", []byte("sops:\n  mac: ''\n"), ""},
		{"a.yaml", []byte("a:\n  sops:\n    mac: ENC[x]\n"), ""},
		{"a.json", []byte(`{"sops": 1, "a": {"sops": {"mac": "x"}}}`), ""},
		{".env", []byte("SOPS_MAC=x\nsops=y\n"), ""},
		{"a.md", []byte("# how to use sops:\n\nWrite\n\n    sops:\n      mac: …\n"), ""},
		{".sops.yaml", []byte("creation_rules:\n  - age: age1x\n# sops: mac\n"), ""},
		{"empty", nil, ""},
	} {
		f, err := Recognise(c.name, c.data)
		var got Format
		if f != nil {
			got = f.Format
		}
		if got != c.want || err != nil {
			t.Errorf("%s is %q, want %q (%v): %.40q", c.name, got, c.want, err, c.data)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	f, err := Recognise(".env", read(t, "testdata/sealed/app.env"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.Names(), " "); got != "ZEBRA ALPHA EMPTY QUOTED SPACES MULTI UNICODE NUMBER open_unencrypted LAST" {
		t.Errorf("names: %s", got)
	}
}

// What is written as YAML reads as the same values, whatever text they are.
func TestWrittenYAMLIsWhatWasRead(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("\n \ta#:-|>'\"{[&*!~1"))))
	rapid.Check(t, func(t *rapid.T) {
		value, element := text.Draw(t, "value"), text.Draw(t, "element")
		out, err := writeYAML([]branch{{item{"a", branch{item{"k", value}}}, item{"l", list{element, "x"}}, item{"z", "last"}}})
		if err != nil {
			t.Fatal(err)
		}
		var back struct {
			A map[string]string
			L []string
			Z string
		}
		if err := yaml.Unmarshal(out, &back); err != nil || back.A["k"] != value || back.L[0] != element || back.L[1] != "x" || back.Z != "last" {
			t.Fatalf("%q and %q: %q, %v, %q", value, element, back, err, out)
		}
	})
}

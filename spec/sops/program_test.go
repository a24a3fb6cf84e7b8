package sops

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// programOf is a program that is a script.
func programOf(t *testing.T, script string, environ ...string) *Program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sops")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return NewProgram(path, append(environ, "PATH="+os.Getenv("PATH")))
}

func openBy(t *testing.T, mode Mode, key string, p *Program, file string) (string, error) {
	t.Helper()
	keys, err := NewKeys(key, mode, p)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Recognise(file, read(t, file))
	if err != nil || f == nil {
		t.Fatal(f, err)
	}
	plain, err := keys.Open(t.Context(), f, &Budget{})
	return string(plain), err
}

const twoYAML = "testdata/sealed/two.yaml"

// The program is executed for what no key here opens, or for all, or never; age files
// are none of its business.
func TestWhenTheProgramIsExecuted(t *testing.T) {
	t.Parallel()
	own := string(read(t, "testdata/opened/two.yaml"))
	for _, c := range []struct {
		mode      Mode
		key, file string
		want      string
	}{
		{Auto, "testdata/key.txt", twoYAML, own},
		{Auto, "testdata/pq.txt", twoYAML, "theirs"},
		{Auto, "", twoYAML, "theirs"},
		{Always, "testdata/key.txt", twoYAML, "theirs"},
		{Never, "testdata/pq.txt", twoYAML, ""},
		{Always, "", "testdata/sealed/blob.armored", ""},
	} {
		got, err := openBy(t, c.mode, c.key, programOf(t, "cat >/dev/null; printf theirs"), c.file)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s with the key %q: %.30q, %v", c.mode, c.key, got, err)
		}
	}
	if _, err := openBy(t, Auto, "testdata/pq.txt", programOf(t, "echo no >&2; exit 1"), twoYAML); err == nil || !strings.Contains(err.Error(), "updatekeys") {
		t.Errorf("of a file for age keys alone that neither opens it says: %v", err)
	}
	if _, err := NewKeys("", Always, nil); err == nil {
		t.Error("always goes without a program")
	}
}

// What was tampered with is not handed on to the program.
func TestNoProgramForWhatIsDamaged(t *testing.T) {
	t.Parallel()
	text := strings.Replace(string(read(t, twoYAML)), "plain_unencrypted: told", "plain_unencrypted: lied", 1)
	f, err := Recognise("two.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := NewKeys("testdata/key.txt", Auto, programOf(t, "printf theirs"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Open(t.Context(), f, &Budget{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("%q, %v", got, err)
	}
}

// The program gets the file on its input, and of the environment what it needs.
func TestWhatTheProgramGets(t *testing.T) {
	t.Parallel()
	p := programOf(t, `cat; echo "$@"; env | sort; pwd`, "AWS_PROFILE=x", "SKEP_HTTP_TOKEN=hidden", "DOCKER_HOST=hidden", "SOPS_AGE_SSH_PRIVATE_KEY_FILE=y")
	got, err := openBy(t, Always, "testdata/key.txt", p, twoYAML)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{string(read(t, twoYAML)), "--decrypt --input-type yaml --output-type yaml /dev/stdin\n", "AWS_PROFILE=x\n", "SOPS_AGE_KEY_FILE=testdata/key.txt\n", "SOPS_AGE_SSH_PRIVATE_KEY_FILE=y\n", "\n/\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not get %q", want)
		}
	}
	if strings.Contains(got, "hidden") {
		t.Error("it gets more than it needs")
	}
}

// A file names the Vault that its key is asked of, and the program sends the token there.
// So the Vault has to be the one that the operator named, whoever wrote the file.
func TestNoVaultButTheOperators(t *testing.T) {
	t.Parallel()
	const own, other = "https://vault.example.com:8200", "https://vault.example.com:8200.evil.example"
	meta := func(address string) string {
		return "{mac: 'x', lastmodified: '2024-01-01T00:00:00Z', hc_vault: [{vault_address: '" + address + "', engine_path: a, key_name: b, enc: c}]}"
	}
	asJSON := func(sops, vault, address string) string {
		return `{"a": "` + encPrefix + `YQ==]", "sops": {"mac": "x", "lastmodified": "2024-01-01T00:00:00Z", "pgp": [{}]}, "` + sops + `": {"hc_vault": [{"` + vault + `": "` + address + `"}]}}`
	}
	for _, c := range []struct {
		name, text string
		environ    []string
		runs       bool
	}{
		{"a.yaml", "sops: " + meta(own), []string{"VAULT_ADDR=" + own}, true},
		{"a.yaml", "sops: " + meta(own), []string{"VAULT_ADDR=" + own + "/"}, true},
		{"a.yaml", "sops: " + meta(own+"/"), []string{"VAULT_ADDR=" + own}, true},
		{"a.yaml", "sops: " + meta(other), []string{"VAULT_ADDR=" + own}, false},
		{"a.yaml", "sops: " + meta(own+"@evil.example"), []string{"VAULT_ADDR=" + own}, false},
		{"a.yaml", "sops: " + meta(own), nil, false},
		{"a.yaml", "sops: " + meta(other), []string{"SOPS_HC_VAULT_ALLOWLIST=all"}, true},
		{"a.yaml", "sops: " + meta(other), []string{"SOPS_HC_VAULT_ALLOWLIST=https://x/," + other + "/"}, true},
		{"a.yaml", "sops: " + meta(own), []string{"SOPS_HC_VAULT_ALLOWLIST=none", "VAULT_ADDR=" + own}, false},
		{"a.yaml", "m: &m " + meta(other) + "\nsops: {<<: *m, mac: x, lastmodified: '2024-01-01T00:00:00Z', pgp: [{}]}", []string{"VAULT_ADDR=" + own}, false},
		{"a.yaml", "sops: {mac: x, lastmodified: '2024-01-01T00:00:00Z', key_groups: [{hc_vault: [{vault_address: '" + other + "'}]}]}", []string{"VAULT_ADDR=" + own}, false},
		{"a.yaml", "sops: {mac: x, lastmodified: '2024-01-01T00:00:00Z', hc_vault: [{vault_address: [x]}]}", []string{"VAULT_ADDR=" + own}, false},
		{"a.json", asJSON("sops2", "vault_address", other), nil, true},
		{"a.json", asJSON("SOPS", "Vault_Address", other), []string{"VAULT_ADDR=" + own}, false},
		{"a.env", "sops_mac=x\nsops_lastmodified=2024-01-01T00:00:00Z\nsops_hc_vault__list_0__map_vault_address=" + other, []string{"VAULT_ADDR=" + own}, false},
		{"a.env", "sops_mac=x\nsops_lastmodified=2024-01-01T00:00:00Z\nsops_hc_vault__list_0__map_vault_address=" + own, []string{"VAULT_ADDR=" + own}, true},
		{"a.ini", "[sops]\nmac = ENC[x]\nhc_vault__list_0__map_vault_address = " + other, []string{"VAULT_ADDR=" + own}, false},
		{"a.ini", "[sops]\nmac = ENC[x]\nhc_vault__list_0__map_vault_address = " + own, []string{"VAULT_ADDR=" + own}, true},
	} {
		f, err := Recognise(c.name, []byte(c.text+"\n"))
		if err != nil || f == nil {
			t.Fatalf("%s: %v %v", c.text, f, err)
		}
		keys, err := NewKeys("", Always, programOf(t, "cat >/dev/null; printf \"$SOPS_HC_VAULT_ALLOWLIST\"", c.environ...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := keys.Open(t.Context(), f, &Budget{})
		if (err == nil) != c.runs || err != nil && (!errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "VAULT_ADDR")) {
			t.Errorf("%s of %s with %q: %q, %v", c.text, c.name, c.environ, got, err)
		}
		if err == nil && len(got) == 0 {
			t.Errorf("%s with %q: newer programs are not told", c.text, c.environ)
		}
	}
}

// What the program says is told on a line, without what may be a value.
func TestWhatTheProgramSays(t *testing.T) {
	t.Parallel()
	const says = `echo 'Error getting data key
  | arn:aws:kms:eu: AccessDenied "hunter2" ENC[AES256_GCM,data:aa==] AGE-SECRET-KEY-1ABC' >&2
echo 'MAC mismatch. File has 0123456789ABCDEF0123, computed FEDCBA98765432100000' >&2; exit 128`
	_, err := openBy(t, Always, "", programOf(t, says), twoYAML)
	if !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "AccessDenied") || !strings.Contains(err.Error(), "MAC mismatch") {
		t.Fatal(err)
	}
	for _, word := range []string{"hunter2", "aa==", "1ABC", "0123456789", "FEDCBA", "\n"} {
		if strings.Contains(err.Error(), word) {
			t.Errorf("it tells %q: %v", word, err)
		}
	}
	if _, err := openBy(t, Always, "", programOf(t, "yes no >&2 & sleep 0.1; kill $!; exit 1"), twoYAML); err == nil || len(err.Error()) > 1000 {
		t.Errorf("%d bytes are told", len(err.Error()))
	}
}

// A program that does not end is ended, with all that it started, and left alone for a
// while; what gives too much, or cannot be executed, is no plaintext either.
func TestProgramsThatMisbehave(t *testing.T) {
	t.Parallel()
	slow := programOf(t, "sleep 1000 & wait")
	slow.limit = 100 * time.Millisecond
	if _, err := openBy(t, Always, "", slow, twoYAML); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "within 100ms") {
		t.Error(err)
	}
	start := time.Now()
	if _, err := openBy(t, Always, "", slow, twoYAML); err == nil || !strings.Contains(err.Error(), "left alone") || time.Since(start) > 90*time.Millisecond {
		t.Errorf("again, after %v: %v", time.Since(start), err)
	}
	if got, err := openBy(t, Always, "", programOf(t, "yes"), twoYAML); err == nil || got != "" {
		t.Errorf("%d bytes without end: %v", len(got), err)
	}
	if got, err := openBy(t, Always, "", programOf(t, "printf half; exit 1"), twoYAML); err == nil || got != "" {
		t.Errorf("%q of one that fails: %v", got, err)
	}
	if _, err := openBy(t, Always, "", NewProgram("/nonexistent/sops", nil), twoYAML); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
}

// What is wrong with a file of keys is told by its line, and without what stands there.
func TestFilesOfKeys(t *testing.T) {
	t.Parallel()
	good := "\r\n# a comment\r\n" + string(read(t, "testdata/key.txt"))
	for text, want := range map[string]string{
		good:                              "",
		"":                                "no key in it",
		"AGE-SECRET-KEY-1QQQQ\n":          "line 1 what is no key",
		"# x\nAGE-PLUGIN-YUBIKEY-1QQQQ\n": "line 2 a key of an age plugin",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nQQQQ": "an SSH or PGP key",
		"age1qqqq\n":                      "a public key",
		"hunter2QQQQ":                     "what is no key",
		strings.Repeat("#", maxKeyFile+1): "more than 64 kB",
		strings.Repeat(string(read(t, "testdata/key.txt")), 101): "more than 100 keys",
	} {
		file := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openBy(t, Never, file, nil, twoYAML)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "QQQQ")) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	if _, err := openBy(t, Never, t.TempDir(), nil, twoYAML); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a folder of keys: %v", err)
	}
}

package controller

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/registry"

	"github.com/skep-io/skep/reconcile"
)

var _ reconcile.Credentials = (*RegistryCredentials)(nil)

func TestEncodedAuthFindsTheRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, fmt.Sprintf(`{"auths":{
		"https://index.docker.io/v1/":{"auth":%q},
		"registry.example:5000":{"auth":%q},
		"https://old.example/v2/":{"auth":%q},
		"token.example":{"identitytoken":"tok"}}}`,
		basic("hub"), basic("private"), basic("old")))
	c := NewRegistryCredentials(path)

	for image, want := range map[string]registry.AuthConfig{
		"nginx":                            {Username: "hub", Password: "pw-hub", ServerAddress: "https://index.docker.io/v1/"},
		"docker.io/library/nginx:1":        {Username: "hub", Password: "pw-hub", ServerAddress: "https://index.docker.io/v1/"},
		"registry.example:5000/a/b@" + dig: {Username: "private", Password: "pw-private", ServerAddress: "registry.example:5000"},
		"old.example/a":                    {Username: "old", Password: "pw-old", ServerAddress: "https://old.example/v2/"},
		"token.example/a":                  {IdentityToken: "tok", ServerAddress: "token.example"},
		"elsewhere.example/a":              {},
	} {
		encoded, err := c.EncodedAuth(image)
		if err != nil {
			t.Errorf("%s: %v", image, err)
			continue
		}
		if got := decode(t, encoded); got != want {
			t.Errorf("%s: got %+v, want %+v", image, got, want)
		}
	}
	if _, err := c.EncodedAuth("an app"); err == nil {
		t.Error("an impossible reference gave no error")
	}
}

const dig = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestEncodedAuthAsksTheHelperOnce(t *testing.T) {
	calls := helper(t, "lab", `echo '{"ServerURL":"r.example","Username":"u","Secret":"s3cret"}'`)
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, `{"credHelpers":{"r.example":"lab"}}`)
	c := NewRegistryCredentials(path)
	now := time.Now()
	c.now = func() time.Time { return now }

	ask := func() registry.AuthConfig {
		t.Helper()
		encoded, err := c.EncodedAuth("r.example/app:1")
		if err != nil {
			t.Fatal(err)
		}
		return decode(t, encoded)
	}
	want := registry.AuthConfig{Username: "u", Password: "s3cret", ServerAddress: "r.example"}
	for range 3 {
		if got := ask(); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
	if n := calls(); n != 1 {
		t.Errorf("the helper was asked %d times within a minute, want once", n)
	}
	now = now.Add(credentialsTTL)
	ask()
	if n := calls(); n != 2 {
		t.Errorf("the helper was asked %d times after a minute, want twice", n)
	}
	if encoded, err := c.EncodedAuth("other.example/app"); err != nil || encoded != "" {
		t.Errorf("another registry: %q, %v", encoded, err)
	}
}

func TestEncodedAuthHelperAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         registry.AuthConfig
		wantErr      string
	}{
		{name: "an identity token", script: `echo '{"Username":"<token>","Secret":"tok"}'`, want: registry.AuthConfig{IdentityToken: "tok", ServerAddress: "r.example"}},
		{name: "has none", script: `echo 'credentials not found in native keychain'; exit 1`},
		{name: "fails after it printed them", script: `echo '{"Username":"u","Secret":"s3cret"}'; echo s3cret >&2; exit 1`, wantErr: "docker-credential-lab failed"},
		{name: "prints no JSON", script: `echo s3cret`, wantErr: "docker-credential-lab failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			helper(t, "lab", tt.script)
			path := filepath.Join(t.TempDir(), "config.json")
			write(t, path, `{"credsStore":"lab"}`)
			encoded, err := NewRegistryCredentials(path).EncodedAuth("r.example/app")
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("error %v, want one with %q and without the secret", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := decode(t, encoded); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestEncodedAuthMissingHelper(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, `{"credsStore":"is-not-there"}`)
	_, err := NewRegistryCredentials(path).EncodedAuth("r.example/app")
	if err == nil || !strings.Contains(err.Error(), "docker-credential-is-not-there is not on the PATH") {
		t.Fatalf("error %v", err)
	}
}

func TestEncodedAuthReadsTheFileAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	c := NewRegistryCredentials(path)
	user := func() string {
		t.Helper()
		encoded, err := c.EncodedAuth("r.example/app")
		if err != nil {
			t.Fatal(err)
		}
		return decode(t, encoded).Username
	}
	if got := user(); got != "" {
		t.Errorf("without a file: %q", got)
	}
	write(t, path, fmt.Sprintf(`{"auths":{"r.example":{"auth":%q}}}`, basic("first")))
	if got := user(); got != "first" {
		t.Errorf("after it appeared: %q", got)
	}
	write(t, path, fmt.Sprintf(`{"auths":{"r.example":{"auth":%q}}}`, basic("somebody")))
	if got := user(); got != "somebody" {
		t.Errorf("after it changed: %q", got)
	}
	write(t, path, `{"auths":{"r.example":{"auth":"c3VwZXI6c2VjcmV0`)
	if _, err := c.EncodedAuth("r.example/app"); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "c3VwZXI") {
		t.Errorf("half written: error %v, want one that names the file and not its content", err)
	}
}

func TestConfigPath(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "auth")
	write(t, file, "{}")
	for _, tt := range []struct{ path, want string }{
		{"", filepath.Join(dir, "config.json")},
		{dir, filepath.Join(dir, "config.json")},
		{file, file},
		{filepath.Join(dir, "later.json"), filepath.Join(dir, "later.json")},
		{filepath.Join(dir, "later"), filepath.Join(dir, "later", "config.json")},
	} {
		if got := configPath(tt.path, env("DOCKER_CONFIG", dir)); got != tt.want {
			t.Errorf("configPath(%q) = %s, want %s", tt.path, got, tt.want)
		}
	}
}

func basic(user string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":pw-" + user))
}

func decode(t *testing.T, encoded string) registry.AuthConfig {
	t.Helper()
	if encoded == "" {
		return registry.AuthConfig{}
	}
	auth, err := registry.DecodeAuthConfig(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return *auth
}

// helper puts a credential helper on the PATH that runs script, and returns how
// often it was called.
func helper(t *testing.T, name, script string) (calls func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	program := "#!/bin/sh\ncat >/dev/null\necho call >> '" + log + "'\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return func() int {
		t.Helper()
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), "call")
	}
}

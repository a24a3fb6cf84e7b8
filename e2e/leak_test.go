package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/e2e/leaks"
)

// TestSecretsAreNotTold takes a stack with a secret and variables that look like some
// through all that may happen to it, and asks for all that skep tells. What it says is
// looked through here as everywhere; TestMain says what was found.
func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	const stack = "discreet"
	cleanUp(t, stack)
	d := start(t, &daemon{})
	secret := func(name string) string { return leaked.Plant(name, leaks.Secret) }
	env := func(name string) string { return leaked.Plant(name, leaks.Env) }
	file := func(image, extra string) string {
		return web(image, 1) + fmt.Sprintf(`    environment:
      DB_PASSWORD: "%s"
      DATABASE_URL: "postgres://app:%s@db/app"
      API_TOKEN: "%s"
    secrets: [s]
secrets: {s: {file: ./s.txt}}
%s`, env("a password"), env("a password in a URL"), env("an API token"), extra)
	}
	verbs := func() {
		t.Helper()
		for _, args := range [][]string{
			{"plan", "--specs", d.specs, "--owner", d.owner},
			{"plan", "--specs", d.specs, "--owner", d.owner, "--format", "json"},
			{"validate", d.specs}, {"validate", d.specs, "--format", "json"},
			{"status", stack}, {"status", stack, "--format", "json"},
			{"history", stack}, {"history", stack, "--format", "json"}, {"history", stack, "1"}, {"history", stack, "2"},
			{"history", stack, "2", "--format", "json"},
		} {
			if code, _, words := skep(t, args...); code > 1 {
				t.Errorf("skep %s: exit %d: %s", strings.Join(args, " "), code, words)
			}
		}
		for _, path := range []string{"/metrics", "/readyz", "/healthz", "/"} {
			d.get(path)
		}
	}
	d.write("s.txt", secret("a secret"))
	d.write(stack+".yml", file("app:1.0", ""))
	awaitReady(t, d, stack, 1)
	d.write("s.txt", secret("a secret that came later"))
	d.write(stack+".yml", file("app:2.0", ""))
	awaitReady(t, d, stack, 2)
	verbs()

	t.Log("a plan of what changes them, with nobody to carry it out")
	if code, _, words := skep(t, "suspend", stack, "--owner", d.owner); code != 0 {
		t.Fatalf("suspend: exit %d: %s", code, words)
	}
	d.write("s.txt", secret("a secret that is to come"))
	d.write(stack+".yml", file("app:1.0", ""))
	verbs()

	t.Log("files that are wrong just where the value is")
	for name, text := range map[string]string{
		"a list":        strings.Replace(file("app:1.0", ""), `DB_PASSWORD: "`, `DB_PASSWORD: ["x", "`, 1),
		"a bad port":    file("app:1.0", "") + "x-skep: {suspend: \"" + env("a value in x-skep") + "\"}\n",
		"a bad mapping": file("app:1.0", "") + "networks: [\"" + env("a network's name") + "\"]\n",
		"a variable":    strings.Replace(file("app:1.0", ""), `API_TOKEN: "`, `API_TOKEN: "${X:?`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{stack + ".yml": text, "s.txt": secret("the secret of a broken stack")} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, verb := range [][]string{{"validate", dir}, {"validate", dir, "--format", "json"}, {"plan", "--specs", dir, "--owner", d.owner}} {
				if code, out, words := skep(t, verb...); code == 0 {
					t.Errorf("skep %s finds nothing wrong:\n%s%s", strings.Join(verb, " "), out, words)
				}
			}
		})
	}
	d.write("s.txt", strings.Repeat(secret("a secret that is too large"), 10_000))
	await(t, time.Minute, "the daemon says that the secret is too large", func() error {
		if text := d.log.String(); !strings.Contains(text, "secret-too-large") {
			return fmt.Errorf("its log has %d bytes", len(text))
		}
		return nil
	})
	verbs()
	if leaked.Looked() == 0 {
		t.Error("nothing was looked through")
	}
}

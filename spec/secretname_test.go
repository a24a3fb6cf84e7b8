package spec

import (
	"testing"

	"pgregory.net/rapid"
)

// What a file is blamed for is never shown: every name that the one asks about, the other
// one hides, however it is written.
func TestOneIdeaOfSecretNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z]{0,6}[_.-]?(passw(or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credentials?|PASSWORD|Token|ApiKey)[_A-Za-z]{0,6}`).Draw(t, "name")
		if !LooksSecret(name) {
			t.Fatalf("%s does not look secret", name)
		}
	})
	for name, want := range map[string]bool{
		"API_KEY": true, "apiKey": true, "apikey": true, "X-Api-Key": true, "DB_PASS": true, "PGPASSWORD": true, "awsCredentials": true,
		"traefik.http.middlewares.a.basicauth.users": true, "AWS_ACCESS_KEY_ID": true, "COMPASS": true, "SSH_PUBLIC_KEY": true,
		"": false, "KEYBOARD": false, "AUTHOR": false, "APP_VERSION": false, "DESCRIPTION": false, "MONKEYS_": true,
	} {
		if got := LooksSecret(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

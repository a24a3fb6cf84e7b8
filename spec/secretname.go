package spec

import (
	"regexp"
	"slices"
	"strings"
)

// What looks secret by its name. Whoever shows a value asks LooksSecret, and rather hides
// too much than a password too little; who blames a file for one leaves out the names of
// what merely belongs to a secret.

var (
	// secretWords in a name make its value one that is not shown. Those in secretEnds only
	// count where a word of the name ends with them: KEY is in API_KEY and in KEYBOARD.
	// That hides a COMPASS too.
	secretWords = []string{"PASSW", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "APIKEY", "ACCESSKEY", "API_KEY", "ACCESS_KEY", "BASICAUTH", "DIGESTAUTH", "HTPASS", "COOKIE", "SIGNATURE"}
	secretEnds  = []string{"KEY", "KEYS", "AUTH", "DSN", "PASS", "PWD", "PW", "CREDS", "SALT", "PEPPER", "JWT", "SIG"}
	nameWord    = regexp.MustCompile(`[A-Za-z0-9]+`)
	camelBreak  = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	// aboutSecret ends the names of what belongs to a secret and is none.
	aboutSecret = regexp.MustCompile(`(?i)_(file|path|dir|name|user|username|id|url|uri|host|endpoint|port|email|ttl|expiry|expiration|expires?|expires_in|lifetime|age|seconds|minutes|hours|days|length|len|size|min|max|type|algorithm|alg|method|issuer|audience|header|prefix|suffix|policy|enabled|disabled|required|provider|store|backend|driver|mode)$`)
	// noSecret ends the names of what only sounds like one.
	noSecret = regexp.MustCompile(`(?i)(^|_)(public|publishable|primary|foreign|sort|partition|routing)_?keys?$|(by|com|en)pass$`)
)

// LooksSecret says of a variable, label, option or argument, by its name, that its value
// may be a secret.
func LooksSecret(name string) bool {
	upper := strings.ToUpper(name)
	if slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(upper, w) }) {
		return true
	}
	for _, word := range nameWord.FindAllString(camelBreak.ReplaceAllString(name, "${1}_${2}"), -1) {
		if slices.ContainsFunc(secretEnds, func(end string) bool { return strings.HasSuffix(strings.ToUpper(word), end) }) {
			return true
		}
	}
	return false
}

// isSecretName is LooksSecret without the names of what belongs to a secret and is none,
// or only sounds like one.
func isSecretName(name string) bool {
	return LooksSecret(name) && !aboutSecret.MatchString(name) && !noSecret.MatchString(name)
}

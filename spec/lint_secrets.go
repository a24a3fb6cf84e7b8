package spec

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	secretName = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credentials?)`)
	// aboutSecret ends the names of what belongs to a secret and is none.
	aboutSecret = regexp.MustCompile(`(?i)_(file|path|dir|name|user|username|id|url|uri|host|endpoint|port|email|ttl|expiry|expiration|expires?|expires_in|lifetime|age|seconds|minutes|hours|days|length|len|size|min|max|type|algorithm|alg|method|issuer|audience|header|prefix|suffix|policy|enabled|disabled|required|provider|store|backend|driver|mode)$`)
	// passwordInURL is a password in the user's part of a URL, and no variable.
	passwordInURL = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#@:\s]*:[^/?#@$\s{<][^/?#@$\s]*@`)
)

// secretsInEnvironment tells of values in the file that look like secrets. It never
// tells the value.
func (l *linter) secretsInEnvironment() {
	written := mapping(l.literal, "services", l.service.Key)["environment"]
	vars := pairs(written)
	at := l.variables(written)
	for _, name := range sortedKeys(vars) {
		value := vars[name]
		switch {
		case value == nil:
		case passwordInURL.MatchString(*value):
			l.report.warn("secret-in-env", at(name), "the variable %s has a URL with a password in it, which stands in the file and in the service for all to read (make it a secret, and have the program read it from its file under /run/secrets)", name)
		case secretName.MatchString(name) && !aboutSecret.MatchString(name) && !harmlessValue(*value):
			l.report.warn("secret-in-env", at(name), "the variable %s looks like a secret, and its value stands in the file and in the service for all to read (make it a secret, and have the program read it from its file under /run/secrets: many take its path in %s_FILE)", name, name)
		}
	}
}

// variables gives the paths of environment variables in the file.
func (l *linter) variables(written any) func(name string) []string {
	places := map[string]int{}
	list, isList := written.([]any)
	for i, element := range slices.Backward(list) { // the first of equal ones counts
		name, _, _ := strings.Cut(text(element), "=")
		places[name] = i
	}
	return func(name string) []string {
		if isList {
			name = strconv.Itoa(places[name])
		}
		return under(l.at, "environment", name)
	}
}

// harmlessValue says that a value is no secret itself: it is empty, names another
// variable or a file, is a template of the Swarm's, or a switch.
func harmlessValue(value string) bool {
	if value == "" || strings.HasPrefix(value, "/run/secrets/") || strings.HasPrefix(value, "{{") {
		return true
	}
	if strings.HasPrefix(value, "$") && !strings.HasPrefix(value, "$$") {
		return true
	}
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "0", "1", "none", "null":
		return true
	}
	return false
}

package spec

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var secretName = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credentials?)`)

// secretsInEnvironment tells of values in the file that look like secrets. It never
// tells the value.
func (l *linter) secretsInEnvironment() {
	written := mapping(l.literal, "services", l.service.Key)["environment"]
	vars := pairs(written)
	for _, name := range sortedKeys(vars) {
		value := vars[name]
		if value == nil || *value == "" || !secretName.MatchString(name) || harmlessValue(name, *value) {
			continue
		}
		at := under(l.at, "environment")
		if list, ok := written.([]any); ok {
			i := slices.IndexFunc(list, func(e any) bool { return strings.HasPrefix(text(e), name+"=") })
			at = under(at, strconv.Itoa(i))
		} else {
			at = under(at, name)
		}
		l.report.warn("secret-in-env", at, "the variable %s looks like a secret, and its value stands in the file and in the service for all to read (make it a secret and name its file in %s_FILE, or where the program reads it)", name, name)
	}
}

// harmlessValue says that a variable does not hold the secret itself: it names a
// file, another variable, or a switch.
func harmlessValue(name, value string) bool {
	upper := strings.ToUpper(name)
	if strings.HasSuffix(upper, "_FILE") || strings.HasSuffix(upper, "_PATH") || strings.HasPrefix(value, "/run/secrets/") {
		return true
	}
	if strings.HasPrefix(value, "$") && !strings.HasPrefix(value, "$$") {
		return true
	}
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "0", "1":
		return true
	}
	return false
}

package spec

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// passwordInURL is a password in the user's part of a URL, and no variable.
var passwordInURL = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#@:\s]*:[^/?#@$\s{<][^/?#@$\s]*@`)

// secretsInEnvironment tells of values in the files that the service is made of which
// look like secrets, each once. It never tells the value.
func (l *linter) secretsInEnvironment() {
	docs, paths := l.report.of(l.at)
	open := pairs(l.raw["environment"]) // what no document has taken back or said otherwise
	for i, doc := range docs {
		written := mapping(doc.tree, paths[i]...)["environment"]
		vars := pairs(written)
		at := variables(written, paths[i])
		for _, name := range sortedKeys(vars) {
			if _, ok := open[name]; ok && vars[name] != nil {
				l.secretInEnvironment(doc, at(name), name, *vars[name])
			}
			delete(open, name)
		}
	}
}

// secretInEnvironment looks at one variable, which stands in a document.
func (l *linter) secretInEnvironment(doc *document, at []string, name, value string) {
	why := ""
	switch {
	case passwordInURL.MatchString(value):
		why = fmt.Sprintf("the variable %s has a URL with a password in it, which stands in the file and in the service for all to read (make it a secret, and have the program read it from its file under /run/secrets)", name)
	case isSecretName(name) && !harmlessValue(value):
		why = fmt.Sprintf("the variable %s looks like a secret, and its value stands in the file and in the service for all to read (make it a secret, and have the program read it from its file under /run/secrets: many take its path in %s_FILE)", name, name)
	default:
		return
	}
	line, column := doc.at(at...)
	place := fmt.Sprintf("%s:%d:%d:%s", doc.file, line, column, name)
	if l.told[place] {
		return
	}
	l.told[place] = true
	l.report.about(doc, func() { l.report.warn("secret-in-env", at, "%s", why) })
	l.report.findings[len(l.report.findings)-1].Service = l.service.Key // which may have another key there
}

// variables gives the paths of environment variables in the document that a service
// stands in at a path.
func variables(written any, service []string) func(name string) []string {
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
		return under(service, "environment", name)
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
	return isSwitch(value)
}

// isSwitch says that a value is one of a few that everybody would guess.
func isSwitch(value string) bool {
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "0", "1", "none", "null":
		return true
	}
	return false
}

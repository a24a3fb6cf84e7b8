package spec

import (
	"strings"
	"testing"
)

// The schema's words fit the value: a list that holds something twice is not told to
// be something else, and where several kinds are taken all are named.
func TestFaultsFitTheValue(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"extra_hosts: ['a:1.2.3.4', 'b:1.2.3.4', 'a:1.2.3.4']": "services.web.extra_hosts items at 0 and 2 are equal (take one of them out)",
		"tmpfs: {a: b}":   "services.web.tmpfs must be text or a list (see https://docs.docker.com/reference/compose-file/",
		"environment: 5":  "services.web.environment must be a list or a mapping (",
		"command: {a: b}": "services.web.command must be text or a list (",
		"hostname: [a]":   "services.web.hostname must be text (",
		"deploy: {resources: {limits: {memory: 67108864}}}": "services.web.deploy.resources.limits.memory must be text (write it with its unit, such as 64M)",
		"deploy: {resources: {limits: {cpus: [1]}}}":        "services.web.deploy.resources.limits.cpus must be text or a number (",
		"networks: [a, a]":              "services.web.networks items at 0 and 1 are equal (",
		"healthcheck: {interval: [1s]}": "services.web.healthcheck.interval must be text (",
	} {
		_, findings := loadText(t, "services:\n  web:\n    image: a:1\n    "+line+"\n")
		if text := string(findingsText(findings)); severityIn(findings, "invalid-compose") != Error || !strings.Contains(text, want) {
			t.Errorf("%s: want %q, in\n%s", line, want, text)
		}
	}
}

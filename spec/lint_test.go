package spec

import (
	"fmt"
	"strings"
	"testing"
)

// What an update watches, and what it does not.
func TestMonitor(t *testing.T) {
	t.Parallel()
	const (
		check = "    healthcheck: {test: 'true', interval: 10s, retries: 3%s}\n"
		delay = "monitor-before-delay"
		short = "monitor-short"
	)
	for name, c := range map[string]struct {
		check, deploy string
		want          string // codes
	}{
		"nothing said":                {"", "replicas: 3", ""},
		"delay alone":                 {"", "replicas: 3, update_config: {delay: 6s}", delay},
		"delay as long as monitor":    {"", "replicas: 3, update_config: {delay: 5s}", ""},
		"monitor as long as delay":    {"", "replicas: 3, update_config: {delay: 6s, monitor: 6s}", ""},
		"one replica":                 {"", "update_config: {delay: 6s}", ""},
		"all in one go":               {"", "replicas: 3, update_config: {delay: 6s, parallelism: 3}", ""},
		"all at once":                 {"", "replicas: 3, update_config: {delay: 6s, parallelism: 0}", ""},
		"two goes":                    {"", "replicas: 4, update_config: {delay: 6s, parallelism: 3}", delay},
		"on every node":               {"", "mode: global, update_config: {delay: 6s}", delay},
		"a job":                       {"", "mode: replicated-job, replicas: 3", ""},
		"nothing watched":             {"", "replicas: 3, update_config: {delay: 6s, failure_action: continue}", ""},
		"of a rollback":               {"", "replicas: 3, rollback_config: {delay: 6s}", delay},
		"healthcheck, Swarm not used": {fmt.Sprintf(check, ""), "update_config: {order: start-first}", ""},
		"healthcheck, rollback":       {fmt.Sprintf(check, ""), "update_config: {failure_action: rollback}", short},
		"healthcheck, long monitor":   {fmt.Sprintf(check, ""), "update_config: {failure_action: rollback, monitor: 30s}", ""},
		"healthcheck, short monitor":  {fmt.Sprintf(check, ""), "update_config: {monitor: 29s}", short},
		"healthcheck, continue":       {fmt.Sprintf(check, ""), "update_config: {failure_action: continue, monitor: 1s}", ""},
		"with a start_period":         {fmt.Sprintf(check, ", start_period: 1m"), "update_config: {monitor: 20s}", ""},
		"and a shorter monitor":       {fmt.Sprintf(check, ", start_period: 1m"), "update_config: {monitor: 19s}", short},
		"the engine's defaults":       {"    healthcheck: {test: 'true'}\n", "update_config: {monitor: 89s}", short},
		"watched for as long":         {"    healthcheck: {test: 'true'}\n", "update_config: {monitor: 90s}", ""},
		"turned off":                  {"    healthcheck: {disable: true}\n", "update_config: {monitor: 1s}", ""},
		"none written":                {"", "update_config: {monitor: 1s}", ""},
	} {
		_, findings := loadText(t, "services:\n  web:\n    image: a:1\n"+c.check+"    deploy: {"+c.deploy+"}\n")
		var got []string
		for _, f := range findings {
			if strings.HasPrefix(f.Code, "monitor-") {
				got = append(got, f.Code)
			}
		}
		if strings.Join(got, " ") != c.want || hasError(findings) {
			t.Errorf("%s: %v, want %q\n%s", name, got, c.want, findingsText(findings))
		}
	}
}

// codesOf are the codes of findings of one prefix, as one text.
func codesOf(findings []Finding, prefix string) string {
	var got []string
	for _, f := range findings {
		if strings.HasPrefix(f.Code, prefix) {
			got = append(got, f.Code+" "+string(f.Severity))
		}
	}
	return strings.Join(got, ", ")
}

func TestImagesOfOneNode(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]string{
		"image: app:1":                                            "",
		"build: .\n    image: app:1":                              "image-local-only warning",
		"build: .\n    image: docker.io/library/app:1":            "image-local-only warning",
		"build: .\n    image: team/app:1":                         "",
		"build: .\n    image: registry.example.com/app:1":         "",
		"build: .\n    image: localhost/app:1":                    "image-local-only info",
		"image: localhost/app:1":                                  "image-local-only info",
		"image: localhost:5000/app:1":                             "image-local-only info",
		"image: 127.0.0.1:5000/app:1":                             "image-local-only info",
		"image: 127.3.2.1:5000/app:1":                             "image-local-only info",
		"image: '[::1]:5000/app:1'":                               "image-local-only info",
		"image: registry.localhost:5000/app:1":                    "image-local-only info",
		"image: localhost.example.com/app:1":                      "",
		"image: 10.0.0.1:5000/app:1":                              "",
		"image: 127.0.0.1:5000/app:1\n    ports: ['5000:5000']":   "",
		"image: 127.0.0.1:5000/app:1\n    ports: ['5001:5000']":   "image-local-only info",
		"image: 127.0.0.1:5000/app:1\n    ports: ['5000:80/udp']": "image-local-only info",
	} {
		_, findings := loadText(t, "services:\n  web:\n    "+lines+"\n")
		if got := codesOf(findings, "image-local"); got != want {
			t.Errorf("%q: %q, want %q", lines, got, want)
		}
	}
}

func TestSecretsInEnvironment(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]bool{
		"DB_PASSWORD=hunter2": true, "GITHUB_TOKEN=abc": true, "apiKey=abc": true, "AWS_SECRET_ACCESS_KEY=abc": true, "db__password=x": true,
		"PASSWORD=": false, "PASSWORD": false, "PASSWORD=$PASSWORD": false, "PASSWORD=${PASSWORD:-x}": false, "PASSWORD=$$x": true,
		"DB_PASSWORD_FILE=/run/secrets/db": false, "PASSWORD=/run/secrets/db": false, "TOKEN_SERVICE_URL=http://core/token": false,
		"CREDENTIAL_USERNAME=me": false, "TOKEN_TTL=5m": false, "AWS_ACCESS_KEY_ID=abc": false, "SECRETS_ENABLED=true": false, "USE_TOKEN=1": false,
		"COOKIE_SECRET={{.Service.ID}}": false, "CORE_KEY=abc": true, "DB_PASS=abc": true, "SENTRY_DSN=abc": true, "JWT=abc": true,
		"SSH_PUBLIC_KEY=abc": false, "COMPASS=north": false, "KEYBOARD=de": false,
		"DATABASE_URL=postgres://u:p@db/x": true, "DATABASE_URL=postgres://u@db/x": false, "DATABASE_URL=postgres://u:$PASS@db/x": false,
		"DATABASE_URL=postgres://u:${PASS}@db/x": false, "URL=http://a:80/b@c": false, "MOTTO=a: b@c": false,
	} {
		_, findings := loadText(t, "services:\n  web:\n    image: a:1\n    environment:\n      - '"+variable+"'\n")
		if got := severityIn(findings, "secret-in-env") != ""; got != want {
			t.Errorf("%s: %v", variable, got)
		}
	}
}

func TestBindsOfEveryNode(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]string{
		"volumes: ['/srv/x:/x:ro']":                     "bind info",
		"volumes: ['./x:/x:ro']":                        "bind-relative warning",
		"volumes: ['/var/run/docker.sock:/d']":          "",
		"volumes: ['/proc/1:/d']":                       "",
		"volumes: ['/proceedings:/d']":                  "bind info",
		"volumes: ['/:/host:ro', '/sys/fs:/s']":         "",
		"volumes: ['/var/lib/docker/containers/:/c']":   "",
		"volumes: ['/var/lib/docker/mine:/c']":          "bind info",
		"volumes: ['/etc/localtime:/etc/localtime:ro']": "",
		"volumes: ['/srv/x:/x']\n    deploy: {placement: {constraints: [node.hostname == a]}}": "",
		"volumes: ['/srv/x:/x']\n    deploy: {placement: {constraints: [node.hostname != a]}}": "bind info",
	} {
		_, findings := loadText(t, "services:\n  web:\n    image: a:1\n    "+lines+"\n")
		if got := codesOf(findings, "bind"); got != want {
			t.Errorf("%q: %q, want %q", lines, got, want)
		}
	}
}

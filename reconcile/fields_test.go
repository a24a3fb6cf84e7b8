package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSecretsAreMasked(t *testing.T) {
	const secret = "hunter2"
	for _, c := range []struct{ name, value string }{
		{"DB_PASSWORD", secret}, {"PGPASSWORD", secret}, {"MYSQL_ROOT_PASSWD", secret}, {"passphrase", secret},
		{"CLIENT_SECRET", secret}, {"clientSecret", secret}, {"GITHUB_TOKEN", secret}, {"API_KEY", secret}, {"apikey", secret},
		{"AWS_ACCESS_KEY_ID", secret}, {"awsCredentials", secret}, {"SENTRY_DSN", secret}, {"REDIS_AUTH", secret}, {"DB_PASS", secret},
		{"traefik.http.middlewares.a.basicauth.users", "admin:" + secret}, {"SESSION_COOKIE", secret}, {"JWT", secret},
		{"DB_PASSWORD_FILE", secret}, // no path: not a file's name
		{"URL", "postgres://app:" + secret + "@db:5432/x?sslmode=off"},
		{"URLS", "a,amqp://u:" + secret + "@mq,redis://:" + secret + "@r"},
		{"USERS", "admin:$apr1$" + secret + "$x"}, {"USERS", "admin:$2y$05$" + secret},
		{"OPTIONS", "--user=a --password=" + secret + " --verbose"}, {"CONF", "user: a, password: '" + secret + " x'"},
		{"JSON", `{"user": "a", "password": "` + secret + `", "b": 1}`}, {"NESTED", "opts=password=" + secret},
		{"PATHY", "postgres://u:" + secret + "/x@db"}, {"URL", "postgres://u:p@" + secret + "@db/x"},
		{"URLS", "http://a:80/x,https://u:" + secret + "@b/y"}, {"URL", "https://" + secret + "-0123456789@github.com/x"},
		{"JSON", `{"password":"a\"` + secret + `"}`}, {"OPTIONS", "--password=a'" + secret},
		{"ENDPOINT", "https://x.example/c?sv=1&sig=" + secret}, {"NOTIFY", "https://hooks.slack.com/services/T0/B0/" + secret},
		{"X", "ghp_0123456789abcdef" + secret}, {"X", "run glpat-0123456789" + secret}, {"X", "xoxb-12-" + secret},
		{"X", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + secret},
		{"CHECK", "curl -u admin:" + secret + " http://localhost"}, {"CHECK", "curl --user='admin:" + secret + "' http://localhost"},
		{"PEM", "-----BEGIN PRIVATE KEY-----\n" + secret},
	} {
		if got := showNamed(c.name, c.value); strings.Contains(got, secret) || !strings.Contains(got, masked) {
			t.Errorf("%s=%s is shown as %s", c.name, c.value, got)
		}
	}
	for _, args := range [][]string{
		{"redis-server", "--requirepass", secret}, {"mysqladmin", "--password=" + secret, "ping"}, {"sh", "-c", "x --token '" + secret + "' y"},
		{"sh", "-c", "x --token 'a " + secret + "'"}, {"curl", "-H", "X-Api-Key: " + secret}, {"x", "-password", secret},
		{"curl", "-H", "Authorization: Bearer " + secret}, {"curl", "https://u:" + secret + "@host/"},
		{"x", "--password=correct " + secret}, {"env", "DB_PASSWORD=correct " + secret, "x"}, {"curl", "-u", "admin:" + secret},
	} {
		if got := showCommand(args); strings.Contains(got, secret) {
			t.Errorf("%v is shown as %s", args, got)
		}
	}
}

func TestOthersAreShown(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"APP_VERSION", "v2.0"}, {"KEYBOARD", "de"}, {"AUTHOR", "me"}, {"DB_PASSWORD_FILE", "/run/secrets/db"},
		{"URL", "https://example.org:8080/a@b"}, {"URL", "ssh://git@example.org/x"},
		{"RUN", "docker run -u 1000:1000 x"}, {"RULE", "Host(`a.example`) && PathPrefix(`/x`)"},
	} {
		if got := showNamed(c.name, c.value); got != c.value {
			t.Errorf("%s=%s is shown as %s", c.name, c.value, got)
		}
	}
	if got := maskText(`{"password":"x","user":"bob"}`); !strings.Contains(got, `"user":"bob"`) {
		t.Errorf("what stands behind a password is hidden: %s", got)
	}
	if got := showNamed("PASSWORD", ""); got != `""` {
		t.Errorf("an empty password is shown as %s", got)
	}
}

// A text that is made for it takes no longer than others, as it grows: ten times the
// length takes some ten times the processor's time, where trying all ways to read it
// would take a hundred times.
func TestMaskingIsQuick(t *testing.T) {
	for _, part := range []string{"a=", "a:", "-a ", "http://a:80/", "a://b:", "a://b:c@", "a=b ", "key=", "basic ", "-u a", "'", `"`, `a="`, "key='a'b'", "-key -key "} {
		short, long := strings.Repeat(part, 3_000/len(part)), strings.Repeat(part, 30_000/len(part))
		var took []string
		quick := slices.ContainsFunc(make([]int, 5), func(int) bool { // a collection of garbage may fall into one
			began := cpuTime(t)
			maskText(short)
			middle := cpuTime(t)
			maskText(long)
			took = append(took, fmt.Sprint(middle-began, " and ", cpuTime(t)-middle))
			return cpuTime(t)-middle < 40*max(middle-began, time.Millisecond)
		})
		if !quick {
			t.Errorf("%q, again and again, takes %v of the processor's time", part, took)
		}
	}
}

// cpuTime is the processor time that the process has used: unlike the time on the clock
// it does not grow with what else the machine does.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestMaskedChangesAreTold(t *testing.T) {
	got := fieldsOf("environment", true, map[string]string{"TOKEN": "b"}, map[string]string{"TOKEN": "a"},
		func(string) bool { return true }, func(a, b string) bool { return a == b }, showNamed)
	if len(got) != 1 || got[0].Old != "•••" || got[0].New != "••• (changed)" {
		t.Errorf("%+v", got)
	}
}

func TestValuesAreShownAsAComposeFileHasThem(t *testing.T) {
	for got, want := range map[string]string{
		showDuration(10 * time.Second):        "10s",
		showDuration(time.Minute):             "1m",
		showDuration(90 * time.Minute):        "1h30m",
		showDuration(24 * time.Hour):          "24h",
		showDuration(1500 * time.Millisecond): "1.5s",
		showBytes(512 << 20):                  "512M",
		showBytes(2 << 30):                    "2G",
		showBytes(20_000_001):                 "20000001B",
		showBytes(1536):                       "1536B",
		showCPUs(500_000_000):                 "0.5",
		showCPUs(2_000_000_000):               "2",
		showCPUs(123_456_789):                 "0.123456789",
		showImage("nginx:1.27@sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7"): "nginx:1.27@9ae97d36d265",
		showImage("docker.io/library/nginx"):           "nginx",
		showCommand([]string{"sh", "-c", "a 'b'", ""}): `sh -c 'a '\''b'\''' ''`,
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

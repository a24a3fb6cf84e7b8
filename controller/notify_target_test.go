package controller

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"go.uber.org/goleak"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

const notifyKey = "0123456789abcdef0123456789abcdef"

func example() Message {
	r := passed(at(reconcile.Result(back), 13, failedPhase))
	s := seeStack(reconcile.Input{Name: "shop", Stack: stack("shop", "1")}, reconcile.Result(r))
	news, _ := (&line{Release: 12, Said: 4}).compare(s)
	return newMessage("skep", "shop", news[0], s.about, 4, time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
}

// The payload's names are promised: this test fails when one changes.
func TestPayloadIsStable(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"id":"` + example().ID + `","event":"rolled-back","severity":"error","owner":"skep","stack":"shop","release":13,` +
		`"revision":"4be1c07","reason":"RolledBack","title":"shop: rolled back","text":"because of RolledBack","at":"2026-05-04T12:00:00Z"}`
	if string(got) != want || len(example().ID) != 32 {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWordsOfMessages(t *testing.T) {
	t.Parallel()
	h := happening{event: spec.EventRolledOut, trouble: trouble{Reason: "Converged"}}
	m := newMessage("skep", "shop", h, about{Release: 14, Revision: "4be1c07", Subject: "Mend the cart", ByHandOf: "12", Took: 42700 * time.Millisecond}, 0, time.Now())
	if m.Text != "release 14 (4be1c07 Mend the cart) is healthy, after 43s; it is release 12 again, by hand" || m.plain() != "shop: rolled out\n"+m.Text {
		t.Errorf("%q", m.plain())
	}
	h = happening{event: spec.EventDegraded, trouble: trouble{Message: "web: @everyone <!channel>\n\x1b[31m" + strings.Repeat("long ", 1000)}}
	m = newMessage("other", "shop", h, about{Release: -1}, 0, time.Now())
	if strings.Contains(m.Text, "@everyone") || strings.Contains(m.Text, "<!") || strings.ContainsAny(m.Text, "\n\x1b") || len([]rune(m.Text)) > maxPublishedWords+2 {
		t.Errorf("%q", m.Text)
	}
	if m.Release != nil || !strings.HasSuffix(m.plain(), "\n(owner other)") {
		t.Errorf("%q", m.plain())
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	targets, err := ParseTargets([]string{"https://example.com/hook?a=b", "team=http://example.com/x", "ntfy://ntfy.example.com/topic", "team=discord://token@123456",
		"smtp://user:pass@mail.example.com:587/?from=a@example.com&to=b@example.com", "m=matrix://user:password@localhost:1/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, t := range targets {
		ids = append(ids, t.Name()+" "+t.id)
	}
	if want := []string{"default default", "team team", "default default-2", "team team-2", "default default-3", "m m"}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
	for _, bad := range [][]string{
		{"Team=https://example.com/"}, {"=https://secret-token.example.com"}, {"secret-token"}, {"nothing://secret-token"}, {"logger://secret-token"}, {"https:///secret-token"},
		{"slack://secret-token"}, {"discord://secret-token"}, {"http://a b/secret-token"}, {"team=https://a.example", "team=https://b.example", "team-2=https://c.example"},
		slices.Repeat([]string{"https://example.com/secret-token"}, maxTargets+1),
	} {
		if _, err := ParseTargets(bad, nil); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "token") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestNotifyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	got, err := ReadTargets(write("urls", "# chat\n\n  team=slack://a\r\nhttps://example.com/#x\n"))
	if want := []string{"team=slack://a", "https://example.com/#x"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	key, err := ReadNotifyKey(write("key", notifyKey+"\n"))
	if err != nil || string(key) != notifyKey {
		t.Errorf("%q, %v", key, err)
	}
	for _, f := range []func() error{
		func() error { _, err := ReadNotifyKey(write("short", "hunter2\n")); return err },
		func() error { _, err := ReadTargets(write("large", strings.Repeat("x", maxNotifyFile+1))); return err },
		func() error { _, err := ReadTargets(filepath.Join(dir, "missing")); return err },
	} {
		if err := f(); err == nil || strings.Contains(err.Error(), "hunter2") || strings.Count(err.Error(), dir) != 1 {
			t.Errorf("%v", err)
		}
	}
}

// One request as a receiver sees it.
type received struct {
	header http.Header
	body   string
}

// receiver answers as told, and tells what it got.
func receiver(t *testing.T, status int) (*httptest.Server, <-chan received) {
	t.Helper()
	got := make(chan received, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{r.Header, string(body)}
		if status/100 == 3 {
			http.Redirect(w, r, "/elsewhere", status)
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s, got
}

func TestWebhookIsSigned(t *testing.T) {
	s, got := receiver(t, http.StatusNoContent)
	targets, err := ParseTargets([]string{s.URL + "/hook?token=secret"}, []byte(notifyKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := targets[0].sender.send(t.Context(), example()); err != nil {
		t.Fatal(err)
	}
	r := <-got
	stamp := r.header.Get(headerTimestamp)
	if r.header.Get(headerSignature) != sign([]byte(notifyKey), stamp, []byte(r.body)) || r.header.Get(headerEvent) != "rolled-back" || r.header.Get(headerID) != example().ID ||
		r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", r.header)
	}
	if sign([]byte(notifyKey), stamp+"0", []byte(r.body)) == r.header.Get(headerSignature) {
		t.Error("the time is not signed")
	}
	// By the command of docs/notifications.md: printf '%s.%s' 1777896000 '{"version":1}' | openssl dgst -sha256 -hmac KEY
	want := "sha256=69f2116c04d4eabceb9bde8a826fdad4a3acb38c02c53e17e724370aa7e80129"
	if got := sign([]byte(notifyKey), "1777896000", []byte(`{"version":1}`)); got != want {
		t.Errorf("openssl says %s, and skep %s", want, got)
	}
	var m Message
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || m.ID != example().ID {
		t.Errorf("%s: %v", r.body, err)
	}
	targets, err = ParseTargets([]string{s.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := targets[0].sender.send(t.Context(), example()); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.header.Get(headerSignature) != "" {
		t.Error("signed without a key")
	}
}

func TestWebhookAnswers(t *testing.T) {
	for status, refused := range map[int]bool{500: false, 503: false, 429: false, 408: false, 400: true, 401: true, 404: true, 410: true, 302: true, 307: true} {
		s, got := receiver(t, status)
		targets, err := ParseTargets([]string{s.URL + "/secret-token"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = targets[0].sender.send(t.Context(), example())
		if err == nil || errors.Is(err, errRefused) != refused || strings.Contains(err.Error(), "secret") || len(got) != 1 {
			t.Errorf("%d: %v, after %d requests", status, err, len(got))
		}
	}
	gone, _ := receiver(t, 200)
	gone.Close()
	targets, err := ParseTargets([]string{gone.URL + "/secret-token"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := targets[0].sender.send(t.Context(), example()); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), gone.URL) {
		t.Errorf("nobody listens: %v", err)
	}
}

// A service of the library, and the same when it hangs.
func TestService(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	release := make(chan struct{})
	hangs := make(chan bool, 1)
	var bodies = make(chan string, 4)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hangs:
			<-release
		default:
		}
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		if strings.Contains(r.URL.Path, "secret") {
			http.Error(w, `{"error": "no such topic at `+r.URL.String()+`"}`, http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, "{}")
	}))
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	targets, err := ParseTargets([]string{"ntfy://" + u.Host + "/topic?scheme=http", "ntfy://" + u.Host + "/secret-topic?scheme=http"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := targets[0].sender.send(t.Context(), example()); err != nil {
		t.Fatal(err)
	}
	if got := <-bodies; got != example().plain() {
		t.Errorf("it got %q", got)
	}
	if err := targets[1].sender.send(t.Context(), example()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("refused: %v", err)
	}
	<-bodies
	hangs <- true
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for range 3 {
		if err := targets[0].sender.send(ctx, example()); !errors.Is(err, errHangs) {
			t.Errorf("it hangs: %v", err)
		}
	}
	close(release)
	if <-bodies; len(bodies) > 0 {
		t.Error("a second call began while the first hung")
	}
	s.Close()
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, leaks)
}

// A mail has the message's title as its subject, unless its URL says otherwise.
func TestMail(t *testing.T) {
	for subject, want := range map[string]string{"": "Subject: shop: rolled back", "&subject=Swarm": "Subject: Swarm"} {
		host, mails := postOffice(t)
		targets, err := ParseTargets([]string{"smtp://" + host + "/?auth=None&encryption=None&usestarttls=No&from=skep@example.com&to=ops@example.com" + subject}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := targets[0].sender.send(t.Context(), example()); err != nil {
			t.Fatal(err)
		}
		if mail := <-mails; !strings.Contains(mail, want+"\r\n") || !strings.Contains(mail, "because of RolledBack") {
			t.Errorf("the mail is\n%s", mail)
		}
	}
}

// postOffice takes one mail.
func postOffice(t *testing.T) (host string, mails <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		text := textproto.NewConn(conn)
		say := func(line string) { _ = text.PrintfLine("%s", line) }
		for say("220 here"); ; {
			line, err := text.ReadLine()
			switch verb, _, _ := strings.Cut(line, " "); {
			case err != nil:
				return
			case verb == "DATA":
				say("354 go on")
				mail, _ := io.ReadAll(text.DotReader())
				got <- strings.ReplaceAll(string(mail), "\n", "\r\n")
				say("250 taken")
			case verb == "QUIT":
				say("221 bye")
				return
			default:
				say("250 good")
			}
		}
	}()
	return l.Addr().String(), got
}

func TestConceal(t *testing.T) {
	t.Parallel()
	const address = "slack://hook:T0123ABCD-B4567EFGH-s3cr3tt0k3n@webhook?botname=skep%20prod"
	for text, want := range map[string]string{
		`Post "https://hooks.slack.com/services/T0123ABCD/B4567EFGH/s3cr3tt0k3n": EOF`: `Post "…": EOF`,
		"token s3cr3tt0k3n of T0123ABCD is not good (403)":                             "token … of … is not good (403)",
		"dial tcp: i/o timeout":    "dial tcp: i/o timeout",
		"unknown bot skep in prod": "unknown bot … in …",
	} {
		if got := conceal(text, address); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := conceal(strings.Repeat("long ", 200), address); len([]rune(got)) > maxSendError {
		t.Errorf("%d characters", len([]rune(got)))
	}
}

// docs/notifications.md tells of every field, header, event and result, and of no other
// field; its example is one.
func TestNotificationsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	told := func(word string) {
		if !strings.Contains(doc, "`"+word+"`") {
			t.Errorf("it does not tell of %s", word)
		}
	}
	fields := map[string]bool{}
	for f := range reflect.TypeFor[Message]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if fields[name] = true; name != "version" {
			told(name)
		}
	}
	example := doc[strings.Index(doc, "```json\n")+8:]
	var m map[string]any
	if err := json.NewDecoder(strings.NewReader(example)).Decode(&m); err != nil {
		t.Fatal(err)
	}
	for name := range m {
		if !fields[name] {
			t.Errorf("its example has %s, which no message has", name)
		}
	}
	for _, e := range spec.Events() {
		told(string(e))
	}
	for _, result := range sendResults {
		told(result)
	}
	for _, header := range []string{headerEvent, headerID, headerTimestamp, headerSignature + ": sha256=HEX"} {
		told(header)
	}
	known := (&router.ServiceRouter{}).ListServices()
	for _, name := range services(known) {
		if name != "hangouts" && name != "generic" && !strings.Contains(doc, name) {
			t.Errorf("it does not name the service %s", name)
		}
	}
}

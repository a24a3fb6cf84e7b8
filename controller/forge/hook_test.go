package forge

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The secrets of the vectors: of GitHub's and Bitbucket's documentation, another one that
// came in its place, and of the specification of Standard Webhooks, in its own form.
const (
	documented = "It's a Secret to Everybody"
	second     = "0123456789abcdef-second"
	standard   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

var vectorTime = time.Unix(1614265330, 0)

func secretsOf(t testing.TB, lines ...string) Secrets {
	t.Helper()
	s, err := ParseSecrets(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An ear is a hook with what it heard.
type ear struct {
	*Hook
	now    time.Time
	looks  int
	counts map[string]int
}

func newEar(t testing.TB, lines ...string) *ear {
	e := &ear{now: vectorTime, counts: map[string]int{}}
	var s Secrets
	if len(lines) > 0 {
		s = secretsOf(t, lines...)
	}
	e.Hook = NewHook(func() Secrets { return s }, func() { e.looks++ }, func(result string) { e.counts[result]++ }, func() time.Time { return e.now })
	return e
}

func (e *ear) post(from, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/hooks/git", strings.NewReader(body))
	r.RemoteAddr = from
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

const someone = "192.0.2.7:1234"

func TestHookKnowsItsForges(t *testing.T) {
	const (
		gitHub    = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
		bitbucket = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
		standards = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
		other     = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
		id        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
		at        = "1614265330"
		push      = `{"ref":"main"}`
		// By openssl, of push with second; and with the time and a dot before it.
		pushed  = "5182de9ec2d304d3a60b7287fbdd899d3257ff417585d89626aaf029af1eaeca"
		stamped = "2036d290b587eca2d1a0de052a068262167d011ea178e54702d1c708e93085c2"
	)
	ids := []string{"webhook-id", id, "webhook-timestamp", at}
	for name, tt := range map[string]struct {
		body   string
		header []string
		good   bool
	}{
		"GitHub":                     {"Hello, World!", []string{"X-Hub-Signature-256", gitHub}, true},
		"GitHub, in capitals":        {"Hello, World!", []string{"X-Hub-Signature-256", "sha256=" + strings.ToUpper(gitHub[7:])}, true},
		"GitHub, another body":       {"Hello, World?", []string{"X-Hub-Signature-256", gitHub}, false},
		"GitHub, no body":            {"", []string{"X-Hub-Signature-256", gitHub}, false},
		"GitHub, cut":                {"Hello, World!", []string{"X-Hub-Signature-256", gitHub[:len(gitHub)-2]}, false},
		"GitHub, empty":              {"Hello, World!", []string{"X-Hub-Signature-256", "sha256="}, false},
		"GitHub, without its prefix": {"Hello, World!", []string{"X-Hub-Signature-256", gitHub[7:]}, false},
		"Bitbucket":                  {"Hello World!", []string{"X-Hub-Signature", bitbucket}, true},
		"Bitbucket, another body":    {"Hello World", []string{"X-Hub-Signature", bitbucket}, false},
		"SHA-1 alone":                {"Hello World!", []string{"X-Hub-Signature", "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59"}, false},
		"Gitea":                      {push, []string{"X-Gitea-Signature", pushed, "X-Hub-Signature", "sha1=00", "X-Hub-Signature-256", "sha256=" + pushed}, true},
		"Gitea, its own alone":       {push, []string{"X-Gitea-Signature", pushed}, true},
		"Gitea, another body":        {push + " ", []string{"X-Gitea-Signature", pushed}, false},
		"Forgejo":                    {push, []string{"X-Forgejo-Signature", pushed}, true},
		"one good of two":            {push, []string{"X-Gitea-Signature", stamped, "X-Forgejo-Signature", pushed}, true},
		"GitLab":                     {push, []string{"X-Gitlab-Token", documented}, true},
		"GitLab, the second":         {push, []string{"X-Gitlab-Token", second}, true},
		"GitLab, another":            {push, []string{"X-Gitlab-Token", documented + "."}, false},
		"GitLab, empty":              {push, []string{"X-Gitlab-Token", ""}, false},
		"GitLab, what signs":         {push, []string{"X-Gitlab-Token", standard}, false},
		"GitLab and a signature":     {push, []string{"X-Gitlab-Token", "another one altogether", "X-Gitea-Signature", pushed}, true},
		"Standard":                   {`{"test": 2432232314}`, append([]string{"webhook-signature", standards}, ids...), true},
		"Standard, with others":      {`{"test": 2432232314}`, append([]string{"webhook-signature", other + " v1a,AAAA " + standards}, ids...), true},
		"Standard, another":          {`{"test": 2432232314}`, append([]string{"webhook-signature", other}, ids...), false},
		"Standard, another version":  {`{"test": 2432232314}`, append([]string{"webhook-signature", "v2" + standards[2:]}, ids...), false},
		"Standard, another body":     {`{"test": 2432232315}`, append([]string{"webhook-signature", standards}, ids...), false},
		"Standard, another ID":       {`{"test": 2432232314}`, []string{"webhook-signature", standards, "webhook-id", id + "1", "webhook-timestamp", at}, false},
		"Standard, no ID":            {`{"test": 2432232314}`, []string{"webhook-signature", standards, "webhook-timestamp", at}, false},
		"Standard, no time":          {`{"test": 2432232314}`, []string{"webhook-signature", standards, "webhook-id", id}, false},
		"Standard, parts moved":      {`{"test": 2432232314}`, []string{"webhook-signature", standards, "webhook-id", id + "." + at, "webhook-timestamp", at}, false},
		"Standard, too many":         {`{"test": 2432232314}`, append([]string{"webhook-signature", strings.Repeat(other+" ", maxSignatures) + standards}, ids...), false},
		"skep":                       {push, []string{"X-Skep-Timestamp", at, "X-Skep-Signature-256", "sha256=" + stamped}, true},
		"skep, no time":              {push, []string{"X-Skep-Signature-256", "sha256=" + stamped}, false},
		"skep, another time":         {push, []string{"X-Skep-Timestamp", "1614265331", "X-Skep-Signature-256", "sha256=" + stamped}, false},
		"skep, a time with a sign":   {push, []string{"X-Skep-Timestamp", "+" + at, "X-Skep-Signature-256", "sha256=" + stamped}, false},
		"nothing":                    {push, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEar(t, "# the one that goes", documented, "", second, standard)
			answer := e.post(someone, tt.body, tt.header...)
			want, result, looks := http.StatusUnauthorized, HookForged, 0
			if tt.good {
				want, result, looks = http.StatusAccepted, HookAccepted, 1
			}
			if answer.Code != want || e.looks != looks || e.counts[result] != 1 || len(e.counts) != 1 {
				t.Errorf("%d, %d looks, %v; want %d", answer.Code, e.looks, e.counts, want)
			}
			if none := newEar(t); none.post(someone, tt.body, tt.header...).Code != http.StatusUnauthorized {
				t.Error("somebody gets in where there is no secret")
			}
			if !tt.good || len(tt.header) == 0 {
				return
			}
			e = newEar(t, "another secret of this length", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
			if got := e.post(someone, tt.body, tt.header...).Code; got != http.StatusUnauthorized || e.looks != 0 {
				t.Errorf("with other secrets: %d", got)
			}
		})
	}
}

func TestSignedTimesAreRecent(t *testing.T) {
	for off, good := range map[time.Duration]bool{0: true, clockSkew: true, -clockSkew: true, clockSkew + time.Second: false, -clockSkew - time.Second: false, 24 * time.Hour: false} {
		e := newEar(t, standard)
		e.now = vectorTime.Add(off)
		answer := e.post(someone, `{"test": 2432232314}`, "webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp", "1614265330",
			"webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
		if got := answer.Code == http.StatusAccepted; got != good {
			t.Errorf("%s later: %d", off, answer.Code)
		}
	}
}

func TestHookRefuses(t *testing.T) {
	e := newEar(t, documented)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodOptions, "PLANTED"} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest(method, "/hooks/git", nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	most := strings.Repeat("x", maxHook)
	if w := e.post(someone, most, "X-Gitlab-Token", documented); w.Code != http.StatusAccepted {
		t.Errorf("a megabyte: %d", w.Code)
	}
	if w := e.post(someone, most+"x", "X-Gitlab-Token", documented); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("more than that: %d", w.Code)
	}
	r := httptest.NewRequest(http.MethodPost, "/hooks/git", io.MultiReader(strings.NewReader(most), strings.NewReader("x")))
	r.ContentLength = -1 // in chunks
	r.Header.Set("X-Gitlab-Token", documented)
	w := httptest.NewRecorder()
	if e.ServeHTTP(w, r); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("more than that, in chunks: %d", w.Code)
	}
	if e.looks != 1 || e.counts[HookTooLarge] != 2 || e.counts[HookBroken] != 5 {
		t.Errorf("%d looks, %v", e.looks, e.counts)
	}
}

// What a body says is in no answer, and is never kept.
func TestHookKeepsNothing(t *testing.T) {
	e := newEar(t, documented)
	body := strings.NewReader(strings.Repeat("planted ", maxHook/8))
	r := httptest.NewRequest(http.MethodPost, "/hooks/git?planted", body)
	r.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("00", 32))
	r.Header.Set("X-Gitlab-Token", "planted")
	w := httptest.NewRecorder()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	e.ServeHTTP(w, r)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > maxHook/4 {
		t.Errorf("%d bytes for a body of %d", took, maxHook)
	}
	if body.Len() > 0 || w.Code != http.StatusUnauthorized {
		t.Errorf("%d, and %d bytes were not read", w.Code, body.Len())
	}
	if text := w.Body.String() + fmt.Sprint(w.Header()); strings.Contains(text, "planted") {
		t.Errorf("reflected: %s", text)
	}
}

func TestFloodOfForgeries(t *testing.T) {
	e := newEar(t, documented)
	forged := func(from string) *httptest.ResponseRecorder { return e.post(from, "x", "X-Gitlab-Token", "wrong") }
	genuine := func(from string) int { return e.post(from, "x", "X-Gitlab-Token", documented).Code }
	for i := range 5000 { // they cost nobody anything
		if code := genuine(someone); code != http.StatusAccepted {
			t.Fatalf("genuine hook %d: %d", i, code)
		}
	}
	for i := range burstEach {
		if code := forged(someone).Code; code != http.StatusUnauthorized {
			t.Fatalf("forged hook %d: %d", i, code)
		}
	}
	answer := forged("192.0.2.7:999")
	if seconds, err := strconv.Atoi(answer.Header().Get("Retry-After")); answer.Code != http.StatusTooManyRequests || err != nil || seconds != 3 {
		t.Errorf("one more: %d, %s", answer.Code, answer.Header().Get("Retry-After"))
	}
	if code := genuine("198.51.100.1:5"); code != http.StatusAccepted {
		t.Errorf("from elsewhere meanwhile: %d", code)
	}
	if code := genuine(someone); code != http.StatusTooManyRequests {
		t.Errorf("from the same: %d", code)
	}
	e.now = e.now.Add(3 * time.Second)
	if code := genuine(someone); code != http.StatusAccepted {
		t.Errorf("when it was told to come again: %d", code)
	}

	limited := 0
	for i := range 3000 { // of all addresses there are
		if forged(fmt.Sprintf("[2001:db8:%x::1]:1", i)).Code == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited < 3000-burstAll {
		t.Errorf("%d were limited", limited)
	}
	if n := len(e.limits.each); n > addressesMost {
		t.Errorf("%d addresses are remembered", n)
	}
	e.now = e.now.Add(time.Minute)
	if code := genuine("198.51.100.1:5"); code != http.StatusAccepted {
		t.Errorf("a minute later: %d", code)
	}
}

// However requests come and end, no limit is ever passed, and none is for ever.
func TestLimiterIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := vectorTime
		l := newLimiter(now)
		taken := map[string]int{}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			from := fmt.Sprintf("192.0.2.%d:1", rapid.IntRange(0, 5).Draw(t, "from"))
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				now = now.Add(time.Duration(rapid.IntRange(-1000, 10_000).Draw(t, "ms")) * time.Millisecond)
			case 1:
				if taken[from] > 0 {
					taken[from]--
					l.give(from, now)
				}
			default:
				if wait := l.take(from, now); wait == 0 {
					taken[from]++
				} else if wait > againEach {
					t.Fatalf("wait for %s", wait)
				}
			}
			for _, b := range append([]*bucket{&l.all}, l.each[network(from)]) {
				if b != nil && (b.tokens < 0 || b.tokens > burstAll) {
					t.Fatalf("%v tokens", b.tokens)
				}
			}
		}
	})
}

func TestNetworks(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1/32", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:80": "192.0.2.1/32",
		"[fe80::1%eth0]:80": "fe80::/64", "nothing": "invalid Prefix", "@": "invalid Prefix",
	} {
		if got := network(from); got.String() != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
	if network("@") != (netip.Prefix{}) {
		t.Error("what is no address is several")
	}
}

// A body that does not come is not waited for.
func TestSlowBody(t *testing.T) {
	e := newEar(t, documented)
	e.patience = 20 * time.Millisecond
	server := httptest.NewServer(e)
	defer server.Close()
	for _, cut := range []bool{false, true} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /hooks/git HTTP/1.1\r\nHost: a\r\nX-Gitlab-Token: %s\r\nContent-Length: 100\r\n\r\nabc", documented)
		if cut {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("cut %v: %d", cut, answer.StatusCode)
		}
		answer.Body.Close()
		conn.Close()
	}
	if e.looks != 0 {
		t.Error("it looked")
	}
}

func TestSecretsAreRead(t *testing.T) {
	long := strings.Repeat("x", maxSecret+1)
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":        {"", "there is no secret in it"},
		"comments":       {"# a\n\n", "there is no secret in it"},
		"short":          {"# a\nplanted\n", "line 2: the secret has 7 bytes"},
		"short, encoded": {"whsec_cGxhbnRlZA==", "line 1: the secret has 7 bytes"},
		"no base64":      {"whsec_planted!", "line 1: what follows whsec_ is no base64"},
		"long":           {long, "line 1: the secret has more than 512 bytes"},
		"many":           {strings.Repeat(second+"\n", 9), "9 secrets are more than the 8"},
	} {
		_, err := ParseSecrets(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	s := secretsOf(t, documented+"\r", standard)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %x %q %s", s, s, s, s, &s), fmt.Sprintf("%v", []any{s})} {
		if strings.Contains(text, "Secret to") || strings.Contains(text, "MfKQ") || strings.Contains(text, fmt.Sprintf("%x", documented)) {
			t.Errorf("they print as %s", text)
		}
	}
}

// FuzzHook sends whatever there is: without a secret nobody is believed, and all answers
// are words of its own.
func FuzzHook(f *testing.F) {
	const head = "POST /hooks/git HTTP/1.1\r\nHost: a\r\n"
	for _, raw := range []string{
		head + "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\r\nContent-Length: 13\r\n\r\nHello, World!",
		head + "X-Gitlab-Token: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		head + "Webhook-Id: a\r\nWebhook-Timestamp: 1614265330\r\nWebhook-Signature: v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\nContent-Length: 0\r\n\r\n",
		head + "X-Skep-Timestamp: 1614265330\r\nX-Skep-Signature-256: sha256=00\r\nX-Gitea-Signature: 00\r\nContent-Length: 9999999999\r\n\r\n",
		"GET /hooks/git HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(raw))
	}
	words := map[string]bool{
		"hooks are posted\n": true, "too many requests that are not genuine\n": true, tooLarge + "\n": true,
		"the body did not arrive as a whole, or not in time\n":       true,
		"the request is signed by none of the secrets, or not now\n": true,
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		r.RemoteAddr = someone
		e := newEar(t, "a secret that nobody can guess", "whsec_c2VjcmV0IHRoYXQgbm9ib2R5IGNhbiBndWVzcw==")
		w := httptest.NewRecorder()
		if e.ServeHTTP(w, r); e.looks > 0 || !words[w.Body.String()] || len(e.counts) != 1 {
			t.Errorf("%d %q, %d looks, %v", w.Code, w.Body, e.looks, e.counts)
		}
	})
}

// What a hook costs that is forged in every form there is, against as many secrets as
// there may be: the most that somebody without one can have skep do.
func BenchmarkHook(b *testing.B) {
	var lines []string
	for i := range maxSecrets {
		lines = append(lines, fmt.Sprintf("secret number %d of this length", i))
	}
	s := secretsOf(b, lines...)
	none := strings.Repeat("00", 32)
	h := http.Header{}
	for _, name := range []string{headerGitHub, headerBitbucket, headerSkep} {
		h.Set(name, "sha256="+none)
	}
	h.Set(headerGitea, none)
	h.Set(headerForgejo, none)
	h.Set(headerSkepTime, strconv.FormatInt(vectorTime.Unix(), 10))
	for _, size := range []int{20 << 10, maxHook} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			body := strings.Repeat("x", size)
			for b.Loop() {
				if ok, err := s.genuine(h, io.LimitReader(strings.NewReader(body), maxHook), vectorTime); ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

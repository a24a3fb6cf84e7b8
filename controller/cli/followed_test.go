package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
)

// Status tells what is followed as the acting controller does, and of that stack alone;
// history what a release was followed to.
func TestStatusTellsWhatIsFollowed(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("4", 64)
	f := reconcile.FollowStatus{Service: "web", Name: "shop_web", Follows: "nginx, semver ~1.27", Image: "nginx:1.27.3" + digest,
		Found: reconcile.Found{Image: "nginx:1.27.3" + digest, Asked: noon.Add(-time.Minute)}}
	p := &controller.Published{Follows: []controller.PublishedFollow{{Stack: "shop", FollowStatus: f}, {Stack: "blog", FollowStatus: f}}}
	s := summarize(result("shop", "", reconcile.Ready))
	if s.Followed = followedBy(p, "shop"); len(s.Followed) != 1 || followedBy(p, "other") != nil || followedBy(nil, "shop") != nil {
		t.Fatalf("followed %+v", s.Followed)
	}
	var b bytes.Buffer
	if err := (&app{out: &b}).printStack([]stackStatus{s}, noon, false, false); err != nil {
		t.Fatal(err)
	}
	want := "Follows:   web follows nginx, semver ~1.27: nginx:1.27.3@444444444444; the registry answered last 2026-01-02 11:59:00 UTC\n"
	if !strings.Contains(b.String(), want) {
		t.Errorf("status does not tell %q:\n%s", want, b.String())
	}
	text, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(text), `"followed":[{"service":"web"`) {
		t.Errorf("%s, %v", text, err)
	}
	for problem, want := range map[string]string{"the registry r.example denies access": "; the registry r.example denies access; no registry answered yet"} {
		f.Problem, f.Asked = problem, time.Time{}
		if got := f.String(); !strings.HasSuffix(got, want) {
			t.Errorf("%q, want %q at its end", got, want)
		}
	}
	b.Reset()
	printEntry(&b, reconcile.HistoryEntry{Number: 8, Subject: "Show prices", Followed: []string{"followed nginx 1.27.2 → 1.27.3"}}, noon)
	if !strings.Contains(b.String(), "Followed:  nginx 1.27.2 → 1.27.3\n") {
		t.Errorf("history tells\n%s", b.String())
	}
}

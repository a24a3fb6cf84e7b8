package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/spec"
)

// digestOf makes a digest of a few hexadecimal digits: to the fake engine "bad" is in
// those whose tasks fail.
func digestOf(digits string) string { return "sha256:" + digits + strings.Repeat("0", 64-len(digits)) }

// at is an image with its tag and digest.
func at(tag, digits string) string { return "nginx:" + tag + "@" + digestOf(digits) }

// following makes a stack whose services follow.
func followingStack(follows map[string]spec.Follow, written string) *spec.Stack {
	var services []spec.Service
	for _, key := range sortedKeys(follows) {
		s := service("shop", key, written)
		s.Follow = follows[key]
		services = append(services, s)
	}
	return makeStack("shop", services...)
}

var (
	bySemver = spec.Follow{Semver: "~1.27", Every: 5 * time.Minute}
	byTag    = spec.Follow{Tag: "1.27", Every: 5 * time.Minute}
)

// A followWorld is a world in which registries answer.
type followWorld struct {
	*world
	found map[string]Found
}

func newFollowWorld(t *testing.T, written string, follows map[string]spec.Follow) *followWorld {
	return &followWorld{newWorld(t, followingStack(follows, written)), map[string]Found{}}
}

// finds says what the registry has for a service now.
func (w *followWorld) finds(key, image string) {
	w.found["shop_"+key] = Found{Image: image, Asked: w.engine.now()}
}

func (w *followWorld) pass() Result {
	w.t.Helper()
	found := map[string]Found{}
	for name, f := range w.found {
		found[name] = f
	}
	res := w.r.Reconcile(context.Background(), Input{Name: "shop", Stack: w.stack, Found: found})
	w.engine.advance(time.Second)
	return res
}

func (w *followWorld) settle() Result {
	w.t.Helper()
	var res Result
	for range 400 {
		if res = w.pass(); res.Err != nil {
			w.t.Fatalf("pass: %v", res.Err)
		}
		if (res.Outcome == Unchanged || res.Outcome == Held) && len(res.Transitions) == 0 {
			return res
		}
		w.engine.turn()
	}
	w.t.Fatalf("passes do not come to an end: %s %s: %s", res.Outcome, res.Reason, res.Message)
	return res
}

// runs holds the world to what its services run, once it has come to rest.
func (w *followWorld) runs(why string, images ...string) Result {
	w.t.Helper()
	res := w.settle()
	var want []string
	for i, s := range w.stack.Services {
		want = append(want, s.Name+"="+images[i])
	}
	if got := w.images(); got != strings.Join(want, " ") {
		w.t.Fatalf("%s: %s runs\n%s, want\n%s\n(%s: %s)", why, w.phases(), got, strings.Join(want, "\n"), res.Reason, res.Message)
	}
	return res
}

// quiet holds the world to writing nothing.
func (w *followWorld) quiet(why string) {
	w.t.Helper()
	w.engine.takeWrites()
	w.settle()
	if writes := w.engine.takeWrites(); len(writes) > 0 {
		w.t.Fatalf("%s: it writes %v", why, writes)
	}
}

func alone(f spec.Follow) map[string]spec.Follow { return map[string]spec.Follow{"web": f} }

func TestNewerTagIsAReleaseLikeAnyOther(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	if res := w.pass(); res.Reason != "FollowUnheard" || len(w.engine.services) > 0 {
		t.Fatalf("before the registry answered: %s %s", res.Reason, res.Message)
	}
	w.finds("web", at("1.27.2", "22"))
	w.runs("the first", at("1.27.2", "22"))
	w.finds("web", at("1.27.3", "33"))
	res := w.runs("a newer one", at("1.27.3", "33"))
	if len(res.Followed) != 1 || res.Followed[0].Image != at("1.27.3", "33") || res.Followed[0].Held != "" {
		t.Errorf("followed: %+v", res.Followed)
	}
	h, err := w.r.History(t.Context(), "shop")
	if err != nil || h.Releases[0].Subject != "followed nginx 1.27.2 → 1.27.3" || !slices.Equal(h.Releases[0].Followed, []string{"followed nginx 1.27.2 → 1.27.3"}) {
		t.Errorf("history: %+v, %v", h.Releases[0], err)
	}
	w.quiet("nothing new")
	for range 3 {
		w.restart()
		w.found = map[string]Found{}
		w.quiet("nobody asked since the restart")
	}
}

func TestFailedDigestIsNotTriedAgain(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	w.finds("web", at("1.27.2", "22"))
	w.runs("the first", at("1.27.2", "22"))
	w.finds("web", at("1.27.3", "bad3"))
	res := w.runs("one that fails", at("1.27.2", "22"))
	if res.Reason != "RolledBack" || res.Outcome != Held {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
	for range 3 {
		w.restart()
		w.quiet("after a restart")
	}
	if w.engine.written[at("1.27.3", "bad3")] != 1 {
		t.Errorf("what failed was written %d times", w.engine.written[at("1.27.3", "bad3")])
	}
	w.found = map[string]Found{}
	w.restart()
	w.quiet("before the registry answered")
	w.finds("web", at("1.27.4", "44"))
	w.runs("the next newer one", at("1.27.4", "44"))
	w.finds("web", at("1.27.3", "bad3"))
	res = w.runs("what failed before, which is older too", at("1.27.4", "44"))
	if finding(res.Findings, "follow-held") == nil {
		t.Errorf("findings: %v", res.Findings)
	}
}

func TestResumeTriesAgainAndAServicesFileToo(t *testing.T) {
	for name, change := range map[string]func(w *followWorld){
		"resume": func(w *followWorld) {
			if _, err := w.r.Resume(context.Background(), "shop"); err != nil {
				t.Fatal(err)
			}
		},
		"the service's file": func(w *followWorld) {
			s := followingStack(alone(bySemver), "nginx:1.27.0")
			s.Services[0].Spec.TaskTemplate.ContainerSpec.Env = []string{"FIXED=1"}
			s.Source.Fingerprint = "sha256:fixed"
			w.stack = s
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
			w.finds("web", at("1.27.2", "22"))
			w.settle()
			w.finds("web", at("1.27.3", "bad3"))
			w.runs("one that fails", at("1.27.2", "22"))
			change(w)
			w.settle()
			if n := w.engine.written[at("1.27.3", "bad3")]; n != 2 {
				t.Errorf("what failed was written %d times in all", n)
			}
			w.runs("it fails once more", at("1.27.2", "22"))
			w.quiet("and is not tried a third time")
		})
	}
}

// What failed with one service is not tried again when another has something new, nor when
// the file changes for another one.
func TestFailedDigestStaysOutOfOtherReleases(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", map[string]spec.Follow{"api": byTag, "web": bySemver})
	w.finds("api", at("1.27", "aa1"))
	w.finds("web", at("1.27.2", "22"))
	w.runs("the first", at("1.27", "aa1"), at("1.27.2", "22"))
	w.finds("web", at("1.27.3", "bad3"))
	w.runs("web fails", at("1.27", "aa1"), at("1.27.2", "22"))
	w.finds("api", at("1.27", "aa2"))
	w.runs("api goes on alone", at("1.27", "aa2"), at("1.27.2", "22"))
	s := followingStack(map[string]spec.Follow{"api": byTag, "web": bySemver}, "nginx:1.27.0")
	s.Services[0].Spec.TaskTemplate.ContainerSpec.Env = []string{"A=1"}
	s.Source.Fingerprint = "sha256:other"
	w.stack = s
	w.runs("api's file changes", at("1.27", "aa2"), at("1.27.2", "22"))
	w.finds("api", at("1.27", "bad4"))
	w.runs("api fails", at("1.27", "aa2"), at("1.27.2", "22"))
	for range 12 { // the failed releases' records go, what they say stays
		s.Source.Fingerprint += "+"
		s = followingStack(map[string]spec.Follow{"api": byTag, "web": bySemver}, "nginx:1.27.0")
		s.Services[0].Spec.TaskTemplate.ContainerSpec.Env = []string{"A=1"}
		s.Services[0].Spec.TaskTemplate.ContainerSpec.Dir = fmt.Sprint("/", w.engine.now().Unix())
		s.Source.Fingerprint = s.Services[0].Spec.TaskTemplate.ContainerSpec.Dir
		w.stack = s
		w.finds("api", at("1.27", "aa2"))
		w.settle()
	}
	w.runs("web is held still", at("1.27", "aa2"), at("1.27.2", "22"))
	if n := w.engine.written[at("1.27.3", "bad3")]; n != 1 {
		t.Errorf("what failed was written %d times", n)
	}
}

func TestNeverADowngradeByItself(t *testing.T) {
	for name, tt := range map[string]struct {
		follow spec.Follow
		have   []string // found one after the other
		then   Found
		code   string
	}{
		"an older version":   {bySemver, []string{at("1.27.3", "33")}, Found{Image: at("1.27.2", "22")}, "follow-held"},
		"the registry away":  {bySemver, []string{at("1.27.3", "33")}, Found{Image: at("1.27.3", "33"), Problem: "no route to host"}, "follow-away"},
		"the tag vanished":   {byTag, []string{at("1.27", "33")}, Found{Image: at("1.27", "33"), Problem: "the registry has no tag 1.27 any more"}, "follow-away"},
		"a digest of before": {byTag, []string{at("1.27", "11"), at("1.27", "22"), at("1.27", "33")}, Found{Image: at("1.27", "11")}, "follow-held"},
		"a version's digest of before": {bySemver, []string{at("1.27.3", "11"), at("1.27.3", "33")},
			Found{Image: at("1.27.3", "11")}, "follow-held"},
		"another repository": {bySemver, []string{at("1.27.3", "33")}, Found{Image: strings.Replace(at("1.27.9", "99"), "nginx", "evil", 1)}, ""},
		"what does not fit":  {bySemver, []string{at("1.27.3", "33")}, Found{Image: at("1.28.0", "99")}, ""},
		"no digest":          {bySemver, []string{at("1.27.3", "33")}, Found{Image: "nginx:1.27.9"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFollowWorld(t, "nginx:1.27.0", alone(tt.follow))
			newest := ""
			for _, newest = range tt.have {
				w.finds("web", newest)
				w.runs("so far", newest)
			}
			w.found["shop_web"] = tt.then
			w.quiet("then")
			res := w.runs("then", newest)
			if tt.code != "" && finding(res.Findings, tt.code) == nil || tt.code == "" && len(res.Findings) > 0 {
				t.Errorf("findings: %v", res.Findings)
			}
			w.restart()
			w.quiet("after a restart")
		})
	}
}

// Where only what failed goes back, what stays is what is followed on from.
func TestFollowingGoesBackByItself(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", map[string]spec.Follow{"api": byTag, "web": bySemver})
	w.stack.Policy.Rollout.Scope = spec.ScopeService
	w.finds("api", at("1.27", "aa1"))
	w.finds("web", at("1.27.2", "22"))
	w.runs("the first", at("1.27", "aa1"), at("1.27.2", "22"))
	w.finds("api", at("1.27", "aa2"))
	w.finds("web", at("1.27.3", "bad3"))
	w.runs("web goes back alone", at("1.27", "aa2"), at("1.27.2", "22"))
	w.restart()
	w.quiet("after a restart")
	w.finds("web", at("1.27.4", "44"))
	w.runs("the next one", at("1.27", "aa2"), at("1.27.4", "44"))
	w.finds("api", at("1.27", "aa3"))
	w.runs("and the other's", at("1.27", "aa3"), at("1.27.4", "44"))
	if n := w.engine.written[at("1.27.3", "bad3")]; n != 1 {
		t.Errorf("what failed was written %d times", n)
	}
}

// A failure that is left as it is stays, and the next newer one takes its place.
func TestFollowingThatIsHeldOnFailure(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", map[string]spec.Follow{"api": byTag, "web": bySemver})
	w.stack.Policy.Rollout.OnFailure = spec.OnFailureHold
	w.finds("api", at("1.27", "aa1"))
	w.finds("web", at("1.27.2", "22"))
	w.runs("the first", at("1.27", "aa1"), at("1.27.2", "22"))
	w.finds("web", at("1.27.3", "bad3"))
	w.runs("it is left", at("1.27", "aa1"), at("1.27.3", "bad3"))
	w.restart()
	w.quiet("after a restart")
	w.finds("web", at("1.27.4", "44"))
	w.runs("the next one", at("1.27", "aa1"), at("1.27.4", "44"))
}

// Two registries behind one name, of which each has another digest, are no reason to go to
// and fro.
func TestItDoesNotFlap(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27", alone(byTag))
	w.finds("web", at("1.27", "11"))
	w.runs("the first", at("1.27", "11"))
	w.finds("web", at("1.27", "22"))
	w.runs("the second", at("1.27", "22"))
	for i := range 20 {
		w.finds("web", at("1.27", []string{"11", "22"}[i%2]))
		w.quiet("to and fro")
	}
}

// What failed and vanished from the registry again leaves a stack that is well.
func TestFailedTagThatIsTakenBack(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	w.finds("web", at("1.27.2", "22"))
	w.settle()
	w.finds("web", at("1.27.3", "bad3"))
	w.settle()
	w.finds("web", at("1.27.2", "22"))
	if res := w.runs("it was taken back", at("1.27.2", "22")); res.Outcome != Unchanged {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
	w.finds("web", at("1.27.3", "bad3"))
	w.quiet("it is back")
	if n := w.engine.written[at("1.27.3", "bad3")]; n != 1 {
		t.Errorf("what failed was written %d times", n)
	}
}

func TestPeopleHoldFollowing(t *testing.T) {
	ctx := context.Background()
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	for _, image := range []string{at("1.27.1", "11"), at("1.27.2", "22")} {
		w.finds("web", image)
		w.runs("so far", image)
	}
	if _, err := w.r.RequestRollback(ctx, "shop", 1); err != nil {
		t.Fatal(err)
	}
	w.runs("somebody went back", at("1.27.1", "11"))
	w.finds("web", at("1.27.3", "33"))
	res := w.runs("pinned", at("1.27.1", "11"))
	if !res.State.IsPinned() || res.Followed[0].Image != at("1.27.1", "11") || !strings.Contains(res.Followed[0].Held, "pinned to release 1") {
		t.Errorf("%s: %s", res.Reason, res.Message)
	}
	w.restart()
	w.quiet("pinned, after a restart")
	if _, err := w.r.Resume(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	w.runs("resumed", at("1.27.3", "33"))
	if _, err := w.r.Suspend(ctx, "shop", ""); err != nil {
		t.Fatal(err)
	}
	w.finds("web", at("1.27.4", "44"))
	if res := w.runs("suspended", at("1.27.3", "33")); res.Followed[0].Held != "the stack is suspended" || res.Followed[0].Image != at("1.27.3", "33") {
		t.Errorf("followed %+v", res.Followed)
	}
	if _, err := w.r.Resume(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	w.runs("resumed", at("1.27.4", "44"))
}

// Where drift is only told, a newer tag does not write over it.
func TestDriftThatIsToldHoldsFollowing(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	w.stack.Policy.Drift = spec.DriftReport
	w.finds("web", at("1.27.2", "22"))
	w.runs("the first", at("1.27.2", "22"))
	w.engine.mu.Lock()
	for _, s := range w.engine.services {
		*s.Spec.Mode.Replicated.Replicas = 7
		s.Meta = w.engine.meta(s.Meta)
	}
	w.engine.mu.Unlock()
	if _, err := w.r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.finds("web", at("1.27.3", "33"))
	w.quiet("it has drifted")
	if res := w.pass(); finding(res.Findings, "follow-held") == nil {
		t.Errorf("%s: %v", res.Reason, res.Findings)
	}
}

// The file may ask for another version, whichever way that is.
func TestFileThatFollowsSomethingElse(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	w.finds("web", at("1.27.3", "33"))
	w.runs("~1.27", at("1.27.3", "33"))
	older := spec.Follow{Semver: "~1.26", Every: time.Minute}
	w.stack = followingStack(alone(older), "nginx:1.26.0")
	w.found = map[string]Found{}
	if res := w.pass(); res.Reason != "FollowUnheard" {
		t.Errorf("%s: %s", res.Reason, res.Message)
	}
	w.finds("web", at("1.26.9", "69"))
	w.runs("~1.26", at("1.26.9", "69"))
	w.stack = followingStack(alone(spec.Follow{}), "nginx:1.26.0")
	w.runs("nothing", "nginx:1.26.0")
}

// The operator's policy is asked about what was found: what it does not allow is left where
// it is, and the rest of the stack goes on.
func TestPolicyHoldsFollowing(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	w.stack.Policy.Images = spec.ImagesPin
	p := policy(t, "rules: [{name: a, allow: {images: ['docker.io/library/nginx:1.27.2', 'docker.io/library/nginx:1.27.4']}, limit: {digest: true}}]")
	w.allowing(&p)
	w.finds("web", at("1.27.2", "22"))
	w.runs("what is allowed", at("1.27.2", "22"))
	w.finds("web", at("1.27.3", "33"))
	res := w.runs("what is not", at("1.27.2", "22"))
	if f := finding(res.Findings, "follow-held"); f == nil || !strings.Contains(f.Message, "1.27.3") || res.Outcome != Unchanged {
		t.Errorf("%s: %v", res.Outcome, res.Findings)
	}
	w.finds("web", at("1.27.4", "44"))
	w.runs("what is allowed again", at("1.27.4", "44"))
}

// What is followed to is asked for the platforms that it runs on, and for nothing else: its
// digest is what the registry said.
func TestFollowedImageHasItsPlatforms(t *testing.T) {
	server := &tagServer{}
	x := &imageResolver{swarm: server, now: time.Now}
	stack := withImages(followingStack(alone(byTag), "nginx:1.27"), map[string]string{"shop_web": at("1.27", "22")})
	pins, findings := x.pins(t.Context(), stack, nil, nil, &Live{})
	if len(findings) > 0 || pins["shop_web"].Image != at("1.27", "22") || !slices.Equal(server.asked, []string{at("1.27", "22")}) {
		t.Errorf("pins %v, findings %v, asked %v", pins, findings, server.asked)
	}
	server.away, server.asked = true, nil
	if pins, findings = x.pins(t.Context(), stack, nil, nil, &Live{}); len(pins)+len(findings) > 0 || len(server.asked) != 1 {
		t.Errorf("away: pins %v, findings %v", pins, findings)
	}
	if pins, _ = x.pins(t.Context(), stack, map[string]Pin{"shop_web": {Written: at("1.27", "22"), Image: at("1.27", "22")}}, map[string]bool{"shop_web": true}, &Live{}); len(pins) != 1 || len(server.asked) != 1 {
		t.Errorf("known before: pins %v, asked %v", pins, server.asked)
	}
}

// A plan leads to what was found, and says what is followed; without an answer it keeps
// what is in force.
func TestPlanOfWhatIsFollowed(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	w.finds("web", at("1.27.2", "22"))
	w.settle()
	if plan, err := w.r.Plan(t.Context(), w.stack); err != nil || !plan.Empty() {
		t.Errorf("nobody asked, and the plan has %+v, %v", plan.Changes, err)
	}
	w.finds("web", at("1.27.3", "33"))
	w.engine.takeWrites()
	plan, err := w.r.PlanFollowing(t.Context(), w.stack, w.found)
	if err != nil || len(plan.Changes) != 1 || len(plan.Followed) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	var out strings.Builder
	if err := RenderPlan(&out, false, plan); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"web follows nginx, semver ~1.27: nginx:1.27.3@330000000000", "the registry answered last 2026-01-01"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the plan does not tell %q:\n%s", want, out.String())
		}
	}
	if wrote := w.engine.takeWrites(); len(wrote) > 0 {
		t.Errorf("it wrote %v", wrote)
	}
	text, err := json.Marshal(plan.View().Followed[0])
	if err != nil || !strings.Contains(string(text), `"found":"nginx:1.27.3@`) || !strings.Contains(string(text), `"image":"nginx:1.27.3@`) {
		t.Errorf("%s, %v", text, err)
	}
}

// A record that cannot be read any more does not let go what failed.
func TestDamagedRecordOfWhatWasFollowed(t *testing.T) {
	w := newFollowWorld(t, "nginx:1.27.0", alone(bySemver))
	w.finds("web", at("1.27.2", "22"))
	w.settle()
	w.finds("web", at("1.27.3", "bad3"))
	w.runs("one that fails", at("1.27.2", "22"))
	w.engine.mu.Lock()
	for id, c := range w.engine.configs {
		if c.Spec.Labels[labelPhase] == string(PhaseFailed) {
			c.Spec.Data = []byte("damaged")
			w.engine.configs[id] = c
		}
	}
	w.engine.mu.Unlock()
	w.restart()
	w.runs("its record is damaged", at("1.27.2", "22"))
	w.restart()
	w.quiet("after a restart")
	if n := w.engine.written[at("1.27.3", "bad3")]; n != 1 {
		t.Errorf("what failed was written %d times", n)
	}
}

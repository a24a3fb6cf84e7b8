package reconcile

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/skep-io/skep/spec"
)

// What a service runs that follows tags (x-skep.follow). It is pure: whoever asks
// registries hands in what was found, and the followed image takes the place of the one
// that the file has before anything else is decided. So a newer tag is a release as any
// other: judged, taken back, quarantined by its digest, pinned, suspended.
//
// What is in force is what the newest release recorded that stands, not what the
// registry said last: a registry that is away, a tag that vanished and a controller that
// has only just begun change nothing.

// A Found is what a registry said of what one service follows.
type Found struct {
	// Image is the tag found last, with its digest: "nginx:1.27.3@sha256:…". It stays
	// when a later asking fails, and is empty where none was answered yet.
	Image string `json:"found,omitempty"`
	// Asked is when the registry answered last, or said no; zero: it never did.
	Asked time.Time `json:"asked,omitzero"`
	// Problem says, in a sentence, why the newest asking found nothing; "" where it did.
	Problem string `json:"problem,omitempty"`
}

// unheard says that a registry was not asked yet, or not to the end.
func (f Found) unheard() bool { return f.Image == "" && f.Problem == "" }

// A FollowStatus is what becomes of what one service follows.
type FollowStatus struct {
	Service string `json:"service"` // its key
	Name    string `json:"name"`    // in the Swarm
	Follows string `json:"follows"` // "nginx, semver ~1.27"
	Image   string `json:"image"`   // in force; as the file has it where nothing was found yet
	Found
	// Held says, in a sentence, why what was found is not followed to; "" where it is.
	Held string `json:"held,omitempty"`
}

// String tells it to people: what is followed, what is in force, and when the registry
// answered last.
func (f FollowStatus) String() string {
	text := fmt.Sprintf("%s follows %s: %s", f.Service, f.Follows, shortName(f.Image))
	switch {
	case f.Problem != "":
		text += "; " + f.Problem
	case f.Held != "":
		text += "; held: " + f.Held
	}
	if f.Asked.IsZero() {
		return text + "; no registry answered yet"
	}
	return text + "; the registry answered last " + moment(f.Asked)
}

// shortName is an image with as much of its digest as tells it from others.
func shortName(image string) string {
	if p := partsOf(image); p.digest != "" && p.tag != "" {
		return shortImage(p)
	}
	return Printable(image)
}

// A followRecord is what a release remembers of following.
type followRecord struct {
	// Digest is the file's, with the images as written: the release's own has what they
	// were followed to.
	Digest   string              `json:"digest"`
	Services map[string]followed `json:"services,omitempty"` // by name
	Barred   []barred            `json:"barred,omitempty"`   // that failed in releases before
}

// A followed is what one service runs in a release.
type followed struct {
	Image  string `json:"image"`            // with its digest; "" for what the file has
	Before string `json:"before,omitempty"` // what was in force before, where this is new
	New    bool   `json:"new,omitempty"`    // the release brings it
	// Past are the digests that were left for newer ones, the newest first: it is never
	// gone back to them unasked.
	Past []string `json:"past,omitempty"`
	// Mark is over all that the file says of the service: a person who changes that has
	// what failed tried again.
	Mark string `json:"mark,omitempty"`
}

// A barred is a digest that failed.
type barred struct {
	Service string `json:"service"` // that followed it
	Digest  string `json:"digest"`  // of the image, with its repository
	Release int    `json:"release"`
	Mark    string `json:"mark,omitempty"`
}

// Bounds of what a record keeps of a service's past, and of what failed.
const (
	maxPast   = 20
	maxBarred = 50
)

// A following is what a pass makes of what its stack's services follow.
type following struct {
	record *followRecord // nil: none follows
	status []FollowStatus
	fresh  bool // something is new
	// unheard names a service of which nothing is in force yet, and whose registry has not
	// answered; "" where there is none.
	unheard string
}

// images is what takes the place of what the file has, by service.
func (f *following) images() map[string]string {
	images := map[string]string{}
	if f.record != nil {
		for name, x := range f.record.Services {
			if x.Image != "" {
				images[name] = x.Image
			}
		}
	}
	return images
}

// id tells one set of images from another; "" for none.
func (r *followRecord) id() string {
	if r == nil {
		return ""
	}
	var parts []string
	for _, name := range sortedKeys(r.Services) {
		if image := r.Services[name].Image; image != "" {
			parts = append(parts, name+"="+image)
		}
	}
	return strings.Join(parts, " ")
}

// words tells what a release was followed to: "followed nginx 1.27.2 → 1.27.3".
func (r *followRecord) words() []string {
	if r == nil {
		return nil
	}
	var words []string
	for _, name := range sortedKeys(r.Services) {
		if x := r.Services[name]; x.New {
			if w := stepWords(x.Before, x.Image); !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
	}
	return words
}

// stepWords tells the way from one image to another: by their tags or, where these are
// the same, by their digests.
func stepWords(before, after string) string {
	to := partsOf(after)
	if before == "" {
		return fmt.Sprintf("followed %s to %s", to.familiar, to.tag)
	}
	from := partsOf(before)
	if from.tag != to.tag {
		return fmt.Sprintf("followed %s %s → %s", to.familiar, from.tag, to.tag)
	}
	return fmt.Sprintf("followed %s:%s %s → %s", to.familiar, to.tag, from.short(), to.short())
}

// imageParts are the parts of an image's name.
type imageParts struct {
	repository string // in full
	familiar   string // as people write it
	tag        string
	digest     string
}

func partsOf(image string) imageParts {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return imageParts{}
	}
	p := imageParts{repository: ref.Name(), familiar: reference.FamiliarName(ref)}
	if t, ok := ref.(reference.Tagged); ok {
		p.tag = t.Tag()
	}
	if d, ok := ref.(reference.Digested); ok {
		p.digest = d.Digest().String()
	}
	return p
}

// content is what runs, whatever tag it has.
func (p imageParts) content() string { return p.repository + "@" + p.digest }

// short is enough of the digest to tell it from others.
func (p imageParts) short() string {
	_, hex, _ := strings.Cut(p.digest, ":")
	return hex[:min(12, len(hex))]
}

// A followQuestion is all that follow looks at.
type followQuestion struct {
	stack    *spec.Stack // as its file has it
	digest   string      // its own
	source   string      // its fingerprint, as releases have it
	marks    map[string]string
	releases []*Release
	state    State
	found    map[string]Found                         // nil: nobody asks
	still    string                                   // why nothing new is followed to now
	refuses  func(service, image string) (why string) // what the operator's policy has against an image; nil: nothing
}

// follow says what each service that follows runs. For one of them, by what is in force
// (C) and what was found (F):
//
//	nothing found, or the same         C
//	not what the file asks for now     C
//	suspended, or pinned               C
//	F failed, unpardoned               C, until the file says something else of the service
//	F is an older version, or was left
//	  for a newer one before           C
//	the policy refuses F               C
//	else                               F, which is new
//
// C is of the newest release that stands (see standsFor), where it fits what the file
// says. A stack whose newest release failed, and for which nothing is new, stays with what
// that release has, so that it is taken back and quarantined as any other; and one that is
// pinned with what the newest release of its file has, so that a file that changes is
// known by itself.
func follow(q followQuestion) following {
	var f following
	bars := barsOf(q.releases, q.state.Pardoned)
	newest := q.newestOfFile()
	for i := range q.stack.Services {
		s := &q.stack.Services[i]
		if !s.Follow.On() || writtenImage(s) == "" {
			continue
		}
		if f.record == nil {
			f.record = &followRecord{Digest: q.digest, Services: map[string]followed{}, Barred: bars}
		}
		x, st := q.service(s, newest, bars)
		if f.record.Services[s.Name] = x; x.New {
			f.fresh = true
		}
		if q.found != nil && st.unheard() && x.Image == "" && st.Held == "" && f.unheard == "" {
			f.unheard = s.Key
		}
		f.status = append(f.status, st)
	}
	if f.record == nil {
		return f
	}
	if r := last(q.releases); newest != nil && (q.state.IsPinned() || r == newest && q.staysFailed(r, &f)) {
		f.stay(newest.index.follow)
	}
	return f
}

// service says what one service runs.
func (q *followQuestion) service(s *spec.Service, newest *Release, bars []barred) (followed, FollowStatus) {
	written := partsOf(writtenImage(s))
	x := standsFor(q.releases, s, written)
	x.Before, x.New, x.Mark = "", false, q.marks[s.Name]
	found := q.found[s.Name]
	st := FollowStatus{Service: s.Key, Name: s.Name, Follows: written.familiar + ", " + s.Follow.String(), Found: found, Image: cmp.Or(x.Image, writtenImage(s))}
	candidate := found.Image
	if candidate == "" && newest != nil && newest == last(q.releases) && newest.Phase == PhaseFailed {
		candidate = newest.index.follow.Services[s.Name].Image // what is to be tried again, where that was asked for
	}
	to := partsOf(candidate)
	if candidate == "" || candidate == x.Image || to.digest == "" || to.repository != written.repository || !s.Follow.Takes(to.tag) {
		return x, st
	}
	if st.Held = q.against(s, x, to, candidate, bars, written.tag); st.Held != "" {
		return x, st
	}
	if x.Image != "" {
		x.Past = append([]string{partsOf(x.Image).content()}, x.Past...)
	}
	for _, b := range bars { // what failed is left too
		if b.Service == s.Name && b.Digest != to.content() && !slices.Contains(x.Past, b.Digest) {
			x.Past = append(slices.Clip(x.Past), b.Digest)
		}
	}
	x.Past = x.Past[:min(maxPast, len(x.Past))]
	x.Before, x.Image, x.New, st.Image = x.Image, candidate, true, candidate
	return x, st
}

// against says why an image that was found is not followed to, "" where nothing is.
func (q *followQuestion) against(s *spec.Service, x followed, to imageParts, candidate string, bars []barred, written string) string {
	floor := written
	if current := partsOf(x.Image).tag; !s.Follow.Takes(floor) || spec.Newer(current, floor) {
		floor = current
	}
	switch b := barOf(bars, q.marks, s.Name, to.content()); {
	case q.state.IsSuspended() || q.stack.Policy.Suspend:
		return "the stack is suspended"
	case q.state.IsPinned():
		return fmt.Sprintf("the stack is pinned to release %d", q.state.Pin)
	case b != nil:
		return fmt.Sprintf("%s failed as release %d, and is not tried again: a newer one is, or: skep resume", shortImage(to), b.Release)
	case spec.Newer(floor, to.tag) && s.Follow.Semver != "":
		return fmt.Sprintf("the newest that the registry has is %s, which is older than %s: it is not gone back to by itself (write what is meant into the file)", to.tag, floor)
	case slices.Contains(x.Past, to.content()):
		return fmt.Sprintf("the registry has gone back to %s, which was left for a newer one: it is not gone back to by itself (for that: skep rollback)", shortImage(to))
	}
	if q.refuses != nil {
		if why := q.refuses(s.Key, candidate); why != "" {
			return why
		}
	}
	return q.still
}

func shortImage(p imageParts) string {
	return fmt.Sprintf("%s:%s@%s", p.familiar, p.tag, p.short())
}

// newestOfFile is the newest release that came of the stack's file, as it is now, and
// remembers what was followed to; nil where there is none.
func (q *followQuestion) newestOfFile() *Release {
	for _, r := range slices.Backward(q.releases) {
		if !byFile(r) {
			continue
		}
		if r.index.follow != nil && (r.index.follow.Digest == q.digest || r.Source == q.source && q.source != "") {
			return r
		}
		return nil
	}
	return nil
}

// staysFailed says that the stack's newest release r failed, and that there is nothing new
// to try. Where the registry has not what failed any more, and the way back has come to
// its end, what runs is what is followed again.
func (q *followQuestion) staysFailed(r *Release, f *following) bool {
	if r.Phase != PhaseFailed || r.Number <= q.state.Pardoned || f.fresh {
		return false
	}
	if !r.index.back || len(r.index.reverts) > 0 {
		return true
	}
	brought := false
	for _, s := range q.stack.Services {
		was := r.index.follow.Services[s.Name]
		if !was.New {
			continue
		}
		brought = true
		if now := q.found[s.Name].Image; now == "" || now == was.Image {
			return true
		}
	}
	return !brought // it failed for what its file says
}

// stay has the services that follow run what a release has.
func (f *following) stay(as *followRecord) {
	for name, x := range f.record.Services {
		was, ok := as.Services[name]
		if !ok {
			continue
		}
		was.Mark = x.Mark
		f.record.Services[name] = was
	}
	f.fresh, f.unheard = false, ""
}

// standsFor is what is in force for a service, by the newest release that stands, without
// what that release brought; nothing where it says nothing that fits the file. Of those
// that failed one stands that was left as it is: whole, or for that service.
func standsFor(releases []*Release, s *spec.Service, written imageParts) followed {
	for i, r := range slices.Backward(releases) {
		if r.damaged || r.index.untried || r.Phase == PhaseSuperseded {
			continue
		}
		if r.Phase == PhaseFailed && !r.index.held && goesBackTo(releases[:i+1], r) != nil && (len(r.index.reverts) == 0 || r.index.reverts[s.Name]) {
			continue
		}
		if r.index.follow == nil {
			return followed{}
		}
		x := r.index.follow.Services[s.Name]
		if p := partsOf(x.Image); p.repository != written.repository || !s.Follow.Takes(p.tag) {
			return followed{}
		}
		return x
	}
	return followed{}
}

// barsOf are the digests that failed and were not pardoned: those that releases brought
// which then failed, and went back, and those that these remember.
func barsOf(releases []*Release, pardoned int) []barred {
	var bars []barred
	add := func(b barred) {
		if b.Release > pardoned && !slices.Contains(bars, b) {
			bars = append(bars, b)
		}
	}
	for _, r := range releases {
		if r.index.follow == nil {
			continue
		}
		for _, b := range r.index.follow.Barred {
			add(b)
		}
		if r.Phase != PhaseFailed || r.index.held {
			continue
		}
		for _, name := range sortedKeys(r.index.follow.Services) {
			x := r.index.follow.Services[name]
			if x.New && (len(r.index.reverts) == 0 || r.index.reverts[name]) {
				add(barred{Service: name, Digest: partsOf(x.Image).content(), Release: r.Number, Mark: x.Mark})
			}
		}
	}
	return bars[max(0, len(bars)-maxBarred):]
}

// barOf is why a service may not run a digest, or nil. What failed with the service itself
// counts as long as the file says of it what it said then; else what failed with another
// one does.
func barOf(bars []barred, marks map[string]string, service, digest string) *barred {
	var own, others *barred
	isOwn := false
	for i := range bars {
		b := &bars[i]
		if b.Digest != digest {
			continue
		}
		holds := marks[b.Service] == b.Mark
		if b.Service == service {
			isOwn = true
			if holds {
				own = b
			}
		} else if holds {
			others = b
		}
	}
	if isOwn {
		return own
	}
	return others
}

// marksOfFollowers are over all that the file says of each service that follows: its
// configs' and secrets' contents too.
func marksOfFollowers(stack *spec.Stack, key []byte) map[string]string {
	marks := map[string]string{}
	hashes := map[Ref]string{}
	for i := range stack.Configs {
		o := bindConfig(stack.Name, &stack.Configs[i], Binding{})
		hashes[Ref{KindConfig, o.Plain}] = o.Hash
	}
	for i := range stack.Secrets {
		o := bindSecret(stack.Name, &stack.Secrets[i], Binding{Key: key})
		hashes[Ref{KindSecret, o.Plain}] = o.Hash
	}
	for i := range stack.Services {
		s := &stack.Services[i]
		if !s.Follow.On() {
			continue
		}
		var used []string
		for ref := range refsOf(&s.Spec) {
			if hashes[ref] != "" {
				used = append(used, string(ref.Kind)+" "+ref.Name+" "+hashes[ref])
			}
		}
		slices.Sort(used)
		text, err := json.Marshal([]any{s.Spec, used, s.Follow.String()})
		if err != nil {
			panic("mark of service " + s.Name + ": " + err.Error()) // plain data
		}
		h := hmac.New(sha256.New, key) // environment may hold what is secret
		h.Write(text)
		marks[s.Name] = hex.EncodeToString(h.Sum(nil))[:32]
	}
	return marks
}

// withImages is a stack whose services run these images.
func withImages(stack *spec.Stack, images map[string]string) *spec.Stack {
	if len(images) == 0 {
		return stack
	}
	out := *stack
	out.Services = slices.Clone(stack.Services)
	for i := range out.Services {
		s := &out.Services[i]
		if image := images[s.Name]; image != "" && s.Spec.TaskTemplate.ContainerSpec != nil {
			s.Spec = *cloneSpec(&s.Spec)
			s.Spec.TaskTemplate.ContainerSpec.Image = image
		}
	}
	return &out
}

// fileDigest is the digest of the file that a release came of, as written.
func (r *Release) fileDigest() string {
	if r.index.follow != nil {
		return r.index.follow.Digest
	}
	return r.Digest
}

// identity tells what a release was made of: the file, and what was followed to.
func (r *Release) identity() string { return identityOf(r.Source, r.index.follow) }

func identityOf(source string, f *followRecord) string {
	if id := f.id(); id != "" && source != "" {
		return source + " " + id
	}
	return source
}

// FollowsOf lists what the services of a stack follow, by their names.
func FollowsOf(stack *spec.Stack) map[string]Following {
	var out map[string]Following
	for i := range stack.Services {
		s := &stack.Services[i]
		if image := writtenImage(s); s.Follow.On() && image != "" {
			if out == nil {
				out = map[string]Following{}
			}
			out[s.Name] = Following{Image: image, Follow: s.Follow}
		}
	}
	return out
}

// A Following is what one service follows: of the repository of Image, as written.
type Following struct {
	Image string
	spec.Follow
}

// sameFound says that two answers make the same of a stack.
func sameFound(a, b map[string]Found) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		y, ok := b[name]
		if !ok || x.Image != y.Image || x.Problem != y.Problem {
			return false
		}
	}
	return true
}

package reconcile

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// A release is remembered in the Swarm itself, as a config object: immutable data
// (the rendered desired stack, compressed) and labels that change by
// compare-and-set. It carries no namespace label, so that `docker stack rm`
// leaves the memory.
const (
	labelStack    = "skep.stack"
	labelRelease  = "skep.release"
	labelDigest   = "skep.digest"
	labelSource   = "skep.source"
	labelRevision = "skep.revision"
	labelSubject  = "skep.subject"
	labelCommit   = "skep.commit"
	labelDated    = "skep.committed"
	labelPhase    = "skep.phase"
	labelReason   = "skep.reason"
	labelMessage  = "skep.message"
	labelStarted  = "skep.started"
	labelEnded    = "skep.ended"
	labelCorrect  = "skep.corrected"
	labelSince    = "skep.corrected-at"
	labelBackFrom = "skep.back-since"
	labelBack     = "skep.rolled-back"
	labelUntried  = "skep.untried"
	labelHeld     = "skep.held"
	labelBaking   = "skep.converged"
	labelResumed  = "skep.resumed"
	labelFailed   = "skep.failed"
	labelReverts  = "skep.reverts"
	labelBy       = "skep.by"
	labelOf       = "skep.of"

	maxRelease  = 1_000_000_000 // a number that no stack comes to, and that can be counted on from
	maxRecord   = 500_000       // bytes of data
	maxUnpacked = 64 << 20
	maxMessage  = 1000 // characters of a reason's sentence
)

// A record is a release's data.
type record struct {
	Format  int        `json:"format"`
	Desired *Desired   `json:"desired"`
	Pins    []namedPin `json:"pins,omitempty"`
	// Changed names the services that the release set out to write, each with the
	// mark of the update status it had before: a later one is the release's own.
	Changed map[string]string `json:"changed,omitempty"`
	// Deadline and Bake are how long the release has until it has to have converged,
	// and how long it is watched then.
	Deadline time.Duration `json:"deadline,omitempty"`
	Bake     time.Duration `json:"bake,omitempty"`
	// Left are objects that were adopted, have left the file, and still live: they
	// carry no label that tells whose they are.
	Left []Ref `json:"left,omitempty"`
	// Findings are what the file, and the Swarm then, gave warning of.
	Findings []spec.Finding `json:"findings,omitempty"`
	// Severities are the file's x-skep.findings, for what is found later.
	Severities map[string]spec.Severity `json:"severities,omitempty"`
	// Follow is what services that follow tags were followed to; nil where none does.
	Follow *followRecord `json:"follow,omitempty"`
}

type namedPin struct {
	Service string `json:"service"`
	Pin
}

// An index is what passes need of a record, without its specs.
type index struct {
	objects  map[Ref]bool
	left     map[Ref]bool
	pins     map[string]Pin
	believed map[string]string // adopted secrets: plain name → hash
	changed  map[string]string
	// corrected maps services to the mark they had when their drift was corrected.
	corrected map[string]string
	// correctedAt is when that began, of the last ones; backFrom when going back from a
	// failed release did, which takes several steps where services depend on each other.
	correctedAt, backFrom time.Time
	// back says that the rollback from this failed release has come to its end.
	back bool
	// untried says that nothing was ever written of this release: it failed before.
	untried bool
	// held says of a failed release that it is left as it is, as its file asked when it
	// failed: for those who know no file.
	held bool
	// reverts names the services that go back from this failed release, where not all
	// that it changed do.
	reverts map[string]bool
	// deadline and bake are what the file said when the release began, for those who
	// know no file.
	deadline, bake time.Duration
	// findings and severities are those of a stack's newest release only.
	findings   []spec.Finding
	severities map[string]spec.Severity
	follow     *followRecord
}

func indexOf(r *record) index {
	x := index{objects: map[Ref]bool{}, left: map[Ref]bool{}, pins: map[string]Pin{}, believed: map[string]string{}, changed: r.Changed, deadline: r.Deadline, bake: r.Bake, findings: r.Findings, severities: r.Severities, follow: r.Follow}
	for _, p := range r.Pins {
		x.pins[p.Service] = p.Pin
	}
	for _, ref := range r.Left {
		x.left[ref] = true
	}
	d := r.Desired
	for i := range d.Services {
		x.objects[Ref{KindService, d.Services[i].Name}] = true
	}
	for i := range d.Networks {
		if !d.Networks[i].External {
			x.objects[Ref{KindNetwork, d.Networks[i].Name}] = true
		}
	}
	for _, o := range d.Configs {
		if !o.External {
			x.objects[Ref{KindConfig, o.Name}] = true
		}
	}
	for _, o := range d.Secrets {
		if o.External {
			continue
		}
		x.objects[Ref{KindSecret, o.Name}] = true
		if o.Name == o.Plain {
			x.believed[o.Plain] = o.Hash
		}
	}
	return x
}

// parseRelease reads a record. Damage must not keep its stack from being
// reconciled: without a number it is passed over, and where only the data is
// damaged the labels still count (what failed stays failed).
func parseRelease(c *swarm.Config) *Release {
	l := c.Spec.Labels
	n, err := strconv.Atoi(l[labelRelease])
	if err != nil || n < 0 || n > maxRelease {
		return nil
	}
	data, err := unpack(c.Spec.Data, l[labelStack])
	if err != nil {
		data = &record{Desired: &Desired{}}
	}
	damaged := err != nil
	r := &Release{
		Number: n, Digest: l[labelDigest], Source: l[labelSource], Revision: l[labelRevision], Subject: l[labelSubject],
		Phase: Phase(l[labelPhase]), Reason: l[labelReason], Message: l[labelMessage],
		id: c.ID, version: c.Version, stored: l, owner: l[LabelOwner], damaged: damaged, index: indexOf(data),
	}
	r.Commit = l[labelCommit]
	r.Committed, _ = time.Parse(time.RFC3339Nano, l[labelDated])
	r.Started, _ = time.Parse(time.RFC3339Nano, l[labelStarted])
	r.Ended, _ = time.Parse(time.RFC3339Nano, l[labelEnded])
	r.Converged, _ = time.Parse(time.RFC3339Nano, l[labelBaking])
	r.Resumed, _ = time.Parse(time.RFC3339Nano, l[labelResumed])
	r.Failed = splitNames(l[labelFailed])
	for _, name := range splitNames(l[labelReverts]) {
		if r.index.reverts == nil {
			r.index.reverts = map[string]bool{}
		}
		r.index.reverts[name] = true
	}
	r.index.corrected = parseMarks(l[labelCorrect])
	r.index.correctedAt, _ = time.Parse(time.RFC3339Nano, l[labelSince])
	r.index.backFrom, _ = time.Parse(time.RFC3339Nano, l[labelBackFrom])
	r.index.back, r.index.untried, r.index.held = l[labelBack] != "", l[labelUntried] != "", l[labelHeld] != ""
	if r.By = ByFile; l[labelBy] == ByHand {
		r.By = ByHand
		r.Of, _ = strconv.Atoi(l[labelOf])
	}
	return r
}

func (r *Release) labels(owner, stack string) map[string]string {
	l := map[string]string{
		labelKind: KindRelease, LabelOwner: owner, labelStack: stack, labelRelease: strconv.Itoa(r.Number),
		labelDigest: r.Digest, labelSource: r.Source, labelRevision: r.Revision, labelPhase: string(r.Phase),
		labelStarted: r.Started.UTC().Format(time.RFC3339Nano),
	}
	set := func(key, value string) {
		if value != "" {
			l[key] = value
		}
	}
	set(labelSubject, clip(r.Subject, maxMessage))
	if set(labelCommit, r.Commit); !r.Committed.IsZero() {
		l[labelDated] = r.Committed.UTC().Format(time.RFC3339Nano)
	}
	set(labelReason, r.Reason)
	set(labelMessage, clip(r.Message, maxMessage))
	set(labelCorrect, formatMarks(r.index.corrected))
	if len(r.index.corrected) > 0 {
		l[labelSince] = r.index.correctedAt.UTC().Format(time.RFC3339Nano)
	}
	if !r.index.backFrom.IsZero() {
		l[labelBackFrom] = r.index.backFrom.UTC().Format(time.RFC3339Nano)
	}
	if r.index.back {
		l[labelBack] = "true"
	}
	if r.index.untried {
		l[labelUntried] = "true"
	}
	if r.index.held {
		l[labelHeld] = "true"
	}
	if r.By == ByHand {
		l[labelBy], l[labelOf] = ByHand, strconv.Itoa(r.Of)
	}
	if !r.Converged.IsZero() {
		l[labelBaking] = r.Converged.UTC().Format(time.RFC3339Nano)
	}
	if !r.Resumed.IsZero() {
		l[labelResumed] = r.Resumed.UTC().Format(time.RFC3339Nano)
	}
	if !r.Ended.IsZero() {
		l[labelEnded] = r.Ended.UTC().Format(time.RFC3339Nano)
	}
	set(labelFailed, strings.Join(r.Failed, ","))
	set(labelReverts, strings.Join(sortedKeys(r.index.reverts), ","))
	return l
}

func splitNames(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// answering are releases of which one that is under way, and whose record cannot be read,
// answers for all services: what it changed is not known any more.
func answering(releases []*Release, services []DesiredService) []*Release {
	r := last(releases)
	if r == nil || !r.damaged || r.Phase != PhaseProgressing {
		return releases
	}
	all := *r
	all.index.changed = map[string]string{}
	for i := range services {
		all.index.changed[services[i].Name] = noMark
	}
	return append(slices.Clone(releases[:len(releases)-1]), &all)
}

// begun is when the release began or, where nobody carried it on for a while, went on.
func (r *Release) begun() time.Time {
	if r.Resumed.After(r.Started) {
		return r.Resumed
	}
	return r.Started
}

// since is when the release came into its phase.
func (r *Release) since() time.Time {
	if r.Ended.IsZero() {
		return r.Started
	}
	return r.Ended
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func recordName(stack string, n int) string {
	return fitName(ownPrefix(KindRelease), stack, "-"+strconv.Itoa(n))
}

// fitName names the object that is kept of a stack: one that is too long for the
// engine is shortened to what is unique all the same.
func fitName(prefix, stack, tail string) string {
	room := maxObjectName - len(prefix) - len(tail)
	if len(stack) > room {
		sum := sha256.Sum256([]byte(stack))
		digits := hex.EncodeToString(sum[:])[:hashDigits]
		stack = shorten(stack, room-hashDigits-1) + "." + digits
	}
	return prefix + stack + tail
}

// damagedRecords tells of releases whose records cannot be read.
func damagedRecords(releases []*Release) []spec.Finding {
	var found []spec.Finding
	for _, r := range releases {
		if r.damaged {
			found = append(found, spec.Finding{Severity: spec.Warning, Code: "record-damaged", Message: fmt.Sprintf(
				"the record of release %d cannot be read, and there is no way back to it (it goes with the next releases; if a newer skep wrote it, run that one)", r.Number)})
		}
	}
	return found
}

// stackOfRecord is recordName's way back: "" where the name is shortened or no
// record's.
func stackOfRecord(name string) string {
	rest, ok := strings.CutPrefix(name, ownPrefix(KindRelease))
	if !ok {
		return ""
	}
	i := strings.LastIndexByte(rest, '-')
	if i < 0 || len(name) == maxObjectName {
		return ""
	}
	return rest[:i]
}

func pack(r *record) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	err := json.NewEncoder(z).Encode(r)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return nil, err
	case b.Len() > maxRecord:
		return nil, fmt.Errorf("the stack is too large: its record has %d bytes, %d are allowed (split it into several stacks)", b.Len(), maxRecord)
	}
	return b.Bytes(), nil
}

// isRecord says that a config is what its labels make it: the record of that release. What
// merely has such labels is none.
func isRecord(c *swarm.Config) bool {
	l := c.Spec.Labels
	n, err := strconv.Atoi(l[labelRelease])
	return err == nil && l[labelKind] == KindRelease && c.Spec.Name == recordName(l[labelStack], n)
}

// unpack reads what pack wrote of a stack, or a hostile text in its place: bounded, and
// with nothing in it that a pass could not write.
func unpack(data []byte, stack string) (*record, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxUnpacked {
		return nil, fmt.Errorf("the record unpacks to more than %d bytes", maxUnpacked)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if r.Format != 1 || r.Desired == nil {
		return nil, fmt.Errorf("unknown record format %d (written by a newer skep?)", r.Format)
	}
	if r.Desired.Stack != stack {
		return nil, fmt.Errorf("it is a record of stack %q", r.Desired.Stack)
	}
	for i := range r.Desired.Services {
		if ds := &r.Desired.Services[i]; ds.Name == "" || ds.Name != ds.Spec.Name {
			return nil, fmt.Errorf("service %q of the record is called %q", ds.Name, ds.Spec.Name)
		}
	}
	return &r, nil
}

// newest returns the newest release in a phase, or nil.
func newest(releases []*Release, phase Phase) *Release {
	for _, r := range slices.Backward(releases) {
		if r.Phase == phase && (phase != PhaseHealthy || !r.damaged) {
			return r
		}
	}
	return nil
}

// noMark is the mark of a service that no update has begun of.
const noMark = "-"

// A mark tells two update statuses of a service apart without trusting clocks:
// it is the engine's own time of when the update began or, of a job, which run it is.
func mark(s *swarm.Service) string {
	switch {
	case s != nil && s.JobStatus != nil:
		return "job" + strconv.FormatUint(s.JobStatus.JobIteration.Index, 10)
	case s == nil || s.UpdateStatus == nil || s.UpdateStatus.StartedAt == nil:
		return noMark
	}
	return strconv.FormatInt(s.UpdateStatus.StartedAt.UnixNano(), 36)
}

func formatMarks(marks map[string]string) string {
	var parts []string
	for name, m := range marks {
		parts = append(parts, name+"@"+m)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func parseMarks(text string) map[string]string {
	marks := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if name, m, ok := strings.Cut(part, "@"); ok {
			marks[name] = m
		}
	}
	return marks
}

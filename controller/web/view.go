package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A Board is all stacks at a glance. Its JSON is stable: fields are added, never renamed.
type Board struct {
	At         time.Time      `json:"at"`
	Controller Controller     `json:"controller"`
	Notices    []Notice       `json:"notices"`
	Counts     Counts         `json:"counts"`
	Stacks     []StackLine    `json:"stacks"`   // worst first
	Findings   []spec.Finding `json:"findings"` // of the specs directory itself
}

// A Controller is who tells all this.
type Controller struct {
	Version string `json:"version"`
	Owner   string `json:"owner"`
	Specs   string `json:"specs"`
	Acts    bool   `json:"acts"`
	Holder  string `json:"holder,omitempty"` // who acts, where that is another one
	// EngineReady and SourceReady say that what is told can be believed to be of now.
	EngineReady bool      `json:"engineReady"`
	SourceReady bool      `json:"sourceReady"`
	Listed      time.Time `json:"listed,omitzero"` // when the Swarm was listed last
	Revision    string    `json:"revision,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	// Sources are the directories, where there are several.
	Sources []SourceLine `json:"sources,omitempty"`
}

// A SourceLine is one of several directories at a glance.
type SourceLine struct {
	Name      string    `json:"name"`
	Directory string    `json:"directory"`
	Ready     bool      `json:"ready"`            // it is believed
	Reason    string    `json:"reason,omitempty"` // one CamelCase word
	Message   string    `json:"message,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Scanned   time.Time `json:"scanned,omitzero"` // when it was read completely last
	Revision  string    `json:"revision,omitempty"`
	Subject   string    `json:"subject,omitempty"`
}

// A Notice is about everything, and stands above it.
type Notice struct {
	// Kind is "engine-away", "not-listed", "source-unreadable", "prune-blocked",
	// "policy-broken" or "standing-by".
	Kind    string    `json:"kind"`
	Level   string    `json:"level"` // "bad", "warn" or "info"
	Title   string    `json:"title"`
	Message string    `json:"message"`
	Command string    `json:"command,omitempty"` // what to do about it, if it is meant
	Since   time.Time `json:"since,omitzero"`
}

// Counts are how many stacks are how; they add up to Total.
type Counts struct {
	Total       int `json:"total"`
	Stalled     int `json:"stalled"`
	Degraded    int `json:"degraded"`
	Unknown     int `json:"unknown"`
	NotReady    int `json:"notReady"`
	Progressing int `json:"progressing"`
	Ready       int `json:"ready"`
}

// A StackLine is a stack at a glance.
type StackLine struct {
	Name   string `json:"name"`
	Source string `json:"source,omitempty"` // the one that its file is in, where there are several
	// Condition is the one that says most: Stalled, Degraded, Progressing or Ready; or
	// NotReady, or Unknown.
	Condition string    `json:"condition"`
	Ready     bool      `json:"ready"`            // and nothing is against it
	Reason    string    `json:"reason,omitempty"` // one CamelCase word
	Message   string    `json:"message,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Suspended bool      `json:"suspended"`
	Pinned    bool      `json:"pinned"`
	Release   *int      `json:"release,omitempty"` // left out before the first
	Phase     string    `json:"phase,omitempty"`
	Revision  string    `json:"revision,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	Started   time.Time `json:"started,omitzero"` // the release
	Step      *Step     `json:"step,omitempty"`   // what is under way
	Running   uint64    `json:"running"`
	Desired   uint64    `json:"desired"`
	Tasks     TaskCount `json:"tasks"`
}

// A Step is what is under way in a stack.
type Step struct {
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

// A TaskCount counts tasks by how they are. Old ones run, of an earlier version; missing
// ones are wanted, and nothing is known of them.
type TaskCount struct {
	Running  int `json:"running"`
	Old      int `json:"old"`
	Starting int `json:"starting"`
	Failed   int `json:"failed"`
	Missing  int `json:"missing"`
}

// A StackPage is all that is known of a stack.
type StackPage struct {
	At         time.Time  `json:"at"`
	Controller Controller `json:"controller"`
	Notices    []Notice   `json:"notices"`
	StackLine
	Asked      []string              `json:"asked"`              // what people ask of it, in sentences
	Followed   []string              `json:"followed,omitempty"` // what its services follow, in sentences
	Conditions []reconcile.Condition `json:"conditions"`
	Services   []Service             `json:"services"`
	Timeline   *Timeline             `json:"timeline,omitempty"`
	Difference *Difference           `json:"difference,omitempty"` // left out where it is not known
	History    []Entry               `json:"history"`              // newest first
	Findings   []spec.Finding        `json:"findings"`
}

// A Service is one of a stack's, with its tasks.
type Service struct {
	reconcile.ServiceStatus
	TaskCount TaskCount `json:"taskCount"`
	// TasksAt is when the tasks were as they are told; left out where nobody asked for them.
	TasksAt time.Time `json:"tasksAt,omitzero"`
	Tasks   []Task    `json:"tasks"`
	// Omitted is how many more tasks there are than are told.
	Omitted int `json:"omitted,omitempty"`
}

// A Task is one that is wanted, or what became of the last one in its place.
type Task struct {
	ID    string    `json:"id"`
	Slot  int       `json:"slot,omitempty"` // left out for the task of a node
	Node  string    `json:"node,omitempty"`
	State string    `json:"state"` // running, old, starting or failed
	Swarm string    `json:"swarm"` // Swarm's own word for it
	Image string    `json:"image,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Error is the task's own or, where it has none, that of the last one in its place
	// that failed, which ended at ErrorAt.
	Error   string    `json:"error,omitempty"`
	ErrorAt time.Time `json:"errorAt,omitzero"`
}

// A Difference is what is between the file and the Swarm.
type Difference struct {
	Changes []reconcile.ChangeView `json:"changes"`
	Held    []reconcile.ChangeView `json:"held"` // what errors keep from being written
	Summary string                 `json:"summary"`
}

// An Entry is a release of the past, with what it changed.
type Entry struct {
	reconcile.HistoryEntry
	Converged time.Time `json:"converged,omitzero"`
	// BackTo is the release that was gone back to, where that was so.
	BackTo  *int                   `json:"backTo,omitempty"`
	Known   bool                   `json:"known"` // what it changed is
	Against *int                   `json:"against,omitempty"`
	Changes []reconcile.ChangeView `json:"changes"`
}

// Tasks that are told of a service at most, and squares that are drawn of a stack.
const (
	maxTasks   = 200
	maxSquares = 48
)

// conditionRank orders stacks, the worst first.
var conditionRank = map[string]int{
	string(reconcile.Stalled): 0, string(reconcile.Degraded): 1, string(reconcile.Unknown): 2,
	reconcile.NotReady: 3, string(reconcile.Progressing): 4, string(reconcile.Ready): 5,
}

// NewBoard is what is told of a snapshot as a whole.
func NewBoard(s *Snapshot) *Board {
	b := &Board{At: s.Now, Controller: controllerOf(s), Notices: notices(s), Stacks: make([]StackLine, 0, len(s.Stacks)), Findings: plain(s.Findings)}
	for i := range s.Stacks {
		line := lineOf(&s.Stacks[i])
		b.Counts.add(line.Condition)
		b.Stacks = append(b.Stacks, line)
	}
	slices.SortFunc(b.Stacks, func(a, b StackLine) int {
		return cmp.Or(cmp.Compare(conditionRank[a.Condition], conditionRank[b.Condition]), strings.Compare(a.Name, b.Name))
	})
	return b
}

func (c *Counts) add(condition string) {
	c.Total++
	switch condition {
	case string(reconcile.Stalled):
		c.Stalled++
	case string(reconcile.Degraded):
		c.Degraded++
	case reconcile.NotReady:
		c.NotReady++
	case string(reconcile.Progressing):
		c.Progressing++
	case string(reconcile.Ready):
		c.Ready++
	default:
		c.Unknown++
	}
}

func controllerOf(s *Snapshot) Controller {
	return Controller{Version: s.Version, Owner: s.Owner, Specs: s.Specs, Acts: s.Acts, Holder: s.Holder, EngineReady: s.Engine == "",
		SourceReady: s.Source == "", Listed: s.Listed, Revision: s.Revision, Subject: s.Subject, Sources: sourcesOf(s)}
}

func sourcesOf(s *Snapshot) (lines []SourceLine) {
	for _, d := range s.Sources {
		lines = append(lines, SourceLine{Name: d.Name, Directory: d.Dir, Ready: d.Reason == "", Reason: d.Reason, Message: safe(d.Message), Since: d.Since,
			Scanned: d.Scanned, Revision: safe(d.Revision), Subject: safe(d.Subject)})
	}
	return lines
}

// notices are what is said above everything else, the worst first.
func notices(s *Snapshot) []Notice {
	all := []Notice{}
	add := func(holds bool, n Notice) {
		if holds {
			n.Message = safe(n.Message)
			all = append(all, n)
		}
	}
	never := s.Listed.IsZero()
	add(s.Engine != "" && !never, Notice{Kind: "engine-away", Level: "bad", Since: s.EngineSince, Title: "A stale view: the engine is away",
		Message: "What is shown is as it was then, and nothing is reconciled: " + s.Engine})
	add(s.Engine != "" && never, Notice{Kind: "not-listed", Level: "warn", Since: s.EngineSince, Title: "The Swarm was not listed yet", Message: s.Engine})
	for _, d := range s.Sources {
		add(d.Reason != "" && s.Source != "", Notice{Kind: "source-unreadable", Level: "bad", Since: d.Since, Title: "Source " + d.Name + " cannot be believed",
			Message: "What was read of it before stays in force: " + d.Message})
	}
	add(s.Source != "" && s.Sources == nil, Notice{Kind: "source-unreadable", Level: "bad", Since: s.SourceSince, Title: "The specs directory cannot be believed",
		Message: "What was read before stays in force: " + s.Source})
	if b := s.Prune; b != nil {
		add(true, Notice{Kind: "prune-blocked", Level: "warn", Since: b.Since, Title: "A removal waits for a person",
			Message: why(b), Command: "skep prune --confirm " + b.ID})
	}
	add(s.NoPolicy, Notice{Kind: "policy-broken", Level: "bad", Since: s.PolicySince, Title: "The policy file cannot be read",
		Message: "Nothing is done before it can: " + s.Policy})
	add(s.Policy != "" && !s.NoPolicy, Notice{Kind: "policy-broken", Level: "warn", Since: s.PolicySince, Title: "The policy file cannot be read",
		Message: "The last good one stays in force: " + s.Policy})
	by := "nobody is known to act"
	if s.Holder != "" {
		by = s.Holder + " acts"
	}
	add(!s.Acts, Notice{Kind: "standing-by", Level: "info", Title: "This controller stands by",
		Message: by + "; this page tells what can be seen from here. Why a stack is held, and what differs from its file, only the one that acts knows for sure."})
	return all
}

// why is why a removal waits, without what to do about it, which stands below.
func why(b *reconcile.Blockade) string {
	text, _, _ := strings.Cut(b.Why(), " (")
	return strings.ToUpper(text[:1]) + text[1:] + ". If that is not meant, put them back."
}

func lineOf(s *Stack) StackLine {
	r := &s.Result
	word, c := reconcile.Leading(r.Conditions)
	l := StackLine{Name: s.Name, Source: s.Source, Condition: word, Ready: word == string(reconcile.Ready), Reason: c.Reason, Message: safe(c.Message), Since: c.Since,
		Suspended: r.State.IsSuspended(), Pinned: r.State.IsPinned()}
	if l.Message == "" {
		l.Reason, l.Message = cmp.Or(l.Reason, r.Reason), safe(r.Message)
	}
	if l.Message == "" && word == string(reconcile.Unknown) {
		l.Message = "Nothing is known of it yet: no pass was made over it."
	}
	if rel := r.Release; rel != nil {
		l.Release, l.Phase = new(rel.Number), string(rel.Phase)
		l.Revision, l.Subject, l.Started = safe(rel.Revision), safe(rel.Subject), rel.Started
	}
	if p := r.Progress; p != nil {
		l.Step = &Step{p.Step, p.Since, p.Until}
	}
	for i := range r.Services {
		st := &r.Services[i]
		l.Running += st.Running
		l.Desired += st.Desired
		n, _ := countTasks(st, s.Glance.Tasks[st.Name].Tasks)
		l.Tasks.sum(n)
	}
	return l
}

func (n *TaskCount) sum(m TaskCount) {
	n.Running += m.Running
	n.Old += m.Old
	n.Starting += m.Starting
	n.Failed += m.Failed
	n.Missing += m.Missing
}

func (n TaskCount) total() int { return n.Running + n.Old + n.Starting + n.Failed + n.Missing }

// countTasks sorts a service's tasks, and says of those that matter how they are. Where
// they are not known, or not as the service's own counts are any more, those have to do.
func countTasks(st *reconcile.ServiceStatus, tasks []reconcile.TaskView) (TaskCount, []Task) {
	views := placed(tasks)
	var n TaskCount
	for i := range views {
		switch views[i].State {
		case "running":
			n.Running++
		case "old":
			n.Old++
		case "starting":
			n.Starting++
		default:
			n.Failed++
		}
	}
	if up := uint64(n.Running + n.Old); len(tasks) == 0 || up != st.Running {
		n = TaskCount{Running: int(min(st.Updated, st.Running))}
		n.Old = int(st.Running) - n.Running
	}
	if lack := int(st.Desired) - n.total(); lack > 0 {
		n.Missing = lack
	}
	return n, views
}

// placed are the tasks that are wanted, and of each place where none is, the newest, if
// it failed.
func placed(tasks []reconcile.TaskView) []Task {
	type place struct {
		slot int
		node string
	}
	at := func(t *reconcile.TaskView) place {
		if t.Slot > 0 {
			return place{slot: t.Slot}
		}
		return place{node: t.Node}
	}
	taken, failed := map[place]bool{}, map[place]*reconcile.TaskView{}
	for i := range tasks { // oldest first
		t := &tasks[i]
		if t.Wanted || t.Up {
			taken[at(t)] = true
		}
		if t.Failed() {
			failed[at(t)] = t
		}
	}
	var out []Task
	for i := range tasks {
		t := &tasks[i]
		last := failed[at(t)]
		if !t.Wanted && !(t.Up && t.Current) && (taken[at(t)] || last != t || !t.Current) {
			continue
		}
		v := Task{ID: t.ID, Slot: t.Slot, Node: t.Node, State: stateOf(t), Swarm: t.State, Image: t.Image, Since: t.Since, Error: t.Error}
		if v.Error == "" && last != nil && last != t && v.State != "old" {
			v.Error, v.ErrorAt = last.Error, last.Since
		}
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b Task) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), strings.Compare(a.Node, b.Node), a.Since.Compare(b.Since))
	})
	return out
}

func stateOf(t *reconcile.TaskView) string {
	switch {
	case t.Up && t.Current:
		return "running"
	case t.Up:
		return "old"
	case t.Wanted && !t.Failed():
		return "starting"
	}
	return "failed"
}

// NewStackPage is what is told of one stack, with what its releases changed as far as
// that is known; nil where there is no such stack.
func NewStackPage(s *Snapshot, name string, changed map[int]Change) *StackPage {
	i := slices.IndexFunc(s.Stacks, func(x Stack) bool { return x.Name == name })
	if i < 0 {
		return nil
	}
	x := &s.Stacks[i]
	p := &StackPage{At: s.Now, Controller: controllerOf(s), Notices: notices(s), StackLine: lineOf(x), Asked: asked(x.Result.State),
		Conditions: conditionsOf(x.Result.Conditions), Services: servicesOf(x), Timeline: NewTimeline(&x.Glance, s.Now),
		History: historyOf(x.Glance.Releases, changed), Findings: plain(x.Result.Findings)}
	for _, f := range x.Result.Followed {
		p.Followed = append(p.Followed, safe(f.String()))
	}
	if b := x.Result.State.Blockade(name); b != nil && x.Result.Reason == reconcile.PruneBlocked {
		p.Notices = append([]Notice{{Kind: "prune-blocked", Level: "warn", Since: b.Since, Title: "A removal of services waits for a person",
			Message: safe(why(b)), Command: "skep prune --confirm " + b.ID}}, p.Notices...)
	}
	if x.Passed && x.Result.Plan != nil {
		p.Difference = differenceOf(x)
	}
	return p
}

func conditionsOf(all []reconcile.Condition) []reconcile.Condition {
	out := append([]reconcile.Condition{}, all...)
	for i := range out {
		out[i].Message = safe(out[i].Message)
	}
	return out
}

func asked(state reconcile.State) []string {
	lines := []string{}
	if state.IsSuspended() {
		line := "Suspended since " + clock(state.Suspended)
		if state.Why != "" {
			line += ": " + safe(state.Why)
		}
		lines = append(lines, line)
	}
	if state.IsPinned() {
		lines = append(lines, fmt.Sprintf("Pinned to release %d since %s", state.Pin, clock(state.Pinned)))
	}
	return lines
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func servicesOf(x *Stack) []Service {
	out := make([]Service, 0, len(x.Result.Services))
	for _, st := range x.Result.Services {
		seen := x.Glance.Tasks[st.Name]
		st.Reason, st.Image = safe(st.Reason), safe(st.Image)
		s := Service{ServiceStatus: st, TasksAt: seen.At}
		s.TaskCount, s.Tasks = countTasks(&st, seen.Tasks)
		if more := len(s.Tasks) - maxTasks; more > 0 {
			s.Tasks, s.Omitted = s.Tasks[:maxTasks], more
		}
		if s.Tasks == nil {
			s.Tasks = []Task{}
		}
		out = append(out, s)
	}
	return out
}

func differenceOf(x *Stack) *Difference {
	v := x.Result.Plan.View()
	d := &Difference{Changes: v.Changes, Held: append([]reconcile.ChangeView{}, v.Held...)}
	_, d.Summary, _ = strings.Cut(v.Summary.String(), ": ")
	return d
}

func historyOf(releases []reconcile.ReleaseGlance, changed map[int]Change) []Entry {
	out := make([]Entry, 0, len(releases))
	for i := range releases {
		r := &releases[i]
		e := Entry{HistoryEntry: r.HistoryEntry, Converged: r.Converged, Changes: []reconcile.ChangeView{}}
		e.Message, e.Revision, e.Subject = safe(e.Message), safe(e.Revision), safe(e.Subject)
		if r.BackTo >= 0 {
			e.BackTo = new(r.BackTo)
		}
		if c, ok := changed[r.Number]; ok {
			e.Known, e.Against, e.Changes = true, c.Against, append(e.Changes, c.Plan.Changes...)
		}
		out = append(out, e)
	}
	return out
}

// plain are findings that can be shown, the worst first.
func plain(findings []spec.Finding) []spec.Finding {
	out := append([]spec.Finding{}, findings...)
	for i := range out {
		out[i].Message = safe(out[i].Message)
	}
	rank := map[spec.Severity]int{spec.Error: 0, spec.Warning: 1, spec.Info: 2}
	slices.SortStableFunc(out, func(a, b spec.Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
	return out
}

// safe is a sentence as it may be shown: what looks like a secret is masked in it.
func safe(s string) string { return reconcile.Printable(reconcile.MaskText(s)) }

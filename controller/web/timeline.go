package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skep-io/skep/reconcile"
)

// A Timeline is the newest rollout as a picture: what became of each place's tasks, and
// what was decided when. It tells what Swarm still knows: of a place it keeps a few
// tasks, and a task's own clock is its node's.
type Timeline struct {
	Release int       `json:"release"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Live    bool      `json:"live"` // it goes on
	// Before, New and Back are the versions that ran before, that were rolled out, and
	// that were gone back to: images, or releases where the images are the same.
	Before  string  `json:"before,omitempty"`
	New     string  `json:"new"`
	Back    string  `json:"back,omitempty"`
	Rows    []Row   `json:"rows"`
	Omitted int     `json:"omitted,omitempty"` // rows that are left out
	Marks   []Mark  `json:"marks"`
	Events  []Event `json:"events"`           // the same in words, oldest first
	Bake    *Span   `json:"bake,omitempty"`   // while it was watched
	Missed  int     `json:"untold,omitempty"` // events that are left out
	Limit   *Mark   `json:"limit,omitempty"`  // until when it has to have come to its end
	Ticks   []Mark  `json:"-"`                // of the axis
	Title   string  `json:"title"`            // the picture in a sentence
}

// A Row is a place: a replica, or the node of a global service.
type Row struct {
	Service string `json:"service"`
	Place   string `json:"place"`
	Bars    []Bar  `json:"bars"`
}

// A Bar is a task, from its creation to its end or until now.
type Bar struct {
	Span
	// Version is "before", "new" or "back"; End "running", "failed", "stopped",
	// "starting" or "done".
	Version string `json:"version"`
	End     string `json:"end"`
	// Runs is since when it runs, where it still does. Up is where that is, in percent; X
	// where it is not known.
	Runs  time.Time `json:"runs,omitzero"`
	Up    float64   `json:"-"`
	Node  string    `json:"node,omitempty"`
	Image string    `json:"image,omitempty"`
	Error string    `json:"error,omitempty"`
}

// A Span is from one moment to another. X and Width are where that is, in percent.
type Span struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	X     float64   `json:"-"`
	Width float64   `json:"-"`
}

// A Mark is a moment of the rollout. Kind is "began", "baking", "healthy", "failed",
// "superseded", "back" or "limit".
type Mark struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Text string    `json:"text"`
	Word string    `json:"-"` // Text in a few words
	X    float64   `json:"-"`
	Left bool      `json:"-"` // its label stands left of it
	Odd  bool      `json:"-"` // it may be left out where there is little room
}

// An Event is something that happened, in a sentence.
type Event struct {
	At   time.Time `json:"at"`
	Bad  bool      `json:"bad,omitempty"`
	Text string    `json:"text"`
}

// Bounds of a picture.
const (
	maxRows   = 40
	maxEvents = 200
	minSpan   = 10 * time.Second
)

// NewTimeline draws the newest release; nil where nothing is known to draw.
func NewTimeline(g *reconcile.Glance, now time.Time) *Timeline {
	if len(g.Releases) == 0 || len(g.Releases[0].Changed) == 0 {
		return nil
	}
	d := &drawing{rel: &g.Releases[0], now: now}
	for _, name := range slices.Sorted(maps.Keys(g.Tasks)) {
		d.service(name, g.Tasks[name].Tasks)
	}
	if len(d.rows) == 0 {
		return nil
	}
	return d.picture(g.Releases)
}

// A drawing is a timeline in the making.
type drawing struct {
	rel    *reconcile.ReleaseGlance
	now    time.Time
	rows   []Row
	events []Event
	last   time.Time // something happened
	images map[string]map[string]bool
}

// live says that the rollout, or going back from it, goes on.
func (d *drawing) live() bool {
	return d.rel.Phase == reconcile.PhaseProgressing || !d.rel.BackAt.IsZero() && !d.rel.Back
}

// service adds the tasks of a service that the release wrote, by place.
func (d *drawing) service(name string, tasks []reconcile.TaskView) {
	if !slices.Contains(d.rel.Changed, name) {
		return
	}
	type place struct {
		slot int
		node string
	}
	at := map[place]int{}
	var rows []Row
	var slots []place
	for i := range tasks {
		t := &tasks[i]
		if !t.Wanted && !t.Up && t.Since.Before(d.rel.Started) {
			continue // it was over before
		}
		p := place{slot: t.Slot}
		if t.Slot == 0 {
			p.node = t.Node
		}
		j, ok := at[p]
		if !ok {
			j = len(rows)
			at[p] = j
			slots = append(slots, p)
			rows = append(rows, Row{Service: name, Place: placeName(t)})
		}
		rows[j].Bars = append(rows[j].Bars, d.bar(name, t))
	}
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(slots[a].slot, slots[b].slot), strings.Compare(slots[a].node, slots[b].node))
	})
	for _, i := range order {
		d.rows = append(d.rows, rows[i])
	}
}

func placeName(t *reconcile.TaskView) string {
	if t.Slot > 0 {
		return fmt.Sprintf("%d", t.Slot)
	}
	return cmp.Or(t.Node, "no node yet")
}

func (d *drawing) bar(service string, t *reconcile.TaskView) Bar {
	b := Bar{Span: Span{From: t.Created, To: d.now}, Version: d.version(t.Created), Node: t.Node, Image: t.Image, Error: t.Error}
	who := service + "." + placeName(t)
	if t.Node != "" && t.Slot > 0 {
		who += " on " + t.Node
	}
	switch {
	case t.Up && t.Wanted:
		b.End, b.Runs = "running", t.Since
	case t.Up:
		b.End, b.To = "done", t.Since
	case t.Failed():
		b.End, b.To = "failed", t.Since
	case t.Wanted:
		b.End = "starting"
	default:
		b.End, b.To = "stopped", t.Since
	}
	if b.Version != "before" {
		d.tell(t.Created, false, "%s: a task of %s is made", who, cmp.Or(t.Image, "the "+b.Version+" version"))
	}
	switch {
	case b.End == "running" && b.Version != "before":
		d.tell(t.Since, false, "%s runs", who)
	case b.End == "done":
		d.tell(t.Since, false, "%s is done", who)
	case b.End == "failed":
		d.tell(t.Since, true, "%s failed: %s", who, cmp.Or(t.Error, "it does not say why"))
	case b.End == "stopped":
		d.tell(t.Since, t.Error != "", "%s (%s) %s", who, t.Image, stopped(t))
	}
	if d.images == nil {
		d.images = map[string]map[string]bool{}
	}
	if d.images[b.Version] == nil {
		d.images[b.Version] = map[string]bool{}
	}
	d.images[b.Version][t.Image] = true
	return b
}

func stopped(t *reconcile.TaskView) string {
	if t.Error != "" {
		return "ended: " + t.Error
	}
	return "was stopped"
}

func (d *drawing) tell(at time.Time, bad bool, format string, args ...any) {
	if at.IsZero() {
		return
	}
	if at.After(d.last) {
		d.last = at
	}
	d.events = append(d.events, Event{at, bad, fmt.Sprintf(format, args...)})
}

// version of a task, by when it was made.
func (d *drawing) version(created time.Time) string {
	switch {
	case created.Before(d.rel.Started):
		return "before"
	case !d.rel.BackAt.IsZero() && !created.Before(d.rel.BackAt):
		return "back"
	}
	return "new"
}

// picture puts everything into its place.
func (d *drawing) picture(releases []reconcile.ReleaseGlance) *Timeline {
	rel := d.rel
	t := &Timeline{Release: rel.Number, Live: d.live(), Rows: d.rows, Before: "what ran before"}
	t.Marks = d.marks()
	for _, m := range t.Marks {
		d.tell(m.At, m.Kind == "failed", "%s", m.Text)
	}
	t.To = d.now
	if !t.Live {
		t.To = d.last
	}
	whole := max(t.To.Sub(rel.Started), minSpan)
	t.From = rel.Started.Add(-whole / 12)
	if t.To = rel.Started.Add(whole); !t.Live {
		t.To = t.To.Add(whole / 20)
	}
	t.New = d.versionName(releases, "new", rel.Number)
	t.Before = d.versionName(releases, "before", -1)
	if rel.BackTo >= 0 {
		t.Back = d.versionName(releases, "back", rel.BackTo)
	}
	t.scale()
	if t.Live && !rel.Until.IsZero() && rel.Phase == reconcile.PhaseProgressing {
		word := "It has to have converged by "
		if !rel.Converged.IsZero() {
			word = "It is healthy at "
		}
		t.Limit = &Mark{At: rel.Until, Kind: "limit", Text: word + hour(rel.Until)}
	}
	if !rel.Converged.IsZero() {
		end := rel.Ended
		if end.IsZero() {
			end = t.To
		}
		t.Bake = t.span(rel.Converged, end)
	}
	slices.SortStableFunc(d.events, func(a, b Event) int { return a.At.Compare(b.At) })
	t.Events = append([]Event{}, d.events[:min(len(d.events), maxEvents)]...)
	t.Missed = len(d.events) - len(t.Events)
	if more := len(t.Rows) - maxRows; more > 0 {
		t.Rows, t.Omitted = t.Rows[:maxRows], more
	}
	t.Title = d.title(t)
	return t
}

func hour(t time.Time) string { return t.UTC().Format("15:04:05") + " UTC" }

// versionName tells a version by its image, where that alone tells it from the others.
func (d *drawing) versionName(releases []reconcile.ReleaseGlance, version string, number int) string {
	if len(d.images[version]) == 1 {
		for image := range d.images[version] {
			others := 0
			for v, images := range d.images {
				if v != version && !(v != "new" && version != "new") && images[image] {
					others++
				}
			}
			if others == 0 && image != "" {
				return image
			}
		}
	}
	for _, r := range releases {
		if r.Number == number {
			return fmt.Sprintf("release %d (%s)", number, safe(r.Revision))
		}
	}
	if version == "before" {
		return "what ran before"
	}
	return fmt.Sprintf("release %d", number)
}

func (d *drawing) marks() []Mark {
	rel := d.rel
	name := fmt.Sprintf("release %d", rel.Number)
	var marks []Mark
	add := func(at time.Time, kind, text, more string) {
		if !at.IsZero() {
			marks = append(marks, Mark{At: at, Kind: kind, Word: text, Text: safe(text + more)})
		}
	}
	add(rel.Started, "began", name+" begins", "")
	add(rel.Converged, "baking", name+" has converged", ", and bakes")
	switch rel.Phase {
	case reconcile.PhaseHealthy:
		add(rel.Ended, "healthy", name+" is healthy", "")
	case reconcile.PhaseFailed:
		add(rel.Ended, "failed", name+" failed", ": "+rel.Message)
		if rel.BackTo >= 0 {
			add(rel.BackAt, "back", fmt.Sprintf("going back to release %d", rel.BackTo), "")
		}
	case reconcile.PhaseSuperseded:
		add(rel.Ended, "superseded", name+" is superseded", "")
	}
	return marks
}

// title is the picture in a sentence.
func (d *drawing) title(t *Timeline) string {
	rel := d.rel
	switch {
	case rel.Phase == reconcile.PhaseProgressing && !rel.Converged.IsZero():
		return fmt.Sprintf("Release %d has converged and bakes.", rel.Number)
	case rel.Phase == reconcile.PhaseProgressing:
		return fmt.Sprintf("Release %d is being rolled out.", rel.Number)
	case rel.Phase == reconcile.PhaseFailed && t.Live:
		return fmt.Sprintf("Release %d failed, and the stack goes back to release %d.", rel.Number, rel.BackTo)
	case rel.Phase == reconcile.PhaseFailed && rel.BackTo >= 0:
		return fmt.Sprintf("Release %d failed, and the stack went back to release %d.", rel.Number, rel.BackTo)
	case rel.Phase == reconcile.PhaseFailed:
		return fmt.Sprintf("Release %d failed, and was left as it is.", rel.Number)
	case rel.Phase == reconcile.PhaseSuperseded:
		return fmt.Sprintf("Release %d was superseded before it was healthy.", rel.Number)
	}
	return fmt.Sprintf("Release %d was rolled out, and is healthy.", rel.Number)
}

// x is where a moment is, in percent of the width, within the picture.
func (t *Timeline) x(at time.Time) float64 {
	part := float64(at.Sub(t.From)) / float64(t.To.Sub(t.From))
	return float64(int(min(max(part, 0), 1)*1e5+0.5)) / 1e3
}

func (t *Timeline) span(from, to time.Time) *Span {
	x := t.x(from)
	return &Span{From: from, To: to, X: x, Width: max(0.4, float64(int((t.x(to)-x)*1e3+0.5))/1e3)}
}

// scale works out where everything is.
func (t *Timeline) scale() {
	for i := range t.Rows {
		for j := range t.Rows[i].Bars {
			b := &t.Rows[i].Bars[j]
			end := b.To
			if b.End == "running" || b.End == "starting" {
				end = t.To
			}
			b.Span = *t.span(b.From, end)
			switch {
			case b.End == "starting":
				b.Up = b.X + b.Width
			case b.Runs.IsZero() || b.Version == "before":
				b.Up = b.X
			default:
				b.Up = min(max(b.X, t.x(b.Runs)), b.X+b.Width)
			}
		}
	}
	for i := range t.Marks {
		m := &t.Marks[i]
		m.X = t.x(m.At)
		m.Left = m.X > 60
	}
	t.ticks()
}

// ticks are round moments of the axis, four to eight of them.
func (t *Timeline) ticks() {
	whole := t.To.Sub(t.From)
	for _, step := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
		10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		if whole/step > 6 && step < 7*24*time.Hour {
			continue
		}
		for at := t.From.UTC().Truncate(step).Add(step); at.Before(t.To) && len(t.Ticks) < 8; at = at.Add(step) {
			layout := "15:04"
			if step < time.Minute {
				layout = "15:04:05"
			}
			t.Ticks = append(t.Ticks, Mark{At: at, Text: at.Format(layout), X: t.x(at), Left: t.x(at) > 85, Odd: len(t.Ticks)%2 == 1})
		}
		return
	}
}

package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// A taskLister is the part of an engine that a picture of a stack is drawn from.
type taskLister interface {
	ServiceList(ctx context.Context, options swarm.ServiceListOptions) ([]swarm.Service, error)
	TaskList(ctx context.Context, options swarm.TaskListOptions) ([]swarm.Task, error)
}

const labelNamespace = "com.docker.stack.namespace" // Docker's own

// taskCounts are how many tasks of a service are in which of these states. Of tasks
// that ended only the newest of its slot counts, and only where none has taken its place.
type taskCounts struct {
	Running  int `json:"running"`
	Starting int `json:"starting,omitempty"` // taken by a node, not running yet
	Pending  int `json:"pending,omitempty"`  // no node has taken it
	Failed   int `json:"failed,omitempty"`
	Done     int `json:"done,omitempty"` // of a job
}

// countTasks counts the tasks of a stack's services, by the services' names.
func countTasks(ctx context.Context, engine taskLister, stack string) (map[string]taskCounts, error) {
	services, err := engine.ServiceList(ctx, swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("label", labelNamespace+"="+stack))})
	if err != nil || len(services) == 0 {
		return nil, err
	}
	names, wanted := map[string]string{}, filters.NewArgs()
	for i := range services {
		names[services[i].ID] = services[i].Spec.Name
		wanted.Add("service", services[i].ID)
	}
	tasks, err := engine.TaskList(ctx, swarm.TaskListOptions{Filters: wanted})
	if err != nil {
		return nil, err
	}
	counts := map[string]taskCounts{}
	for _, t := range newestTasks(tasks) {
		c := counts[names[t.ServiceID]]
		c.add(t)
		counts[names[t.ServiceID]] = c
	}
	return counts, nil
}

// newestTasks are those that shall run, and of each slot where none shall the one that
// came last.
func newestTasks(tasks []swarm.Task) []*swarm.Task {
	last, lives := map[string]*swarm.Task{}, map[string]bool{}
	var kept []*swarm.Task
	for i := range tasks {
		t := &tasks[i]
		slot := t.ServiceID + "/" + slotOf(t)
		if t.DesiredState <= swarm.TaskStateRunning && !ended(t) {
			lives[slot] = true
			kept = append(kept, t)
		}
		if old := last[slot]; old == nil || t.CreatedAt.After(old.CreatedAt) {
			last[slot] = t
		}
	}
	for slot, t := range last {
		if !lives[slot] {
			kept = append(kept, t)
		}
	}
	return kept
}

// slotOf is a task's number or, of a global service, its node.
func slotOf(t *swarm.Task) string {
	if t.Slot > 0 {
		return strconv.Itoa(t.Slot)
	}
	return t.NodeID
}

func ended(t *swarm.Task) bool {
	switch t.Status.State {
	case swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return true
	}
	return false
}

func (c *taskCounts) add(t *swarm.Task) {
	switch t.Status.State {
	case swarm.TaskStateRunning:
		c.Running++
	case swarm.TaskStateNew, swarm.TaskStatePending, swarm.TaskStateAllocated:
		c.Pending++
	case swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateOrphaned:
		c.Failed++
	case swarm.TaskStateComplete:
		c.Done++
	case swarm.TaskStateShutdown, swarm.TaskStateRemove: // told to go
	default:
		c.Starting++
	}
}

// A taskState is how tasks of a state are drawn.
type taskState struct {
	sign, word, colour string
	n                  int
}

func (c taskCounts) states() []taskState {
	return []taskState{
		{"■", "running", green, c.Running}, {"◧", "starting", yellow, c.Starting}, {"□", "pending", yellow, c.Pending},
		{"✗", "failed", red, c.Failed}, {"✓", "done", green, c.Done},
	}
}

// drawnTasks is how many signs a service gets; more tasks are told by number alone.
const drawnTasks = 20

// draw is a sign for each task, with colours where that is wanted.
func (c taskCounts) draw(colour bool) (text string, width int) {
	var b strings.Builder
	room := drawnTasks
	for _, s := range c.states() {
		n := min(s.n, room)
		room -= n
		width += n
		if n > 0 {
			b.WriteString(paint(colour, s.colour, strings.Repeat(s.sign, n)))
		}
		if n < s.n {
			return b.String() + "…", width + 1
		}
	}
	return b.String(), width
}

// String is "2 running, 1 starting".
func (c taskCounts) String() string {
	var words []string
	for _, s := range c.states() {
		if s.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", s.n, s.word))
		}
	}
	return orElse(strings.Join(words, ", "), "no tasks")
}

// of are the counts of a service: those of its tasks, or what its status tells.
func of(counts map[string]taskCounts, s reconcile.ServiceStatus) taskCounts {
	if c, ok := counts[s.Name]; ok {
		return c
	}
	return taskCounts{Running: int(s.Running)}
}

// healthColour is the colour of a service's health.
var healthColour = map[reconcile.HealthStatus]string{
	reconcile.Healthy: green, reconcile.HealthProgressing: yellow, reconcile.HealthDegraded: red, reconcile.Missing: red,
}

// A picture is a table whose cells may have colours.
type picture struct {
	rows [][]cell
}

type cell struct {
	text  string // without colours: what is measured
	paint string // with
}

func plain(s string) cell { s = printable(s); return cell{s, s} }

// print aligns the cells, with three blanks between them, each row after a margin.
func (p *picture) print(w io.Writer, margin string) {
	var widths []int
	for _, row := range p.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(c.text)))
		}
	}
	for _, row := range p.rows {
		line := margin
		for i, c := range row {
			line += c.paint
			if i < len(row)-1 {
				line += strings.Repeat(" ", widths[i]-len([]rune(c.text))+3)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// drawServices draws services in the order in which a rollout comes to them, wave by
// wave: a sign for each task, how many are in which state, how the service is and for
// long, and below it what is the matter, unless that was said.
func (a *app) drawServices(services []reconcile.ServiceStatus, counts map[string]taskCounts, now time.Time, whole bool, said string) {
	ordered := slices.Clone(services)
	slices.SortStableFunc(ordered, func(x, y reconcile.ServiceStatus) int {
		return cmp.Or(cmp.Compare(x.Wave, y.Wave), strings.Compare(serviceName(x), serviceName(y)))
	})
	colour := a.colour(a.out)
	var p picture
	for i, s := range ordered {
		head := ""
		if i == 0 || ordered[i-1].Wave != s.Wave {
			head = fmt.Sprintf("wave %d", s.Wave+1)
		}
		c := of(counts, s)
		text, width := c.draw(colour)
		health := healthWord(s)
		if s.Health != reconcile.Healthy {
			health += times(now, s.Since, s.Until)
		}
		p.rows = append(p.rows, []cell{
			plain(head), plain(serviceName(s)), {strings.Repeat(" ", width), text},
			plain(fmt.Sprintf("%d/%d", s.Running, s.Desired)), plain(c.String()),
			{health, paint(colour, healthColour[s.Health], health)},
			plain(orElse(s.Mode, "-")), plain(dash(shortImage(s.Image, whole))),
		})
	}
	p.print(a.out, "")
	var matter sentences
	for _, s := range ordered {
		if s.Health != reconcile.Healthy && !strings.Contains(said, s.Reason) {
			matter.add(serviceName(s), s.Reason)
		}
	}
	matter.print(a.out)
}

// shortImage is an image without the digest that it is pinned to, unless the whole of it
// is wanted, or nothing else names it.
func shortImage(image string, whole bool) string {
	name, _, pinned := strings.Cut(image, "@")
	if whole || !pinned || name == "" {
		return image
	}
	return name
}

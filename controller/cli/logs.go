package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"
	"unicode"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/spf13/cobra"

	"github.com/skep-io/skep/reconcile"
)

func (a *app) logs() *cobra.Command {
	var (
		engine engineFlags
		format formatFlag
		owner  string
		l      logging
	)
	cmd := &cobra.Command{
		Use:     "logs STACK [SERVICE...]",
		Short:   "Show what the services of a stack print that are not healthy",
		GroupID: groupEngine,
		Long: `Show what the tasks of a stack print, by time, each line behind its service, task
and node: of the services that are not healthy, or for which the newest release
failed; of those that are named; or with --all of all. Of each service the last lines
are shown, of tasks that ended too, as long as their nodes keep them.

Lines are shown as the applications print them: nothing is masked, and what they
should not have told is told here too. On a terminal alone, what would steer it is
left out, but for colours.

It is the one verb that asks an engine for logs, and does so with the rights of who
calls it; a daemon never does.`,
		Example: `  skep logs shop
  skep logs shop web --tail 100
  skep logs shop --all --since 10m
  skep logs shop --format '{{.Time}} {{.Task}} {{.Line}}'
  skep logs shop --follow`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			if l.tail < 0 {
				return usagef("--tail %d: must be the number of lines to show of each service", l.tail)
			}
			swarm, err := engine.connect()
			if err != nil {
				return err
			}
			defer swarm.Close()
			l.engine, l.app, l.template, l.text = swarm, a, t, format.value == "text"
			services, err := l.choose(cmd.Context(), reconcile.New(reconcile.Options{Swarm: swarm, Owner: owner}), args[0], args[1:])
			if err != nil {
				return answer(err, engine.explain)
			}
			if len(services) == 0 {
				fmt.Fprintf(a.err, "all services of stack %s are healthy (--all shows their logs too)\n", args[0])
				return nil
			}
			return engine.explain(l.show(cmd.Context(), services))
		},
	}
	engine.install(cmd)
	a.completeStacks(cmd, &engine, &owner, servicesOf)
	format.install(cmd, "text", "json")
	installNoTrunc(cmd, &l.whole)
	installOwner(cmd, &owner)
	f := cmd.Flags()
	f.BoolVarP(&l.all, "all", "a", false, "Show all services, healthy or not")
	f.BoolVarP(&l.follow, "follow", "f", false, "Go on with what comes, until interrupted")
	f.IntVarP(&l.tail, "tail", "n", 50, "How many of a service's last lines to show; 0: all")
	f.StringVar(&l.since, "since", "", "Show what was printed since then, such as 10m or 2026-01-02T15:04:05Z")
	return cmd
}

// servicesOf are the names of a stack's services, as its file has them.
func servicesOf(ctx context.Context, r *reconcile.Reconciler, stack string) []string {
	if _, err := r.Refresh(ctx); err != nil {
		return nil
	}
	res, err := r.Status(ctx, stack)
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(res.Services))
	for _, s := range res.Services {
		names = append(names, serviceName(s))
	}
	return names
}

// A logEngine is the part of an engine that logs are read from.
type logEngine interface {
	taskLister
	NodeList(ctx context.Context, options swarm.NodeListOptions) ([]swarm.Node, error)
	ServiceLogs(ctx context.Context, serviceID string, options container.LogsOptions) (io.ReadCloser, error)
}

// A logging is one call of logs.
type logging struct {
	app      *app
	engine   logEngine
	template *template.Template
	text     bool

	all, follow, whole bool
	tail               int
	since              string
}

// A logLine is a line that a task printed, and what --format gets.
type logLine struct {
	Time    time.Time `json:"time,omitzero"`
	Stack   string    `json:"stack"`
	Service string    `json:"service"`
	Task    string    `json:"task"` // web.2
	TaskID  string    `json:"task_id,omitempty"`
	Node    string    `json:"node,omitempty"`
	Stream  string    `json:"stream"` // stdout or stderr
	Line    string    `json:"line"`
}

// choose are the services to show: those that are named, or all, or all that are not
// healthy or were the reason why the newest release failed.
func (l *logging) choose(ctx context.Context, r observer, stack string, named []string) ([]loggedService, error) {
	if _, err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	res, err := r.Status(ctx, stack)
	if err != nil {
		return nil, err
	}
	if len(res.Services) == 0 {
		w := watch{stack: stack, names: r.Stacks()}
		if slices.Contains(w.names, stack) {
			return nil, verdict{fmt.Sprintf("stack %s has no services that live (`skep status %s` says why)", stack, stack)}
		}
		return nil, verdict{w.unknown()}
	}
	wanted := map[string]bool{}
	var keys []string
	for _, s := range res.Services {
		keys = append(keys, serviceName(s))
		wanted[s.Name] = l.all || s.Health != reconcile.Healthy || brokeRelease(res.Release, s)
	}
	if len(named) > 0 {
		wanted = map[string]bool{}
	}
	for _, name := range named {
		i := slices.IndexFunc(res.Services, func(s reconcile.ServiceStatus) bool { return s.Key == name || s.Name == name })
		if i < 0 {
			return nil, verdict{fmt.Sprintf("stack %s has no service %q (%s)", stack, name, orElse(meant(name, keys), "it has: "+strings.Join(keys, ", ")))}
		}
		wanted[res.Services[i].Name] = true
	}
	return l.find(ctx, stack, res.Services, wanted)
}

// brokeRelease says that the newest release failed for a service: it may be healthy by
// now, as it was before, and what it printed then is what one looks for.
func brokeRelease(r *reconcile.Release, s reconcile.ServiceStatus) bool {
	return r != nil && r.Phase == reconcile.PhaseFailed && (slices.Contains(r.Failed, s.Name) || slices.Contains(r.Failed, s.Key))
}

// A loggedService is one whose lines are shown.
type loggedService struct {
	id, stack, key string
	tty            bool
	tasks          map[string]swarm.Task
	nodes          map[string]string // names by ID
}

// find looks up what names in the engine's words stand for.
func (l *logging) find(ctx context.Context, stack string, status []reconcile.ServiceStatus, wanted map[string]bool) ([]loggedService, error) {
	live, err := l.engine.ServiceList(ctx, swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("label", labelNamespace+"="+stack))})
	if err != nil {
		return nil, err
	}
	var services []loggedService
	ids := filters.NewArgs()
	for _, s := range status {
		i := slices.IndexFunc(live, func(v swarm.Service) bool { return v.Spec.Name == s.Name })
		if i < 0 || !wanted[s.Name] {
			continue
		}
		c := live[i].Spec.TaskTemplate.ContainerSpec
		services = append(services, loggedService{id: live[i].ID, stack: stack, key: serviceName(s), tty: c != nil && c.TTY})
		ids.Add("service", live[i].ID)
	}
	if len(services) == 0 {
		return nil, nil
	}
	tasks, err := l.engine.TaskList(ctx, swarm.TaskListOptions{Filters: ids})
	if err != nil {
		return nil, err
	}
	list, err := l.engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil, err
	}
	byID, nodes := map[string]swarm.Task{}, map[string]string{}
	for _, t := range tasks {
		byID[t.ID] = t
	}
	for _, n := range list {
		nodes[n.ID] = cmp.Or(n.Description.Hostname, n.ID)
	}
	for i := range services {
		services[i].tasks, services[i].nodes = byID, nodes
	}
	return services, nil
}

// show prints the lines of services: sorted by time, or as they come where they are
// followed. What could not be read is told when all else is.
func (l *logging) show(ctx context.Context, services []loggedService) error {
	var (
		mu    sync.Mutex
		lines []logLine
		errs  []error
		all   sync.WaitGroup
	)
	for i := range services {
		all.Go(func() {
			s := &services[i]
			var own []logLine
			err := l.read(ctx, s, func(line logLine) error {
				if !l.follow {
					own = append(own, line)
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				return l.print(line)
			})
			mu.Lock()
			defer mu.Unlock()
			if n := len(own); l.tail > 0 && n > l.tail { // an engine counts them by task
				slices.SortStableFunc(own, byTime)
				own = own[n-l.tail:]
			}
			lines = append(lines, own...)
			if err != nil && ctx.Err() == nil {
				errs = append(errs, unread(s.key, err))
			}
		})
	}
	all.Wait()
	slices.SortStableFunc(lines, byTime)
	for _, line := range lines {
		if err := l.print(line); err != nil {
			return err
		}
	}
	if len(lines) == 0 && !l.follow && len(errs) == 0 {
		fmt.Fprintln(l.app.err, "nothing was printed"+sinceWords(l.since)+" that its nodes still have")
	}
	return errors.Join(errs...)
}

// unread says whose logs could not be read, or not all of them.
func unread(service string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("logs of service %s: a node has not sent its part in time (is one down? `docker node ls` says so; --since asks for less)", service)
	}
	return fmt.Errorf("logs of service %s: %w", service, err)
}

func byTime(a, b logLine) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Task, b.Task)) }

func sinceWords(since string) string {
	if since == "" {
		return ""
	}
	return " since " + since
}

// read gives the lines of a service as they come.
func (l *logging) read(ctx context.Context, s *loggedService, see func(logLine) error) error {
	tail := "all"
	if l.tail > 0 {
		tail = fmt.Sprint(l.tail)
	}
	stream, err := l.engine.ServiceLogs(ctx, s.id, container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Timestamps: true, Details: true,
		Follow: l.follow, Tail: tail, Since: l.since,
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	take := func(which string, text string) error { return see(s.line(which, text)) }
	if s.tty {
		return eachLine(stream, func(text string) error { return take("stdout", text) })
	}
	return eachFrame(stream, take)
}

// maxFrame is how long a frame may be; an engine's are of 16 KB and a little.
const maxFrame = 4 << 20

var streamNames = []string{"stdin", "stdout", "stderr"}

// eachFrame takes a stream apart that an engine made of several: each frame has the
// number of its stream, three empty bytes, its length in four, and then one line. The
// stream behind the last is the engine's own word that something went wrong.
// (https://docs.docker.com/reference/api/engine/, "Attach to a container".)
func eachFrame(r io.Reader, see func(stream, text string) error) error {
	in := bufio.NewReader(r)
	var head [8]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return atEnd(err)
		}
		n := binary.BigEndian.Uint32(head[4:])
		if n > maxFrame || int(head[0]) > len(streamNames) {
			return errors.New("the engine's answer is no stream of logs")
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(in, text); err != nil {
			return atEnd(err)
		}
		if int(head[0]) == len(streamNames) {
			return errors.New(strings.TrimSpace(printable(string(text))))
		}
		if err := see(streamNames[head[0]], strings.TrimRight(string(text), "\r\n")); err != nil {
			return err
		}
	}
}

func eachLine(r io.Reader, see func(string) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxFrame)
	for in.Scan() {
		if err := see(strings.TrimRight(in.Text(), "\r")); err != nil {
			return err
		}
	}
	return in.Err()
}

// atEnd is nil for the end of a stream.
func atEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// line takes apart what an engine puts before a line: its time, and which task on which
// node printed it.
func (s *loggedService) line(stream, text string) logLine {
	line := logLine{Stack: s.stack, Service: s.key, Task: s.key, Stream: stream}
	when, rest, _ := strings.Cut(text, " ")
	if t, err := time.Parse(time.RFC3339Nano, when); err == nil {
		line.Time, text = t, rest
	}
	details, rest, _ := strings.Cut(text, " ")
	if strings.Contains(details, labelTaskID+"=") {
		text = rest
		for _, pair := range strings.Split(details, ",") {
			switch key, value, _ := strings.Cut(pair, "="); key {
			case labelTaskID:
				line.TaskID = value
			case labelNodeID:
				line.Node = cmp.Or(s.nodes[value], value)
			}
		}
	}
	if t, ok := s.tasks[line.TaskID]; ok && t.Slot > 0 {
		line.Task = fmt.Sprintf("%s.%d", s.key, t.Slot)
	}
	line.Line = text
	return line
}

// What an engine says of a line with details.
const (
	labelTaskID = "com.docker.swarm.task.id"
	labelNodeID = "com.docker.swarm.node.id"
)

// who is "web.2@node1", with the task's ID where nothing is shortened.
func (l *logging) who(line logLine) string {
	who := line.Task
	if l.whole && line.TaskID != "" {
		who += "." + line.TaskID
	}
	if line.Node != "" {
		who += "@" + line.Node
	}
	return printable(who)
}

// print prints a line.
func (l *logging) print(line logLine) error {
	if !l.text {
		return printEach(l.app.out, l.template, []logLine{line})
	}
	who, text := l.who(line), line.Line
	if isTerminal(l.app.out) {
		text = harmless(text)
	}
	colour := ""
	if line.Stream == "stderr" {
		colour = yellow
	}
	_, err := fmt.Fprintf(l.app.out, "%s | %s\n", paint(l.app.colour(l.app.out) && colour != "", colour, who), text)
	return err
}

// steering is what a terminal takes for a command; colouring is the harmless part of it.
var (
	steering  = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|.)?")
	colouring = regexp.MustCompile("^\x1b\\[[0-9;]*m$")
)

// harmless is text that can have colours, and cannot steer a terminal otherwise.
func harmless(text string) string {
	text = steering.ReplaceAllStringFunc(text, func(s string) string {
		if colouring.MatchString(s) {
			return s
		}
		return ""
	})
	coloured := strings.Contains(text, "\x1b")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' && r != '\x1b' {
			return -1
		}
		return r
	}, text)
	if coloured {
		text += "\x1b[0m" // what follows is ours
	}
	return text
}

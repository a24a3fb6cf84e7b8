package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// How a check came out.
const (
	checkGood    = "ok"
	checkWarning = "warning" // works, and is worth knowing
	checkBad     = "error"
	checkUnknown = "unknown" // it could not be looked at
	checkSkipped = "skipped" // nobody asked for it, or what it needs is not there
)

// A check is one thing that doctor looked at, as a line and as --format gets it.
type check struct {
	Check   string `json:"check"`
	Status  string `json:"status"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"` // what to do
}

func (a *app) doctor() *cobra.Command {
	var (
		engine engineFlags
		format formatFlag
		quiet  bool
		d      = doctoring{app: a, engine: &engine}
	)
	cmd := &cobra.Command{
		Use:     "doctor [--specs DIR]",
		Short:   "Find what keeps skep from working, and say what to do",
		GroupID: groupEngine,
		Long: `Find what keeps skep from working, and say what to do about it: whether the engine
answers, will do and lets skep ask, whether it is a manager, its clock, who acts and
what that one tells; with --specs whether the directory can be read and registries
give out its images, with --policy whether that can be read. It writes nothing.

Exit code 1 says that something is wrong, 2 that something could not be looked at.
Warnings are neither.`,
		Example: `  skep doctor
  skep doctor --specs stacks/
  skep doctor --format '{{.Status}} {{.Check}}: {{.Message}}'`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			_, d.dir, _ = namedDirectory(d.dir)
			if err := d.examine(cmd.Context()); err != nil {
				return err
			}
			switch {
			case quiet:
				for _, c := range d.checks {
					if c.Status == checkBad || c.Status == checkUnknown {
						fmt.Fprintln(a.out, c.Check)
					}
				}
			case format.value != "table":
				err = printEach(a.out, t, d.checks)
			default:
				a.printChecks(d.checks)
			}
			if err != nil {
				return err
			}
			return diagnosis(d.checks)
		},
	}
	engine.install(cmd)
	d.specs.install(cmd)
	format.install(cmd, "table", "json")
	installSpecs(cmd, &d.dir)
	installOwner(cmd, &d.owner)
	f := cmd.Flags()
	f.StringVar(&d.policy, "policy", "", "File that says what stacks may ask for")
	f.StringVar(&d.registryConfig, "registry-config", "", "Docker config file, or its directory, with the credentials of registries (default: DOCKER_CONFIG, else ~/.docker)")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print what is wrong only, by name")
	_ = cmd.MarkFlagFilename("policy", "yml", "yaml")
	return cmd
}

// diagnosis is the answer of all checks together: what is wrong weighs more than what
// could not be looked at.
func diagnosis(checks []check) error {
	has := func(status string) bool {
		return slices.ContainsFunc(checks, func(c check) bool { return c.Status == status })
	}
	switch {
	case has(checkBad):
		return no
	case has(checkUnknown):
		return errors.New("not all could be looked at")
	}
	return nil
}

var checkColour = map[string]string{checkGood: green, checkWarning: yellow, checkBad: red, checkUnknown: yellow}

// printChecks prints a line for each check, and below it what to do.
func (a *app) printChecks(checks []check) {
	colour := a.colour(a.out)
	for _, c := range checks {
		status := fmt.Sprintf("%-9s", c.Status)
		if word := checkColour[c.Status]; word != "" {
			status = paint(colour, word, status)
		}
		fmt.Fprintf(a.out, "%s %-11s %s\n", status, c.Check, printable(c.Message))
		if c.Remedy != "" {
			fmt.Fprintf(a.out, "%-9s %-11s → %s\n", "", "", printable(c.Remedy))
		}
	}
}

// A doctoring is one call of doctor.
type doctoring struct {
	app    *app
	engine *engineFlags
	specs  specFlags

	dir, owner, policy, registryConfig string

	clock  clockWatch
	checks []check
}

func (d *doctoring) add(name, status, message, remedy string) {
	d.checks = append(d.checks, check{name, status, message, remedy})
}

// examine makes all checks; an error is a call that skep does not understand.
func (d *doctoring) examine(ctx context.Context) error {
	o, err := d.specs.options(d.app.lookup)
	if err != nil {
		return err
	}
	c := d.checkEngine(ctx)
	if c != nil {
		defer c.Close()
		if d.checkRights(ctx, c) {
			d.checkController(ctx, c)
		} else {
			d.add("controller", checkSkipped, "who acts cannot be asked without those", "")
		}
	} else {
		for _, name := range []string{"rights", "controller"} {
			d.add(name, checkSkipped, "there is no engine to ask", "")
		}
	}
	snapshot := d.checkSpecs(ctx, o)
	d.checkImages(ctx, c, snapshot)
	d.checkPolicy()
	return nil
}

// checkEngine finds an engine that will do, and says nothing further where there is none.
func (d *doctoring) checkEngine(ctx context.Context) *client.Client {
	c, err := d.engine.client(d.clock.watch)
	if err != nil {
		message, remedy := splitRemedy(err.Error())
		d.add("engine", checkBad, message, remedy)
		return nil
	}
	named := d.engineNamedBy()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ping, err := c.Ping(ctx)
	if err != nil {
		message, remedy := splitRemedy(controller.ExplainEngine(c.DaemonHost(), err).Error())
		if errors.Is(err, fs.ErrPermission) {
			remedy = socketRemedy(socketOf(c.DaemonHost()))
		}
		d.add("engine", checkBad, fmt.Sprintf("%s (named by %s)", message, named), remedy)
		_ = c.Close()
		return nil
	}
	err = controller.CheckEngine(ctx, c)
	if errors.Is(err, controller.ErrTooOld) || ping.APIVersion == "" {
		message, remedy := splitRemedy(err.Error())
		d.add("engine", checkBad, message, remedy)
		_ = c.Close()
		return nil
	}
	d.add("engine", checkGood, fmt.Sprintf("%s answers, API %s (named by %s)", c.DaemonHost(), c.ClientVersion(), named), "")
	d.checks = append(d.checks, d.clock.judge())
	if err != nil {
		d.checks = append(d.checks, judgeSwarm(ping.SwarmStatus, err))
		_ = c.Close()
		return nil
	}
	d.checkManagers(ctx, c)
	return c
}

// engineNamedBy says which of the ways to name an engine did.
func (d *doctoring) engineNamedBy() string {
	get := func(name string) string { v, _ := d.app.lookup(name); return v }
	flag := func(name string) string {
		if d.app.byVariable[name] {
			return envName(name)
		}
		return "--" + name
	}
	switch {
	case d.engine.Host != "":
		return flag("host")
	case d.engine.Context != "":
		return flag("context") + " " + d.engine.Context
	case get(client.EnvOverrideHost) != "":
		return "DOCKER_HOST"
	case get("DOCKER_CONTEXT") != "":
		return "DOCKER_CONTEXT " + get("DOCKER_CONTEXT")
	}
	return "docker's current context"
}

// splitRemedy takes apart "what is wrong (what to do)", as errors are written here.
func splitRemedy(text string) (message, remedy string) {
	at := strings.Index(text, " (")
	if at < 0 || !strings.HasSuffix(text, ")") {
		return text, ""
	}
	return text[:at], text[at+2 : len(text)-1]
}

// socketOf is the file of an engine's socket, empty where it has none.
func socketOf(host string) string {
	file, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return ""
	}
	return file
}

// socketRemedy says how to get at a socket: by its group.
func socketRemedy(socket string) string {
	group, has := socketGroup(socket)
	switch {
	case group == "":
		return "run as root, or as a member of the group of the engine's socket, usually docker"
	case has: // by the files, and this login is older than that
		return fmt.Sprintf("you are in the group %s, but this login is not yet: log in again, or run `newgrp %s`", group, group)
	}
	return fmt.Sprintf("run as root, or join the group of %s: `sudo usermod -aG %s $USER`, then log in again (who is in it is as good as root)", socket, group)
}

// judgeSwarm says of an engine that is no manager what it is.
func judgeSwarm(status *swarm.Status, err error) check {
	c := check{Check: "swarm", Status: checkBad}
	if status == nil || status.NodeState == swarm.LocalNodeStateActive && status.ControlAvailable {
		c.Message, c.Remedy = splitRemedy(err.Error())
		if strings.Contains(err.Error(), "not a Swarm manager") {
			c.Remedy = "`docker swarm init` makes a Swarm; where there is one, name one of its managers with -H, or `docker node promote` this node there"
		}
		return c
	}
	switch status.NodeState {
	case swarm.LocalNodeStateActive:
		c.Message, c.Remedy = "this node is a worker of its Swarm", "run skep on a manager, name one with -H, or make this one a manager: `docker node promote NODE` on a manager"
	case swarm.LocalNodeStateInactive:
		c.Message, c.Remedy = "this engine is in no Swarm", "`docker swarm init` makes one; `docker swarm join` joins one"
	case swarm.LocalNodeStatePending:
		c.Message, c.Remedy = "this node is still joining its Swarm", "wait; where that does not end, its managers do not answer: see `docker info`"
	case swarm.LocalNodeStateLocked:
		c.Message, c.Remedy = "the Swarm is locked since its engine started", "on this node: `docker swarm unlock`"
	default:
		c.Message, c.Remedy = fmt.Sprintf("the Swarm of this node is in the state %q", status.NodeState), "see `docker info` and the engine's log"
	}
	return c
}

// checkManagers says how many managers answer.
func (d *doctoring) checkManagers(ctx context.Context, c *client.Client) {
	nodes, err := c.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		d.add("swarm", checkGood, "this is a manager", "")
		return // rights has it
	}
	managers, away := 0, []string{}
	for _, n := range nodes {
		if n.ManagerStatus == nil {
			continue
		}
		managers++
		if n.ManagerStatus.Reachability == swarm.ReachabilityUnreachable {
			away = append(away, n.Description.Hostname)
		}
	}
	if len(away) > 0 {
		d.add("swarm", checkWarning, fmt.Sprintf("%d of %s do not answer: %s", len(away), plural(managers, "manager"), strings.Join(away, ", ")),
			"bring them back, or `docker node demote` them: when half are away nothing can be changed")
		return
	}
	d.add("swarm", checkGood, fmt.Sprintf("this is a manager, of %s and %s", plural(max(managers, 1), "manager"), plural(len(nodes), "node")), "")
}

// checkRights asks for everything that the verbs look at, and says whether all may be
// asked.
func (d *doctoring) checkRights(ctx context.Context, c *client.Client) bool {
	few := filters.NewArgs(filters.Arg("label", "skep.kind=lease")) // what is in them is not for here
	asks := []struct {
		what string
		ask  func() error
	}{
		{"GET /services", func() error { _, err := c.ServiceList(ctx, swarm.ServiceListOptions{}); return err }},
		{"GET /tasks", func() error {
			_, err := c.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("desired-state", "running"))})
			return err
		}},
		{"GET /nodes", func() error { _, err := c.NodeList(ctx, swarm.NodeListOptions{}); return err }},
		{"GET /networks", func() error { _, err := c.NetworkList(ctx, network.ListOptions{}); return err }},
		{"GET /configs", func() error { _, err := c.ConfigList(ctx, swarm.ConfigListOptions{Filters: few}); return err }},
		{"GET /secrets", func() error { _, err := c.SecretList(ctx, swarm.SecretListOptions{}); return err }},
	}
	var refused, failed []string
	for _, x := range asks {
		switch err := x.ask(); {
		case err == nil:
		case isForbidden(err):
			refused = append(refused, x.what)
		default:
			failed = append(failed, x.what+": "+d.engine.explain(err).Error())
		}
	}
	switch {
	case len(refused) > 0:
		d.add("rights", checkBad, "what stands before the engine refuses: "+strings.Join(refused, ", "), "let it through: docs/rights.md has all that skep asks")
	case len(failed) > 0:
		d.add("rights", checkUnknown, strings.Join(failed, "; "), "")
	default:
		d.add("rights", checkGood, "all can be read that skep looks at (whether it can be written only a write would tell)", "")
	}
	return len(refused)+len(failed) == 0
}

func isForbidden(err error) bool {
	return cerrdefs.IsPermissionDenied(err) || cerrdefs.IsUnauthorized(err)
}

// checkController says who acts, and what that one tells.
func (d *doctoring) checkController(ctx context.Context, c *client.Client) {
	holder, err := controller.ReadHolder(ctx, c, d.owner)
	if err != nil {
		d.add("controller", checkUnknown, d.engine.explain(err).Error(), "")
		return
	}
	acting := judgeHolder(holder, d.owner, time.Now().Add(d.clock.skew))
	d.checks = append(d.checks, acting)
	published, err := controller.ReadPublished(ctx, c, d.owner)
	if err != nil {
		d.add("report", checkUnknown, d.engine.explain(err).Error(), "")
		return
	}
	d.checks = append(d.checks, judgeReport(published, acting.Status == checkGood, time.Now())...)
}

// judgeHolder says of a lease's holder whether it is alive, as far as one look tells.
// now is the engine's.
func judgeHolder(h controller.Holder, owner string, now time.Time) check {
	c := check{Check: "controller", Status: checkWarning}
	switch {
	case h.ID == "":
		c.Message = fmt.Sprintf("nobody acts for owner %q: what files say is not carried out", owner)
		c.Remedy = "start `skep run`, or call `skep apply`; a controller of another name is found with --owner"
	case !acts(h, now):
		c.Status = checkBad
		c.Message = fmt.Sprintf("%s has the lease, and has not been heard of for %s", h, strings.ToLower(units.HumanDuration(now.Sub(h.Renewed))))
		c.Remedy = "see its log, and start it again: who starts takes the lease within 15s"
	default:
		c.Status, c.Message = checkGood, fmt.Sprintf("%s acts for owner %q", h, owner)
	}
	return c
}

// judgeReport says what the acting controller tells, and whether it still would.
func judgeReport(p *controller.Published, acts bool, now time.Time) []check {
	c := check{Check: "report", Status: checkGood, Message: "the controller has nothing to complain of"}
	switch {
	case (p == nil || p.Empty()) && !acts:
		c.Message = "none is left of a controller"
	case p == nil || p.Empty():
	case !acts:
		c.Status, c.Message = checkWarning, "what `skep status` shows is in part of a controller that acts no more, from "+moment(now, p.At)
		c.Remedy = "start `skep run`, which will write it anew"
	case !p.Source.Ready:
		c.Status = checkBad
		c.Message = fmt.Sprintf("the controller does not believe its specs directory: %s", p.Source.Message)
		c.Remedy = "mend the directory where the controller runs; until then what was read before stays in force (docs/sources.md)"
	case p.Policy != nil:
		c.Status = checkBad
		c.Message = fmt.Sprintf("the controller cannot read its policy file: %s", p.Policy.Message)
		c.Remedy = "correct it where the controller runs; until then its last good version stays in force (docs/policy.md)"
		if p.Policy.Missing {
			c.Remedy = "correct it where the controller runs, which does nothing before it can be read (docs/policy.md)"
		}
	case len(p.Stacks)+p.Omitted > 0 || p.Prune != nil:
		var names []string
		for _, s := range p.Stacks {
			names = append(names, s.Stack)
		}
		c.Status, c.Message, c.Remedy = checkWarning, fmt.Sprintf("something is the matter with %s: %s", plural(len(names)+p.Omitted, "stack"), strings.Join(names[:min(len(names), maxOrphans)], ", ")), "`skep status` says what"
		if len(names)+p.Omitted == 0 {
			c.Message, c.Remedy = "a removal of stacks waits for a person", "`skep prune` says which"
		}
	}
	return []check{c}
}

// checkSpecs reads the specs directory, nil where there is none to look at.
func (d *doctoring) checkSpecs(ctx context.Context, o spec.Options) *spec.Snapshot {
	if d.dir == "" {
		d.add("specs", checkSkipped, "no directory was named", "--specs DIR has it looked at, as the user who calls this")
		return nil
	}
	snapshot := spec.Scan(ctx, d.dir, o)
	switch {
	case !snapshot.Complete:
		message, remedy := splitRemedy(snapshot.Err.Error())
		d.add("specs", checkBad, message, orElse(remedy, "whoever runs skep has to be able to read all of it, links in it too"))
		return nil
	case len(snapshot.Problems) > 0:
		names := slices.Sorted(maps.Keys(snapshot.Problems))
		d.add("specs", checkBad, fmt.Sprintf("%s of %d cannot be loaded: %s", plural(len(names), "stack"), len(names)+len(snapshot.Stacks), strings.Join(names, ", ")),
			"`skep validate --specs "+d.dir+"` says why")
	default:
		d.add("specs", checkGood, fmt.Sprintf("%s, at revision %s", plural(len(snapshot.Stacks), "stack"), snapshot.Revision), "")
	}
	return snapshot
}

// checkPolicy reads the policy.
func (d *doctoring) checkPolicy() {
	if d.policy == "" {
		d.add("policy", checkSkipped, "no file was named", "")
		return
	}
	if _, err := spec.LoadClusterPolicy(d.policy); err != nil {
		d.add("policy", checkBad, err.Error(), "correct it: a controller that starts does nothing before it can be read, and one that runs keeps the last that was good (docs/policy.md)")
		return
	}
	d.add("policy", checkGood, d.policy+" can be read", "")
}

// imagesAtOnce and imageLimit bound what registries are asked.
const (
	imagesAtOnce = 4
	imageLimit   = 15 * time.Second
)

// An imageAnswer is what a registry said of an image.
type imageAnswer struct {
	image, registry string
	known           bool // there are credentials
	err             error
}

// checkImages asks registries, through the engine, for the images that stacks would have
// pinned.
func (d *doctoring) checkImages(ctx context.Context, c *client.Client, snapshot *spec.Snapshot) {
	images := pinnedImages(snapshot)
	switch {
	case snapshot == nil || c == nil:
		d.add("images", checkSkipped, "that needs an engine and a specs directory", "")
		return
	case len(images) == 0:
		d.add("images", checkGood, "no stack needs a registry to be asked", "")
		return
	}
	answers := make([]imageAnswer, len(images))
	credentials := controller.NewRegistryCredentials(d.registryConfig)
	slots := make(chan struct{}, imagesAtOnce)
	var all sync.WaitGroup
	for i, image := range images {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answers[i] = askRegistry(ctx, c, credentials, image)
		})
	}
	all.Wait()
	d.checks = append(d.checks, judgeImages(answers)...)
}

// pinnedImages are the images whose digests skep would ask for.
func pinnedImages(snapshot *spec.Snapshot) []string {
	if snapshot == nil {
		return nil
	}
	images := map[string]bool{}
	for _, stack := range snapshot.Stacks {
		for i := range stack.Services {
			c := stack.Services[i].Spec.TaskTemplate.ContainerSpec
			if c != nil && stack.Policy.Images != spec.ImagesAsWritten && !strings.Contains(c.Image, "@") {
				images[c.Image] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(images))
}

func askRegistry(ctx context.Context, c *client.Client, credentials reconcile.Credentials, image string) imageAnswer {
	x := imageAnswer{image: image, registry: image}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		x.err = err
		return x
	}
	x.registry = reference.Domain(named)
	auth, err := credentials.EncodedAuth(image)
	if err != nil {
		x.err = err
		return x
	}
	x.known = auth != ""
	ctx, cancel := context.WithTimeout(ctx, imageLimit)
	defer cancel()
	_, x.err = c.DistributionInspect(ctx, image, auth)
	return x
}

// judgeImages tells a line for each registry that does not give out what is asked of it.
func judgeImages(answers []imageAnswer) []check {
	bad := map[string][]imageAnswer{} // by what is the matter
	var order []check
	for _, x := range answers {
		if x.err == nil {
			continue
		}
		c := judgeImage(x)
		key := c.Status + c.Remedy
		if bad[key] == nil {
			order = append(order, c)
		}
		bad[key] = append(bad[key], x)
	}
	if len(order) == 0 {
		return []check{{"images", checkGood, fmt.Sprintf("registries give out all of %s", plural(len(answers), "image")), ""}}
	}
	for i := range order {
		if n := len(bad[order[i].Status+order[i].Remedy]); n > 1 {
			order[i].Message += fmt.Sprintf(" (and %d images more are alike)", n-1)
		}
	}
	return order
}

func judgeImage(x imageAnswer) check {
	text := x.err.Error()
	c := check{Check: "images", Status: checkBad}
	switch {
	case strings.HasPrefix(text, "registry credentials"):
		c.Message, c.Remedy = splitRemedy(text)
		c.Remedy = orElse(c.Remedy, "mend that, or name another file with --registry-config")
	case isForbidden(x.err) || strings.Contains(text, "denied") || strings.Contains(text, "unauthorized") || strings.Contains(text, "no basic auth"):
		c.Message = fmt.Sprintf("%s does not give out %s, and there are no credentials for it", x.registry, x.image)
		c.Remedy = fmt.Sprintf("`docker login %s` where skep runs, or --registry-config with a file that has them", x.registry)
		if x.known {
			c.Message = fmt.Sprintf("%s does not give out %s to the user of the credentials there are", x.registry, x.image)
			c.Remedy = fmt.Sprintf("`docker login %s` anew where skep runs, as somebody who may pull it", x.registry)
		}
	case cerrdefs.IsNotFound(x.err) || strings.Contains(text, "manifest unknown") || strings.Contains(text, "name unknown"):
		c.Message, c.Remedy = fmt.Sprintf("%s has no image %s", x.registry, x.image), "push it, or correct its name; for an image that only lies on nodes: x-skep.images: as-written"
	default:
		c.Status = checkWarning
		c.Message = fmt.Sprintf("%s could not be asked for %s: %s", x.registry, x.image, clip(text, 200))
		c.Remedy = "tags run as they are until it can; it is the engine that asks, so see its network and proxy"
	}
	return c
}

func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// A clockWatch compares the engine's clock with ours, by the Date of its answers.
type clockWatch struct {
	mu    sync.Mutex
	known bool
	skew  time.Duration // what the engine's clock is ahead
	doubt time.Duration // by how much that may be wrong
}

// watch goes around a transport.
func (w *clockWatch) watch(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		sent := time.Now()
		answer, err := next.RoundTrip(r)
		if err == nil {
			if date, bad := http.ParseTime(answer.Header.Get("Date")); bad == nil {
				w.saw(date, sent, time.Now())
			}
		}
		return answer, err
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// saw takes what one answer tells: a Date is cut to its second, and was made at some time
// between the question and the answer. The surest answer counts.
func (w *clockWatch) saw(date, sent, got time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	doubt := (got.Sub(sent) + time.Second) / 2
	if w.known && doubt >= w.doubt {
		return
	}
	middle := sent.Add(got.Sub(sent) / 2)
	w.known, w.doubt, w.skew = true, doubt, date.Add(time.Second/2).Sub(middle)
}

// Clocks that differ by more than these are told of.
const (
	skewWarning = 5 * time.Second
	skewBad     = 30 * time.Second
)

func (w *clockWatch) judge() check {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := check{Check: "clock", Status: checkGood, Message: "the engine's agrees with this machine's"}
	if !w.known {
		c.Status, c.Message = checkSkipped, "the engine does not tell its time"
		return c
	}
	sure := w.skew.Abs() - w.doubt
	if sure <= skewWarning {
		return c
	}
	c.Status = checkWarning
	if sure > skewBad {
		c.Status = checkBad
	}
	word := "ahead of"
	if w.skew < 0 {
		word = "behind"
	}
	c.Message = fmt.Sprintf("the engine's is %s %s this machine's", w.skew.Abs().Round(time.Second), word)
	c.Remedy = "have both set by NTP (`timedatectl`): deadlines and bakes count from times that the Swarm's nodes wrote"
	return c
}

package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	api "github.com/docker/docker/api/types/versions"
	"github.com/rogpeppe/go-internal/txtar"
	"gopkg.in/yaml.v3"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

const (
	// mappingFixtures has a fixture for each row of the mapping, a case a file; its
	// README tells the format.
	mappingFixtures = "../spec/testdata/mapping"
	// mappingDifferences has what skep makes of a file otherwise than Docker.
	mappingDifferences = "../spec/conformance/testdata/differences.yaml"
)

// suiteEngines are the Debian suites whose engines the mapping is tried on, and how
// the version of each begins.
var suiteEngines = []struct{ suite, version string }{
	{"bookworm", "20.10"},
	{"trixie", "26.1"},
	{"sid", ""}, // the newest there is
}

// TestMappingOnEngines applies each row of the mapping to real engines: this
// machine's, and those of other suites where they can be had. What skep applied it
// sees no difference in, whatever the engine made of it, and the second time it
// writes nothing. What `docker stack deploy` made of the same file it takes over
// without a restart.
func TestMappingOnEngines(t *testing.T) {
	t.Parallel()
	all := readFixtures(t)
	here, err := exec.CommandContext(t.Context(), "dockerd", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("this machine", func(t *testing.T) {
		t.Parallel()
		tryMapping(t, swarmlab.ForTest(t, swarmlab.Options{}), all)
	})
	for _, e := range suiteEngines {
		if e.version != "" && strings.HasPrefix(string(here), "Docker version "+e.version+".") {
			continue // this machine's
		}
		t.Run(e.suite, func(t *testing.T) {
			t.Parallel()
			if _, err := swarmlab.Suite(t.Context(), e.suite); err != nil {
				t.Skipf("the engine of Debian %s cannot be had on this machine: %v", e.suite, err)
			}
			tryMapping(t, swarmlab.ForTest(t, swarmlab.Options{Suite: e.suite}), all)
		})
	}
}

func tryMapping(t *testing.T, l *swarmlab.Lab, all []*fixture) {
	m := newMapping(t, l)
	began := time.Now()
	var batches [][]*fixture
	for _, f := range all {
		if f.refused {
			continue
		}
		m.tried++
		batches = f.join(batches)
	}
	for _, b := range batches {
		m.try(b)
	}
	t.Logf("engine %s, API %s: %d fixtures in %d batches within %s, and %d that are refused without an engine; skep applied %d, docker stack deploy %d of them",
		m.version, m.api, m.tried, len(batches), time.Since(began).Round(time.Second), len(all)-m.tried, m.applied, m.deployed)
	if m.applied < m.tried*9/10 || m.deployed < m.tried/2 {
		t.Error("that is too few to tell anything")
	}
}

// A fixture is a case of the mapping, as a stack that has its name.
type fixture struct {
	stack   string
	files   []txtar.File
	env     []string
	runs    bool     // a plain Linux engine takes it
	from    string   // the oldest API that does
	refused bool     // nobody takes it, skep neither
	needs   []object // what must exist
	// claims are what two stacks cannot both have, and dependent says that some
	// service waits until another one runs.
	claims    []string
	dependent bool
	// lossy says that docker stack deploy loses something of its tasks without a
	// word: to take it over is to restart it.
	lossy bool
}

type object struct{ kind, name string }

func readFixtures(t *testing.T) []*fixture {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(mappingFixtures, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures in %s: %v", mappingFixtures, err)
	}
	lossy, refused := knownDifferences(t)
	var all []*fixture
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f := &fixture{stack: strings.TrimSuffix(filepath.Base(file), ".txtar"), runs: true}
		f.lossy, f.refused = lossy[f.stack], refused[f.stack]
		for _, line := range strings.Split(string(ar.Comment), "\n")[1:] {
			f.mark(line)
		}
		for _, part := range ar.Files {
			if part.Name == "env" {
				f.env = strings.Split(strings.TrimSpace(string(part.Data)), "\n")
				part.Name = ".env"
			}
			f.files = append(f.files, part)
		}
		if !f.refused {
			f.look(t)
		}
		all = append(all, f)
	}
	return all
}

// knownDifferences names the fixtures whose tasks skep makes otherwise than docker
// stack deploy, on purpose, and those that it refuses.
func knownDifferences(t *testing.T) (lossy, refused map[string]bool) {
	t.Helper()
	var known struct {
		Fields   []struct{ Path, File string }
		Refusals []struct {
			File string
			Skep []string
		}
	}
	text, err := os.ReadFile(mappingDifferences)
	if err == nil {
		err = yaml.Unmarshal(text, &known)
	}
	if err != nil {
		t.Fatalf("read the known differences: %v", err)
	}
	lossy, refused = map[string]bool{}, map[string]bool{}
	for _, d := range known.Fields {
		if strings.HasPrefix(d.Path, "services.TaskTemplate.") {
			lossy[strings.TrimPrefix(d.File, "mapping/")] = true
		}
	}
	for _, d := range known.Refusals {
		if len(d.Skep) > 0 {
			refused[strings.TrimPrefix(d.File, "mapping/")] = true
		}
	}
	return lossy, refused
}

// mark takes in a line of the head.
func (f *fixture) mark(line string) {
	key, value, _ := strings.Cut(line, ": ")
	switch key {
	case "refused":
		f.refused = true
	case "engine":
		if rest, ok := strings.CutPrefix(value, "from API "); ok {
			f.from, _, _ = strings.Cut(rest, ",")
			return
		}
		f.runs, f.refused = false, f.refused || strings.HasPrefix(value, "refuses")
	case "needs":
		kind, name, _ := strings.Cut(value, " ")
		f.needs = append(f.needs, object{kind, name})
	}
}

// write puts the stack into a directory of stacks.
func (f *fixture) write(t *testing.T, specs string) {
	t.Helper()
	for _, part := range f.files {
		file := filepath.Join(specs, f.stack, part.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, part.Data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// look reads the stack for what it claims.
func (f *fixture) look(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	f.write(t, dir)
	snapshot := spec.Scan(t.Context(), dir, spec.Options{})
	s := snapshot.Stacks[f.stack]
	if s == nil {
		t.Errorf("%s: skep does not load it: %v %v", f.stack, snapshot.Problems, snapshot.Err)
		f.refused = true
		return
	}
	claim := func(kind, name string) {
		if !strings.HasPrefix(name, f.stack+"_") {
			f.claims = append(f.claims, kind+" "+name)
		}
	}
	for _, n := range s.Networks {
		if n.External {
			continue
		}
		claim("network", n.Name)
		if n.Create.IPAM != nil && len(n.Create.IPAM.Config) > 0 {
			claim("some", "subnet")
		}
	}
	for _, c := range s.Configs {
		if !c.External {
			claim("config", c.Name)
		}
	}
	for _, c := range s.Secrets {
		if !c.External {
			claim("secret", c.Name)
		}
	}
	for _, svc := range s.Services {
		f.dependent = f.dependent || len(svc.DependsOn) > 0
		if e := svc.Spec.EndpointSpec; e != nil {
			for _, p := range e.Ports {
				if p.PublishedPort > 0 {
					claim("port", fmt.Sprintf("%d/%s", p.PublishedPort, p.Protocol))
				}
			}
		}
	}
	for _, n := range f.needs {
		f.claims = append(f.claims, n.kind+" "+n.name)
	}
	if f.dependent {
		claim("the", "node's attention")
	}
}

// taken says whether an engine that speaks version has to take the fixture. One
// that need not, may.
func (f *fixture) taken(version string) bool {
	return f.runs && (f.from == "" || api.GreaterThanOrEqualTo(version, f.from))
}

// join adds the fixture to the first batch that has nothing it claims. What a
// fixture needs is shared: it stays.
func (f *fixture) join(batches [][]*fixture) [][]*fixture {
	for i, b := range batches {
		if !slices.ContainsFunc(b, f.clashes) {
			batches[i] = append(b, f)
			return batches
		}
	}
	return append(batches, []*fixture{f})
}

func (f *fixture) clashes(other *fixture) bool {
	if f.dependent || other.dependent {
		return true // the node runs tasks for it, and none for others
	}
	return slices.ContainsFunc(f.claims, func(c string) bool {
		return slices.Contains(other.claims, c) && !(f.needsIt(c) && other.needsIt(c))
	})
}

func (f *fixture) needsIt(claim string) bool {
	return slices.ContainsFunc(f.needs, func(o object) bool { return o.kind+" "+o.name == claim })
}

// A mapping is fixtures on an engine. Its node is drained: services are what they
// are, without tasks that run, fail, or take their time to end.
type mapping struct {
	t       *testing.T
	l       *swarmlab.Lab
	version string
	api     string
	writes  *writeCount
	kept    map[string]bool // "config ext": what stays through a wipe
	active  bool            // for once, tasks run

	tried, applied, deployed int
}

func newMapping(t *testing.T, l *swarmlab.Lab) *mapping {
	t.Helper()
	v, err := l.Client(0).ServerVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := &mapping{t: t, l: l, version: v.Version, api: l.Client(0).ClientVersion(), kept: map[string]bool{}}
	m.writes = countWrites(t, l)
	img, err := l.Web(t.Context(), "skep.test/app:1")
	if err == nil {
		err = l.LoadImage(t.Context(), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.availability(swarm.NodeAvailabilityDrain)
	return m
}

func (m *mapping) availability(a swarm.NodeAvailability) {
	m.t.Helper()
	nodes, err := m.l.Client(0).NodeList(m.t.Context(), swarm.NodeListOptions{})
	if err == nil {
		nodes[0].Spec.Availability = a
		err = m.l.Client(0).NodeUpdate(m.t.Context(), nodes[0].ID, nodes[0].Version, nodes[0].Spec)
	}
	if err != nil {
		m.t.Fatalf("set the node to %s: %v", a, err)
	}
}

func (m *mapping) try(batch []*fixture) {
	m.t.Helper()
	if m.active = slices.ContainsFunc(batch, func(f *fixture) bool { return f.dependent }); m.active {
		m.availability(swarm.NodeAvailabilityActive)
		defer m.availability(swarm.NodeAvailabilityDrain)
	}
	m.applyTwice(batch)
	m.wipe()
	m.takeOver(batch)
	m.wipe()
}

// applyTwice applies the batch with skep until nothing is left to do, and then once
// more.
func (m *mapping) applyTwice(batch []*fixture) {
	m.t.Helper()
	m.provide(batch)
	specs := m.t.TempDir()
	for _, f := range batch {
		f.write(m.t, specs)
	}
	for stack, r := range m.apply(specs) {
		f := named(batch, stack)
		switch {
		case r.Outcome == reconcile.Applied:
			m.applied++
		case f.taken(m.api):
			m.t.Errorf("%s: apply says %s: %s", stack, r.Outcome, r.Message)
		default:
			m.t.Logf("%s: as expected, the engine does not take it: %s", stack, r.Message)
			m.drop(specs, f)
		}
	}
	m.steady("what skep applied", specs)
}

// takeOver has docker stack deploy make the stacks of the batch, those that it
// takes, and skep take them over.
func (m *mapping) takeOver(batch []*fixture) {
	m.t.Helper()
	m.provide(batch)
	specs, made := m.t.TempDir(), 0
	for _, f := range batch {
		f.write(m.t, specs)
		if err := m.deploy(specs, f); err != nil {
			m.t.Logf("%s: docker stack deploy refuses it: %v", f.stack, err)
			m.drop(specs, f)
			continue
		}
		m.deployed++
		made++
	}
	if made == 0 {
		return
	}
	lossy := func(stack string) bool { f := named(batch, stack); return f != nil && f.lossy }
	if err := m.differences(specs, func(stack string, c reconcile.ChangeView) bool {
		return !lossy(stack) && restarts(c)
	}); err != nil {
		m.t.Errorf("what docker stack deploy made would be restarted: %v", err)
	}
	before := m.tasks()
	m.apply(specs)
	for name, now := range m.tasks() {
		stack, _, _ := strings.Cut(name, "_")
		if was := before[name]; was != now && !lossy(stack) {
			m.t.Errorf("%s: taking it over replaces tasks:\n%s\n%s", name, was, now)
		}
	}
	m.steady("what docker stack deploy made and skep took over", specs)
}

// tasks tells, of every service, what decides whether tasks are replaced.
func (m *mapping) tasks() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	services, _, _, _ := m.list()
	for _, s := range services {
		b, err := json.Marshal([]any{s.ID, s.Spec.TaskTemplate, s.Spec.EndpointSpec})
		if err != nil {
			m.t.Fatal(err)
		}
		all[s.Spec.Name] = string(b)
	}
	return all
}

// deploy has docker stack deploy make a stack.
func (m *mapping) deploy(specs string, f *fixture) error {
	err := m.dockerDeploy(specs, f, "compose.yaml")
	if err == nil || !strings.Contains(err.Error(), "unsupported Compose file version") {
		return err
	}
	// 20.10 wants to be told the version of the format.
	if f.stack == "extra-hosts" {
		return errors.New("20.10 garbles hosts that are written with = or in brackets")
	}
	dir := filepath.Join(specs, f.stack)
	text, err := os.ReadFile(filepath.Join(dir, "compose.yaml"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "versioned.yaml"), append([]byte("version: '3.9'\n"), text...), 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return m.dockerDeploy(specs, f, "versioned.yaml")
}

func (m *mapping) dockerDeploy(specs string, f *fixture, file string) error {
	cmd := exec.CommandContext(m.t.Context(), "docker", "stack", "deploy", "--resolve-image", "never", "-c", file, f.stack)
	cmd.Dir = filepath.Join(specs, f.stack)
	cmd.Env = append(m.l.Env(0), f.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	return nil
}

// drop leaves a stack out from now on.
func (m *mapping) drop(specs string, f *fixture) {
	if err := os.RemoveAll(filepath.Join(specs, f.stack)); err != nil {
		m.t.Fatal(err)
	}
}

// provide makes what the fixtures need.
func (m *mapping) provide(batch []*fixture) {
	m.t.Helper()
	for _, f := range batch {
		for _, o := range f.needs {
			if m.kept[o.kind+" "+o.name] {
				continue
			}
			m.kept[o.kind+" "+o.name] = true
			if err := m.create(o); err != nil {
				m.t.Fatalf("create %s %s: %v", o.kind, o.name, err)
			}
		}
	}
}

func (m *mapping) create(o object) error {
	ctx, c, name := m.t.Context(), m.l.Client(0), swarm.Annotations{Name: o.name}
	var err error
	switch o.kind {
	case "network":
		_, err = c.NetworkCreate(ctx, o.name, network.CreateOptions{Driver: "overlay", Attachable: true})
	case "config":
		_, err = c.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: name, Data: []byte("x")})
	case "secret":
		_, err = c.SecretCreate(ctx, swarm.SecretSpec{Annotations: name, Data: []byte("x")})
	default:
		err = errors.New("no such kind")
	}
	return err
}

// steady says that skep sees no difference, and that an apply without one writes
// nothing, once nothing is left to note in the records: that a release turned out
// healthy is found out only after a while. What the file tells is never touched, from
// the first of them on.
func (m *mapping) steady(what, specs string) {
	m.t.Helper()
	if err := m.differences(specs, anyChange); err != nil {
		m.t.Errorf("%s differs from the file: %v", what, err)
	}
	noted := func(name string) bool { return strings.HasPrefix(name, "config skep-release-") }
	await(m.t, time.Minute, what+": an apply without a difference writes nothing", func() error {
		before := m.objects()
		m.writes.reset()
		m.apply(specs)
		m.untouched(what, before, func(name string) bool { return !noted(name) })
		wrote := m.writes.all()
		if m.active || len(wrote) == 0 { // where tasks run, releases ripen meanwhile
			return nil
		}
		return fmt.Errorf("it writes %s", strings.Join(wrote, ", "))
	})
	if m.active {
		return
	}
	before := m.objects()
	m.apply(specs)
	m.untouched(what, before, func(string) bool { return true })
}

// untouched compares the objects that count with what they were.
func (m *mapping) untouched(what string, before map[string]string, counts func(string) bool) {
	m.t.Helper()
	now := m.objects()
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if counts(key) && now[key] != before[key] {
			m.t.Errorf("%s: one more apply touches %s:\n%s\n%s", what, key, before[key], now[key])
		}
	}
	if len(now) != len(before) {
		m.t.Errorf("%s: there were %d objects, and after one more apply there are %d", what, len(before), len(now))
	}
}

// objects tells, of every service, config, secret and network, what a write would
// move.
func (m *mapping) objects() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	services, configs, secrets, networks := m.list()
	for _, s := range services {
		b, err := json.Marshal([]any{s.Version.Index, s.PreviousSpec, s.UpdateStatus, s.JobStatus})
		if err != nil {
			m.t.Fatal(err)
		}
		all["service "+s.Spec.Name] = string(b)
	}
	for _, c := range configs {
		if strings.HasPrefix(c.Spec.Name, leasePrefix) {
			continue // whoever acts writes it
		}
		all["config "+c.Spec.Name] = fmt.Sprint(c.ID, " ", c.Version.Index)
	}
	for _, s := range secrets {
		all["secret "+s.Spec.Name] = fmt.Sprint(s.ID, " ", s.Version.Index)
	}
	for _, n := range networks {
		all["network "+n.Name] = n.ID
	}
	return all
}

func (m *mapping) list() (services []swarm.Service, configs []swarm.Config, secrets []swarm.Secret, networks []network.Summary) {
	m.t.Helper()
	ctx, c := m.t.Context(), m.l.Client(0)
	var errs [4]error
	services, errs[0] = c.ServiceList(ctx, swarm.ServiceListOptions{})
	configs, errs[1] = c.ConfigList(ctx, swarm.ConfigListOptions{})
	secrets, errs[2] = c.SecretList(ctx, swarm.SecretListOptions{})
	networks, errs[3] = c.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("scope", "swarm"))})
	if err := errors.Join(errs[:]...); err != nil {
		m.t.Fatal(err)
	}
	return services, configs, secrets, networks
}

// wipe removes all that the batch made, and waits until it is gone: the engine
// takes its time with networks.
func (m *mapping) wipe() {
	m.t.Helper()
	await(m.t, 2*time.Minute, "the swarm is empty again", func() error {
		ctx, c := m.t.Context(), m.l.Client(0)
		var errs []error
		left := 0
		services, configs, secrets, networks := m.list()
		for _, s := range services {
			left++
			errs = append(errs, c.ServiceRemove(ctx, s.ID))
		}
		for _, o := range configs {
			if !m.kept["config "+o.Spec.Name] {
				left++
				errs = append(errs, c.ConfigRemove(ctx, o.ID))
			}
		}
		for _, o := range secrets {
			if !m.kept["secret "+o.Spec.Name] {
				left++
				errs = append(errs, c.SecretRemove(ctx, o.ID))
			}
		}
		for _, n := range networks {
			if !n.Ingress && !m.kept["network "+n.Name] {
				left++
				errs = append(errs, c.NetworkRemove(ctx, n.ID))
			}
		}
		if err := errors.Join(errs...); err != nil || left == 0 {
			return err
		}
		return fmt.Errorf("%d objects were there", left)
	})
}

// apply runs skep apply on a directory of stacks.
func (m *mapping) apply(specs string) map[string]applied {
	m.t.Helper()
	rows := map[string]applied{}
	for _, r := range skepSays[applied](m.t, m.writes.host, "mapping", "apply", specs, "--allow-host-root") {
		rows[r.Name] = r
	}
	return rows
}

func anyChange(string, reconcile.ChangeView) bool { return true }

// restarts says whether a change replaces tasks. A secret's value no engine tells:
// one that no service uses is made anew.
func restarts(c reconcile.ChangeView) bool {
	return c.Restarts || c.Op != reconcile.OpUpdate && c.Kind != reconcile.KindSecret
}

// differences runs skep plan and tells, a stack a line, of the changes that count.
func (m *mapping) differences(specs string, counts func(stack string, c reconcile.ChangeView) bool) error {
	m.t.Helper()
	var errs []error
	for _, p := range skepSays[reconcile.PlanView](m.t, m.writes.host, "mapping", "plan", specs, "--allow-host-root") {
		for _, c := range p.Changes {
			if !counts(p.Stack, c) {
				continue
			}
			b, err := json.Marshal(c)
			errs = append(errs, cmp.Or(err, fmt.Errorf("%s: %s", p.Stack, b)))
		}
		for _, f := range p.Findings {
			if f.Severity == spec.Error {
				errs = append(errs, fmt.Errorf("%s: %s", p.Stack, f.Message))
			}
		}
	}
	return errors.Join(errs...)
}

// named is the fixture of a stack, nil where there is none.
func named(batch []*fixture, stack string) *fixture {
	for _, f := range batch {
		if f.stack == stack {
			return f
		}
	}
	return nil
}

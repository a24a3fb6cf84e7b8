package reconcile

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/skep-io/skep/spec"
)

var updateGolden = flag.Bool("update-plans", false, "write the plans that Diff makes into testdata/diff")

// A modelSwarm is a Swarm that plans are applied to, as engineKeeps has it.
type modelSwarm struct {
	t        testing.TB
	api      string
	version  uint64
	services map[string]swarm.Service
	networks map[string]network.Summary
	configs  map[string]swarm.Config
	secrets  map[string]swarm.Secret
}

func newModelSwarm(t testing.TB, api string) *modelSwarm {
	return &modelSwarm{
		t: t, api: api, services: map[string]swarm.Service{}, networks: map[string]network.Summary{},
		configs: map[string]swarm.Config{}, secrets: map[string]swarm.Secret{},
	}
}

func (m *modelSwarm) live() *Live {
	return NewLive(time.Time{}, m.api, collect(m.services), collect(m.networks), collect(m.configs), collect(m.secrets), nil)
}

func collect[V any](from map[string]V) []V {
	var out []V
	for _, k := range sortedKeys(from) {
		out = append(out, from[k])
	}
	return out
}

// apply carries out a plan, and refuses what an engine refuses: a removal or an
// update of something else than was observed, a mode change, a port that is held.
func (m *modelSwarm) apply(p *Plan) {
	m.t.Helper()
	for _, c := range p.Changes {
		m.version++
		switch {
		case c.Op == OpRemove:
			m.remove(&c)
		case c.Kind == KindService:
			m.writeService(&c)
		default:
			m.writeObject(&c)
		}
	}
}

func (m *modelSwarm) remove(c *Change) {
	ids := map[Kind]string{
		KindService: m.services[c.Name].ID, KindNetwork: m.networks[c.Name].ID,
		KindConfig: m.configs[c.Name].ID, KindSecret: m.secrets[c.Name].ID,
	}
	if c.ID == "" || ids[c.Kind] != c.ID {
		m.t.Fatalf("remove %s %s by ID %q, which has %q", c.Kind, c.Name, c.ID, ids[c.Kind])
	}
	if users := m.live().lookUp().users[c.ID]; len(users) > 0 {
		m.t.Fatalf("remove %s %s: in use by %v", c.Kind, c.Name, users)
	}
	delete(m.services, nameIf(c, KindService))
	delete(m.networks, nameIf(c, KindNetwork))
	delete(m.configs, nameIf(c, KindConfig))
	delete(m.secrets, nameIf(c, KindSecret))
}

func nameIf(c *Change, k Kind) string {
	if c.Kind == k {
		return c.Name
	}
	return ""
}

func (m *modelSwarm) writeService(c *Change) {
	old, exists := m.services[c.Name]
	if exists == (c.Op == OpCreate) || old.ID != c.ID || old.Version != c.Version {
		m.t.Fatalf("%s service %s: there is %+v", c.Op, c.Name, old)
	}
	s := serviceOf(engineKeeps(m.t, m.api, c.Spec))
	s.ID, s.Version.Index = "id.svc."+c.Name, m.version
	if c.Op == OpUpdate && modeOf(&old.Spec) != modeOf(&s.Spec) {
		m.t.Fatalf("update of the mode of %s", c.Name)
	}
	if isJob(&s.Spec) && (s.Spec.UpdateConfig != nil || s.Spec.RollbackConfig != nil) {
		m.t.Fatalf("job %s with an update config", c.Name)
	}
	ports := m.live().lookUp().ports
	for _, p := range endpointOf(&s.Spec).Ports {
		for _, holder := range ports[port{p.PublishedPort, p.Protocol}] {
			if holder != c.Name && p.PublishMode == swarm.PortConfigPublishModeIngress {
				m.t.Fatalf("%s service %s: port %d is held by %s", c.Op, c.Name, p.PublishedPort, holder)
			}
		}
	}
	m.services[c.Name] = s
}

func (m *modelSwarm) writeObject(c *Change) {
	version := swarm.Meta{Version: swarm.Version{Index: m.version}}
	switch c.Kind {
	case KindNetwork:
		n := c.Network.Create
		s := network.Summary{
			ID: "id.net." + c.Name, Name: c.Name, Scope: "swarm", Driver: orElse(n.Driver, "overlay"), Labels: n.Labels, Internal: n.Internal, Attachable: n.Attachable,
			Options: map[string]string{vxlanIDs: "4097"}, IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: "10.0.1.0/24", Gateway: "10.0.1.1"}}},
		}
		for k, v := range n.Options {
			s.Options[k] = v
		}
		m.networks[c.Name] = s
	case KindConfig:
		m.configs[c.Name] = swarm.Config{ID: "id.cfg." + c.Name, Meta: version, Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: c.Name, Labels: c.Object.Labels}, Data: c.Object.ConfigData}}
	case KindSecret:
		m.secrets[c.Name] = swarm.Secret{ID: "id.sec." + c.Name, Meta: version, Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: c.Name, Labels: c.Object.Labels}}}
	}
}

// deploy makes the Swarm be what a compose file says.
func (m *modelSwarm) deploy(dir, file, stack string) {
	m.t.Helper()
	d := loadDesired(m.t, dir, file, stack, m.live())
	p := Diff(d, m.live(), DiffOptions{Owner: "skep"})
	for _, f := range p.Findings {
		if f.Severity == spec.Error {
			m.t.Fatalf("%s: %v", file, f)
		}
	}
	m.apply(p)
}

func loadDesired(t testing.TB, dir, file, stack string, live *Live) *Desired {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, file), append([]byte("name: "+stack+"\n"), text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, findings := spec.LoadFile(context.Background(), filepath.Join(dir, file), spec.Options{})
	if s == nil {
		t.Fatalf("%s: %v", file, findings)
	}
	return Bind(s, Binding{Key: []byte("key"), Live: live})
}

// Each file of testdata/diff tells what is live, what is desired, and the plan
// between them as people see it; `go test -update-plans` writes the last.
func TestDiff(t *testing.T) {
	files, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runCase(t, a)
			want := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "plan" })
			if *updateGolden {
				a.Files = append(slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "plan" }), txtar.File{Name: "plan", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 || got != string(a.Files[want].Data) {
				t.Errorf("plan:\n%s", got)
			}
		})
	}
}

func runCase(t *testing.T, a *txtar.Archive) string {
	dir, has := t.TempDir(), map[string]string{}
	for _, f := range a.Files {
		has[f.Name] = string(f.Data)
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, api, foreign := options(t, has["options"])
	m := newModelSwarm(t, api)
	if has["other.yml"] != "" {
		m.deploy(dir, "other.yml", "other")
	}
	if has["live.yml"] != "" {
		m.deploy(dir, "live.yml", "shop")
	}
	o.Owned = func(r Ref) bool { return !foreign[string(r.Kind)+" "+r.Name] }
	d := loadDesired(t, dir, "shop.yml", "shop", m.live())
	retained := o.Retained
	o.Retained = func(r Ref) bool { return retained != nil && retained(r) }

	live := m.live()
	p := Diff(d, live, o)
	var text strings.Builder
	if err := RenderPlan(&text, false, p); err != nil {
		t.Fatal(err)
	}
	if !p.Empty() {
		m.apply(p)
		again := Diff(d, m.live(), o)
		if slices.ContainsFunc(again.Changes, func(c Change) bool { return c.Op != OpRemove }) {
			t.Errorf("applied, and still:\n%+v", again.Changes)
		}
	}
	return text.String()
}

func options(t *testing.T, text string) (o DiffOptions, api string, foreign map[string]bool) {
	o, api, foreign = DiffOptions{Owner: "skep", Prune: true}, "1.51", map[string]bool{}
	retained := []string{}
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		switch w[0] {
		case "ignore":
			o.Ignore = append(o.Ignore, spec.IgnorePath{Service: w[1], Path: w[2]})
		case "api":
			api = w[1]
		case "prune":
			o.Prune = w[1] != "off"
		case "foreign":
			foreign[w[1]+" "+w[2]] = true
		case "retained":
			retained = append(retained, w[1]+" "+w[2])
		default:
			t.Fatalf("option %q", line)
		}
	}
	o.Retained = func(r Ref) bool { // names carry a hash
		return slices.ContainsFunc(retained, func(p string) bool { return strings.HasPrefix(string(r.Kind)+" "+r.Name, p) })
	}
	return o, api, foreign
}

// The image that a client found a digest for stays, until the file changes.
func TestImages(t *testing.T) {
	const a, b = "@sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7", "@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	for _, c := range []struct {
		name, desired, live   string
		desiredWas, liveLabel string
		same                  bool
	}{
		{"the same", "nginx:1", "nginx:1", "", "", true},
		{"tag filled in", "nginx", "nginx:latest", "", "", true},
		{"spelled out", "docker.io/library/nginx:1", "nginx:1", "", "", true},
		{"pinned", "nginx:1", "nginx:1" + a, "nginx:1", "nginx:1", true},
		{"pinned, tag filled in", "nginx", "nginx:latest" + a, "nginx", "nginx", true},
		{"pinned for other words", "nginx:latest", "nginx:latest" + a, "nginx:latest", "nginx", false},
		{"pinned, another tag", "nginx:2", "nginx:1" + a, "nginx:2", "nginx:1", false},
		{"updated by hand", "nginx:1", "nginx:2" + a, "nginx:1", "nginx:1", false},
		{"the same digest", "nginx:1" + a, "docker.io/library/nginx:1" + a, "", "", true},
		{"another digest", "nginx:1" + a, "nginx:1" + b, "", "", false},
		{"not pinned yet", "nginx:1" + a, "nginx:1", "", "", false},
		{"another registry", "r.example/nginx:1", "nginx:1", "", "", false},
		{"no image name", "Not:An:Image", "Not:An:Image", "", "", true},
		{"no image names", "Not:An:Image", "Neither:Is:This", "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			image := func(image, label string) *swarm.ServiceSpec {
				s := &swarm.ServiceSpec{Annotations: swarm.Annotations{Labels: map[string]string{spec.LabelImage: label}}}
				mutContainer(s).Image = image
				return s
			}
			if got := sameImage(image(c.desired, c.desiredWas), image(c.live, c.liveLabel)); got != c.same {
				t.Errorf("sameImage(%s, %s) = %v", c.desired, c.live, got)
			}
		})
	}
}

// References live by name: an ID says which object a name meant, and a name that
// another object has today is not the same.
func TestReferencesAreByName(t *testing.T) {
	desired := &swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web"}}
	mutContainer(desired).Configs = []*swarm.ConfigReference{{ConfigName: "a", File: &swarm.ConfigReferenceFileTarget{Name: "f"}}}
	mutContainer(desired).Secrets = []*swarm.SecretReference{{SecretName: "a", File: &swarm.SecretReferenceFileTarget{Name: "f"}}}
	for _, c := range []struct {
		name, id, refName string
		want              int
	}{
		{"as sent", "a", "a", 0},
		{"named otherwise, the same object", "a", "x", 0},
		{"of the same name, another object", "b", "a", 2},
		{"an object removed and made again", "removed", "a", 2},
		{"no ID", "", "a", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			live := cloneSpec(desired)
			id := func(kind string) string {
				if c.id == "" {
					return ""
				}
				return "id." + kind + "." + c.id
			}
			live.TaskTemplate.ContainerSpec.Configs[0].ConfigID, live.TaskTemplate.ContainerSpec.Configs[0].ConfigName = id("cfg"), c.refName
			live.TaskTemplate.ContainerSpec.Secrets[0].SecretID, live.TaskTemplate.ContainerSpec.Secrets[0].SecretName = id("sec"), c.refName
			p := Diff(stackOf(desired), modelLive("", serviceOf(*live)), DiffOptions{})
			n := 0
			for _, change := range p.Changes {
				n += len(change.Fields)
			}
			if n != c.want {
				t.Errorf("%d fields differ, want %d: %+v", n, c.want, p.Changes)
			}
		})
	}
	// A config that no listing holds (external, of no stack) is believed by name.
	live := cloneSpec(desired)
	live.TaskTemplate.ContainerSpec.Configs[0].ConfigID = "id.elsewhere"
	desired.TaskTemplate.ContainerSpec.Configs[0].ConfigName = "elsewhere"
	live.TaskTemplate.ContainerSpec.Configs[0].ConfigName = "elsewhere"
	if p := Diff(stackOf(desired), modelLive("", serviceOf(*live)), DiffOptions{}); !p.Empty() {
		t.Errorf("%+v", p.Changes)
	}
}

func TestReplicas(t *testing.T) {
	n := func(n uint64) *uint64 { return &n }
	replicated := func(r *uint64) swarm.ServiceMode {
		return swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: r}}
	}
	job := func(at, total *uint64) swarm.ServiceMode {
		return swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: at, TotalCompletions: total}}
	}
	for _, c := range []struct {
		name          string
		desired, live swarm.ServiceMode
		old, new      string
	}{
		{"silence is one", swarm.ServiceMode{}, replicated(n(1)), "", ""},
		{"nil is one", replicated(nil), replicated(n(1)), "", ""},
		{"scaled", replicated(n(3)), replicated(n(5)), "5", "3"},
		{"to zero", replicated(n(0)), replicated(n(2)), "2", "0"},
		{"job by default", job(nil, nil), job(n(1), n(1)), "", ""},
		{"job", job(n(2), n(4)), job(n(2), n(2)), "2", "4 (2 at once)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, l := &swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web"}, Mode: c.desired}, swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web"}, Mode: c.live}
			p := Diff(stackOf(d), modelLive("", serviceOf(l)), DiffOptions{})
			var got Field
			if !p.Empty() {
				got = p.Changes[0].Fields[0]
			}
			if got.Old != c.old || got.New != c.new || got.Restarts {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A mode change keeps what is left to others, and the digest of an image.
func TestModeIsReplaced(t *testing.T) {
	m := newModelSwarm(t, "1.51")
	old := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web", Labels: map[string]string{spec.LabelNamespace: "shop", "skep.other": "x", spec.LabelImage: "nginx:1"}}}
	mutContainer(&old).Image = "nginx:1@sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7"
	mutContainer(&old).Env = []string{"A=live", "B=live"}
	mutPlacement(&old).Platforms = []swarm.Platform{{OS: "linux"}}
	m.services["shop_web"] = serviceOf(engineKeeps(t, "1.51", &old))
	d := cloneSpec(&old)
	d.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	mutContainer(d).Image, mutContainer(d).Env, mutPlacement(d).Platforms = "nginx:1", []string{"A=file", "B=file"}, nil
	p := Diff(stackOf(d), m.live(), DiffOptions{Owner: "skep", Ignore: []spec.IgnorePath{{Service: "web", Path: "environment.A"}}})
	c := p.Changes[0]
	if c.Op != OpReplace || !c.Restarts || c.Fields[0] != (Field{Path: "deploy.mode", Old: "replicated", New: "global", Restarts: true}) {
		t.Fatalf("%+v", c)
	}
	got := containerOf(c.Spec)
	if c.Spec.Mode.Global == nil || c.Spec.Mode.Replicated != nil || got.Image != mutContainer(&old).Image ||
		!slices.Equal(slices.Sorted(slices.Values(got.Env)), []string{"A=live", "B=file"}) || len(placementOf(c.Spec).Platforms) != 1 || c.Spec.Labels["skep.other"] != "x" {
		b, _ := json.Marshal(c.Spec)
		t.Errorf("%s", b)
	}
}

// A nil placement where there was one brings managers down: none is ever written.
func TestPlacementIsNeverNil(t *testing.T) {
	s := &swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web"}}
	created := Diff(stackOf(s), modelLive(""), DiffOptions{}).Changes[0].Spec
	live := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web", Labels: map[string]string{"a": "b"}}}
	updated := Diff(stackOf(s), modelLive("", serviceOf(live)), DiffOptions{}).Changes[0].Spec
	if created.TaskTemplate.Placement == nil || updated.TaskTemplate.Placement == nil {
		t.Errorf("created with %v, updated with %v", created.TaskTemplate.Placement, updated.TaskTemplate.Placement)
	}
}

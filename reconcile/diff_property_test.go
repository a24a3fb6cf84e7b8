package reconcile

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

var apis = []string{"1.41", "1.44", "1.45", "1.51", ""}

func stackOf(s *swarm.ServiceSpec) *Desired {
	return &Desired{Stack: "shop", Services: []DesiredService{{Key: "web", Name: s.Name, Spec: *s}}}
}

func serviceOf(s swarm.ServiceSpec) swarm.Service {
	return swarm.Service{ID: "svc", Meta: swarm.Meta{Version: swarm.Version{Index: 7}}, Spec: s}
}

// genLive is what an engine has of a spec that something else once sent, with
// things in it that no compose file can say.
func genLive(t *rapid.T, tb testing.TB, api string) swarm.ServiceSpec {
	s := genSpec(t)
	s.TaskTemplate.ForceUpdate = rapid.Uint64Range(0, 2).Draw(t, "force")
	if rapid.Bool().Draw(t, "platforms") {
		mutPlacement(s).Platforms = []swarm.Platform{{OS: "linux"}}
	}
	if rapid.Bool().Draw(t, "privileges") {
		mut(&mutContainer(s).Privileges).NoNewPrivileges = true
	}
	if rapid.Bool().Draw(t, "deprecated networks") {
		//lint:ignore SA1019 services made long ago still have them here
		s.Networks, s.TaskTemplate.Networks = s.TaskTemplate.Networks, nil
	}
	if rapid.Bool().Draw(t, "owner") {
		s.Labels["skep.other"] = "x"
	}
	return engineKeeps(tb, api, s)
}

func genDesired(t *rapid.T, live *swarm.ServiceSpec) *swarm.ServiceSpec {
	d := genSpec(t)
	if rapid.IntRange(0, 4).Draw(t, "mode change") > 0 { // mostly updates
		d.Mode = cloneSpec(live).Mode
		if isJob(d) {
			d.UpdateConfig, d.RollbackConfig = nil, nil
		}
	}
	return d
}

// What was sent is what there is, whoever fills in what and in what order.
func TestSentIsNoDifference(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		api := rapid.SampledFrom(apis).Draw(rt, "api")
		d := genSpec(rt)
		live := modelLive(api, serviceOf(engineKeeps(t, api, d)))
		for _, desired := range []*Desired{stackOf(d), disordered(stackOf(d))} {
			if p := Diff(desired, live, DiffOptions{Owner: "skep"}); !p.Empty() {
				rt.Fatalf("differs in %+v", p.Changes[0].Fields)
			}
		}
	})
}

// An applied plan leaves an empty plan, and wrote what it said and nothing else.
func TestAppliedPlanLeavesAnEmptyPlan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		api := rapid.SampledFrom(apis).Draw(rt, "api")
		old := genLive(rt, t, api)
		d := genDesired(rt, &old)
		live := modelLive(api, serviceOf(old))
		before := marshal(rt, live.Services)
		p := Diff(stackOf(d), live, DiffOptions{Owner: "skep"})
		if after := marshal(rt, live.Services); before != after {
			rt.Fatalf("Diff changed live from\n%s to\n%s", before, after)
		}
		if p.Empty() {
			return
		}
		c := p.Changes[0]
		if len(c.Fields) == 0 || c.ID != "svc" || c.Version.Index != 7 {
			rt.Fatalf("change %+v", c)
		}
		if c.Spec.TaskTemplate.Placement == nil || c.Spec.Labels[LabelOwner] != "skep" {
			rt.Fatalf("wrote placement %v, owner %q", c.Spec.TaskTemplate.Placement, c.Spec.Labels[LabelOwner])
		}
		written := engineKeeps(t, api, c.Spec)
		if again := Diff(stackOf(d), modelLive(api, serviceOf(written)), DiffOptions{Owner: "skep"}); !again.Empty() {
			rt.Fatalf("still differs in %+v", again.Changes[0].Fields)
		}
		checkForeign(rt, &c, &old, &written)
		if c.Op == OpUpdate && !isJob(&old) {
			checkRestarts(rt, &c, &old, &written)
		}
	})
}

// checkForeign says that what is not skep's survives.
func checkForeign(rt *rapid.T, c *Change, old, written *swarm.ServiceSpec) {
	if old.Labels["skep.other"] != written.Labels["skep.other"] {
		rt.Fatalf("lost label skep.other")
	}
	if c.Op != OpUpdate {
		return
	}
	if old.TaskTemplate.ForceUpdate != written.TaskTemplate.ForceUpdate {
		rt.Fatalf("wrote ForceUpdate")
	}
	if privileged(old) != privileged(written) {
		rt.Fatalf("lost NoNewPrivileges")
	}
	image := slices.ContainsFunc(c.Fields, func(f Field) bool { return f.Path == "image" })
	if !image && len(placementOf(old).Platforms) != len(placementOf(written).Platforms) {
		rt.Fatalf("wrote platforms without an image")
	}
}

func privileged(s *swarm.ServiceSpec) bool {
	p := containerOf(s).Privileges
	return p != nil && p.NoNewPrivileges
}

// checkRestarts compares with what makes the orchestrator replace tasks: another
// task template, placement aside, or another endpoint.
func checkRestarts(rt *rapid.T, c *Change, old, written *swarm.ServiceSpec) {
	dirty := func(s *swarm.ServiceSpec) string {
		task := cloneSpec(s).TaskTemplate
		task.Placement = nil
		//lint:ignore SA1019 where old services have them
		return marshal(rt, task) + marshal(rt, s.EndpointSpec) + marshal(rt, s.Networks)
	}
	if restarts := dirty(old) != dirty(written); restarts != c.Restarts {
		rt.Fatalf("restarts: said %v, is %v; fields %+v\nold %s\nnew %s", c.Restarts, restarts, c.Fields, dirty(old), dirty(written))
	}
}

// The order in which a stack says things makes no other plan, but for the order
// of what is written anew.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		old := genLive(rt, t, "")
		d := genDesired(rt, &old)
		live := modelLive("", serviceOf(old))
		a, b := Diff(stackOf(d), live, DiffOptions{}), Diff(disordered(stackOf(d)), live, DiffOptions{})
		if len(a.Changes) != len(b.Changes) {
			rt.Fatalf("%d and %d changes", len(a.Changes), len(b.Changes))
		}
		for i := range a.Changes {
			fa, fb := paths(a.Changes[i].Fields), paths(b.Changes[i].Fields)
			if !slices.Equal(fa, fb) {
				rt.Fatalf("fields %v and %v", fa, fb)
			}
		}
	})
}

// What is left to others never appears, and keeps its live value when the rest
// is written.
func TestIgnoredKeepsItsLiveValue(t *testing.T) {
	var choices []string
	for _, u := range serviceUnits {
		choices = append(choices, u.path)
	}
	choices = append(choices, "deploy", "healthcheck", "deploy.resources", "environment.A", "labels.k", "deploy.labels.m",
		"logging.options.l", "volumes./b", "networks.a", "sysctls.m", "deploy.update_config", modePath)
	rapid.Check(t, func(rt *rapid.T) {
		old := genLive(rt, t, "")
		d := genDesired(rt, &old)
		path := rapid.SampledFrom(choices).Draw(rt, "ignored")
		live := modelLive("", serviceOf(old))
		o := DiffOptions{Owner: "skep", Ignore: []spec.IgnorePath{{Service: "web", Path: path}}}
		p := Diff(stackOf(d), live, o)
		if len(p.Findings) > 0 && p.Findings[0].Code == "ignore-unknown" {
			rt.Fatalf("%v", p.Findings)
		}
		if p.Empty() {
			return
		}
		c := p.Changes[0]
		for _, f := range c.Fields {
			if under(f.Path, path) {
				rt.Fatalf("ignored %s appears", f.Path)
			}
		}
		written := engineKeeps(t, "", c.Spec)
		if again := Diff(stackOf(d), modelLive("", serviceOf(written)), o); !again.Empty() {
			rt.Fatalf("still differs in %+v", again.Changes[0].Fields)
		}
		// A plan towards what was live before finds nothing at the ignored path.
		if c.Op != OpUpdate {
			return
		}
		v := &view{live: live, lookup: live.lookUp()}
		for _, u := range v.differing(&old, &written) {
			for _, f := range u.fields(v, &old, &written) {
				if under(f.Path, path) {
					rt.Fatalf("ignored %s was written: %+v", path, f)
				}
			}
		}
	})
}

func paths(fields []Field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, f.Path)
	}
	return out
}

func marshal(rt *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		rt.Fatal(err)
	}
	return string(b)
}

// elsewhere are fields that have tests of their own.
var elsewhere = []string{
	"Name",     // by which live and desired find each other
	"Mode",     // TestModeIsReplaced, TestReplicas
	"Networks", // an old place of TaskTemplate.Networks: genLive
	"TaskTemplate.ContainerSpec.Configs.ConfigID", // TestReferencesAreByName
	"TaskTemplate.ContainerSpec.Secrets.SecretID", // TestReferencesAreByName
	"TaskTemplate.ContainerSpec.Mounts.Target",    // a trailing slash: testdata/live/mounts
}

// Every field of a service spec is compared, or is on a list that says why not:
// setting it alone in desired is a difference in just one unit, or in none.
func TestEveryFieldHasItsPlace(t *testing.T) {
	base := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web", Labels: map[string]string{spec.LabelNamespace: "shop"}}}
	mutContainer(&base).Image = "nginx:1"
	seen := map[string]bool{}
	for _, path := range leafPaths(reflect.TypeFor[swarm.ServiceSpec](), "") {
		if slices.ContainsFunc(elsewhere, func(p string) bool { return under(path, p) }) {
			continue
		}
		t.Run(path, func(t *testing.T) {
			before, after := cloneSpec(&base), cloneSpec(&base)
			setPath(reflect.ValueOf(before).Elem(), strings.Split(path, "."), false)
			setPath(reflect.ValueOf(after).Elem(), strings.Split(path, "."), true)
			v := &view{live: modelLive(""), lookup: modelLive("").lookUp()}
			differing := v.differing(after, before)
			_, kept := prefixed(keptLive, path)
			_, forgotten := prefixed(notKept, path)
			switch {
			case kept || forgotten:
				seen[first(prefixed(keptLive, path))], seen[first(prefixed(notKept, path))] = true, true
				if len(differing) != 0 {
					t.Errorf("on a list of what is not compared, and compared as %s", differing[0].path)
				}
			case len(differing) != 1:
				t.Errorf("a difference in %d units", len(differing))
			default:
				out := merge(v, cloneSpec(before), cloneSpec(after), differing)
				if left := v.differing(after, out); len(left) != 0 {
					t.Errorf("written, and still differs in %s", left[0].path)
				}
				if fields := differing[0].fields(v, after, before); !slices.ContainsFunc(fields, func(f Field) bool { return f.Old != f.New }) {
					t.Errorf("shown as %+v", fields)
				}
			}
		})
	}
	for _, list := range []map[string]string{keptLive, notKept} {
		for path := range maps.Keys(list) {
			if !seen[path] {
				t.Errorf("%s is on a list and no field", path)
			}
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

func prefixed(list map[string]string, path string) (string, bool) {
	for p := range list {
		if under(path, p) {
			return p, true
		}
	}
	return "", false
}

// leafPaths names every leaf of a type; embedded structs add no name.
func leafPaths(t reflect.Type, path string) []string {
	switch t.Kind() {
	case reflect.Pointer:
		if t.Elem().Kind() != reflect.Struct {
			return []string{path}
		}
		return leafPaths(t.Elem(), path)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 || strings.HasSuffix(path, "Options.Options") {
			return []string{path}
		}
		return leafPaths(t.Elem(), path)
	case reflect.Struct:
		var out []string
		if t.NumField() == 0 {
			return []string{path}
		}
		for i := range t.NumField() {
			f := t.Field(i)
			if sub := strings.TrimPrefix(path+"."+f.Name, "."); f.Anonymous {
				out = append(out, leafPaths(f.Type, path)...)
			} else {
				out = append(out, leafPaths(f.Type, sub)...)
			}
		}
		return out
	}
	return []string{path}
}

// setPath makes everything on the way to a leaf be there, and sets the leaf to a
// value that is not its default where set.
func setPath(v reflect.Value, path []string, set bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if len(path) == 0 && !set {
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		setPath(v.Elem(), path, set)
	case reflect.Slice:
		if len(path) == 0 && !set {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		setPath(v.Index(0), path, set)
	case reflect.Map:
		if set {
			m := reflect.MakeMap(v.Type())
			for it := v.MapRange(); it.Next(); {
				m.SetMapIndex(it.Key(), it.Value())
			}
			m.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf("v"))
			v.Set(m)
		}
	case reflect.Struct:
		if len(path) > 0 {
			setPath(v.FieldByName(path[0]), path[1:], set)
		}
	case reflect.String:
		if set {
			v.SetString("word")
		}
	case reflect.Bool:
		v.SetBool(set)
	case reflect.Int, reflect.Int32, reflect.Int64:
		if set {
			v.SetInt(3)
		}
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		if set {
			v.SetUint(3)
		}
	case reflect.Float32:
		if set {
			v.SetFloat(0.5)
		}
	}
}

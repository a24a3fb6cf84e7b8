package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// A difference is a field that the two sides fill differently.
type difference struct {
	// Path is the field in the API's own words, without the object's name:
	// "services.TaskTemplate.ContainerSpec.Env[2]".
	Path string
	// Docker and Skep are the values as text; absent for one that is not there.
	Docker, Skep string
	// Object is the name of the object, for people.
	Object string
}

func (d difference) String() string {
	return fmt.Sprintf("%s (of %s)\n  docker: %s\n  skep:   %s", d.Path, d.Object, d.Docker, d.Skep)
}

// absent stands for a value that is not there. Text and durations that are empty are
// not there either: the API has no other way to say so.
const absent = "null"

// compare walks through what both sides made and tells every field that differs.
func compare(docker, skep *objects) []difference {
	docker.canonical()
	skep.canonical()
	var out []difference
	out = append(out, compareObjects("services", docker.Services, skep.Services)...)
	out = append(out, compareObjects("networks", docker.Networks, skep.Networks)...)
	out = append(out, compareObjects("external", docker.External, skep.External)...)
	out = append(out, compareObjects("configs", docker.Configs, skep.Configs)...)
	out = append(out, compareObjects("secrets", docker.Secrets, skep.Secrets)...)
	return out
}

// compareObjects compares objects of a kind by their names.
func compareObjects[T any](kind string, docker, skep map[string]T) []difference {
	var out []difference
	names := map[string]bool{}
	for name := range docker {
		names[name] = true
	}
	for name := range skep {
		names[name] = true
	}
	for name := range names {
		d, inDocker := docker[name]
		s, inSkep := skep[name]
		w := walk{object: kind + " " + name}
		if inDocker != inSkep {
			w.tell(kind, presence(inDocker), presence(inSkep))
		} else {
			w.compare(kind, reflect.ValueOf(d), reflect.ValueOf(s))
		}
		out = append(out, w.found...)
	}
	slices.SortFunc(out, func(a, b difference) int { return strings.Compare(a.Object+a.Path, b.Object+b.Path) })
	return out
}

func presence(there bool) string {
	if there {
		return "there"
	}
	return absent
}

// walk compares two values of one type.
type walk struct {
	object string
	found  []difference
}

func (w *walk) tell(path, docker, skep string) {
	w.found = append(w.found, difference{Path: path, Docker: docker, Skep: skep, Object: w.object})
}

// compare goes down to the smallest values. A list or a mapping that is nil is as one
// that is empty; a structure that is not there is not as one that is empty.
func (w *walk) compare(path string, docker, skep reflect.Value) {
	switch {
	case docker.Type() == reflect.TypeFor[[]byte]():
		w.leaf(path, docker, skep)
	case docker.Kind() == reflect.Pointer && docker.Type().Elem().Kind() == reflect.Struct:
		w.pointers(path, docker, skep)
	case docker.Kind() == reflect.Struct:
		w.structs(path, docker, skep)
	case docker.Kind() == reflect.Slice:
		w.slices(path, docker, skep)
	case docker.Kind() == reflect.Map:
		w.maps(path, docker, skep)
	default:
		w.leaf(path, docker, skep)
	}
}

func (w *walk) leaf(path string, docker, skep reflect.Value) {
	if valueText(docker) != valueText(skep) {
		w.tell(path, valueText(docker), valueText(skep))
	}
}

func (w *walk) structs(path string, docker, skep reflect.Value) {
	for i := range docker.NumField() {
		field := docker.Type().Field(i)
		below := path + "." + field.Name
		if field.Anonymous {
			below = path // its fields are the structure's own
		}
		w.compare(below, docker.Field(i), skep.Field(i))
	}
}

// pointers compares structures either of which may not be there. One that is there on
// one side only is told field by field, in what it says; as a whole, if it says nothing.
func (w *walk) pointers(path string, docker, skep reflect.Value) {
	switch {
	case docker.IsNil() && skep.IsNil():
	case !docker.IsNil() && !skep.IsNil():
		w.compare(path, docker.Elem(), skep.Elem())
	default:
		empty := reflect.Zero(docker.Type().Elem())
		inner := walk{object: w.object}
		if docker.IsNil() {
			inner.compare(path, empty, skep.Elem())
		} else {
			inner.compare(path, docker.Elem(), empty)
		}
		for _, d := range inner.found {
			if docker.IsNil() {
				d.Docker = absent
			} else {
				d.Skep = absent
			}
			w.found = append(w.found, d)
		}
		if len(inner.found) == 0 {
			w.tell(path, structText(docker), structText(skep))
		}
	}
}

func structText(v reflect.Value) string {
	if v.IsNil() {
		return absent
	}
	return "{}"
}

func (w *walk) slices(path string, docker, skep reflect.Value) {
	if docker.Len() != skep.Len() {
		w.tell(path, valueText(docker), valueText(skep))
		return
	}
	for i := range docker.Len() {
		w.compare(fmt.Sprintf("%s[%d]", path, i), docker.Index(i), skep.Index(i))
	}
}

func (w *walk) maps(path string, docker, skep reflect.Value) {
	keys := map[string]reflect.Value{}
	for _, m := range []reflect.Value{docker, skep} {
		for _, key := range m.MapKeys() {
			keys[key.String()] = key
		}
	}
	for name, key := range keys {
		d, s := docker.MapIndex(key), skep.MapIndex(key)
		below := fmt.Sprintf("%s[%s]", path, name)
		switch {
		case !d.IsValid():
			w.tell(below, absent, keptText(s))
		case !s.IsValid():
			w.tell(below, keptText(d), absent)
		case d.String() != s.String():
			w.tell(below, keptText(d), keptText(s))
		}
	}
}

// keptText is a mapping's value, whose emptiness counts.
func keptText(v reflect.Value) string { return fmt.Sprintf("%q", v.String()) }

// valueText is a value as an entry of differences.yaml writes it.
func valueText(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return absent
		}
		return fmt.Sprint(v.Elem().Interface())
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		if value == 0 {
			return absent
		}
		return value.String()
	case os.FileMode:
		return fmt.Sprintf("%#o", uint32(value))
	case []byte:
		return fmt.Sprintf("%q", value)
	}
	switch v.Kind() {
	case reflect.String:
		if v.Len() == 0 {
			return absent
		}
		return v.String()
	case reflect.Slice, reflect.Map, reflect.Struct:
		text, err := json.Marshal(v.Interface())
		if err != nil {
			return fmt.Sprintf("%#v", v.Interface())
		}
		return string(text)
	}
	return fmt.Sprint(v.Interface())
}

// TestCompare shows that the comparison sees what it must: a test that finds no
// difference proves nothing where it could find none.
func TestCompare(t *testing.T) {
	spec := func(change func(*swarm.ServiceSpec)) *objects {
		s := swarm.ServiceSpec{
			Annotations:  swarm.Annotations{Name: "shop_web", Labels: map[string]string{"a": "b", "empty": ""}},
			TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Env: []string{"A=1", "B=2"}, Init: new(bool)}},
			UpdateConfig: &swarm.UpdateConfig{Order: "stop-first"},
		}
		change(&s)
		return &objects{Services: map[string]swarm.ServiceSpec{"web": s}}
	}
	for name, c := range map[string]struct {
		change func(*swarm.ServiceSpec)
		want   []string // path, docker, skep
	}{
		"nothing":              {func(*swarm.ServiceSpec) {}, nil},
		"an empty list is nil": {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Args = []string{} }, nil},
		"an empty text in a mapping": {func(s *swarm.ServiceSpec) { delete(s.Labels, "empty") },
			[]string{"services.Labels[empty]", `""`, "null"}},
		"an embedded field": {func(s *swarm.ServiceSpec) { s.Name = "" }, []string{"services.Name", "shop_web", "null"}},
		"an element": {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Env = []string{"A=1", "B=3"} },
			[]string{"services.TaskTemplate.ContainerSpec.Env[1]", "B=2", "B=3"}},
		"an order": {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Env = []string{"A=1"} },
			[]string{"services.TaskTemplate.ContainerSpec.Env", `["A=1","B=2"]`, `["A=1"]`}},
		"false is not nil": {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Init = nil },
			[]string{"services.TaskTemplate.ContainerSpec.Init", "false", "null"}},
		"a structure that is gone": {func(s *swarm.ServiceSpec) { s.UpdateConfig = nil },
			[]string{"services.UpdateConfig.Order", "stop-first", "null"}},
		"an empty structure": {func(s *swarm.ServiceSpec) { s.RollbackConfig = &swarm.UpdateConfig{} },
			[]string{"services.RollbackConfig", "null", "{}"}},
		"a mode": {func(s *swarm.ServiceSpec) { s.Mode.Global = &swarm.GlobalService{} },
			[]string{"services.Mode.Global", "null", "{}"}},
	} {
		t.Run(name, func(t *testing.T) {
			found := compare(spec(func(*swarm.ServiceSpec) {}), spec(c.change))
			var got []string
			for _, d := range found {
				got = append(got, d.Path, d.Docker, d.Skep)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if found := compare(&objects{}, spec(func(*swarm.ServiceSpec) {})); len(found) != 1 || found[0].Path != "services" {
		t.Errorf("a service on one side only: got %v", found)
	}
}

package spec

import (
	"context"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/rogpeppe/go-internal/txtar"
)

// notSaid lists the fields of the Engine API, and all below them, that no compose
// file can say, and why.
var notSaid = map[string]string{
	"service.Networks": "an old place of TaskTemplate.Networks",

	"service.TaskTemplate.PluginSpec":                                                "a service that runs plugins; a compose service runs containers",
	"service.TaskTemplate.NetworkAttachmentSpec":                                     "the engine's own, for containers on attachable networks",
	"service.TaskTemplate.ForceUpdate":                                               "a counter of docker service update --force",
	"service.TaskTemplate.Runtime":                                                   "container where it is not said, and a compose service runs containers",
	"service.TaskTemplate.Placement.Platforms":                                       "found with the image's digest; a constraint on node.platform says the same",
	"service.TaskTemplate.ContainerSpec.Secrets.SecretID":                            "known once the secret is there: reconcile fills it in",
	"service.TaskTemplate.ContainerSpec.Configs.ConfigID":                            "known once the config is there: reconcile fills it in",
	"service.TaskTemplate.ContainerSpec.Privileges.SELinuxContext":                   "security_opt is ignored, as docker stack deploy does, and told",
	"service.TaskTemplate.ContainerSpec.Privileges.Seccomp":                          "security_opt is ignored, as docker stack deploy does, and told",
	"service.TaskTemplate.ContainerSpec.Privileges.AppArmor":                         "security_opt is ignored, as docker stack deploy does, and told",
	"service.TaskTemplate.ContainerSpec.Privileges.NoNewPrivileges":                  "security_opt is ignored, as docker stack deploy does, and told",
	"service.TaskTemplate.ContainerSpec.Mounts.BindOptions.CreateMountpoint":         "create_host_path is told: a Swarm drops it, and a path that was missing would be made by one node and not by another",
	"service.TaskTemplate.Resources.Reservations.GenericResources.NamedResourceSpec": "compose counts generic resources and has no names for single ones",

	"network.Scope":      "swarm, which is where the driver overlay puts it",
	"network.Ingress":    "the routing mesh's own network is the Swarm's, not a stack's",
	"network.ConfigOnly": "networks of single nodes, which share a configuration",
	"network.ConfigFrom": "networks of single nodes, which share a configuration",

	"config.Templating.Options": "compose names the driver alone",
	"secret.Templating.Options": "compose names the driver alone",
	"secret.Data":               "travels apart from the spec, as Secret.Value, so that nothing prints it",
}

// Every field of what is sent to an engine is made by a case of testdata/convert, or
// stands in notSaid. A field that a newer API brings is neither, and fails here until
// somebody looks at it.
func TestEveryFieldOfTheAPIIsSaid(t *testing.T) {
	said := map[string]bool{}
	files, err := filepath.Glob("testdata/convert/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stack, _ := load(context.Background(), shop(t, unpack(t, archive)), Options{Env: envOf(archive)})
		if stack != nil {
			markStack(said, stack)
		}
	}
	var fields []string
	for name, of := range map[string]reflect.Type{
		"service": reflect.TypeFor[swarm.ServiceSpec](), "network": reflect.TypeFor[network.CreateOptions](),
		"config": reflect.TypeFor[swarm.ConfigSpec](), "secret": reflect.TypeFor[swarm.SecretSpec](),
	} {
		fields = append(fields, leaves(of, name)...)
	}
	slices.Sort(fields)
	needed := map[string]bool{}
	for _, field := range fields {
		reason, excused := excuse(field)
		needed[reason] = true
		switch {
		case excused && said[field]:
			t.Errorf("%s is in notSaid, and a case of testdata/convert says it (take it out)", field)
		case !excused && !said[field]:
			t.Errorf("%s is made by no case of testdata/convert (convert it, or say in notSaid why not)", field)
		}
	}
	for field := range notSaid {
		if !needed[field] {
			t.Errorf("%s is in notSaid, and is no field", field)
		}
	}
	t.Logf("%d fields, %d of them said", len(fields), len(said))
}

// excuse is the entry of notSaid that a field is in or below.
func excuse(field string) (string, bool) {
	for path := range notSaid {
		if field == path || strings.HasPrefix(field, path+".") {
			return path, true
		}
	}
	return "", false
}

func markStack(said map[string]bool, stack *Stack) {
	for _, s := range stack.Services {
		mark(said, reflect.ValueOf(s.Spec), "service")
	}
	for _, n := range stack.Networks {
		mark(said, reflect.ValueOf(n.Create), "network")
	}
	for _, c := range stack.Configs {
		mark(said, reflect.ValueOf(c.Spec), "config")
	}
	for _, s := range stack.Secrets {
		mark(said, reflect.ValueOf(s.Spec), "secret")
	}
}

// leaves names the fields of a type that hold a value themselves.
func leaves(t reflect.Type, path string) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return leaves(t.Elem(), path)
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return leaves(t.Elem(), path)
		}
	case reflect.Struct:
		var out []string
		for i := range t.NumField() {
			out = append(out, leaves(t.Field(i).Type, fieldPath(t.Field(i), path))...)
		}
		if t.NumField() > 0 {
			return out
		}
	}
	return []string{path}
}

// mark notes the leaves that are not zero; a struct without fields says something by
// being there.
func mark(said map[string]bool, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if v.Elem().Kind() != reflect.Struct {
			said[path] = true // a false that stands there is said too
		}
		mark(said, v.Elem(), path)
		return
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				mark(said, v.Index(i), path)
			}
			return
		}
	case reflect.Struct:
		for i := range v.NumField() {
			mark(said, v.Field(i), fieldPath(v.Type().Field(i), path))
		}
		if v.NumField() > 0 {
			return
		}
		said[path] = true
		return
	}
	if !v.IsZero() && (v.Kind() != reflect.Map || v.Len() > 0) {
		said[path] = true
	}
}

// fieldPath names a field; an embedded struct adds no name.
func fieldPath(f reflect.StructField, path string) string {
	if f.Anonymous {
		return path
	}
	return path + "." + f.Name
}

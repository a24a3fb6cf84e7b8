package reconcile

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

// modelObjects are what a model of an engine has of each kind.
var modelObjects = []string{"a", "b", "c"}

// modelLive is a Swarm with networks, configs and secrets by those names and the
// given services.
func modelLive(api string, services ...swarm.Service) *Live {
	var networks []network.Summary
	var configs []swarm.Config
	var secrets []swarm.Secret
	for _, name := range modelObjects {
		networks = append(networks, network.Summary{ID: "id.net." + name, Name: name, Scope: "swarm", Driver: "overlay"})
		configs = append(configs, swarm.Config{ID: "id.cfg." + name, Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}}})
		secrets = append(secrets, swarm.Secret{ID: "id.sec." + name, Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: name}}})
	}
	return NewLive(time.Time{}, api, services, networks, configs, secrets, nil)
}

// engineKeeps is what an engine gives back for a spec that was written to it: the
// way through JSON, the API's gates by version and the conversion to and from
// Swarm's own types, as the engine's source has them. The recordings in
// testdata/live hold it to a real one.
func engineKeeps(t testing.TB, api string, s *swarm.ServiceSpec) swarm.ServiceSpec {
	t.Helper()
	out := throughJSON(t, s)
	gates := lacksOf(api)
	c := mutContainer(&out)
	c.Image = strings.TrimPrefix(strings.TrimPrefix(canonicalImage(c.Image), "docker.io/"), "library/")
	if c.Isolation == "" {
		c.Isolation = container.IsolationDefault
	}
	if c.Healthcheck != nil && gates.startInterval {
		c.Healthcheck.StartInterval = 0
	}
	if gates.oomScoreAdj {
		c.OomScoreAdj = 0
	}
	for i := range c.Mounts {
		keepMount(&c.Mounts[i], gates)
	}
	for _, r := range c.Configs {
		r.ConfigID = "id.cfg." + r.ConfigName
	}
	for _, r := range c.Secrets {
		r.SecretID = "id.sec." + r.SecretName
	}
	if p := c.Privileges; p != nil && p.CredentialSpec != nil && p.CredentialSpec.Config != "" {
		p.CredentialSpec.Config = "id.cfg." + strings.TrimPrefix(p.CredentialSpec.Config, "id.cfg.")
	}
	nets := networksOf(&out)
	for i := range nets {
		nets[i].Target = "id.net." + strings.TrimPrefix(nets[i].Target, "id.net.")
	}
	keepTask(&out.TaskTemplate)
	keepService(&out)
	return throughJSON(t, &out)
}

func throughJSON(t testing.TB, s *swarm.ServiceSpec) (out swarm.ServiceSpec) {
	t.Helper()
	b, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func keepMount(m *mount.Mount, gates lacks) {
	m.Consistency, m.ImageOptions, m.ClusterOptions = "", nil, nil
	if o := m.BindOptions; o != nil {
		kept := bindOf(m)
		m.BindOptions = &kept
		if o.Propagation == "" && !o.NonRecursive {
			m.BindOptions = nil
		}
	}
	if m.VolumeOptions != nil && gates.subpath {
		m.VolumeOptions.Subpath = ""
	}
	if m.TmpfsOptions != nil && gates.tmpfsOptions {
		m.TmpfsOptions.Options = nil
	}
}

func keepTask(t *swarm.TaskSpec) {
	t.Runtime = swarm.RuntimeContainer
	if r := t.RestartPolicy; r != nil {
		r.Condition = orElse(r.Condition, swarm.RestartPolicyConditionAny)
		attempts := value(r.MaxAttempts, 0)
		r.MaxAttempts = &attempts
	}
	if t.Resources != nil && t.Resources.Limits != nil && t.Resources.Limits.Pids < 0 {
		t.Resources.Limits.Pids = 0
	}
}

func keepService(s *swarm.ServiceSpec) {
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	n := scaleOf(s)
	switch modeOf(s) {
	case modeReplicated:
		s.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n.total}
	case modeReplicatedJob:
		s.Mode.ReplicatedJob = &swarm.ReplicatedJob{MaxConcurrent: &n.concurrent, TotalCompletions: &n.total}
	}
	if e := s.EndpointSpec; e != nil {
		e.Mode = orElse(e.Mode, swarm.ResolutionModeVIP)
		for i, p := range e.Ports {
			e.Ports[i] = portOf(&p)
			e.Ports[i].Name = p.Name
		}
	}
	for _, u := range []*swarm.UpdateConfig{s.UpdateConfig, s.RollbackConfig} {
		if u != nil {
			u.FailureAction = orElse(u.FailureAction, swarm.UpdateFailureActionPause)
			u.Order = orElse(u.Order, swarm.UpdateOrderStopFirst)
		}
	}
}

// The model makes of what was sent what the real engine made of it.
func TestModelIsLikeARealEngine(t *testing.T) {
	for name, r := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			live := r.Services[0].Spec
			ids := map[string]string{}
			for _, n := range r.Networks {
				ids["id.net."+n.Name] = n.ID
			}
			for _, c := range r.Configs {
				ids["id.cfg."+c.Spec.Name] = c.ID
			}
			for _, s := range r.Secrets {
				ids["id.sec."+s.Spec.Name] = s.ID
			}
			got, err := json.Marshal(engineKeeps(t, r.API, &r.Desired.Services[0].Spec))
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(live)
			if err != nil {
				t.Fatal(err)
			}
			for from, to := range ids {
				got = []byte(strings.ReplaceAll(string(got), `"`+from+`"`, `"`+to+`"`))
			}
			if strings.HasPrefix(name, "host-network") { // the Swarm's own ID of it is in no list
				got = []byte(strings.ReplaceAll(string(got), "id.net.host", live.TaskTemplate.Networks[0].Target))
			}
			if string(got) != string(want) {
				t.Errorf("model\n%s\nengine\n%s", got, want)
			}
		})
	}
}

// words are the values that strings at a path take in generated specs; others
// take one of a few letters. "" is always among them where it may be.
var words = map[string][]string{
	"Mode":          {"", "vip", "dnsrr"},
	"Protocol":      {"", "tcp", "udp"},
	"PublishMode":   {"", "ingress", "host"},
	"FailureAction": {"", "pause", "continue", "rollback"},
	"Order":         {"", "stop-first", "start-first"},
	"Condition":     {"", "none", "on-failure", "any"},
	"Isolation":     {"", "default"},
	"Image":         {"nginx", "nginx:1.27", "nginx:1.27@sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7", "localhost:5000/a/b:c"},
	"Propagation":   {"", "rprivate", "rslave"},
	"Target":        {"/a", "/b", "/b/", "/c/d"},
	"ConfigName":    modelObjects,
	"SecretName":    modelObjects,
}

// notSaid is what specs do not say before they are bound or sent.
var notSaid = []string{"Name", "ConfigID", "SecretID", "Networks"}

// genSpec makes a spec of what a compose file can say, in any shape of nils,
// defaults and order.
func genSpec(t *rapid.T) *swarm.ServiceSpec {
	s := new(swarm.ServiceSpec)
	fill(t, reflect.ValueOf(s).Elem(), "")
	genMode(t, s)
	c := mutContainer(s)
	c.Env = uniqueEnv(c.Env)
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m mount.Mount) bool { return m.Target == "" })
	c.Configs = slices.DeleteFunc(c.Configs, func(r *swarm.ConfigReference) bool { return r == nil })
	for _, r := range c.Configs {
		if r.Runtime != nil || r.File == nil {
			r.File, r.Runtime = nil, &swarm.ConfigReferenceRuntimeTarget{}
		}
	}
	for _, r := range c.Secrets {
		if r.File == nil {
			r.File = &swarm.SecretReferenceFileTarget{Name: "x"}
		}
	}
	if p := c.Privileges; p != nil && p.CredentialSpec != nil && p.CredentialSpec.Config != "" {
		p.CredentialSpec.Config = "a"
	}
	if s.TaskTemplate.Resources != nil && s.TaskTemplate.Resources.Reservations != nil {
		r := s.TaskTemplate.Resources.Reservations
		r.GenericResources = slices.DeleteFunc(r.GenericResources, func(g swarm.GenericResource) bool {
			return (g.DiscreteResourceSpec == nil) == (g.NamedResourceSpec == nil)
		})
	}
	if p := s.TaskTemplate.Placement; p != nil {
		p.Preferences = slices.DeleteFunc(p.Preferences, func(p swarm.PlacementPreference) bool { return p.Spread == nil })
	}
	s.TaskTemplate.Networks = nil
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(modelObjects), 0, 3, rapid.ID[string]).Draw(t, "networks") {
		s.TaskTemplate.Networks = append(s.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{
			Target: name, Aliases: rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y"}), 0, 2).Draw(t, "aliases"),
		})
	}
	s.Name = "shop_web"
	s.Labels = withLabel(s.Labels, spec.LabelNamespace, "shop")
	s.Labels[spec.LabelImage] = c.Image
	return s
}

func genMode(t *rapid.T, s *swarm.ServiceSpec) {
	n := rapid.Uint64Range(0, 3).Draw(t, "n")
	s.Mode = swarm.ServiceMode{}
	switch rapid.IntRange(0, 9).Draw(t, "mode") {
	case 0:
		s.Mode.Global = &swarm.GlobalService{}
	case 1:
		s.Mode.ReplicatedJob = &swarm.ReplicatedJob{MaxConcurrent: &n, TotalCompletions: &n}
	case 2:
		s.Mode.GlobalJob = &swarm.GlobalJob{}
	case 3: // an engine takes silence for one replica
	default:
		s.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n}
	}
	if isJob(s) {
		s.UpdateConfig, s.RollbackConfig = nil, nil
	}
}

func uniqueEnv(env []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(env, func(e string) bool {
		k, _, _ := strings.Cut(e, "=")
		dup := seen[k] || k == ""
		seen[k] = true
		return dup
	})
}

func fill(t *rapid.T, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			sub := strings.TrimPrefix(path+"."+f.Name, ".")
			if f.Anonymous {
				sub = path
			}
			if _, kept := keptLive[sub]; !kept && !slices.Contains(notSaid, f.Name) {
				fill(t, v.Field(i), sub)
			}
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, path) || strings.HasSuffix(path, "[]") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), path)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 || !rapid.Bool().Draw(t, path) {
			return
		}
		n := rapid.IntRange(0, 3).Draw(t, path)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i), path+"[]")
		}
	case reflect.Map:
		if !rapid.Bool().Draw(t, path) {
			return
		}
		v.Set(reflect.ValueOf(rapid.MapOfN(rapid.SampledFrom([]string{"k", "l", "m.n"}), rapid.SampledFrom([]string{"", "1", "2"}), 0, 3).Draw(t, path)))
	case reflect.String:
		v.SetString(rapid.SampledFrom(wordsFor(path)).Draw(t, path))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, path))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.SampledFrom([]int64{0, 1, 5e9, 10e9}).Draw(t, path) % (1 << (v.Type().Bits() - 1)))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64Range(0, 3).Draw(t, path))
	case reflect.Float32:
		v.SetFloat(rapid.SampledFrom([]float64{0, 0.5}).Draw(t, path))
	default:
		panic(fmt.Sprintf("%s: %s", path, v.Kind()))
	}
}

func wordsFor(path string) []string {
	last := path[strings.LastIndex(path, ".")+1:]
	switch {
	case path == "TaskTemplate.ContainerSpec.Mounts[].Type":
		return []string{"bind", "volume", "tmpfs"}
	case last == "Env[]":
		return []string{"A=1", "A=2", "B=", "B", "C_TOKEN=x"}
	case words[last] != nil:
		return words[last]
	case strings.HasSuffix(path, "[]"):
		return []string{"p", "q", "r"}
	}
	return []string{"", "p", "q"}
}

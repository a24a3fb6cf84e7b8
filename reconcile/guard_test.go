package reconcile

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

func policy(t rapid.TB, text string) *spec.ClusterPolicy {
	t.Helper()
	p, err := spec.ParseClusterPolicy("policy.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mounting(m mount.Mount) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { mutContainer(s).Mounts = append(mutContainer(s).Mounts, m) }
}

// localVolumeOf is a volume of the stack shop that the local driver mounts with options
// "KEY=VALUE" parted by spaces.
func localVolumeOf(options string) func(*swarm.ServiceSpec) {
	driver := &mount.Driver{Options: map[string]string{}}
	for option := range strings.SplitSeq(options, " ") {
		key, value, _ := strings.Cut(option, "=")
		driver.Options[key] = value
	}
	return mounting(mount.Mount{Type: mount.TypeVolume, Source: "shop_data", Target: "/x", VolumeOptions: &mount.VolumeOptions{DriverConfig: driver}})
}

// checked are the findings of a guard of the stack shop with one service.
func checked(g Guard, set ...func(*swarm.ServiceSpec)) []spec.Finding {
	return g.CheckStack(makeStack("shop", with(service("shop", "web", "app:1"), set...)))
}

// opening are mounts of all kinds that open a node: the engine's socket, by whatever
// name, what holds it, and what may become it.
var opening = map[string]func(*swarm.ServiceSpec){
	"socket":                    binding("/var/run/docker.sock"),
	"socket by /run":            binding("/run/docker.sock"),
	"slashes":                   binding("//var//run/./docker.sock/"),
	"dots":                      binding("/srv/../var/run/x/../docker.sock"),
	"root":                      binding("/"),
	"root by dots":              binding("/srv/.."),
	"/run":                      binding("/run"),
	"/var/run":                  binding("/var/run/"),
	"/var":                      binding("/var"),
	"containerd":                binding("/run/containerd/containerd.sock"),
	"containerd's folder":       binding("/run/containerd"),
	"containerd of docker":      binding("/run/docker/containerd/containerd.sock"),
	"socket elsewhere":          binding("/srv/engine/docker.sock"),
	"rootless":                  binding("/run/user/1001"),
	"rootless socket":           binding("/run/user/1001/docker.sock"),
	"a process's root":          binding("/proc/1/root"),
	"a process's folder":        binding("/proc/self/cwd/etc"),
	"a thread's root":           binding("/proc/1/task/1/root/run"),
	"an open file":              binding("/dev/fd/7"),
	"template of anything":      binding(`{{"/var/run/docker.sock"}}`),
	"template of a label":       binding(`/{{index .Service.Labels "a"}}`),
	"template, part of a name":  binding(`/run/docker.s{{printf "ock"}}`),
	"a host called run":         binding("/{{.Node.Hostname}}"),
	"a pipe":                    mounting(mount.Mount{Type: mount.TypeNamedPipe, Source: `\\.\pipe\docker_engine`, Target: "/x"}),
	"a drive":                   binding(`C:\`),
	"a drive as a device":       binding(`\\?\C:\`),
	"a pipe as a device":        binding(`\\?\pipe\docker_engine`),
	"volume":                    localVolumeOf("type=none o=bind device=/var/run/docker.sock"),
	"volume, of no type":        localVolumeOf("o=bind device=/"),
	"volume, another type":      localVolumeOf("type=ext4 o=bind,ro device=/run"),
	"volume, rbind":             localVolumeOf("o=rw,rbind device=/var/run"),
	"volume, capitals":          localVolumeOf("o=BIND device=/run/docker.sock"),
	"volume, relative":          localVolumeOf("o=bind device=var/run/docker.sock"),
	"volume, links and dots":    localVolumeOf("o=bind device=/var/lock/../docker.sock"),
	"volume, template":          localVolumeOf("o=bind device={{`/`}}"),
	"volume, template in o":     localVolumeOf("o={{`bind`}} device=/run"),
	"volume, overlay":           localVolumeOf("type=overlay device=overlay o=lowerdir=/,upperdir=/srv/u,workdir=/srv/w"),
	"volume, overlay, second":   localVolumeOf("type=overlay device=overlay o=lowerdir=/srv/a:/run"),
	"volume, overlay, escaped":  localVolumeOf(`type=overlay device=overlay o=lowerdir=/r\un:/srv/a`),
	"volume, overlay, relative": localVolumeOf("type=overlay device=overlay o=lowerdir=run"),
	"volume, local by name": mounting(mount.Mount{Type: mount.TypeVolume, Source: "shop_x", Target: "/x", VolumeOptions: &mount.VolumeOptions{
		DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"o": "bind", "device": "/run"}}}}),
}

// harmless are mounts that need no flag.
var harmless = map[string]func(*swarm.ServiceSpec){
	"a folder":               binding("/srv/data"),
	"logs":                   binding("/var/log"),
	"/proc itself":           binding("/proc"),
	"/run/other":             binding("/run/lock"),
	"a host's folder":        binding("/srv/{{.Node.Hostname}}/{{ .Task.Slot }}"),
	"a volume":               mounting(mount.Mount{Type: mount.TypeVolume, Source: "shop_data", Target: "/x"}),
	"an anonymous volume":    mounting(mount.Mount{Type: mount.TypeVolume, Target: "/x"}),
	"a volume of any slot":   mounting(mount.Mount{Type: mount.TypeVolume, Source: "shop_{{.Task.Slot}}", Target: "/x"}),
	"tmpfs":                  mounting(mount.Mount{Type: mount.TypeTmpfs, Target: "/x"}),
	"a volume that is tmpfs": localVolumeOf("type=tmpfs device=tmpfs o=size=10m"),
	"a volume that is nfs":   localVolumeOf("type=nfs o=addr=10.0.0.1,rw device=:/export"),
}

// Without a policy all is allowed but what opens a node, and that by a flag.
func TestHostRootNeedsItsFlag(t *testing.T) {
	for name, set := range opening {
		found := checked(Guard{}, set)
		if len(found) == 0 || found[0].Code != "host-root" || found[0].Severity != spec.Error || found[0].Service != "web" || !strings.Contains(found[0].Message, "--allow-host-root") {
			t.Errorf("%s: %v", name, found)
		}
		if found := checked(Guard{AllowHostRoot: true}, set); len(found) > 0 {
			t.Errorf("%s, with the flag: %v", name, found)
		}
	}
	for name, set := range harmless {
		if found := checked(Guard{}, set); len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// With a policy no pattern means what opens a node, whatever the flag says; a name does.
func TestNoPatternOpensANode(t *testing.T) {
	patterns := policy(t, `rules:
- name: everything
  allow:
    binds: ["/**", 'c:\**']
    volume_types: ["*"]
    images: ["**"]
`)
	for name, set := range opening {
		found := checked(Guard{Policy: patterns, AllowHostRoot: true}, set)
		if i := slices.IndexFunc(found, func(f spec.Finding) bool { return f.Code == "policy-bind" }); i < 0 || !strings.Contains(found[i].Message, "policy.yml") {
			t.Errorf("%s: %v", name, found)
		}
	}
	for name, set := range harmless {
		if found := checked(Guard{Policy: patterns}, set); len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
	named := policy(t, "rules:\n- {name: infra, allow: {images: ['**'], binds: [/var/run/docker.sock, /]}}")
	for name, allowed := range map[string]bool{"socket": true, "socket by /run": true, "slashes": true, "root": true, "volume": true, "/run": false, "containerd": false} {
		if found := checked(Guard{Policy: named}, opening[name]); (len(found) == 0) != allowed {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// Each thing that a stack can ask for is refused where no rule allows it, by a finding
// with a code and the rule, and allowed by the entry that names it.
func TestPolicyOfEachThing(t *testing.T) {
	resources := func(r swarm.ResourceRequirements) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { s.TaskTemplate.Resources = &r }
	}
	privileges := func(p swarm.Privileges) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { mutContainer(s).Privileges = &p }
	}
	named := func(v mount.Mount, driver string) func(*swarm.ServiceSpec) {
		if driver != "" {
			v.VolumeOptions = &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: driver}}
		}
		v.Target = "/x"
		return mounting(v)
	}
	attached := func(name string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Networks = append(s.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: name})
		}
	}
	image := func(image string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { mutContainer(s).Image = image }
	}
	starting := policy(t, startingPolicy(t))
	const digest = "@sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7"
	for name, tt := range map[string]struct {
		set         func(*swarm.ServiceSpec)
		code, allow string
	}{
		"bind":                {binding("/srv/x"), "policy-bind", "binds: [/srv/**]"},
		"docker's data":       {binding("/var/lib/docker"), "policy-bind", "binds: [/var/lib/docker]"},
		"sysfs":               {binding("/sys"), "policy-bind", "binds: [/sys]"},
		"driver's bind":       {localVolumeOf("type=none o=bind device=/srv/x"), "policy-bind", "binds: [/srv/*]"},
		"a disk":              {localVolumeOf("type=ext4 device=/dev/sda1"), "policy-bind", "binds: [/dev/sda1], volume_types: [ext4]"},
		"nfs":                 {localVolumeOf("type=nfs o=addr=10.0.0.1 device=:/x"), "policy-driver", "volume_types: [nfs]"},
		"volume driver":       {named(mount.Mount{Type: mount.TypeVolume, Source: "shop_x"}, "rexray"), "policy-driver", "volume_drivers: [rexray]"},
		"another's volume":    {named(mount.Mount{Type: mount.TypeVolume, Source: "blog_x"}, ""), "policy-external", "volumes: [blog_*]"},
		"a like-named volume": {named(mount.Mount{Type: mount.TypeVolume, Source: "shopping_x"}, ""), "policy-external", "volumes: [shopping_x]"},
		"a volume's template": {named(mount.Mount{Type: mount.TypeVolume, Source: "{{`blog_x`}}"}, ""), "policy-external", "volumes: ['*']"},
		"cluster volume":      {named(mount.Mount{Type: mount.TypeCluster, Source: "group:a"}, ""), "policy-external", "cluster_volumes: ['group:*']"},
		"image mount":         {named(mount.Mount{Type: mount.TypeImage, Source: "evil.example/x"}, ""), "policy-image", "images: [evil.example/x]"},
		"port":                {ingressPort(8080), "policy-port", "ports: [8000-8999]"},
		"any port":            {ingressPort(0), "policy-port", "ports: [0]"},
		"host port":           {hostPort(80), "policy-port", "host_ports: [80]"},
		"host network":        {attached("host"), "policy-network", "networks: [host]"},
		"external network":    {attached("blog_default"), "policy-external", "networks: ['blog_*']"},
		"capability":          {func(s *swarm.ServiceSpec) { mutContainer(s).CapabilityAdd = []string{"cap_net_admin"} }, "policy-privilege", "capabilities: [NET_ADMIN]"},
		"all capabilities":    {func(s *swarm.ServiceSpec) { mutContainer(s).CapabilityAdd = []string{"all"} }, "policy-privilege", "capabilities: [ALL]"},
		"sysctl":              {func(s *swarm.ServiceSpec) { mutContainer(s).Sysctls = map[string]string{"net/core/x": "1"} }, "policy-privilege", "sysctls: [net.core.*]"},
		"sysctl, slashes":     {func(s *swarm.ServiceSpec) { mutContainer(s).Sysctls = map[string]string{"net.core.x": "1"} }, "policy-privilege", "sysctls: [net/core/*]"},
		"seccomp":             {privileges(swarm.Privileges{Seccomp: &swarm.SeccompOpts{Mode: swarm.SeccompModeUnconfined}}), "policy-privilege", "privileges: [seccomp]"},
		"apparmor":            {privileges(swarm.Privileges{AppArmor: &swarm.AppArmorOpts{Mode: swarm.AppArmorModeDisabled}}), "policy-privilege", "privileges: [apparmor]"},
		"selinux":             {privileges(swarm.Privileges{SELinuxContext: &swarm.SELinuxContext{Disable: true}}), "policy-privilege", "privileges: [selinux]"},
		"credential spec":     {privileges(swarm.Privileges{CredentialSpec: &swarm.CredentialSpec{File: "x"}}), "policy-privilege", "privileges: [credential_spec]"},
		"device":              {resources(swarm.ResourceRequirements{Reservations: &swarm.Resources{GenericResources: []swarm.GenericResource{{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 1}}}}}), "policy-privilege", "devices: [gpu]"},
		"log driver":          {func(s *swarm.ServiceSpec) { s.TaskTemplate.LogDriver = &swarm.Driver{Name: "syslog"} }, "policy-driver", "log_drivers: [syslog]"},
		"registry":            {image("r.example/app:1"), "policy-image", "images: [r.example/**]"},
		"registry, digest":    {image("r.example/app" + digest), "policy-image", "images: [r.example/app]"},
		"registry, capitals":  {image("R.Example/app:1"), "policy-image", "images: [r.example/app]"},
		"docker's own name":   {image("registry-1.docker.io/bitnami/x:1"), "policy-image", "images: [docker.io/bitnami/*]"},
		"docker's old name":   {image("index.docker.io/bitnami/x:1"), "policy-image", "images: [docker.io/bitnami/*]"},
		"another's on docker": {image("bitnami/x"), "policy-image", "images: [docker.io/bitnami/*]"},
		"tag":                 {image("r.example/x:2"), "policy-image", "images: ['r.example/x:2']"},
	} {
		base := "rules:\n- name: base\n  allow: {images: ['docker.io/library/*', 'r.example/x:1']}\n"
		found := checked(Guard{Policy: policy(t, base)}, tt.set)
		if len(found) == 0 || !slices.ContainsFunc(found, func(f spec.Finding) bool { return f.Code == tt.code && f.Severity == spec.Error }) {
			t.Errorf("%s: %v", name, found)
		}
		for _, f := range found {
			if !strings.Contains(f.Message, "rule base (policy.yml:2)") {
				t.Errorf("%s names no rule: %s", name, f.Message)
			}
		}
		if found := checked(Guard{Policy: policy(t, base+"- name: more\n  allow: {"+tt.allow+"}\n")}, tt.set); len(found) > 0 {
			t.Errorf("%s, allowed by %s: %v", name, tt.allow, found)
		}
		denied := policy(t, base+"- name: more\n  allow: {"+tt.allow+"}\n- name: never\n  deny: {"+strings.ReplaceAll(tt.allow, ":ro", "")+"}\n")
		if found := checked(Guard{Policy: denied}, tt.set); len(found) == 0 || !strings.Contains(found[0].Message, "denied by rule never (policy.yml:6)") {
			t.Errorf("%s, denied: %v", name, found)
		}
		if found := checked(Guard{}, tt.set); len(found) > 0 {
			t.Errorf("%s, without a policy: %v", name, found)
		}
		if found := checked(Guard{Policy: starting}, tt.set); len(found) > 0 {
			t.Errorf("%s, with the policy to begin with: %v", name, found)
		}
	}
}

// startingPolicy is the one of docs/policy.md that is as without a policy, but for one
// stack.
func startingPolicy(t *testing.T) string {
	t.Helper()
	_, section, _ := strings.Cut(readFile(t, "../docs/policy.md"), "## Without a policy\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, text, there := strings.Cut(section, "```yaml\n")
	text, _, _ = strings.Cut(text, "```\n")
	if !there {
		t.Fatal("docs/policy.md has no policy to begin with")
	}
	return text
}

// The policy to begin with refuses of mounts, networks, ports and privileges exactly what
// is refused without one, but for the stack that it is about (TestPolicyOfEachThing asks it
// for the rest).
func TestPolicyToBeginWith(t *testing.T) {
	text := startingPolicy(t)
	g := Guard{Policy: policy(t, text)}
	for _, mounts := range []map[string]func(*swarm.ServiceSpec){opening, harmless} {
		for name, set := range mounts {
			if with, without := checked(g, set), checked(Guard{}, set); (len(with) > 0) != (len(without) > 0) {
				t.Errorf("%s: with it %v, without %v", name, with, without)
			}
		}
	}
	for _, name := range onEveryNode {
		if found := checked(g, func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: name}}
		}); len(found) > 0 {
			t.Errorf("network %s: %v", name, found)
		}
	}
	for _, port := range []uint32{0, 1, 80, 65535} {
		if found := slices.Concat(checked(g, ingressPort(port)), checked(g, hostPort(port))); len(found) > 0 {
			t.Errorf("port %d: %v", port, found)
		}
	}
	for _, privilege := range spec.Privileges {
		if _, refused := g.Policy.For("shop", "shop.yml").Refuses(spec.Request{Aspect: spec.AspectPrivileges, Value: privilege}); refused {
			t.Errorf("privilege %s is refused", privilege)
		}
	}
	for _, m := range regexp.MustCompile(`Aspect\w+ +Aspect = "([a-z_]+)"`).FindAllStringSubmatch(readFile(t, "../spec/clusterpolicy.go"), -1) {
		q := spec.Request{Aspect: spec.Aspect(m[1]), Value: "/any.thing/x", Port: 9000}
		if why, refused := g.Policy.For("shop", "shop.yml").Refuses(q); refused && q.Aspect != spec.AspectPrivileges {
			t.Errorf("%s: %s", m[1], why)
		}
	}
	proxy := makeStack("proxy", with(service("proxy", "web", "app:1"), opening["socket"]))
	proxy.Source.File = "infra-proxy/compose.yaml"
	if found := g.CheckStack(proxy); len(found) > 0 {
		t.Errorf("the stack that gets the socket: %v", found)
	}
	proxy.Source.File = "other/compose.yaml"
	if found := g.CheckStack(proxy); len(found) != 1 {
		t.Errorf("another stack that wants the socket: %v", found)
	}
}

// What no rule can allow: it names the policy.
func TestPolicyOfWhatNobodyKnows(t *testing.T) {
	open := policy(t, "rules:\n- name: a\n  allow: {images: ['**'], binds: ['/**', /], volume_drivers: ['*']}\n")
	for name, set := range map[string]func(*swarm.ServiceSpec){
		"plugin":   func(s *swarm.ServiceSpec) { s.TaskTemplate.Runtime = swarm.RuntimePlugin },
		"image ID": func(s *swarm.ServiceSpec) { mutContainer(s).Image = strings.Repeat("ab", 32) },
		"mount":    mounting(mount.Mount{Type: "new", Source: "/srv"}),
		"template": binding("{{.X}}"),
		"relative": binding("srv"),
	} {
		if found := checked(Guard{Policy: open}, set); len(found) != 1 || !strings.Contains(found[0].Message, "no rule of policy.yml can allow it") {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestPolicyOfNetworksConfigsAndSecrets(t *testing.T) {
	stack := makeStack("shop", service("shop", "web", "app:1"))
	c := mutContainer(&stack.Services[0].Spec)
	c.Configs = []*swarm.ConfigReference{{ConfigName: "shop_own"}, {ConfigName: "shared"}}
	c.Secrets = []*swarm.SecretReference{{SecretName: "shop_key"}, {SecretName: "blog_db"}}
	stack.Networks = append(stack.Networks, spec.Network{Key: "lan", Name: "shop_lan", Create: network.CreateOptions{
		Driver: "macvlan", ConfigFrom: &network.ConfigReference{Network: "nodes"}, IPAM: &network.IPAM{Driver: "dhcp"}}})
	stack.Configs = []spec.Config{{Key: "own", Name: "shop_own", Spec: swarm.ConfigSpec{Data: []byte("x"), Templating: &swarm.Driver{Name: "jinja"}}}, {Key: "shared", Name: "shared", External: true}}
	stack.Secrets = []spec.Secret{{Key: "key", Name: "shop_key", Spec: swarm.SecretSpec{Driver: &swarm.Driver{Name: "vault"}}}, {Key: "db", Name: "blog_db", External: true}}
	base := "rules:\n- name: base\n  allow: {images: ['**']}\n"
	var told []string
	for _, f := range (Guard{Policy: policy(t, base)}).CheckStack(stack) {
		what, _, _ := strings.Cut(f.Message, " is not allowed")
		told = append(told, f.Code+": "+what)
	}
	want := []string{
		"policy-driver: the driver macvlan of network shop_lan",
		"policy-driver: the driver dhcp of network shop_lan",
		"policy-external: network nodes, from which shop_lan is configured,",
		"policy-driver: the template driver jinja of config shop_own",
		"policy-driver: the driver vault of secret shop_key",
		"policy-external: the external config shared",
		"policy-external: the external secret blog_db",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %s\nwant %s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	all := base + "- name: more\n  allow: {network_drivers: [macvlan, dhcp], networks: [nodes], template_drivers: [jinja], secret_drivers: [vault], configs: [shared], secrets: [blog_*]}\n"
	if found := (Guard{Policy: policy(t, all)}).CheckStack(stack); len(found) > 0 {
		t.Errorf("allowed, and yet: %v", found)
	}
}

// No stack gets what skep keeps for itself, whatever a policy or a flag says.
func TestStacksDoNotGetWhatSkepKeeps(t *testing.T) {
	open := policy(t, "rules:\n- name: a\n  allow: {images: ['**'], configs: ['*', skep-key], secrets: ['*']}\n")
	for _, name := range []string{"skep-key", "skep-release-shop-1", "skep-state-shop", "skep-lease-skep", "skep-report-skep", "skep-prune-skep"} {
		for _, g := range []Guard{{}, {AllowHostRoot: true}, {Policy: open}} {
			external := makeStack("shop", with(service("shop", "web", "app:1"), func(s *swarm.ServiceSpec) {
				mutContainer(s).Configs = []*swarm.ConfigReference{{ConfigName: name}}
			}))
			external.Configs = []spec.Config{{Key: "k", Name: name, External: true}}
			own := makeStack("shop", service("shop", "web", "app:1"))
			own.Secrets = []spec.Secret{{Key: "k", Name: name, Value: spec.NewSensitive([]byte("x"))}}
			for _, stack := range []*spec.Stack{external, own} {
				if found := g.CheckStack(stack); len(found) == 0 || found[0].Code != "skep-own" {
					t.Errorf("%s with %+v: %v", name, g, found)
				}
			}
		}
	}
	fine := makeStack("skep-demo", service("skep-demo", "web", "app:1"))
	fine.Configs = []spec.Config{{Key: "k", Name: "skep-demo_k"}}
	if found := (Guard{}).CheckStack(fine); len(found) > 0 {
		t.Errorf("a stack that is called skep-demo: %v", found)
	}
	// By its label, whatever it is called.
	live := &Live{Secrets: map[string]*LiveObject{"renamed": {Name: "renamed", Labels: map[string]string{labelKind: "key"}}}}
	d := Bind(makeStack("shop", with(service("shop", "web", "app:1"), func(s *swarm.ServiceSpec) {
		mutContainer(s).Secrets = []*swarm.SecretReference{{SecretName: "renamed"}}
	})), Binding{})
	if found := (Guard{}).Check(d, "shop.yml", live, nil, true); len(found) != 1 || found[0].Code != "skep-own" {
		t.Errorf("by its label: %v", found)
	}
}

func TestPolicyLimits(t *testing.T) {
	limit := func(text string) Guard {
		return Guard{Policy: policy(t, "rules:\n- {name: a, allow: {images: ['**']}}\n- name: small\n  limit: {"+text+"}\n")}
	}
	resources := func(limits swarm.Limit, reserved swarm.Resources) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &limits, Reservations: &reserved}
		}
	}
	user := func(name string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { mutContainer(s).User = name }
	}
	replicas := func(n uint64) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { s.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n} }
	}
	job := func(n uint64) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{TotalCompletions: &n}}
		}
	}
	nothing := func(*swarm.ServiceSpec) {}
	for i, tt := range []struct {
		limit   string
		set     func(*swarm.ServiceSpec)
		allowed bool
	}{
		{"replicas: 3", replicas(3), true}, {"replicas: 3", replicas(4), false}, {"replicas: 3", job(4), false},
		{"replicas: 1", func(s *swarm.ServiceSpec) { s.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}} }, true},
		{"cpus: 0.5", nothing, false},
		{"cpus: 0.5", resources(swarm.Limit{NanoCPUs: 5e8}, swarm.Resources{}), true},
		{"cpus: 0.5", resources(swarm.Limit{NanoCPUs: 5e8 + 1}, swarm.Resources{}), false},
		{"cpus: 0.5", resources(swarm.Limit{NanoCPUs: 1}, swarm.Resources{NanoCPUs: 1e9}), false},
		{"memory: 1M", nothing, false},
		{"memory: 1M", resources(swarm.Limit{MemoryBytes: 1 << 20}, swarm.Resources{}), true},
		{"memory: 1M", resources(swarm.Limit{MemoryBytes: 1 << 21}, swarm.Resources{}), false},
		{"memory: 1M", resources(swarm.Limit{MemoryBytes: 1}, swarm.Resources{MemoryBytes: 1 << 30}), false},
		{"pids: 10", nothing, false}, {"pids: 10", resources(swarm.Limit{Pids: 10}, swarm.Resources{}), true},
		{"pids: 10", resources(swarm.Limit{Pids: -1}, swarm.Resources{}), false},
		{"non_root: true", nothing, false}, {"non_root: true", user("1000:0"), true}, {"non_root: true", user("app"), true},
		{"non_root: true", user("0:1"), false}, {"non_root: true", user("00"), false}, {"non_root: true", user("+0"), false}, {"non_root: true", user("-0:1"), false}, {"non_root: true", user("root"), false}, {"non_root: true", user(":5"), false},
		{"workers_only: true", nothing, false}, {"workers_only: true", on("node.role==worker"), true}, {"workers_only: true", on("node.role != manager"), true},
		{"workers_only: true", on("node.role == manager"), false}, {"workers_only: true", on("node.labels.a != manager"), false},
		{"digest: true", func(s *swarm.ServiceSpec) { mutContainer(s).Image = "x@sha256:" + strings.Repeat("a", 64) }, true},
		{"digest: true", nothing, false}, // images: as-written
		{"digest: false", nothing, true},
	} {
		found := checked(limit(tt.limit), tt.set)
		if (len(found) == 0) != tt.allowed {
			t.Errorf("%d, %s: %v", i, tt.limit, found)
		}
		for _, f := range found {
			if !strings.Contains(f.Message, "rule small (policy.yml:3)") || f.Code != "policy-limit" && f.Code != "policy-image" {
				t.Errorf("%d, %s names no rule: %v", i, tt.limit, f)
			}
		}
	}
}

// allowing makes the world's reconciler keep to a policy, which may be changed.
func (w *world) allowing(p **spec.ClusterPolicy) {
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, Policy: func() *spec.ClusterPolicy { return *p }})
}

func (w *world) writesOf(f func()) []string {
	w.engine.takeWrites()
	f()
	return w.engine.takeWrites()
}

// What is refused is not written, nothing of its release is, and x-skep cannot help.
func TestRefusedReleasesAreHeld(t *testing.T) {
	stack := makeStack("shop", with(service("shop", "web", "app:1"), binding("/run/docker.sock")), service("shop", "db", "app:1"))
	stack.Policy.Findings = map[string]spec.Severity{"host-root": spec.Off}
	w := newWorld(t, stack)
	var res Result
	if wrote := w.writesOf(func() { res = w.pass() }); len(wrote) > 0 || res.Outcome != Held || res.Reason != "HostRoot" {
		t.Errorf("%s %s: %s, wrote %v", res.Outcome, res.Reason, res.Message, wrote)
	}
	plan, err := w.r.Plan(t.Context(), stack)
	if err != nil || !plan.Empty() || len(plan.Held) == 0 || finding(plan.Findings, "host-root") == nil || plan.Findings[0].File != "shop.yml" {
		t.Errorf("%+v, %v", plan, err)
	}
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, AllowHostRoot: true})
	if res := w.settle(); res.Outcome != Unchanged {
		t.Errorf("with the flag: %s %s", res.Outcome, res.Message)
	}
}

// A policy that changes counts at once, for what lives too: that stays as it is, and
// what drifts is not corrected.
func TestPolicyThatChanges(t *testing.T) {
	open, closed := policy(t, "rules: [{name: a, allow: {images: ['**'], ports: [80]}}]"), policy(t, "rules: [{name: a, allow: {images: ['**']}}]")
	w := newWorld(t, makeStack("shop", with(service("shop", "web", "app:1"), ingressPort(80))))
	p := open
	w.allowing(&p)
	w.settle()
	p = closed
	var res Result
	if wrote := w.writesOf(func() { res = w.settle() }); len(wrote) > 0 || res.Outcome != Held || res.Reason != "PolicyPort" {
		t.Errorf("%s %s: %s, wrote %v", res.Outcome, res.Reason, res.Message, wrote)
	}
	p = open
	if res = w.settle(); res.Outcome != Unchanged {
		t.Errorf("allowed again: %s %s", res.Outcome, res.Message)
	}
}

// A release that is gone back to, by hand or since another failed, is asked as well.
func TestPolicyOfTheWayBack(t *testing.T) {
	p := policy(t, "rules: [{name: a, allow: {images: ['**'], ports: [80]}}]")
	stack := func(image string, set ...func(*swarm.ServiceSpec)) *spec.Stack {
		return makeStack("shop", with(service("shop", "web", image), set...))
	}
	w := newWorld(t, stack("app:1", ingressPort(80)))
	w.allowing(&p)
	w.settle()
	w.stack = stack("app:2")
	w.settle()
	p = policy(t, "rules: [{name: b, allow: {images: ['**']}}]")
	w.pin(1)
	w.restart()
	w.allowing(&p)
	var res Result
	wrote := w.writesOf(func() { res = w.settle() })
	if res.Outcome != Held || res.Reason != "PolicyPort" || slices.ContainsFunc(wrote, func(s string) bool { return strings.Contains(s, "service") }) {
		t.Errorf("by hand: %s %s: %s, wrote %v", res.Outcome, res.Reason, res.Message, wrote)
	}
}

// A digest that a policy demands is asked for before it is missed, and then it is.
func TestPolicyWaitsForDigests(t *testing.T) {
	p := policy(t, "rules: [{name: a, allow: {images: ['**']}, limit: {digest: true}}]")
	for _, digest := range []string{"", "sha256:" + strings.Repeat("a", 64)} {
		stack := makeStack("shop", service("shop", "web", "app:1"))
		stack.Policy.Images = spec.ImagesPin
		w := newWorld(t, stack)
		w.engine.digest = digest
		w.allowing(&p)
		res := w.pass()
		if held := res.Outcome == Held && res.Reason == "PolicyImage"; held != (digest == "") {
			t.Errorf("digest %q: %s %s: %s", digest, res.Outcome, res.Reason, res.Message)
		}
		if digest != "" {
			w.settle()
		}
		if n := len(w.engine.services); (n == 0) != (digest == "") {
			t.Errorf("digest %q: %d services", digest, n)
		}
	}
}

// Whatever a stack asks for, a rule that only forbids never makes it be allowed.
func TestForbiddingGuardsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, from []string) string { return rapid.SampledFrom(from).Draw(t, name) }
		allow := fmt.Sprintf("- name: open\n  allow: {images: ['**'], binds: [%q], ports: [%q], networks: [%q]}\n",
			pick("bind", []string{"/", "/**", "/srv/*", "/run/docker.sock"}), pick("port", []string{"1-100", "443"}), pick("net", []string{"host", "*"}))
		forbid := pick("forbid", []string{
			"- {name: no, deny: {binds: [/srv/a]}}\n", "- {name: no, deny: {ports: [80]}}\n", "- {name: no}\n",
			"- {name: no, limit: {cpus: 1, replicas: 1}}\n", "- {name: no, stacks: [x], deny: {networks: ['*']}}\n", "- {name: no, limit: {non_root: true}}\n",
		})
		sets := []func(*swarm.ServiceSpec){
			binding(pick("source", []string{"/srv/a", "/srv", "/run", "/run/docker.sock", "/srv/{{.Task.Slot}}"})),
			ingressPort(rapid.SampledFrom([]uint32{0, 80, 443, 8080}).Draw(t, "published")),
		}
		refused := func(text string) int { return len(checked(Guard{Policy: policy(t, "rules:\n"+text)}, sets...)) }
		before := refused(allow)
		for _, text := range []string{allow + forbid, forbid + allow} {
			if after := refused(text); after < before {
				t.Fatalf("%d refusals became %d with %s", before, after, forbid)
			}
		}
	})
}

// The examples of docs/policy.md do what the page says of them.
func TestPolicyPage(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```\n").FindAllStringSubmatch(string(page), -1)
	type ask struct {
		stack, file string
		set         func(*swarm.ServiceSpec)
		code        string // "": allowed
	}
	image := func(image string, more ...func(*swarm.ServiceSpec)) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			mutContainer(s).Image = image + "@sha256:" + strings.Repeat("a", 64)
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{NanoCPUs: 1e9, MemoryBytes: 1 << 30}}
			for _, f := range more {
				f(s)
			}
		}
	}
	user := func(s *swarm.ServiceSpec) { mutContainer(s).User = "1000" }
	capability := func(name string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { mutContainer(s).CapabilityAdd = []string{name} }
	}
	everything := func(s *swarm.ServiceSpec) { // beside what never denies
		s.TaskTemplate.LogDriver = &swarm.Driver{Name: "fluentd"}
		localVolumeOf("type=nfs device=:/x")(s)
	}
	readOnly := mounting(mount.Mount{Type: mount.TypeBind, Source: "/var/run/docker.sock", Target: "/x", ReadOnly: true})
	asks := [][]ask{{
		{"blog", "blog.yml", image("any.example/x:1", everything, binding("/etc")), ""},
		{"blog", "blog.yml", image("x:1", readOnly), "policy-bind"},
		{"proxy", "infra-proxy/compose.yaml", image("traefik:3", readOnly), ""},
	}, {
		{"shop", "shop/compose.yaml", image("nginx:1", ingressPort(8080)), ""},
		{"shop", "shop/compose.yaml", image("nginx:latest", ingressPort(8080)), "policy-image"},
		{"shop", "shop/compose.yaml", image("ghcr.io/a/b:1"), "policy-image"},
		{"shop", "shop/compose.yaml", image("nginx:1", ingressPort(80)), "policy-port"},
		{"shop", "shop/compose.yaml", image("nginx:1", func(s *swarm.ServiceSpec) { s.TaskTemplate.Resources = nil }), "policy-limit"},
		{"traefik", "infra-traefik/compose.yaml", image("traefik:3", readOnly, hostPort(443)), ""},
		{"traefik", "infra-traefik/compose.yaml", image("traefik:3", binding("/run/docker.sock")), "policy-bind"}, // not :ro
		{"traefik", "shop/compose.yaml", image("traefik:3", readOnly), "policy-bind"},
		{"prometheus", "infra-prometheus/compose.yaml", image("registry.example.com/p:1", binding("/srv/prometheus/x"), ingressPort(9090)), ""},
		{"prometheus", "infra-prometheus/compose.yaml", image("registry.example.com/p:1", binding("/proc")), "policy-bind"},
	}, {
		{"a", "team-a-a/compose.yaml", image("registry.example.com/team-a/x:1", mounting(mount.Mount{Type: mount.TypeVolume, Source: "shared-1", Target: "/x"})), ""},
		{"a", "team-a-a/compose.yaml", image("registry.example.com/team-b/x:1"), "policy-image"},
		{"b", "team-b-b/compose.yaml", image("registry.example.com/team-b/x:1", on("node.role == worker"), user, binding("/srv/team-b/{{.Node.Hostname}}")), ""},
		{"b", "team-b-b/compose.yaml", image("registry.example.com/team-b/x:1", user), "policy-limit"},
		{"c", "c.yml", image("registry.example.com/team-a/x:1"), "policy-image"},
	}, {
		{"x", "x.yml", image("any.example/x:1", everything), ""},
		{"x", "x.yml", image("a.untrusted.example/x:1"), "policy-image"},
		{"x", "x.yml", image("x:1", binding("/etc/ssl")), "policy-bind"},
		{"x", "x.yml", image("x:1", capability("ALL")), "policy-privilege"},
	}}
	if len(blocks) != len(asks) {
		t.Fatalf("the page has %d examples, and %d are asked", len(blocks), len(asks))
	}
	for i, block := range blocks {
		g := Guard{Policy: policy(t, block[1])}
		for j, a := range asks[i] {
			stack := makeStack(a.stack, with(service(a.stack, "web", "app:1"), a.set))
			for k := range stack.Services[0].Spec.TaskTemplate.ContainerSpec.Mounts {
				m := &stack.Services[0].Spec.TaskTemplate.ContainerSpec.Mounts[k]
				m.Source = strings.Replace(m.Source, "shop_", a.stack+"_", 1)
			}
			stack.Source.File = a.file
			found := g.CheckStack(stack)
			switch {
			case a.code == "" && len(found) > 0:
				t.Errorf("example %d, %d: %v", i+1, j+1, found)
			case a.code != "" && finding(found, a.code) == nil:
				t.Errorf("example %d, %d: %v, want %s", i+1, j+1, found, a.code)
			}
		}
	}
	stack := makeStack("shop", with(service("shop", "web", "app:1"), image("nginx:1", binding("/etc"))))
	stack.Source.File = "shop/compose.yaml"
	told := Guard{Policy: policy(t, blocks[1][1])}.CheckStack(stack)
	if len(told) == 1 { // what was made here stands nowhere
		told[0].Line, told[0].Column = 5, 9
	}
	if len(told) != 1 || !strings.Contains(string(page), "    "+told[0].String()+"\n") {
		t.Errorf("the page does not have: %v", told)
	}
	for _, a := range regexp.MustCompile(`Aspect = "([a-z_]+)"|Aspect\w+ +Aspect = "([a-z_]+)"`).FindAllStringSubmatch(readFile(t, "../spec/clusterpolicy.go"), -1) {
		if name := a[1] + a[2]; !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("the page does not tell of %s", name)
		}
	}
}

// What is said of a path is a sentence, whichever way it is asked for.
func TestWordsOfMounts(t *testing.T) {
	for name, set := range map[string]func(*swarm.ServiceSpec){
		"a device by ..":       localVolumeOf("type=none o=bind device=/home/../"),
		"a device":             localVolumeOf("type=none o=bind device=/run"),
		"an overlay":           localVolumeOf(`type=overlay o=lowerdir=/a\b device=overlay`),
		"a template":           binding(`{{"/run"}}`),
		"a device of template": localVolumeOf(`o=bind device={{.X}}`),
	} {
		for _, g := range []Guard{{}, {Policy: policy(t, "rules: [{name: a, allow: {images: ['**'], volume_types: ['*']}}]")}} {
			found := checked(g, set)
			if len(found) == 0 {
				t.Errorf("%s: nothing is found", name)
			}
			for _, f := range found {
				if strings.Contains(f.Message, ",,") || strings.Contains(f.Message, ", which volume") || strings.Contains(f.Message, "template becomes") {
					t.Errorf("%s: %s", name, f.Message)
				}
			}
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A file that leaves out external: true makes no network its own that somebody else made.
func TestNetworksOfOthersAreNotTakenByTheirName(t *testing.T) {
	stack := makeStack("shop", with(service("shop", "web", "app:1"), func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "proxy"}}
	}))
	stack.Networks = []spec.Network{{Key: "lan", Name: "proxy"}}
	for _, tt := range []struct {
		name, labelled string
		scope          string
		allow          string
		allowed        bool
	}{
		{"made by hand", "", scopeSwarm, "", false},
		{"made by hand, allowed", "", scopeSwarm, "networks: [proxy]", true},
		{"another stack's", "infra", scopeSwarm, "", false},
		{"the stack's own", "shop", scopeSwarm, "", true},
		{"a node's, beside which it is made", "", "local", "", true},
	} {
		n := network.Summary{Name: "proxy", ID: "n1", Scope: tt.scope, Driver: "overlay", Labels: map[string]string{}}
		if tt.labelled != "" {
			n.Labels[spec.LabelNamespace] = tt.labelled
		}
		live := NewLive(time.Unix(0, 0), "1.45", nil, []network.Summary{n}, nil, nil, nil)
		d := Bind(stack, Binding{Live: live})
		g := Guard{Policy: policy(t, "rules:\n- name: a\n  allow: {images: ['**'], "+tt.allow+"}\n")}
		found := g.Check(d, "shop.yml", live, Diff(d, live, DiffOptions{}), true)
		if allowed := len(found) == 0; allowed != tt.allowed || !allowed && found[0].Code != "policy-external" {
			t.Errorf("%s: %v", tt.name, found)
		}
	}
}

// The Swarm has an ID of its own for a network of nodes, which no list tells: it is the
// one that the file asks for by name or, where the file asks for none, none that a
// pattern means.
func TestPolicyOfNetworksOfNodesByID(t *testing.T) {
	const id = "kq3jx8h2m4n5p6q7r8s9t0u1v"
	on := func(target string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: target}}
		}
	}
	for _, tt := range []struct {
		name, file, allow string
		ignored           bool
		allowed           bool
	}{
		{"as the file has it", "host", "[host]", false, true},
		{"as the file has it, and not allowed", "host", "['*']", false, false},
		{"left to others", "shop_default", "['*', host]", true, false},
	} {
		stack := makeStack("shop", with(service("shop", "web", "app:2"), on(tt.file)))
		ls := swarm.Service{ID: "s1", Spec: with(service("shop", "web", "app:1"), on(id)).Spec}
		live := NewLive(time.Unix(0, 0), "1.45", []swarm.Service{ls}, nil, nil, nil, nil)
		d, o := Bind(stack, Binding{Live: live}), DiffOptions{}
		if tt.ignored {
			o.Ignore = []spec.IgnorePath{{Service: "web", Path: "networks"}}
		}
		g := Guard{Policy: policy(t, "rules:\n- name: a\n  allow: {images: ['**'], networks: "+tt.allow+"}\n")}
		plan := Diff(d, live, o)
		if len(plan.Changes) == 0 {
			t.Fatalf("%s: nothing is to be written", tt.name)
		}
		found := g.Check(d, "shop.yml", live, plan, true)
		if allowed := len(found) == 0; allowed != tt.allowed || !allowed && found[0].Code != "policy-network" {
			t.Errorf("%s: %v", tt.name, found)
		}
	}
}

// The volumes of shop_blog begin with shop_ too.
func TestVolumesOfAStackWhoseNameGoesOn(t *testing.T) {
	live := NewLive(time.Unix(0, 0), "1.45", []swarm.Service{{ID: "s1", Spec: service("shop_blog", "db", "app:1").Spec}}, nil, nil, nil, nil)
	g := Guard{Policy: policy(t, "rules: [{name: a, allow: {images: ['**']}}]")}
	for source, allowed := range map[string]bool{"shop_data": true, "shop_blogs_data": true, "shop_blog": true, "shop_blog_data": false} {
		d := Bind(makeStack("shop", with(service("shop", "web", "app:1"), mounting(mount.Mount{Type: mount.TypeVolume, Source: source, Target: "/x"}))), Binding{Live: live})
		if found := g.Check(d, "shop.yml", live, nil, true); (len(found) == 0) != allowed {
			t.Errorf("%s: %v", source, found)
		}
	}
}

// A service that lives names the config of its credentials by ID.
func TestPolicyOfCredentialsByID(t *testing.T) {
	credentials := func(config string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			mutContainer(s).Privileges = &swarm.Privileges{CredentialSpec: &swarm.CredentialSpec{Config: config}}
		}
	}
	for name, allowed := range map[string]bool{"shop_gmsa": true, "blog_gmsa": false, "skep-key": false} {
		stack := makeStack("shop", with(service("shop", "web", "app:2"), credentials(name)))
		c := swarm.Config{ID: "c1", Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}}}
		if allowed {
			c.Spec.Labels = map[string]string{spec.LabelNamespace: "shop"}
		}
		ls := swarm.Service{ID: "s1", Spec: with(service("shop", "web", "app:1"), credentials("c1")).Spec}
		live := NewLive(time.Unix(0, 0), "1.45", []swarm.Service{ls}, nil, []swarm.Config{c}, nil, nil)
		d := Bind(stack, Binding{Live: live})
		g := Guard{Policy: policy(t, "rules: [{name: a, allow: {images: ['**'], privileges: [credential_spec]}}]")}
		plan := Diff(d, live, DiffOptions{})
		if c := plan.Changes[len(plan.Changes)-1]; c.Spec == nil || containerOf(c.Spec).Privileges.CredentialSpec.Config != "c1" {
			t.Fatalf("%s: %+v", name, plan)
		}
		if found := g.Check(d, "shop.yml", live, plan, true); (len(found) == 0) != allowed {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// A policy that comes to forbid a release in the middle of its rollout keeps the rest of it
// from being written, and nobody from being told that it is sick: it is taken back where
// the release before is allowed, and else held, with both said.
func TestPolicyThatChangesInTheMiddle(t *testing.T) {
	open := policy(t, "rules: [{name: a, allow: {images: ['**'], ports: [80, 81]}}]")
	stack := func(image string, port uint32) *spec.Stack {
		return watched(makeStack("shop", with(service("shop", "web", image), ingressPort(port))))
	}
	begin := func(t *testing.T, fate string) (*world, **spec.ClusterPolicy) {
		w := newWorld(t, stack("app:1", 80))
		p := open
		w.allowing(&p)
		w.settle()
		w.stack = stack("app:2"+fate, 81)
		w.pass()
		w.engine.turn()
		return w, &p
	}
	pass := func(w *world) (res Result) {
		for range 10 {
			res = w.pass()
			w.engine.turn()
		}
		return res
	}
	closedTo := func(port string) *spec.ClusterPolicy {
		return policy(t, "rules: [{name: a, allow: {images: ['**'], ports: ["+port+"]}}]")
	}
	t.Run("sick", func(t *testing.T) {
		w, p := begin(t, "-bad")
		*p = closedTo("80")
		if res := pass(w); w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" {
			t.Errorf("%s; %s; %s %s: %s", w.images(), w.phases(), res.Outcome, res.Reason, res.Message)
		}
	})
	t.Run("sick, and no way back", func(t *testing.T) {
		w, p := begin(t, "-bad")
		*p = closedTo("443")
		res := pass(w)
		if w.images() != "shop_web=app:2-bad" || w.phases() != "1:Healthy 2:Failed" || res.Outcome != Held || res.Reason != "PolicyPort" {
			t.Errorf("%s; %s; %s %s", w.images(), w.phases(), res.Outcome, res.Reason)
		}
		for _, words := range []string{"release 2 (rev-webapp:2-bad) failed: ", "it cannot go back to release 1", "publishing port 80 is not allowed"} {
			if !strings.Contains(res.Message, words) {
				t.Errorf("%q does not say %q", res.Message, words)
			}
		}
		*p = open
		if res = w.settle(); w.images() != "shop_web=app:1" {
			t.Errorf("allowed again: %s; %s: %s", w.images(), res.Reason, res.Message)
		}
	})
	t.Run("sick, and held", func(t *testing.T) {
		w, p := begin(t, "-bad")
		w.stack.Policy.Rollout.OnFailure = spec.OnFailureHold
		*p = closedTo("443")
		if res := pass(w); w.phases() != "1:Healthy 2:Failed" || res.Reason != "ReleaseFailed" {
			t.Errorf("%s; %s %s: %s", w.phases(), res.Outcome, res.Reason, res.Message)
		}
	})
	t.Run("well", func(t *testing.T) {
		w, p := begin(t, "")
		*p = closedTo("80")
		var res Result
		wrote := w.writesOf(func() {
			res = pass(w)
			w.engine.advance(time.Hour)
			res = pass(w)
		})
		if len(wrote) > 0 || w.phases() != "1:Healthy 2:Progressing" || res.Reason != "PolicyPort" {
			t.Errorf("%s; wrote %v; %s %s: %s", w.phases(), wrote, res.Outcome, res.Reason, res.Message)
		}
		*p = open
		if w.settle(); w.phases() != "1:Healthy 2:Healthy" {
			t.Errorf("allowed again: %s", w.phases())
		}
	})
	t.Run("never healthy", func(t *testing.T) {
		w := newWorld(t, stack("app:1", 80))
		p := open
		w.allowing(&p)
		w.settle()
		w.stack = stack("app:2", 81)
		w.pass() // and no turn: its tasks never come
		p = closedTo("80")
		w.pass()
		w.engine.advance(time.Hour)
		for range 10 {
			w.pass()
		}
		w.engine.turn()
		if res := w.settle(); w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" {
			t.Errorf("%s; %s; %s: %s", w.images(), w.phases(), res.Reason, res.Message)
		}
	})
}

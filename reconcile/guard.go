package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// What a stack may ask of its Swarm. It is pure, and the last look at what is written:
// at the specs as an engine gets them, whichever file, record or release they come
// from. What it finds are errors, so that nothing of their release is applied, and no
// file can set them lower.

// A Guard says what stacks may ask for.
type Guard struct {
	// Policy is the operator's; nil: all is allowed that does not open a whole node.
	Policy *spec.ClusterPolicy
	// AllowHostRoot allows that too, where there is no policy.
	AllowHostRoot bool
	// At is the stack whose file says where it asks for what; nil: findings have no line.
	At *spec.Stack
}

// Check finds what a stack asks for and may not have. File is the stack's, as Source.Site
// has it. Live may be nil, where no engine is at hand; so may plan, which
// else holds what becomes of the services that live. Pinned says that images are named
// as they will be: what has no digest by then gets none.
func (g Guard) Check(d *Desired, file string, live *Live, plan *Plan, pinned bool) []spec.Finding {
	a := &inspection{Guard: g, desired: d, live: live, pinned: pinned, told: map[spec.Finding]bool{}}
	if g.Policy != nil {
		a.rules = g.Policy.For(d.Stack, file)
	}
	for i := range d.Networks {
		a.network(&d.Networks[i])
	}
	for _, o := range d.Configs {
		a.object(KindConfig, o)
	}
	for _, o := range d.Secrets {
		a.object(KindSecret, o)
	}
	for i := range d.Services {
		a.service(d.Services[i].Key, &d.Services[i].Spec)
		a.what = "image"
		a.image(d.Services[i].Written) // its tag, where the digest took its place
	}
	if plan != nil {
		for _, c := range slices.Concat(plan.Changes, plan.Held) {
			if c.Kind == KindService && c.Spec != nil {
				a.service(c.Key, c.Spec)
			}
		}
	}
	return a.found
}

// CheckStack is Check without an engine: of a stack as its file has it.
func (g Guard) CheckStack(stack *spec.Stack) []spec.Finding {
	return g.CheckStackAt(stack, stack.Source.Site())
}

// CheckStackAt is CheckStack for a stack whose file lies elsewhere below the specs
// directory than its source says.
func (g Guard) CheckStackAt(stack *spec.Stack, file string) []spec.Finding {
	d := Bind(stack, Binding{})
	g.At = stack
	return ofFile(g.Check(d, file, nil, nil, stack.Policy.Images == spec.ImagesAsWritten), stack)
}

// An inspection goes through what one stack asks for.
type inspection struct {
	Guard
	rules   spec.Selection
	desired *Desired
	live    *Live
	pinned  bool
	key     string // of the service that is looked at
	kind    Kind   // of what else is looked at, whose name then is what
	what    string // its key that is looked at, as spec.Stack.Where has it
	found   []spec.Finding
	told    map[spec.Finding]bool
}

func (a *inspection) refuse(service, code, format string, args ...any) {
	f := spec.Finding{Severity: spec.Error, Code: code, Service: service, Message: Printable(maskText(fmt.Sprintf(format, args...)))}
	switch {
	case a.At == nil:
	case service != "":
		f.File, f.Line, f.Column = a.At.Where(service, a.what)
	default:
		f.File, f.Line, f.Column = a.At.WhereObject(string(a.kind), a.what)
	}
	if !a.told[f] {
		a.told[f] = true
		a.found = append(a.found, f)
	}
}

// requires asks the policy, where there is one, for what the words name.
func (a *inspection) requires(code string, q spec.Request, format string, args ...any) {
	if a.Policy == nil {
		return
	}
	if why, refused := a.rules.Refuses(q); refused {
		a.refuse(a.key, code, "%s is %s", fmt.Sprintf(format, args...), why)
	}
}

// noRule refuses, where there is a policy, what none can allow.
func (a *inspection) noRule(code, words string) {
	if a.Policy != nil {
		a.refuse(a.key, code, "%s is not allowed: no rule of %s can allow it (write it in another way)", words, path.Base(a.Policy.File))
	}
}

func (a *inspection) network(n *DesiredNetwork) {
	a.key, a.kind, a.what = "", KindNetwork, n.Name
	if n.External {
		return // who attaches to it asks
	}
	driver := func(name, usual string) {
		if name != "" && name != usual {
			a.requires("policy-driver", spec.Request{Aspect: spec.AspectNetworkDrivers, Value: name}, "the driver %s of network %s", name, n.Name)
		}
	}
	driver(n.Create.Driver, "overlay")
	if n.Create.IPAM != nil {
		driver(n.Create.IPAM.Driver, "default")
	}
	if n.Create.ConfigFrom != nil && n.Create.ConfigFrom.Network != "" {
		a.requires("policy-external", spec.Request{Aspect: spec.AspectNetworks, Value: n.Create.ConfigFrom.Network}, "network %s, from which %s is configured,", n.Create.ConfigFrom.Network, n.Name)
	}
}

func (a *inspection) object(kind Kind, o DesiredObject) {
	a.key, a.kind, a.what = "", kind, o.Plain
	if OwnKind(o.Name) != "" || OwnKind(o.Plain) != "" {
		a.refuse("", "skep-own", "%s %s has the name of what skep keeps for itself (give it another name)", kind, o.Plain)
	}
	if o.Driver != nil {
		a.requires("policy-driver", spec.Request{Aspect: spec.AspectSecretDrivers, Value: o.Driver.Name}, "the driver %s of secret %s", o.Driver.Name, o.Plain)
	}
	if o.Templating != nil && o.Templating.Name != "golang" {
		a.requires("policy-driver", spec.Request{Aspect: spec.AspectTemplateDrivers, Value: o.Templating.Name}, "the template driver %s of %s %s", o.Templating.Name, kind, o.Plain)
	}
}

func (a *inspection) service(key string, s *swarm.ServiceSpec) {
	a.key, a.what = key, "networks"
	for _, n := range networksOf(s) {
		a.attachment(a.networkName(key, n.Target))
	}
	a.what = "ports"
	if s.EndpointSpec != nil {
		for _, p := range s.EndpointSpec.Ports {
			a.port(p)
		}
	}
	t := &s.TaskTemplate
	a.what = "deploy"
	if t.Runtime != "" && t.Runtime != swarm.RuntimeContainer || t.PluginSpec != nil || t.NetworkAttachmentSpec != nil {
		a.noRule("policy-driver", fmt.Sprintf("a service that is no container (its runtime is %q)", t.Runtime))
	}
	a.what = "logging"
	if t.LogDriver != nil && t.LogDriver.Name != "" && !slices.Contains(spec.Free[spec.AspectLogDrivers], t.LogDriver.Name) {
		a.requires("policy-driver", spec.Request{Aspect: spec.AspectLogDrivers, Value: t.LogDriver.Name}, "the log driver %s", t.LogDriver.Name)
	}
	c := containerOf(s)
	a.what = "image"
	a.image(c.Image)
	a.digest(c.Image)
	for _, m := range c.Mounts {
		a.what = spec.MountPlace(m.Target)
		a.mount(m)
	}
	a.references(c)
	a.privileges(c)
	a.what = "deploy"
	a.devices(t.Resources)
	if a.Policy != nil {
		a.rules.Limits(func(rule string, l spec.PolicyLimit) { a.limits(rule, l, s) })
	}
}

// networkName is the name behind a target of a service, which is a name or an ID.
func (a *inspection) networkName(service, target string) string {
	if a.live == nil {
		return target
	}
	if name, ok := a.live.networkNames[target]; ok || !looksLikeID(target) {
		return cmp.Or(name, target)
	}
	for i := range a.desired.Services { // no list tells a network of nodes: see view.perNode
		if a.desired.Services[i].Key != service {
			continue
		}
		for _, n := range networksOf(&a.desired.Services[i].Spec) {
			if slices.Contains(onEveryNode, n.Target) {
				return n.Target
			}
		}
	}
	return target
}

func (a *inspection) attachment(name string) {
	var live *LiveNetwork
	if a.live != nil {
		live = a.live.Networks[name]
	}
	switch i := slices.IndexFunc(a.desired.Networks, func(n DesiredNetwork) bool { return n.Name == name }); {
	case slices.Contains(onEveryNode, name):
		a.requires("policy-network", spec.Request{Aspect: spec.AspectNetworks, Value: name, Literal: true}, "the network %s of nodes", name)
	case a.live != nil && live == nil && looksLikeID(name):
		a.requires("policy-network", spec.Request{Aspect: spec.AspectNetworks, Value: name, Literal: true}, "the network %s, which may be one of nodes,", name)
	case i >= 0 && !a.desired.Networks[i].External && (live == nil || live.Scope != scopeSwarm):
	case live != nil && live.Labels[spec.LabelNamespace] == a.desired.Stack && (i < 0 || !a.desired.Networks[i].External):
	default:
		a.requires("policy-external", spec.Request{Aspect: spec.AspectNetworks, Value: name}, "the external network %s", name)
	}
}

func (a *inspection) port(p swarm.PortConfig) {
	number := "a port that the engine chooses"
	if p.PublishedPort > 0 {
		number = fmt.Sprintf("port %d", p.PublishedPort)
	}
	if p.PublishMode == swarm.PortConfigPublishModeHost {
		a.requires("policy-port", spec.Request{Aspect: spec.AspectHostPorts, Port: p.PublishedPort}, "publishing %s of nodes", number)
		return
	}
	a.requires("policy-port", spec.Request{Aspect: spec.AspectPorts, Port: p.PublishedPort}, "publishing %s", number)
}

func (a *inspection) image(image string) {
	if a.Policy == nil || image == "" {
		return
	}
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil { // such as the ID of one that a node has
		a.noRule("policy-image", fmt.Sprintf("the image %s, which names no repository,", image))
		return
	}
	domain := strings.ToLower(reference.Domain(ref))
	if domain == "registry-1.docker.io" {
		domain = "docker.io"
	}
	q := spec.Request{Aspect: spec.AspectImages, Value: domain + "/" + reference.Path(ref)}
	if tagged, ok := reference.TagNameOnly(ref).(reference.Tagged); ok {
		q.Tag = tagged.Tag()
	}
	a.requires("policy-image", q, "the image %s", showImage(image))
}

// digest looks whether an image is named by its digest, where it has to be by then.
func (a *inspection) digest(image string) {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil || a.Policy == nil || !a.pinned {
		return
	}
	if _, ok := ref.(reference.Digested); !ok {
		a.rules.Limits(func(rule string, l spec.PolicyLimit) {
			if l.Digest {
				a.refuse(a.key, "policy-image", "the image %s is named by no digest, and limit.digest of %s demands one (write NAME@sha256:…, or see that skep can ask the registry)", showImage(image), rule)
			}
		})
	}
}

// references looks at the configs and secrets that a container gets.
func (a *inspection) references(c *swarm.ContainerSpec) {
	a.what = "configs"
	for _, r := range c.Configs {
		a.reference(KindConfig, r.ConfigName)
	}
	a.what = "secrets"
	for _, r := range c.Secrets {
		a.reference(KindSecret, r.SecretName)
	}
	a.what = "credential_spec"
	if p := c.Privileges; p != nil && p.CredentialSpec != nil && p.CredentialSpec.Config != "" {
		name := p.CredentialSpec.Config
		if a.live != nil { // what lives has its ID
			name = cmp.Or(a.live.lookUp().configs[name], name)
		}
		a.reference(KindConfig, name)
	}
}

func (a *inspection) reference(kind Kind, name string) {
	objects, aspect := a.desired.Configs, spec.AspectConfigs
	if kind == KindSecret {
		objects, aspect = a.desired.Secrets, spec.AspectSecrets
	}
	var labels map[string]string
	if a.live != nil {
		labels = a.live.labels(Ref{kind, name})
	}
	switch i := slices.IndexFunc(objects, func(o DesiredObject) bool { return o.Name == name }); {
	case OwnKind(name) != "" || labels[labelKind] != "":
		a.refuse(a.key, "skep-own", "%s %s is what skep keeps for itself, and no stack may read it (take it out of the service)", kind, name)
	case i >= 0 && !objects[i].External:
	case i < 0 && labels[spec.LabelNamespace] == a.desired.Stack:
	default:
		a.requires("policy-external", spec.Request{Aspect: aspect, Value: name}, "the external %s %s", kind, name)
	}
}

func (a *inspection) privileges(c *swarm.ContainerSpec) {
	a.what = "cap_add"
	for _, name := range c.CapabilityAdd {
		name = spec.CanonicalCapability(name)
		a.requires("policy-privilege", spec.Request{Aspect: spec.AspectCapabilities, Value: name}, "the capability %s", name)
	}
	a.what = "sysctls"
	for _, name := range slices.Sorted(maps.Keys(c.Sysctls)) {
		name = strings.ReplaceAll(name, "/", ".")
		a.requires("policy-privilege", spec.Request{Aspect: spec.AspectSysctls, Value: name}, "the sysctl %s", name)
	}
	a.what = "credential_spec"
	p := c.Privileges
	if p == nil {
		return
	}
	for name, asked := range map[string]bool{
		"credential_spec": p.CredentialSpec != nil,
		"selinux":         p.SELinuxContext != nil,
		"seccomp":         p.Seccomp != nil && cmp.Or(p.Seccomp.Mode, swarm.SeccompModeDefault) != swarm.SeccompModeDefault,
		"apparmor":        p.AppArmor != nil && cmp.Or(p.AppArmor.Mode, swarm.AppArmorModeDefault) != swarm.AppArmorModeDefault,
	} {
		if asked {
			a.requires("policy-privilege", spec.Request{Aspect: spec.AspectPrivileges, Value: name}, "the privilege %s", name)
		}
	}
}

func (a *inspection) devices(r *swarm.ResourceRequirements) {
	if r == nil || r.Reservations == nil {
		return
	}
	for i := range r.Reservations.GenericResources {
		kind, _ := genericResource(&r.Reservations.GenericResources[i])
		a.requires("policy-privilege", spec.Request{Aspect: spec.AspectDevices, Value: kind}, "the device %s", kind)
	}
}

// limits holds a service against a rule's.
func (a *inspection) limits(rule string, l spec.PolicyLimit, s *swarm.ServiceSpec) {
	over := func(key, has, most string) {
		a.refuse(a.key, "policy-limit", "%s, and limit.%s of %s is %s (ask for less, or have the operator raise it)", has, key, rule, most)
	}
	a.what = "deploy"
	if n := replicaCount(s); l.Replicas > 0 && n > l.Replicas {
		over("replicas", fmt.Sprintf("the service has %d replicas", n), fmt.Sprint(l.Replicas))
	}
	var limits swarm.Limit
	var reserved swarm.Resources
	if r := s.TaskTemplate.Resources; r != nil {
		if r.Limits != nil {
			limits = *r.Limits
		}
		if r.Reservations != nil {
			reserved = *r.Reservations
		}
	}
	amount := func(key string, has, reserves, most int64, show func(int64) string) {
		switch {
		case most == 0:
		case has <= 0:
			a.refuse(a.key, "policy-limit", "a task has no limit of %s, and limit.%s of %s demands one of %s at most (write it below deploy.resources.limits)", key, key, rule, show(most))
		case has > most:
			over(key, "a task may take "+key+" "+show(has), show(most))
		case reserves > most:
			over(key, "a task reserves "+key+" "+show(reserves), show(most))
		}
	}
	amount("cpus", limits.NanoCPUs, reserved.NanoCPUs, l.NanoCPUs, showCPUs)
	amount("memory", limits.MemoryBytes, reserved.MemoryBytes, l.MemoryBytes, showBytes)
	amount("pids", limits.Pids, 0, l.Pids, showInt)
	a.what = "user"
	if l.NonRoot && mayBeRoot(containerOf(s).User) {
		a.refuse(a.key, "policy-limit", "the service runs as root, or as whom its image says, and limit.non_root of %s forbids that (write user: and a number)", rule)
	}
	a.what = "deploy"
	if l.WorkersOnly && !slices.ContainsFunc(placementOf(s).Constraints, offManagers.MatchString) {
		a.refuse(a.key, "policy-limit", "tasks may run on managers, and limit.workers_only of %s forbids that (add the placement constraint node.role == worker)", rule)
	}
}

// mayBeRoot says of a user, as an engine reads it, that it is root or nobody knows: a
// number may have a sign, and zeros before it.
func mayBeRoot(user string) bool {
	user, _, _ = strings.Cut(user, ":")
	id, err := strconv.Atoi(user)
	return err == nil && id == 0 || user == "" || user == "root" || strings.Contains(user, "{{")
}

// offManagers is a constraint by which no manager takes a task.
var offManagers = regexp.MustCompile(`(?i)^\s*node\.role\s*(==\s*worker|!=\s*manager)\s*$`)

// replicaCount is how many tasks a service has at a time; 0 where that is one a node.
func replicaCount(s *swarm.ServiceSpec) uint64 {
	switch {
	case s.Mode.Replicated != nil:
		return value(s.Mode.Replicated.Replicas, 1)
	case s.Mode.ReplicatedJob != nil:
		return max(value(s.Mode.ReplicatedJob.MaxConcurrent, 1), value(s.Mode.ReplicatedJob.TotalCompletions, 0))
	}
	return 0
}

// Mounts.

func (a *inspection) mount(m mount.Mount) {
	switch m.Type {
	case mount.TypeTmpfs:
	case mount.TypeBind:
		a.path(m.Source, m.ReadOnly, fmt.Sprintf("the bind mount of %s", m.Source))
	case mount.TypeNamedPipe:
		a.path(`\\.\pipe\`+path.Base(strings.ReplaceAll(m.Source, `\`, "/")), m.ReadOnly, fmt.Sprintf("the named pipe %s", m.Source))
	case mount.TypeVolume, "":
		a.volume(m)
	case mount.TypeCluster:
		a.requires("policy-external", spec.Request{Aspect: spec.AspectClusterVolumes, Value: m.Source}, "the cluster volume %s", m.Source)
	case mount.TypeImage:
		a.image(m.Source)
		a.digest(m.Source)
	default:
		a.noRule("policy-bind", fmt.Sprintf("a mount of the type %s", m.Type))
	}
}

// path looks at a path of nodes that a container gets to see, however it does.
func (a *inspection) path(source string, readOnly bool, words string) {
	clean, opaque := spec.CanonicalPath(source)
	opens := opaque && strings.Contains(source, "{{") || !opaque && opensNode(clean)
	switch {
	case a.Policy == nil && opens && !a.AllowHostRoot && opaque:
		a.refuse(a.key, "host-root", "%s may be any path of a node, and so the engine's socket (write the path without templates and .., or allow it to every stack: --allow-host-root)", words)
	case a.Policy == nil && opens && !a.AllowHostRoot:
		a.refuse(a.key, "host-root", "%s gives all power over the node: it is, or holds, the engine's socket (take it out; allow it to every stack: --allow-host-root; or to this stack alone by a --policy file, which then says for every stack all that it may: docs/policy.md has one to begin with, that is as without)", words)
	case a.Policy != nil && opaque:
		a.noRule("policy-bind", words+", which may be any path of a node,")
	default:
		a.requires("policy-bind", spec.Request{Aspect: spec.AspectBinds, Value: clean, ReadOnly: readOnly, Literal: opens}, "%s", words)
	}
}

// sockets are the ways into the engine, and what holds it: who reaches one is root on
// the node. What holds one of them is as good.
var sockets = []string{
	"/run/docker.sock", "/run/docker/containerd/containerd.sock", "/run/containerd/containerd.sock",
	"/run/podman/podman.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock",
	"/run/user/1000/docker.sock", // of an engine without root, whoever's it is
	"/var/run/docker.sock",       // where that is no link
}

// socketNames are what sockets are called wherever they lie.
var socketNames = []string{"docker.sock", "containerd.sock", "containerd.sock.ttrpc", "podman.sock", "crio.sock", "cri-dockerd.sock"}

// ofProcess are the entries of a process in /proc that lead to files of the node.
var ofProcess = regexp.MustCompile(`^/proc/[^/]+/(task/[^/]+/)?(root|cwd|fd|map_files)(/.*)?$`)

// userRun is the folder in which an engine without root has its socket.
var userRun = regexp.MustCompile(`^/run/user/[^/]+$`)

// windowsRoot is a whole drive, or a pipe, of which one is the engine's.
var windowsRoot = regexp.MustCompile(`^([a-z]:/?|/pipe/.*)$`)

// opensNode says that a canonical path is, holds or may be the engine's socket, or the
// whole of the node's files.
func opensNode(clean string) bool {
	names := strings.Contains(clean, spec.Placeholder)
	if !names && (slices.Contains(socketNames, path.Base(clean)) || slices.ContainsFunc(sockets, func(s string) bool { return spec.Within(s, clean) })) {
		return true
	}
	if ofProcess.MatchString(clean) || userRun.MatchString(clean) || windowsRoot.MatchString(clean) {
		return true
	}
	if !names {
		return false
	}
	may := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(clean), spec.Placeholder, `[^/]*`) + "$")
	if slices.ContainsFunc(socketNames, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(path.Base(clean)), spec.Placeholder, `[^/]*`)+"$").MatchString) && path.Base(clean) != spec.Placeholder {
		return true
	}
	for _, s := range sockets {
		for ; ; s = path.Dir(s) {
			if may.MatchString(s) {
				return true
			}
			if s == "/" {
				break
			}
		}
	}
	return false
}

// volume looks at a volume: at its name, its driver and, of the local one, at what it
// mounts.
func (a *inspection) volume(m mount.Mount) {
	if m.Source != "" && !a.ownsVolume(m.Source) {
		a.requires("policy-external", spec.Request{Aspect: spec.AspectVolumes, Value: m.Source}, "the volume %s, whose name is not the stack's,", m.Source)
	}
	if m.VolumeOptions == nil || m.VolumeOptions.DriverConfig == nil {
		return
	}
	driver := m.VolumeOptions.DriverConfig
	if driver.Name != "" && driver.Name != "local" {
		a.requires("policy-driver", spec.Request{Aspect: spec.AspectVolumeDrivers, Value: driver.Name}, "the driver %s of volume %s", driver.Name, m.Source)
		return
	}
	mounts := localMount(driver.Options)
	for _, p := range mounts.paths {
		a.path(ofNode(p), m.ReadOnly, fmt.Sprintf("the mount of %s by volume %s", p, m.Source))
	}
	if t := mounts.filesystem; t != "" {
		a.requires("policy-driver", spec.Request{Aspect: spec.AspectVolumeTypes, Value: t}, "the file system %s of volume %s", t, m.Source)
	}
}

// ownsVolume says that a volume's name is the stack's, and not that of another one whose
// name goes on where this one's ends: shop_blog_data is no volume of shop.
func (a *inspection) ownsVolume(name string) bool {
	own := a.desired.Stack + "_"
	if !strings.HasPrefix(name, own) {
		return false
	}
	if a.live == nil {
		return true
	}
	for stack := range a.live.stacks {
		if strings.HasPrefix(stack, own) && strings.HasPrefix(name, stack+"_") {
			return false
		}
	}
	return true
}

// A localVolume is what the engine's local driver mounts on a node.
type localVolume struct {
	paths      []string // of the node that the container gets to see
	filesystem string   // "" where that is a bind or a tmpfs
}

// localMount reads the options of a volume of the local driver, which are mount(2)'s.
func localMount(options map[string]string) localVolume {
	var v localVolume
	device, bind := options["device"], false
	for option := range strings.SplitSeq(options["o"], ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(option), "=")
		switch name = strings.ToLower(name); {
		case slices.Contains([]string{"bind", "rbind", "move"}, name):
			bind = true
		case slices.Contains([]string{"lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"}, name):
			for dir := range strings.SplitSeq(value, ":") {
				if dir != "" {
					v.paths = append(v.paths, dir)
				}
			}
		case strings.HasPrefix(value, "/"):
			v.paths = append(v.paths, value)
		case strings.Contains(option, "{{"): // it may become any of these
			bind = true
			v.paths = append(v.paths, option)
		}
	}
	if device != "" && (bind || strings.HasPrefix(device, "/") || strings.Contains(device, "{{")) {
		v.paths = append(v.paths, device)
	}
	if t := strings.ToLower(options["type"]); !bind && t != "tmpfs" && (t != "" || device != "") {
		v.filesystem = cmp.Or(t, "none")
	}
	return v
}

// ofNode is a path as mount(2) takes it: from the engine's own folder, which is the
// root, where it does not begin with a slash. A name of the folder above leads through
// links, unlike in a bind mount, and so to where nobody can tell; and overlayfs leaves
// backslashes out, by which any name can be written in many ways.
func ofNode(p string) string {
	if slices.Contains(strings.Split(p, "/"), "..") || strings.Contains(p, `\`) {
		return "{{" + p + "}}"
	}
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	return p
}

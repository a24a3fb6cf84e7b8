package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

// A unit is one part of a service that is compared, written and left to others
// on its own. The table serviceUnits holds all parts that a compose file can say.
type unit struct {
	path string // in the compose author's words
	// restarts says that writing it replaces the service's tasks.
	restarts bool
	// quiet parts are no reason to rerun a job.
	quiet bool
	// keyed says that its keys can be left to others one by one.
	keyed bool
	group group

	same   func(v *view, d, l *swarm.ServiceSpec) bool
	fields func(v *view, d, l *swarm.ServiceSpec) []Field
	// write copies the part from src, which it may keep pieces of, to dst.
	write func(v *view, dst, src *swarm.ServiceSpec)
}

// A group is an optional part of a spec that several units share.
type group int

const (
	noGroup group = iota
	groupHealth
	groupDNS
	groupLimits
	groupReservations
	groupRestart
	groupLog
	groupUpdate
	groupRollback
	groups
)

// settle takes a whole group from src: once one of its units was written and all
// of them agree, the shape of nils becomes the file's too.
var settle = [groups]func(dst, src *swarm.ServiceSpec){
	groupHealth: func(dst, src *swarm.ServiceSpec) { mutContainer(dst).Healthcheck = containerOf(src).Healthcheck },
	groupDNS:    func(dst, src *swarm.ServiceSpec) { mutContainer(dst).DNSConfig = containerOf(src).DNSConfig },
	groupLimits: func(dst, src *swarm.ServiceSpec) {
		mutResources(dst).Limits = or(src.TaskTemplate.Resources, &swarm.ResourceRequirements{}).Limits
		dropEmptyResources(dst, src)
	},
	groupReservations: func(dst, src *swarm.ServiceSpec) {
		mutResources(dst).Reservations = or(src.TaskTemplate.Resources, &swarm.ResourceRequirements{}).Reservations
		dropEmptyResources(dst, src)
	},
	groupRestart:  func(dst, src *swarm.ServiceSpec) { dst.TaskTemplate.RestartPolicy = src.TaskTemplate.RestartPolicy },
	groupLog:      func(dst, src *swarm.ServiceSpec) { dst.TaskTemplate.LogDriver = src.TaskTemplate.LogDriver },
	groupUpdate:   func(dst, src *swarm.ServiceSpec) { dst.UpdateConfig = src.UpdateConfig },
	groupRollback: func(dst, src *swarm.ServiceSpec) { dst.RollbackConfig = src.RollbackConfig },
}

func dropEmptyResources(dst, src *swarm.ServiceSpec) {
	r := dst.TaskTemplate.Resources
	if src.TaskTemplate.Resources == nil && r.Limits == nil && r.Reservations == nil {
		dst.TaskTemplate.Resources = nil
	}
}

// keptLive lists what no compose file can say: it stays as it is live.
var keptLive = map[string]string{
	"TaskTemplate.ForceUpdate":                              "a counter that `docker service update --force` moves; setting it back restarts tasks",
	"TaskTemplate.Placement.Platforms":                      "found with an image's digest; goes with the image",
	"TaskTemplate.Runtime":                                  "always container for what a compose file describes",
	"TaskTemplate.PluginSpec":                               "swarm plugins are no compose services",
	"TaskTemplate.NetworkAttachmentSpec":                    "the engine's own, for containers on attachable networks",
	"TaskTemplate.ContainerSpec.Privileges.SELinuxContext":  "security_opt is not translated for Swarm",
	"TaskTemplate.ContainerSpec.Privileges.Seccomp":         "security_opt is not translated for Swarm",
	"TaskTemplate.ContainerSpec.Privileges.AppArmor":        "security_opt is not translated for Swarm",
	"TaskTemplate.ContainerSpec.Privileges.NoNewPrivileges": "security_opt is not translated for Swarm",
}

// notKept lists what an engine takes and forgets, so that it can never be
// compared.
var notKept = map[string]string{
	"TaskTemplate.ContainerSpec.Mounts.Consistency":                        "no field for it in Swarm's own API",
	"TaskTemplate.ContainerSpec.Mounts.BindOptions.CreateMountpoint":       "dropped on the way into Swarm",
	"TaskTemplate.ContainerSpec.Mounts.BindOptions.ReadOnlyNonRecursive":   "dropped on the way into Swarm",
	"TaskTemplate.ContainerSpec.Mounts.BindOptions.ReadOnlyForceRecursive": "dropped on the way into Swarm",
	"TaskTemplate.ContainerSpec.Mounts.ImageOptions":                       "dropped on the way into Swarm",
	"TaskTemplate.ContainerSpec.Mounts.ClusterOptions":                     "has no fields",
}

// serviceUnits is every part of a service that a compose file can say, in the
// order in which people read a compose file.
var serviceUnits = slices.Concat(
	[]unit{imageUnit},
	processUnits(),
	containerUnits(),
	healthUnits(),
	attachmentUnits(),
	deployUnits(),
	updateUnits("deploy.update_config", groupUpdate, func(s *swarm.ServiceSpec) **swarm.UpdateConfig { return &s.UpdateConfig }),
	updateUnits("deploy.rollback_config", groupRollback, func(s *swarm.ServiceSpec) **swarm.UpdateConfig { return &s.RollbackConfig }),
)

// modePath is the one field that no update can change.
const modePath = "deploy.mode"

// imageUnit carries the platforms along, which belong to the image's digest.
var imageUnit = unit{
	path: "image", restarts: true,
	same: func(_ *view, d, l *swarm.ServiceSpec) bool { return sameImage(d, l) },
	fields: func(_ *view, d, l *swarm.ServiceSpec) []Field {
		return []Field{{Path: "image", Old: showImage(containerOf(l).Image), New: showImage(containerOf(d).Image), Restarts: true}}
	},
	write: func(_ *view, dst, src *swarm.ServiceSpec) {
		mutContainer(dst).Image = containerOf(src).Image
		mutPlacement(dst).Platforms = placementOf(src).Platforms
	},
}

func processUnits() []unit {
	return []unit{
		ordered("entrypoint", ofContainer, func(c *swarm.ContainerSpec) *[]string { return &c.Command }, showCommand),
		ordered("command", ofContainer, func(c *swarm.ContainerSpec) *[]string { return &c.Args }, showCommand),
		keyed[string]{
			path: "environment", restarts: true, lastWins: true,
			get:  func(s *swarm.ServiceSpec) []string { return containerOf(s).Env },
			set:  func(s *swarm.ServiceSpec, env []string) { mutContainer(s).Env = env },
			key:  func(_ *view, e *string) string { k, _, _ := strings.Cut(*e, "="); return k },
			same: func(_ *view, a, b *string) bool { return *a == *b },
			show: func(_ *view, e *string) string { return showEnv(*e) },
		}.unit(),
		str("working_dir", ofContainer, func(c *swarm.ContainerSpec) *string { return &c.Dir }),
		str("user", ofContainer, func(c *swarm.ContainerSpec) *string { return &c.User }),
		unordered("group_add", true, ofContainer, func(c *swarm.ContainerSpec) *[]string { return &c.Groups }),
		str("hostname", ofContainer, func(c *swarm.ContainerSpec) *string { return &c.Hostname }),
		boolean("tty", ofContainer, func(c *swarm.ContainerSpec) *bool { return &c.TTY }),
		boolean("stdin_open", ofContainer, func(c *swarm.ContainerSpec) *bool { return &c.OpenStdin }),
		boolean("read_only", ofContainer, func(c *swarm.ContainerSpec) *bool { return &c.ReadOnly }),
		scalar("init", true,
			func(_ *view, s *swarm.ServiceSpec) string { return showInit(containerOf(s).Init) },
			func(dst, src *swarm.ServiceSpec) { mutContainer(dst).Init = containerOf(src).Init },
			verbatim),
		str("stop_signal", ofContainer, func(c *swarm.ContainerSpec) *string { return &c.StopSignal }),
		scalar("stop_grace_period", true,
			func(_ *view, s *swarm.ServiceSpec) time.Duration {
				return value(containerOf(s).StopGracePeriod, defaultStopGrace)
			},
			func(dst, src *swarm.ServiceSpec) {
				mutContainer(dst).StopGracePeriod = containerOf(src).StopGracePeriod
			},
			showDuration),
	}
}

func containerUnits() []unit {
	return []unit{
		dict("labels", true, nil,
			func(s *swarm.ServiceSpec) map[string]string { return containerOf(s).Labels },
			func(s *swarm.ServiceSpec, m map[string]string) { mutContainer(s).Labels = m }),
		ordered("extra_hosts", ofContainer, func(c *swarm.ContainerSpec) *[]string { return &c.Hosts }, showList),
		in(groupDNS, ordered("dns", ofDNS, func(c *swarm.DNSConfig) *[]string { return &c.Nameservers }, showList)),
		in(groupDNS, ordered("dns_search", ofDNS, func(c *swarm.DNSConfig) *[]string { return &c.Search }, showList)),
		in(groupDNS, ordered("dns_opt", ofDNS, func(c *swarm.DNSConfig) *[]string { return &c.Options }, showList)),
		unordered("cap_add", true, ofContainer, func(c *swarm.ContainerSpec) *[]string { return &c.CapabilityAdd }),
		unordered("cap_drop", true, ofContainer, func(c *swarm.ContainerSpec) *[]string { return &c.CapabilityDrop }),
		dict("sysctls", true, nil,
			func(s *swarm.ServiceSpec) map[string]string { return containerOf(s).Sysctls },
			func(s *swarm.ServiceSpec, m map[string]string) { mutContainer(s).Sysctls = m }),
		keyed[*container.Ulimit]{
			path: "ulimits", restarts: true,
			get:  func(s *swarm.ServiceSpec) []*container.Ulimit { return containerOf(s).Ulimits },
			set:  func(s *swarm.ServiceSpec, u []*container.Ulimit) { mutContainer(s).Ulimits = u },
			key:  func(_ *view, u **container.Ulimit) string { return (*u).Name },
			same: func(_ *view, a, b **container.Ulimit) bool { return **a == **b },
			show: func(_ *view, u **container.Ulimit) string { return showUlimit(*u) },
		}.unit(),
		unless(func(l lacks) bool { return l.oomScoreAdj },
			amount("oom_score_adj", ofContainer, func(c *swarm.ContainerSpec) *int64 { return &c.OomScoreAdj }, showInt)),
		scalar("isolation", true,
			func(_ *view, s *swarm.ServiceSpec) container.Isolation {
				return container.Isolation(strings.ToLower(string(orElse(containerOf(s).Isolation, container.IsolationDefault))))
			},
			func(dst, src *swarm.ServiceSpec) { mutContainer(dst).Isolation = containerOf(src).Isolation },
			func(i container.Isolation) string { return string(i) }),
		scalar("credential_spec", true,
			func(v *view, s *swarm.ServiceSpec) swarm.CredentialSpec { return v.credential(s) },
			writeCredential, showCredential),
	}
}

// credential names the config that holds a credential spec where live has an ID.
func (v *view) credential(s *swarm.ServiceSpec) swarm.CredentialSpec {
	c := *credentialOf(s)
	if name, ok := v.lookup.configs[c.Config]; ok && c.Config != "" {
		c.Config = name
	}
	return c
}

func writeCredential(dst, src *swarm.ServiceSpec) {
	var want *swarm.CredentialSpec
	if p := containerOf(src).Privileges; p != nil {
		want = p.CredentialSpec
	}
	c := mutContainer(dst)
	if c.Privileges == nil {
		c.Privileges = &swarm.Privileges{}
	}
	c.Privileges.CredentialSpec = want
	if *c.Privileges == (swarm.Privileges{}) {
		c.Privileges = nil
	}
}

func healthUnits() []unit {
	interval := func(name string, field func(*container.HealthConfig) *time.Duration) unit {
		return in(groupHealth, scalar("healthcheck."+name, true,
			func(_ *view, s *swarm.ServiceSpec) time.Duration { return *field(healthOf(s)) },
			func(dst, src *swarm.ServiceSpec) { *field(mutHealth(dst)) = *field(healthOf(src)) },
			showSpan))
	}
	return []unit{
		in(groupHealth, ordered("healthcheck.test", ofHealth, func(h *container.HealthConfig) *[]string { return &h.Test }, showCommand)),
		interval("interval", func(h *container.HealthConfig) *time.Duration { return &h.Interval }),
		interval("timeout", func(h *container.HealthConfig) *time.Duration { return &h.Timeout }),
		interval("start_period", func(h *container.HealthConfig) *time.Duration { return &h.StartPeriod }),
		unless(func(l lacks) bool { return l.startInterval },
			interval("start_interval", func(h *container.HealthConfig) *time.Duration { return &h.StartInterval })),
		in(groupHealth, scalar("healthcheck.retries", true,
			func(_ *view, s *swarm.ServiceSpec) int { return healthOf(s).Retries },
			func(dst, src *swarm.ServiceSpec) { mutHealth(dst).Retries = healthOf(src).Retries },
			func(n int) string { return showInt(int64(n)) })),
	}
}

// attachmentUnits are what a service is attached to from outside.
func attachmentUnits() []unit {
	return []unit{
		keyed[swarm.PortConfig]{
			path: "ports", restarts: true,
			get: func(s *swarm.ServiceSpec) []swarm.PortConfig { return endpointOf(s).Ports },
			set: func(s *swarm.ServiceSpec, p []swarm.PortConfig) { mutEndpoint(s).Ports = p },
			key: func(_ *view, p *swarm.PortConfig) string { return portKey(p) },
			// A name that only live has is no compose file's, and harms nobody.
			same: func(_ *view, d, l *swarm.PortConfig) bool {
				return portOf(d) == portOf(l) && (d.Name == "" || d.Name == l.Name)
			},
			show: func(_ *view, p *swarm.PortConfig) string { return showPort(p) },
		}.unit(),
		keyed[mount.Mount]{
			path: "volumes", restarts: true,
			get:  func(s *swarm.ServiceSpec) []mount.Mount { return containerOf(s).Mounts },
			set:  func(s *swarm.ServiceSpec, m []mount.Mount) { mutContainer(s).Mounts = m },
			key:  func(_ *view, m *mount.Mount) string { return mountTarget(m) },
			same: sameMount,
			show: func(_ *view, m *mount.Mount) string { return showMount(m) },
		}.unit(),
		keyed[*swarm.ConfigReference]{
			path: "configs", restarts: true,
			get: func(s *swarm.ServiceSpec) []*swarm.ConfigReference { return containerOf(s).Configs },
			set: func(s *swarm.ServiceSpec, r []*swarm.ConfigReference) { mutContainer(s).Configs = r },
			key: func(v *view, r **swarm.ConfigReference) string { return v.configKey(*r) },
			same: func(v *view, a, b **swarm.ConfigReference) bool {
				return v.configName(*a) == v.configName(*b) && samePointee((*a).File, (*b).File) && samePointee((*a).Runtime, (*b).Runtime)
			},
			show: func(v *view, r **swarm.ConfigReference) string { return showConfig(v.configName(*r), *r) },
		}.unit(),
		keyed[*swarm.SecretReference]{
			path: "secrets", restarts: true,
			get: func(s *swarm.ServiceSpec) []*swarm.SecretReference { return containerOf(s).Secrets },
			set: func(s *swarm.ServiceSpec, r []*swarm.SecretReference) { mutContainer(s).Secrets = r },
			key: func(v *view, r **swarm.SecretReference) string { return v.secretKey(*r) },
			same: func(v *view, a, b **swarm.SecretReference) bool {
				return v.secretName(*a) == v.secretName(*b) && samePointee((*a).File, (*b).File)
			},
			show: func(v *view, r **swarm.SecretReference) string { return showSecret(v.secretName(*r), *r) },
		}.unit(),
		keyed[swarm.NetworkAttachmentConfig]{
			path: "networks", restarts: true,
			get: networksOf,
			set: func(s *swarm.ServiceSpec, n []swarm.NetworkAttachmentConfig) {
				s.TaskTemplate.Networks = n
				//lint:ignore SA1019 moved to where they belong, now that they are written
				s.Networks = nil
			},
			key: func(v *view, n *swarm.NetworkAttachmentConfig) string { return v.networkName(n.Target) },
			same: func(v *view, a, b *swarm.NetworkAttachmentConfig) bool {
				return v.networkName(a.Target) == v.networkName(b.Target) &&
					sameSet(a.Aliases, b.Aliases) && maps.Equal(a.DriverOpts, b.DriverOpts)
			},
			show: func(_ *view, n *swarm.NetworkAttachmentConfig) string { return showAttachment(n) },
		}.unit(),
		in(groupLog, scalar("logging.driver", true,
			func(_ *view, s *swarm.ServiceSpec) string { return logDriverOf(s).Name },
			func(dst, src *swarm.ServiceSpec) { mutLog(dst).Name = logDriverOf(src).Name },
			verbatim)),
		in(groupLog, dict("logging.options", true, nil,
			func(s *swarm.ServiceSpec) map[string]string { return logDriverOf(s).Options },
			func(s *swarm.ServiceSpec, m map[string]string) { mutLog(s).Options = m })),
	}
}

func (v *view) configName(r *swarm.ConfigReference) string {
	return objectName(v.lookup.configs, v.live.Configs, r.ConfigID, r.ConfigName)
}

func (v *view) secretName(r *swarm.SecretReference) string {
	return objectName(v.lookup.secrets, v.live.Secrets, r.SecretID, r.SecretName)
}

func (v *view) configKey(r *swarm.ConfigReference) string {
	if r.File == nil {
		return v.configName(r)
	}
	return r.File.Name
}

func (v *view) secretKey(r *swarm.SecretReference) string {
	if r.File == nil {
		return v.secretName(r)
	}
	return r.File.Name
}

func samePointee[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// sameMount compares what Swarm keeps of a mount (see notKept).
func sameMount(v *view, a, b *mount.Mount) bool {
	return a.Type == b.Type && a.Source == b.Source && mountTarget(a) == mountTarget(b) && a.ReadOnly == b.ReadOnly &&
		bindOf(a) == bindOf(b) && sameVolume(v, a.VolumeOptions, b.VolumeOptions) && sameTmpfs(v, a.TmpfsOptions, b.TmpfsOptions)
}

func bindOf(m *mount.Mount) mount.BindOptions {
	o := value(m.BindOptions, mount.BindOptions{})
	return mount.BindOptions{Propagation: orElse(o.Propagation, mount.PropagationRPrivate), NonRecursive: o.NonRecursive}
}

func sameVolume(v *view, a, b *mount.VolumeOptions) bool {
	if a == b {
		return true
	}
	x, y := value(a, mount.VolumeOptions{}), value(b, mount.VolumeOptions{})
	dx, dy := value(x.DriverConfig, mount.Driver{}), value(y.DriverConfig, mount.Driver{})
	return x.NoCopy == y.NoCopy && (v.lacks.subpath || x.Subpath == y.Subpath) &&
		maps.Equal(x.Labels, y.Labels) && dx.Name == dy.Name && maps.Equal(dx.Options, dy.Options)
}

func sameTmpfs(v *view, a, b *mount.TmpfsOptions) bool {
	if a == b {
		return true
	}
	x, y := value(a, mount.TmpfsOptions{}), value(b, mount.TmpfsOptions{})
	return x.SizeBytes == y.SizeBytes && x.Mode == y.Mode &&
		(v.lacks.tmpfsOptions || slices.EqualFunc(x.Options, y.Options, slices.Equal))
}

func deployUnits() []unit {
	return []unit{
		quietly(dict("deploy.labels", false, reservedLabel,
			func(s *swarm.ServiceSpec) map[string]string { return s.Labels },
			func(s *swarm.ServiceSpec, m map[string]string) { s.Labels = m })),
		replicasUnit,
		scalar("deploy.endpoint_mode", true,
			func(_ *view, s *swarm.ServiceSpec) swarm.ResolutionMode {
				return orElse(endpointOf(s).Mode, swarm.ResolutionModeVIP)
			},
			func(dst, src *swarm.ServiceSpec) { mutEndpoint(dst).Mode = endpointOf(src).Mode },
			func(m swarm.ResolutionMode) string { return string(m) }),
		unordered("deploy.placement.constraints", false, ofPlacement, func(p *swarm.Placement) *[]string { return &p.Constraints }),
		{
			path: "deploy.placement.preferences",
			same: func(_ *view, d, l *swarm.ServiceSpec) bool {
				return slices.EqualFunc(placementOf(d).Preferences, placementOf(l).Preferences, samePreference)
			},
			fields: func(_ *view, d, l *swarm.ServiceSpec) []Field {
				return []Field{{Path: "deploy.placement.preferences", Old: showPreferences(l), New: showPreferences(d)}}
			},
			write: func(_ *view, dst, src *swarm.ServiceSpec) {
				mutPlacement(dst).Preferences = placementOf(src).Preferences
			},
		},
		scalar("deploy.placement.max_replicas_per_node", false,
			func(_ *view, s *swarm.ServiceSpec) uint64 { return placementOf(s).MaxReplicas },
			func(dst, src *swarm.ServiceSpec) { mutPlacement(dst).MaxReplicas = placementOf(src).MaxReplicas },
			showUint),
		in(groupLimits, amount("deploy.resources.limits.cpus", ofLimits, func(l *swarm.Limit) *int64 { return &l.NanoCPUs }, showCPUs)),
		in(groupLimits, amount("deploy.resources.limits.memory", ofLimits, func(l *swarm.Limit) *int64 { return &l.MemoryBytes }, showBytes)),
		in(groupLimits, amount("deploy.resources.limits.pids", ofLimits, func(l *swarm.Limit) *int64 { return &l.Pids }, showInt)),
		in(groupReservations, amount("deploy.resources.reservations.cpus", ofReservations, func(r *swarm.Resources) *int64 { return &r.NanoCPUs }, showCPUs)),
		in(groupReservations, amount("deploy.resources.reservations.memory", ofReservations, func(r *swarm.Resources) *int64 { return &r.MemoryBytes }, showBytes)),
		in(groupReservations, keyed[swarm.GenericResource]{
			path: "deploy.resources.reservations.generic_resources", restarts: true,
			get: func(s *swarm.ServiceSpec) []swarm.GenericResource { return reservationsOf(s).GenericResources },
			set: func(s *swarm.ServiceSpec, r []swarm.GenericResource) { mutReservations(s).GenericResources = r },
			key: func(_ *view, r *swarm.GenericResource) string { kind, _ := genericResource(r); return kind },
			same: func(_ *view, a, b *swarm.GenericResource) bool {
				return samePointee(a.DiscreteResourceSpec, b.DiscreteResourceSpec) && samePointee(a.NamedResourceSpec, b.NamedResourceSpec)
			},
			show: func(_ *view, r *swarm.GenericResource) string { _, n := genericResource(r); return cmp.Or(n, `""`) },
		}.unit()),
		in(groupRestart, scalar("deploy.restart_policy.condition", true,
			func(_ *view, s *swarm.ServiceSpec) swarm.RestartPolicyCondition {
				return orElse(restartOf(s).Condition, swarm.RestartPolicyConditionAny)
			},
			func(dst, src *swarm.ServiceSpec) { mutRestart(dst).Condition = restartOf(src).Condition },
			func(c swarm.RestartPolicyCondition) string { return string(c) })),
		in(groupRestart, scalar("deploy.restart_policy.delay", true,
			func(_ *view, s *swarm.ServiceSpec) time.Duration {
				return value(restartOf(s).Delay, defaultRestartDelay)
			},
			func(dst, src *swarm.ServiceSpec) { mutRestart(dst).Delay = restartOf(src).Delay },
			showDuration)),
		in(groupRestart, scalar("deploy.restart_policy.max_attempts", true,
			func(_ *view, s *swarm.ServiceSpec) uint64 { return value(restartOf(s).MaxAttempts, 0) },
			func(dst, src *swarm.ServiceSpec) { mutRestart(dst).MaxAttempts = restartOf(src).MaxAttempts },
			showUint)),
		in(groupRestart, scalar("deploy.restart_policy.window", true,
			func(_ *view, s *swarm.ServiceSpec) time.Duration { return value(restartOf(s).Window, 0) },
			func(dst, src *swarm.ServiceSpec) { mutRestart(dst).Window = restartOf(src).Window },
			showSpan)),
	}
}

// replicasUnit compares within a mode: where modes differ, that is the difference.
var replicasUnit = unit{
	path: "deploy.replicas",
	same: func(_ *view, d, l *swarm.ServiceSpec) bool {
		return modeOf(d) != modeOf(l) || scaleOf(d) == scaleOf(l)
	},
	fields: func(_ *view, d, l *swarm.ServiceSpec) []Field {
		return []Field{{Path: "deploy.replicas", Old: showScale(scaleOf(l)), New: showScale(scaleOf(d))}}
	},
	write: func(_ *view, dst, src *swarm.ServiceSpec) {
		if modeOf(dst) == modeOf(src) {
			dst.Mode = src.Mode
		}
	},
}

func samePreference(a, b swarm.PlacementPreference) bool { return samePointee(a.Spread, b.Spread) }

func updateUnits(path string, g group, at func(*swarm.ServiceSpec) **swarm.UpdateConfig) []unit {
	get := func(s *swarm.ServiceSpec) *swarm.UpdateConfig { return or(*at(s), &defaultUpdate) }
	mut := func(s *swarm.ServiceSpec) *swarm.UpdateConfig {
		if p := at(s); *p == nil {
			fresh := defaultUpdate
			*p = &fresh
		}
		return *at(s)
	}
	return []unit{
		quietly(in(g, scalar(path+".parallelism", false,
			func(_ *view, s *swarm.ServiceSpec) uint64 { return get(s).Parallelism },
			func(dst, src *swarm.ServiceSpec) { mut(dst).Parallelism = get(src).Parallelism },
			showParallelism))),
		quietly(in(g, scalar(path+".order", false,
			func(_ *view, s *swarm.ServiceSpec) string { return orElse(get(s).Order, swarm.UpdateOrderStopFirst) },
			func(dst, src *swarm.ServiceSpec) { mut(dst).Order = get(src).Order },
			verbatim))),
		quietly(in(g, scalar(path+".delay", false,
			func(_ *view, s *swarm.ServiceSpec) time.Duration { return get(s).Delay },
			func(dst, src *swarm.ServiceSpec) { mut(dst).Delay = get(src).Delay },
			showDuration))),
		quietly(in(g, scalar(path+".monitor", false,
			func(_ *view, s *swarm.ServiceSpec) time.Duration { return orElse(get(s).Monitor, defaultMonitor) },
			func(dst, src *swarm.ServiceSpec) { mut(dst).Monitor = get(src).Monitor },
			showDuration))),
		quietly(in(g, scalar(path+".failure_action", false,
			func(_ *view, s *swarm.ServiceSpec) string {
				return orElse(get(s).FailureAction, swarm.UpdateFailureActionPause)
			},
			func(dst, src *swarm.ServiceSpec) { mut(dst).FailureAction = get(src).FailureAction },
			verbatim))),
		quietly(in(g, scalar(path+".max_failure_ratio", false,
			func(_ *view, s *swarm.ServiceSpec) float32 { return get(s).MaxFailureRatio },
			func(dst, src *swarm.ServiceSpec) { mut(dst).MaxFailureRatio = get(src).MaxFailureRatio },
			showRatio))),
	}
}

func reservedLabel(key string) bool { return strings.HasPrefix(key, LabelPrefix) }

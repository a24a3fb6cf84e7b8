package reconcile

import (
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/versions"

	"github.com/skep-io/skep/spec"
)

// What an engine does where a spec is silent (swarmkit's api/defaults). A spec
// that says it and one that leaves it out mean the same.
const (
	defaultStopGrace    = 10 * time.Second
	defaultRestartDelay = 5 * time.Second
	defaultMonitor      = 5 * time.Second
	defaultParallelism  = 1
)

// A view is how one desired and one live service are looked at: which names
// stand behind the live one's IDs, which fields the engine at hand would lose,
// and which of them the file leaves to others.
type view struct {
	live    *Live
	lookup  *lookup
	lacks   lacks
	ignored []string // paths below the service
	// perNode is the network of every node (host, bridge) that desired asks for. The
	// Swarm has IDs of its own for these, which no list tells.
	perNode string
}

// networkName is the name behind a network's target, which is a name or an ID.
func (v *view) networkName(target string) string {
	if name, ok := v.lookup.networks[target]; ok {
		return name
	}
	if v.perNode != "" && looksLikeID(target) {
		return v.perNode
	}
	return target
}

// looksLikeID knows the Swarm's IDs: 25 digits to the base of 36.
func looksLikeID(s string) bool {
	return len(s) == 25 && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

// ignores says whether the file leaves the field at path, or one above it, to
// others.
func (v *view) ignores(path string) bool {
	for _, p := range v.ignored {
		if under(path, p) {
			return true
		}
	}
	return false
}

// ignoresKey is ignores for one key of a map-like field.
func (v *view) ignoresKey(path, key string) bool {
	return len(v.ignored) > 0 && v.ignores(path+"."+key)
}

// under says whether path is p or below it.
func under(path, p string) bool {
	return strings.HasPrefix(path, p) && (len(path) == len(p) || path[len(p)] == '.')
}

// lacks tells which fields an engine of an older API drops without a word.
type lacks struct {
	startInterval bool // HealthConfig.StartInterval, since 1.44
	subpath       bool // VolumeOptions.Subpath, since 1.45
	tmpfsOptions  bool // TmpfsOptions.Options, since 1.46
	oomScoreAdj   bool // ContainerSpec.OomScoreAdj, since 1.46
}

// lacksOf knows the engine by the API version agreed on; no version means the
// newest. Sources: the engine's version history of its API, and its
// adjustForAPIVersion.
func lacksOf(api string) lacks {
	if api == "" {
		return lacks{}
	}
	return lacks{
		startInterval: versions.LessThan(api, "1.44"),
		subpath:       versions.LessThan(api, "1.45"),
		tmpfsOptions:  versions.LessThan(api, "1.46"),
		oomScoreAdj:   versions.LessThan(api, "1.46"),
	}
}

// lost returns which fields of s the engine will drop, as path and the API
// version that brought them.
func (l lacks) lost(s *swarm.ServiceSpec) [][2]string {
	var out [][2]string
	c := s.TaskTemplate.ContainerSpec
	if c == nil {
		return nil
	}
	if l.startInterval && c.Healthcheck != nil && c.Healthcheck.StartInterval != 0 {
		out = append(out, [2]string{"healthcheck.start_interval", "1.44"})
	}
	if l.oomScoreAdj && c.OomScoreAdj != 0 {
		out = append(out, [2]string{"oom_score_adj", "1.46"})
	}
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if l.tmpfsOptions && m.TmpfsOptions != nil && len(m.TmpfsOptions.Options) > 0 {
			out = append(out, [2]string{"volumes." + m.Target + ".tmpfs (" + showTmpfsOptions(m.TmpfsOptions.Options) + ")", "1.46"})
		}
		if l.subpath && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" {
			out = append(out, [2]string{"volumes." + m.Target + ".volume.subpath", "1.45"})
		}
	}
	return out
}

// The accessors below read a spec as if its optional parts were all there.

var (
	noContainer   swarm.ContainerSpec
	noHealth      container.HealthConfig
	noDNS         swarm.DNSConfig
	noLimits      swarm.Limit
	noReservation swarm.Resources
	noPlacement   swarm.Placement
	noRestart     swarm.RestartPolicy
	noDriver      swarm.Driver
	noEndpoint    swarm.EndpointSpec
	noCredential  swarm.CredentialSpec
	defaultUpdate = swarm.UpdateConfig{Parallelism: defaultParallelism}
)

func or[T any](p, fallback *T) *T {
	if p == nil {
		return fallback
	}
	return p
}

func containerOf(s *swarm.ServiceSpec) *swarm.ContainerSpec {
	return or(s.TaskTemplate.ContainerSpec, &noContainer)
}

func healthOf(s *swarm.ServiceSpec) *container.HealthConfig {
	return or(containerOf(s).Healthcheck, &noHealth)
}

func dnsOf(s *swarm.ServiceSpec) *swarm.DNSConfig { return or(containerOf(s).DNSConfig, &noDNS) }

func credentialOf(s *swarm.ServiceSpec) *swarm.CredentialSpec {
	if p := containerOf(s).Privileges; p != nil {
		return or(p.CredentialSpec, &noCredential)
	}
	return &noCredential
}

func limitsOf(s *swarm.ServiceSpec) *swarm.Limit {
	if r := s.TaskTemplate.Resources; r != nil {
		return or(r.Limits, &noLimits)
	}
	return &noLimits
}

func reservationsOf(s *swarm.ServiceSpec) *swarm.Resources {
	if r := s.TaskTemplate.Resources; r != nil {
		return or(r.Reservations, &noReservation)
	}
	return &noReservation
}

func placementOf(s *swarm.ServiceSpec) *swarm.Placement {
	return or(s.TaskTemplate.Placement, &noPlacement)
}

func restartOf(s *swarm.ServiceSpec) *swarm.RestartPolicy {
	return or(s.TaskTemplate.RestartPolicy, &noRestart)
}

func logDriverOf(s *swarm.ServiceSpec) *swarm.Driver { return or(s.TaskTemplate.LogDriver, &noDriver) }

func endpointOf(s *swarm.ServiceSpec) *swarm.EndpointSpec { return or(s.EndpointSpec, &noEndpoint) }

// networksOf prefers the task template's networks over the deprecated ones of the
// service, as the engine does.
func networksOf(s *swarm.ServiceSpec) []swarm.NetworkAttachmentConfig {
	if len(s.TaskTemplate.Networks) > 0 {
		return s.TaskTemplate.Networks
	}
	//lint:ignore SA1019 read, because services made long ago still have them here
	return s.Networks
}

// Modes of a service, in the compose author's words.
const (
	modeReplicated    = "replicated"
	modeGlobal        = "global"
	modeReplicatedJob = "replicated-job"
	modeGlobalJob     = "global-job"
)

func modeOf(s *swarm.ServiceSpec) string {
	switch {
	case s.Mode.Global != nil:
		return modeGlobal
	case s.Mode.GlobalJob != nil:
		return modeGlobalJob
	case s.Mode.ReplicatedJob != nil:
		return modeReplicatedJob
	}
	return modeReplicated
}

// scale is how many tasks a service has: all of them, and how many of a job's
// run at once.
type scale struct{ concurrent, total uint64 }

func scaleOf(s *swarm.ServiceSpec) scale {
	switch m := s.Mode; {
	case m.Global != nil || m.GlobalJob != nil:
		return scale{}
	case m.ReplicatedJob != nil:
		concurrent := value(m.ReplicatedJob.MaxConcurrent, 1)
		return scale{concurrent, value(m.ReplicatedJob.TotalCompletions, concurrent)}
	case m.Replicated != nil:
		n := value(m.Replicated.Replicas, 1)
		return scale{n, n}
	}
	return scale{1, 1}
}

// value is *p, or fallback where p is nil.
func value[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}

// orElse is v, or fallback where v is the zero value.
func orElse[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func portOf(p *swarm.PortConfig) swarm.PortConfig {
	return swarm.PortConfig{
		Protocol:      orElse(p.Protocol, swarm.PortConfigProtocolTCP),
		PublishMode:   orElse(p.PublishMode, swarm.PortConfigPublishModeIngress),
		TargetPort:    p.TargetPort,
		PublishedPort: p.PublishedPort,
	}
}

// mountTarget is a mount's target without trailing slashes: one parser of compose
// files cleans it, others keep it as written.
func mountTarget(m *mount.Mount) string {
	if t := strings.TrimRight(m.Target, "/"); t != "" {
		return t
	}
	return m.Target
}

// sameImage says whether live runs what desired asks for. A desired image without
// a digest is satisfied by the digest that a client found for it, as long as that
// was for the same words in the file.
func sameImage(desired, live *swarm.ServiceSpec) bool {
	d, l := containerOf(desired).Image, containerOf(live).Image
	if d == l {
		return true
	}
	lName, lDigest, lPinned := strings.Cut(l, "@")
	pinKept := lPinned && !strings.Contains(d, "@") &&
		desired.Labels[spec.LabelImage] == live.Labels[spec.LabelImage]
	if pinKept && d == lName {
		return true
	}
	if pinKept {
		return canonicalImage(d) == canonicalImage(lName)
	}
	dName, dDigest, _ := strings.Cut(d, "@")
	return dDigest == lDigest && canonicalImage(dName) == canonicalImage(lName)
}

// canonicalImage spells an image's name out (docker.io/library/, :latest); what
// is no image name stays as it is.
func canonicalImage(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.TagNameOnly(ref).String()
}

package spec

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"net"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/shlex"
)

// service converts one service.
func (c *converter) service(key string, s types.ServiceConfig) Service {
	at := []string{"services", key}
	if s.Deploy == nil {
		s.Deploy = &types.DeployConfig{}
	}
	raw := c.services[key]
	out := Service{Key: key, Name: c.scoped(key), Rollout: c.policy.Rollout}
	if own, ok := c.policies[key]; ok {
		out.Rollout, out.Follow = own.rollout, own.follow
	}
	c.checkService(out.Name, s.Image, at)
	configs, credentials := c.configReferences(s, at)
	capAdd, capDrop := capabilities(s.CapAdd, s.CapDrop)
	labels := c.labelled(s.Deploy.Labels)
	labels[LabelImage] = s.Image

	out.Spec = swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: out.Name, Labels: labels},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{
				Image:           s.Image,
				Command:         c.command(raw["entrypoint"], under(at, "entrypoint")),
				Args:            c.command(raw["command"], under(at, "command")),
				Hostname:        s.Hostname,
				Hosts:           c.hosts(raw["extra_hosts"], under(at, "extra_hosts")),
				DNSConfig:       dnsConfig(s.DNS, s.DNSSearch, s.DNSOpts),
				Healthcheck:     c.healthcheck(s.HealthCheck, under(at, "healthcheck")),
				Env:             c.environment(s, raw, at),
				Labels:          c.labelled(c.labels(s, at)),
				Dir:             s.WorkingDir,
				User:            s.User,
				Groups:          s.GroupAdd,
				Mounts:          c.mounts(raw, at),
				StopGracePeriod: c.notNegative(s.StopGracePeriod, under(at, "stop_grace_period")),
				StopSignal:      s.StopSignal,
				TTY:             s.Tty,
				OpenStdin:       s.StdinOpen,
				Secrets:         c.secretReferences(s, at),
				Configs:         configs,
				ReadOnly:        s.ReadOnly,
				Privileges:      &swarm.Privileges{CredentialSpec: credentials},
				Isolation:       c.isolation(s.Isolation, under(at, "isolation")),
				Init:            s.Init,
				Sysctls:         s.Sysctls,
				CapabilityAdd:   capAdd,
				CapabilityDrop:  capDrop,
				Ulimits:         c.ulimits(s.Ulimits, under(at, "ulimits")),
				OomScoreAdj:     s.OomScoreAdj,
			},
			LogDriver:     logDriver(s.Logging),
			Resources:     c.resources(s.Deploy.Resources, raw, under(at, "deploy", "resources")),
			RestartPolicy: c.restartPolicy(s, at),
			Placement:     placement(s.Deploy.Placement),
			Networks:      c.attachments(key, s.Networks, under(at, "networks")),
		},
		EndpointSpec: c.endpoint(s.Deploy.EndpointMode, raw["ports"], at),
		Mode:         c.mode(s.Deploy, under(at, "deploy")),
	}
	out.StartFirstUnsafe = startFirstUnsafe(out.Spec)
	c.updateConfigs(&out, s.Deploy, under(at, "deploy"))
	out.DependsOn = c.dependsOn(s.DependsOn, under(at, "depends_on"))
	return out
}

func (c *converter) checkService(name, image string, at []string) {
	if len(name) > maxServiceName && !c.longName || !objectName.MatchString(name) {
		c.report.fail("invalid-name", at, "%q cannot be a service's name, which has at most %d letters, digits, - and _ and begins and ends with a letter or digit (rename the service or the stack)", name, maxServiceName)
	}
	if image == "" {
		c.report.fail("image-missing", at, "the service %s names no image, and a Swarm builds none (build the image, push it, and write image)", at[1])
	} else if _, err := reference.ParseNormalizedNamed(image); err != nil {
		c.report.fail("image-invalid", under(at, "image"), "%q is not the name of an image: %v (write one like registry.example.com/team/app:1.0)", image, err)
	}
}

// command splits a command as docker/cli does, by the rules of a shell's words but
// none of its operators; one that is a list stays as it is.
func (c *converter) command(value any, at []string) []string {
	switch v := value.(type) {
	case string:
		words, err := shlex.Split(v)
		if err != nil {
			c.report.fail("invalid-value", at, "the command cannot be split into words: %v (close its quotes, or write it as a list)", err)
		}
		return words
	case []any:
		words := make([]string, len(v))
		for i, word := range v {
			words[i] = text(word)
		}
		return words
	}
	return nil
}

// hosts converts extra_hosts to the engine's "IP host": a list in its order, a map
// sorted.
func (c *converter) hosts(value any, at []string) []string {
	var entries []string
	switch v := value.(type) {
	case []any:
		for i, element := range v {
			entry := text(element)
			host, ip, ok := strings.Cut(entry, "=")
			if !ok {
				host, ip, ok = strings.Cut(entry, ":")
			}
			if !ok {
				c.report.warn("invalid-value", under(at, strconv.Itoa(i)), "%q is left out: it is not HOST:IP (write it so)", entry)
				continue
			}
			entries = append(entries, host+":"+ip)
		}
	case map[string]any:
		for _, host := range sortedKeys(v) {
			switch ip := v[host].(type) {
			case nil:
			case []any: // several addresses of one host
				for _, one := range ip {
					entries = append(entries, host+":"+text(one))
				}
			default:
				entries = append(entries, host+":"+text(ip))
			}
		}
		sort.Strings(entries)
	}
	var out []string
	for _, entry := range entries {
		host, ip, _ := strings.Cut(entry, ":")
		if len(ip) > 2 && ip[0] == '[' && ip[len(ip)-1] == ']' {
			ip = ip[1 : len(ip)-1]
		}
		if net.ParseIP(ip) == nil && ip != "host-gateway" {
			c.report.warn("invalid-value", at, "the address of %s in extra_hosts is %q, which is no IP address (write one)", host, ip)
		}
		out = append(out, ip+" "+host)
	}
	return out
}

func dnsConfig(servers, search, options []string) *swarm.DNSConfig {
	if len(servers) == 0 && len(search) == 0 && len(options) == 0 {
		return nil
	}
	return &swarm.DNSConfig{Nameservers: servers, Search: search, Options: options}
}

func (c *converter) healthcheck(h *types.HealthCheckConfig, at []string) *container.HealthConfig {
	switch {
	case h == nil:
		return nil
	case h.Disable && len(h.Test) > 0:
		c.report.fail("healthcheck-disabled", under(at, "disable"), "a healthcheck has a test and is disabled (keep one of them)")
		return nil
	case h.Disable:
		return &container.HealthConfig{Test: []string{"NONE"}}
	}
	out := &container.HealthConfig{
		Test:          h.Test,
		Interval:      duration(h.Interval),
		Timeout:       duration(h.Timeout),
		StartPeriod:   duration(h.StartPeriod),
		StartInterval: duration(h.StartInterval),
	}
	if h.Retries != nil {
		if *h.Retries > math.MaxInt32 { // the engine keeps 32 bits of it: it would differ for ever
			c.report.fail("invalid-value", under(at, "retries"), "the healthcheck's retries are %d, and an engine keeps at most %d (write less)", *h.Retries, math.MaxInt32)
			return nil
		}
		out.Retries = int(*h.Retries)
	}
	for key, d := range map[string]time.Duration{"interval": out.Interval, "timeout": out.Timeout, "start_period": out.StartPeriod, "start_interval": out.StartInterval} {
		if d != 0 && d < time.Millisecond {
			c.report.fail("invalid-value", under(at, key), "the healthcheck's %s is %s, and an engine takes none below 1ms (write more)", key, d)
		}
	}
	return out
}

// environment is env_file and over it environment. A variable without a value, or
// with an empty one, takes that of the stack's variables where there is one, as
// docker/cli does it.
func (c *converter) environment(s types.ServiceConfig, raw map[string]any, at []string) []string {
	vars := map[string]*string{}
	merge := func(more map[string]*string) {
		for name, value := range more {
			if value == nil || *value == "" {
				if set, ok := c.lookup(name); ok {
					value = &set
				}
			}
			vars[name] = value
		}
	}
	fromFiles := map[string]*string{}
	for i, file := range s.EnvFiles {
		where := under(at, "env_file", strconv.Itoa(i))
		if file.Format != "" && file.Format != "raw" {
			c.report.fail("env-file", where, "the format %q of an env_file is not known (leave format out: lines are taken as they are)", file.Format)
		}
		vars, sealed := c.envFile(file.Path, bool(file.Required), "env_file", where)
		for name, value := range vars {
			fromFiles[name] = &value
			c.masks("environment", name, sealed)
		}
	}
	merge(fromFiles)
	written := pairs(raw["environment"])
	merge(written)
	for name := range written {
		c.masks("environment", name, false)
	}
	c.tellUnset(raw["environment"], under(at, "environment"))
	out := make([]string, 0, len(vars))
	for name, value := range vars {
		if value == nil {
			out = append(out, name)
		} else {
			out = append(out, name+"="+*value)
		}
	}
	sort.Strings(out)
	return out
}

// tellUnset tells of variables that are passed on by their names alone, and are not set.
func (c *converter) tellUnset(environment any, at []string) {
	tell := func(name, key string) {
		if _, set := c.lookup(name); !set {
			c.report.unset(name, under(at, key), "is left out of "+strings.Join(at, "."), "")
		}
	}
	switch v := environment.(type) {
	case []any:
		for i, element := range v {
			if name := text(element); !strings.Contains(name, "=") {
				tell(name, strconv.Itoa(i))
			}
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if v[name] == nil {
				tell(name, name)
			}
		}
	}
}

// masks says whether a field of the service under way has a value that came out of an
// encrypted file; the last word counts.
func (c *converter) masks(section, name string, sealed bool) {
	if field := section + "." + name; sealed {
		c.masked[field] = true
	} else {
		delete(c.masked, field)
	}
}

// envFile reads lines of KEY=VALUE from a file of the stack's folder, and says whether
// that is an encrypted one.
func (c *converter) envFile(file string, required bool, kind string, at []string) (vars map[string]string, sealed bool) {
	text, problem := c.files(file, maxTextSize)
	if problem.text != "" {
		missing := strings.Contains(problem.text, "no such file")
		problem.text = kind + ": " + problem.text
		if !c.report.sealedProblem(problem, at) && (required || !missing) {
			c.report.fail("env-file", at, "%s", problem.text)
		}
		return nil, false
	}
	data := text.data
	if text.unopened != "" {
		data = nil
		for _, name := range text.names {
			data = append(data, name+"="+standIn+"\n"...)
		}
	}
	if len(data) > maxTextSize {
		c.report.fail("env-file", at, "%s: %s is larger than 1 MiB (keep variables in it, nothing else)", kind, file)
		return nil, false
	}
	if vars, ok := c.lines[file]; ok {
		c.tellSealed(text, file, kind, at)
		return vars, text.sealed
	}
	vars, err := parseEnvLines(data, c.lookup)
	if err != nil {
		c.report.fail("env-file", at, "%s: %s", kind, notVariable(data, file))
	}
	if c.lines == nil {
		c.lines = map[string]map[string]string{}
	}
	c.lines[file] = vars
	c.tellSealed(text, file, kind, at)
	return vars, text.sealed
}

// notVariable says which line of a file is not KEY=VALUE, and nothing of what stands
// there, which may be a part of a secret.
func notVariable(data []byte, file string) string {
	for i, line := range bytes.Split(data, []byte("\n")) {
		if _, err := parseEnvLines(line, nil); err == nil {
			continue
		}
		if rest := bytes.TrimLeft(line, " \t"); bytes.HasPrefix(rest, []byte("export ")) {
			return fmt.Sprintf("line %d of %s begins with export (write KEY=VALUE alone)", i+1, file)
		}
		return fmt.Sprintf("line %d of %s is no variable (write a KEY=VALUE a line, without spaces in KEY)", i+1, file)
	}
	return fmt.Sprintf("%s is not a list of variables (write a KEY=VALUE a line, without spaces in KEY)", file)
}

// labels is label_file and over it labels.
func (c *converter) labels(s types.ServiceConfig, at []string) map[string]string {
	out := map[string]string{}
	for i, file := range s.LabelFiles {
		where := under(at, "label_file", strconv.Itoa(i))
		vars, sealed := c.envFile(file, true, "label_file", where)
		for key, value := range vars {
			checkLabel(c.report, key, where)
			out[key] = value
			c.masks("labels", key, sealed)
		}
	}
	for key, value := range s.Labels {
		out[key] = value
		c.masks("labels", key, false)
	}
	return out
}

// pairs reads KEY=VALUE, as a list or a mapping; nil stands for a KEY alone.
func pairs(value any) map[string]*string {
	out := map[string]*string{}
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			key, value, ok := strings.Cut(text(element), "=")
			out[key] = nil
			if ok {
				out[key] = &value
			}
		}
	case map[string]any:
		for key, element := range v {
			out[key] = nil
			if element != nil {
				value := text(element)
				out[key] = &value
			}
		}
	}
	return out
}

// text is a scalar as docker/cli prints it.
func text(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

// capabilities brings names of capabilities into one form: upper case, with their
// prefix, each once, sorted. ALL swallows the others, and what is added is not
// dropped.
func capabilities(add, drop []string) (added, dropped []string) {
	normal := func(names []string) map[string]bool {
		out := map[string]bool{}
		for _, name := range names {
			name = strings.ToUpper(strings.TrimSpace(name))
			if name != "ALL" && name != "RESET" && !strings.HasPrefix(name, "CAP_") {
				name = "CAP_" + name
			}
			out[name] = true
		}
		if out["ALL"] {
			return map[string]bool{"ALL": true}
		}
		delete(out, "RESET")
		return out
	}
	adds, drops := normal(add), normal(drop)
	for name := range adds {
		delete(drops, name)
	}
	return nilIfEmpty(sortedKeys(adds)), nilIfEmpty(sortedKeys(drops))
}

func nilIfEmpty(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// isolation is one that an engine knows: it takes any other for the default, and
// what it keeps would never be what the file says.
func (c *converter) isolation(name string, at []string) container.Isolation {
	i := container.Isolation(name)
	if !i.IsDefault() && !i.IsProcess() && !i.IsHyperV() {
		c.report.fail("invalid-value", at, "%q is no isolation (write default, process or hyperv)", name)
	}
	return i
}

func (c *converter) ulimits(limits map[string]*types.UlimitsConfig, at []string) []*container.Ulimit {
	var out []*container.Ulimit
	for _, name := range sortedKeys(limits) {
		l := limits[name]
		if l == nil {
			continue
		}
		u := &container.Ulimit{Name: name, Soft: int64(l.Soft), Hard: int64(l.Hard)}
		if l.Single != 0 {
			u.Soft, u.Hard = int64(l.Single), int64(l.Single)
		}
		if unlimited := int64(-1); u.Hard != unlimited && (u.Soft > u.Hard || u.Soft == unlimited) {
			c.report.fail("invalid-value", under(at, name), "the ulimit %s has a soft limit of %d above its hard limit of %d, and no container starts with it (raise hard)", name, u.Soft, u.Hard)
		}
		out = append(out, u)
	}
	return out
}

func logDriver(l *types.LoggingConfig) *swarm.Driver {
	if l == nil {
		return nil
	}
	return &swarm.Driver{Name: l.Driver, Options: l.Options}
}

func placement(p types.Placement) *swarm.Placement {
	out := &swarm.Placement{Constraints: p.Constraints, MaxReplicas: p.MaxReplicas}
	for _, preference := range p.Preferences {
		out.Preferences = append(out.Preferences, swarm.PlacementPreference{
			Spread: &swarm.SpreadOver{SpreadDescriptor: preference.Spread},
		})
	}
	return out
}

func (c *converter) resources(r types.Resources, raw map[string]any, at []string) *swarm.ResourceRequirements {
	out := &swarm.ResourceRequirements{}
	written := mapping(raw, "deploy", "resources")
	if r.Limits != nil {
		out.Limits = &swarm.Limit{
			NanoCPUs:    c.nanoCPUs(mapping(written, "limits")["cpus"], under(at, "limits", "cpus")),
			MemoryBytes: int64(r.Limits.MemoryBytes),
			Pids:        r.Limits.Pids,
		}
		c.checkMemory(out.Limits.MemoryBytes, under(at, "limits", "memory"))
	}
	if r.Reservations != nil {
		out.Reservations = &swarm.Resources{
			NanoCPUs:    c.nanoCPUs(mapping(written, "reservations")["cpus"], under(at, "reservations", "cpus")),
			MemoryBytes: int64(r.Reservations.MemoryBytes),
		}
		c.checkMemory(out.Reservations.MemoryBytes, under(at, "reservations", "memory"))
		out.Reservations.GenericResources = c.genericResources(r.Reservations.GenericResources, under(at, "reservations", "generic_resources"))
	}
	return out
}

// genericResources converts what nodes have to offer besides CPUs and memory, and
// what a compose file can only count.
func (c *converter) genericResources(list []types.GenericResource, at []string) []swarm.GenericResource {
	var out []swarm.GenericResource
	for i, generic := range list {
		where := under(at, strconv.Itoa(i))
		d := generic.DiscreteResourceSpec
		if d == nil || d.Kind == "" || d.Value < 1 {
			c.report.fail("invalid-value", where, "a generic resource has no discrete_resource_spec with a kind and a value of 1 or more (write both)")
			continue
		}
		out = append(out, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: d.Kind, Value: d.Value}})
	}
	return out
}

// checkMemory refuses what an engine refuses (swarmkit: validateResources).
func (c *converter) checkMemory(bytes int64, at []string) {
	if bytes != 0 && bytes < 4<<20 {
		c.report.fail("invalid-value", at, "%s is %d bytes, and an engine takes none below 4 MiB (write a unit, such as 64M)", strings.Join(at[2:], "."), bytes)
	}
}

var cpuNumber = regexp.MustCompile(`^(\d{1,12}(\.\d{0,20})?|\.\d{1,20})(e-?\d)?$|^\d{1,12}/\d{1,12}$`)

// nanoCPUs reads cpus exactly, from its text.
func (c *converter) nanoCPUs(value any, at []string) int64 {
	if value == nil {
		return 0
	}
	number := text(value)
	if f, ok := value.(float64); ok {
		number = strconv.FormatFloat(f, 'f', -1, 64)
	}
	where := strings.Join(at[2:], ".")
	if number == "" {
		return 0
	}
	cpus, ok := new(big.Rat), cpuNumber.MatchString(strings.ToLower(number))
	if ok {
		_, ok = cpus.SetString(number)
	}
	if !ok {
		c.report.fail("invalid-value", at, "%s is %q, which is no number of CPUs (write one like '0.5')", where, number)
		return 0
	}
	nano := cpus.Mul(cpus, big.NewRat(1e9, 1))
	switch {
	case !nano.IsInt() || !nano.Num().IsInt64():
		c.report.fail("invalid-value", at, "%s is %s, which is finer or larger than an engine counts (write at most nine decimals)", where, number)
		return 0
	case nano.Num().Int64() != 0 && nano.Num().Int64() < 1e6:
		c.report.fail("invalid-value", at, "%s is %s, and an engine takes none below 0.001 (write more)", where, number)
	}
	return nano.Num().Int64()
}

// restartPolicy is deploy.restart_policy, else restart.
func (c *converter) restartPolicy(s types.ServiceConfig, at []string) *swarm.RestartPolicy {
	if p := s.Deploy.RestartPolicy; p != nil {
		if p.Condition != "" && !slices.Contains([]string{"none", "on-failure", "any"}, p.Condition) {
			c.report.fail("invalid-value", under(at, "deploy", "restart_policy", "condition"), "%q is no condition to restart on (write any, on-failure or none)", p.Condition)
		}
		return &swarm.RestartPolicy{
			Condition:   swarm.RestartPolicyCondition(p.Condition),
			Delay:       c.notNegative(p.Delay, under(at, "deploy", "restart_policy", "delay")),
			MaxAttempts: p.MaxAttempts,
			Window:      c.notNegative(p.Window, under(at, "deploy", "restart_policy", "window")),
		}
	}
	name, count, counted := strings.Cut(s.Restart, ":")
	var attempts uint64
	if count != "" {
		n, err := strconv.ParseUint(count, 10, 31)
		if err != nil {
			c.report.fail("invalid-value", under(at, "restart"), "restart is %q, whose count is no number (write on-failure:3)", s.Restart)
		}
		attempts = n
	}
	switch name {
	case "":
		if counted {
			c.report.fail("invalid-value", under(at, "restart"), "restart is %q, which names no policy (write always, on-failure or no)", s.Restart)
		}
		return nil
	case "no":
		return nil
	case "always", "unless-stopped":
		return &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionAny}
	case "on-failure":
		return &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionOnFailure, MaxAttempts: &attempts}
	}
	c.report.fail("invalid-value", under(at, "restart"), "restart is %q, which is no policy (write always, on-failure or no)", s.Restart)
	return nil
}

// attachments converts a service's networks.
func (c *converter) attachments(key string, networks map[string]*types.ServiceNetworkConfig, at []string) []swarm.NetworkAttachmentConfig {
	if len(networks) == 0 {
		networks = map[string]*types.ServiceNetworkConfig{"default": nil}
	}
	var out []swarm.NetworkAttachmentConfig
	for _, name := range sortedKeys(networks) {
		if _, ok := c.project.Networks[name]; !ok && name != "default" {
			c.report.fail("undefined-reference", under(at, name), "the service %s uses the network %s, which the file does not declare (add it under networks)", key, name)
		}
		a := swarm.NetworkAttachmentConfig{Target: c.networkName(name)}
		if n := networks[name]; n != nil {
			a.Aliases, a.DriverOpts = slices.Clone(n.Aliases), n.DriverOpts
		}
		if container.NetworkMode(a.Target).IsUserDefined() {
			a.Aliases = append(a.Aliases, key)
		}
		out = append(out, a)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Target < out[j].Target })
	return out
}

// secretReferences converts a service's secrets.
func (c *converter) secretReferences(s types.ServiceConfig, at []string) []*swarm.SecretReference {
	var out []*swarm.SecretReference
	targets := map[string]bool{}
	for i, use := range s.Secrets {
		where := under(at, "secrets", strconv.Itoa(i))
		if _, ok := c.project.Secrets[use.Source]; !ok {
			c.report.fail("undefined-reference", where, "the service %s uses the secret %s, which the file does not declare (add it under secrets)", at[1], use.Source)
			continue
		}
		file := c.target(types.FileReferenceConfig(use), targets, "secret", where)
		target := swarm.SecretReferenceFileTarget(file)
		out = append(out, &swarm.SecretReference{File: &target, SecretName: c.secretName(use.Source)})
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].SecretName != out[j].SecretName {
			return out[i].SecretName < out[j].SecretName
		}
		return out[i].File.Name < out[j].File.Name
	})
	return out
}

// configReferences converts a service's configs, and its credential spec, which
// may name one.
func (c *converter) configReferences(s types.ServiceConfig, at []string) ([]*swarm.ConfigReference, *swarm.CredentialSpec) {
	var out []*swarm.ConfigReference
	targets := map[string]bool{}
	for i, use := range s.Configs {
		where := under(at, "configs", strconv.Itoa(i))
		if _, ok := c.project.Configs[use.Source]; !ok {
			c.report.fail("undefined-reference", where, "the service %s uses the config %s, which the file does not declare (add it under configs)", at[1], use.Source)
			continue
		}
		file := c.target(types.FileReferenceConfig(use), targets, "config", where)
		target := swarm.ConfigReferenceFileTarget(file)
		out = append(out, &swarm.ConfigReference{File: &target, ConfigName: c.configName(use.Source)})
	}
	credentials := c.credentialSpec(s.CredentialSpec, under(at, "credential_spec"))
	if credentials != nil && credentials.Config != "" {
		out = append(out, &swarm.ConfigReference{Runtime: &swarm.ConfigReferenceRuntimeTarget{}, ConfigName: credentials.Config})
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].ConfigName != out[j].ConfigName {
			return out[i].ConfigName < out[j].ConfigName
		}
		return configFile(out[i]) < configFile(out[j])
	})
	return out, credentials
}

// configFile is where a config goes in the container; one for the runtime comes
// after all files.
func configFile(r *swarm.ConfigReference) string {
	if r.File == nil {
		return "\xff"
	}
	return r.File.Name
}

// target says where in the container a config or secret goes.
func (c *converter) target(use types.FileReferenceConfig, targets map[string]bool, kind string, at []string) fileTarget {
	t := fileTarget{Name: use.Target, UID: use.UID, GID: use.GID, Mode: 0o444}
	if t.Name == "" {
		t.Name = use.Source
	}
	if t.UID == "" {
		t.UID = "0"
	}
	if t.GID == "" {
		t.GID = "0"
	}
	if use.Mode != nil {
		t.Mode = fileMode(uint32(*use.Mode))
	}
	if targets[t.Name] {
		c.report.fail("duplicate-target", at, "two %ss of the service have the same target %s (give one another)", kind, t.Name)
	}
	targets[t.Name] = true
	return t
}

// credentialSpec names its config by the config's name, where an engine wants the
// ID.
func (c *converter) credentialSpec(spec *types.CredentialSpecConfig, at []string) *swarm.CredentialSpec {
	if spec == nil {
		return nil
	}
	out := &swarm.CredentialSpec{Config: spec.Config, File: spec.File, Registry: spec.Registry}
	given := 0
	for _, source := range []string{spec.Config, spec.File, spec.Registry} {
		if source != "" {
			given++
		}
	}
	switch {
	case given == 0:
		return nil
	case given > 1:
		c.report.fail("credential-spec", at, "credential_spec has more than one of config, file and registry (keep one)")
	case spec.Config != "":
		if _, ok := c.project.Configs[spec.Config]; !ok {
			c.report.fail("undefined-reference", under(at, "config"), "credential_spec uses the config %s, which the file does not declare (add it under configs)", spec.Config)
		}
		out.Config = c.configName(spec.Config)
	}
	return out
}

func (c *converter) mode(deploy *types.DeployConfig, at []string) swarm.ServiceMode {
	var replicas *uint64
	if deploy.Replicas != nil {
		if *deploy.Replicas < 0 {
			c.report.fail("invalid-value", under(at, "replicas"), "replicas is %d (write 0 or more)", *deploy.Replicas)
		}
		n := uint64(max(*deploy.Replicas, 0))
		replicas = &n
	}
	if strings.HasPrefix(deploy.Mode, "global") && replicas != nil {
		c.report.fail("global-replicas", under(at, "replicas"), "a %s service runs once on every node and takes no replicas (take replicas or mode out)", deploy.Mode)
	}
	switch deploy.Mode {
	case "", "replicated":
		return swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: replicas}}
	case "global":
		return swarm.ServiceMode{Global: &swarm.GlobalService{}}
	case "replicated-job":
		return swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: replicas, TotalCompletions: replicas}}
	case "global-job":
		return swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}
	}
	c.report.fail("invalid-value", under(at, "mode"), "%q is no mode of a service (write replicated, global, replicated-job or global-job)", deploy.Mode)
	return swarm.ServiceMode{}
}

// dependsOn is sorted. A dependency that is not there is an error, unless it says
// itself that it is not required.
func (c *converter) dependsOn(depends types.DependsOnConfig, at []string) []string {
	var out []string
	for _, key := range sortedKeys(depends) {
		if _, ok := c.project.Services[key]; ok {
			out = append(out, key)
			continue
		}
		if !depends[key].Required {
			continue
		}
		if _, disabled := c.project.DisabledServices[key]; disabled {
			c.report.fail("undefined-reference", under(at, key), "depends_on names the service %s, none of whose profiles is active (activate one, or write required: false)", key)
			continue
		}
		c.report.fail("undefined-reference", under(at, key), "depends_on names the service %s, which the file does not have (correct or remove it)", key)
	}
	return out
}

func duration(d *types.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

// notNegative is a duration that an engine refuses, or stumbles on, below zero.
func (c *converter) notNegative(d *types.Duration, at []string) *time.Duration {
	if d == nil {
		return nil
	}
	out := time.Duration(*d)
	if out < 0 {
		c.report.fail("invalid-value", at, "%s is %s (write 0s or more)", at[len(at)-1], out)
	}
	return &out
}

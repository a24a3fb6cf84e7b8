package spec

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/swarm"
)

// converted holds the keys of a service that become something in the Swarm, or in
// what skep does with it.
var converted = set(
	"image", "entrypoint", "command", "environment", "env_file", "hostname", "user", "working_dir",
	"tty", "stdin_open", "read_only", "init", "isolation", "stop_signal", "stop_grace_period", "sysctls",
	"extra_hosts", "dns", "dns_search", "cap_add", "cap_drop", "ulimits", "healthcheck", "logging",
	"credential_spec", "ports", "volumes", "configs", "secrets", "networks", "deploy", "restart",
	"labels", "label_file", "depends_on", "profiles", "extends",
)

// forbidden holds the keys that promise a limit or a volume which the service
// would then not have, with what to write instead.
var forbidden = map[string]string{
	"cpu_quota":       "write deploy.resources.limits.cpus",
	"cpu_shares":      "write deploy.resources.reservations.cpus",
	"cpus":            "write deploy.resources.limits.cpus",
	"cpuset":          "write deploy.resources.limits.cpus, or a placement constraint",
	"mem_limit":       "write deploy.resources.limits.memory",
	"mem_reservation": "write deploy.resources.reservations.memory",
	"memswap_limit":   "write deploy.resources.limits.memory; a Swarm bounds no swap",
	"pids_limit":      "write deploy.resources.limits.pids",
	"volume_driver":   "write the driver of each volume under volumes",
	"volumes_from":    "declare the volume under volumes and name it in both services",
}

// remedies tell what to do instead of a key that is ignored.
var remedies = map[string]string{
	"build":          "build the image elsewhere, push it, and name it in image",
	"container_name": "remove it; tasks are named by their service",
	"devices":        "remove it, or bind the device as a volume",
	"dns_opt":        "remove it",
	"expose":         "remove it; services of one network reach all ports of each other",
	"external_links": "attach both services to one network",
	"gpus":           "write deploy.resources.reservations.generic_resources",
	"links":          "remove it; services of one network reach each other by name",
	"network_mode":   "declare an external network named host and attach the service to it",
	"privileged":     "write cap_add with the capabilities it needs",
	"provider":       "run what it provides as a service",
	"pull_policy":    "remove it; x-skep.images says how images are pinned",
	"platform":       "write a placement constraint such as node.platform.arch == x86_64",
	"scale":          "write deploy.replicas",
	"shm_size":       "write a volume of type tmpfs at /dev/shm",
	"tmpfs":          "write a volume of type tmpfs",
	"log_driver":     "write logging.driver",
	"log_opt":        "write logging.options",
}

// harmless holds ignored keys whose absence changes nothing about how the service
// runs in a Swarm.
var harmless = set("annotations", "attach", "container_name", "develop", "expose", "links", "platform", "pull_policy", "pull_refresh_after")

func set(words ...string) map[string]bool {
	out := make(map[string]bool, len(words))
	for _, word := range words {
		out[word] = true
	}
	return out
}

// checkTree looks at the tree before the library does: for what would come out of
// it as an error without a place, and for what must not be written at all.
func checkTree(r *report, tree map[string]any) {
	for _, section := range []string{"services", "networks", "volumes", "configs", "secrets"} {
		objects, ok := tree[section].(map[string]any)
		if !ok && tree[section] != nil {
			r.fail("invalid-compose", []string{section}, "%s is not a mapping of names (write a name and below it what it is)", section)
			continue
		}
		for _, key := range sortedKeys(objects) {
			at := []string{section, key}
			object, ok := objects[key].(map[string]any)
			switch {
			case ok && section == "services":
				checkServiceTree(r, object, at)
			case ok:
				checkLabels(r, object["labels"], under(at, "labels"))
			case section == "services" || objects[key] != nil || section == "configs" || section == "secrets":
				r.fail("invalid-compose", at, "%s.%s is not a mapping (write its keys below it)", section, key)
			}
		}
	}
	checkLong(r, tree)
}

// maxKey bounds a key: they come back in findings and in names.
const maxKey = 255

// checkLong refuses keys of objects that no engine could take.
func checkLong(r *report, tree map[string]any) {
	for _, section := range []string{"services", "networks", "volumes", "configs", "secrets"} {
		for _, key := range sortedKeys(mapping(tree, section)) {
			if len(key) > maxKey {
				r.fail("invalid-name", []string{section, key}, "a name under %s has more than %d characters (shorten it)", section, maxKey)
			}
		}
	}
}

func checkServiceTree(r *report, service map[string]any, at []string) {
	for _, key := range sortedKeys(service) {
		if remedy, ok := forbidden[key]; ok {
			r.fail("option-forbidden", under(at, key), "%s has no effect in a Swarm, and the service would run without it (%s)", key, remedy)
		}
	}
	checkLabels(r, service["labels"], under(at, "labels"))
	checkLabels(r, mapping(service, "deploy")["labels"], under(at, "deploy", "labels"))
	ports, _ := service["ports"].([]any)
	for i, port := range ports {
		if _, err := parsePort(port); err != nil {
			r.fail("invalid-port", under(at, "ports", strconv.Itoa(i)), "%v (write PUBLISHED:TARGET, or the long form)", err)
		}
	}
	volumes, _ := service["volumes"].([]any)
	for i, volume := range volumes {
		if written, ok := volume.(string); ok {
			if _, err := parseVolume(written); err != nil {
				r.fail("invalid-volume", under(at, "volumes", strconv.Itoa(i)), "%v (write SOURCE:TARGET, or the long form)", err)
			}
		}
	}
	for _, section := range []string{"configs", "secrets"} {
		uses, _ := service[section].([]any)
		for i, use := range uses {
			m, _ := use.(map[string]any)
			for _, key := range []string{"source", "target"} {
				value, given := m[key]
				if _, isText := value.(string); given && !isText { // the library panics at it
					r.fail("invalid-value", under(at, section, strconv.Itoa(i), key), "%s.%s is not text (put it in quotes, or leave it out)", section, key)
				}
			}
		}
	}
	limits := mapping(service, "ulimits")
	for _, name := range sortedKeys(limits) {
		values := map[string]any{"": limits[name]}
		if both, ok := limits[name].(map[string]any); ok {
			values = both
		}
		for _, which := range sortedKeys(values) {
			switch v := values[which].(type) {
			case int:
				continue
			case string:
				if _, err := strconv.Atoi(v); err == nil {
					continue
				}
			}
			if !strings.HasPrefix(which, "x-") {
				r.fail("invalid-value", under(at, "ulimits", name), "the ulimit %s is not a whole number (write one, or soft and hard)", name)
			}
		}
	}
}

// checkLabels refuses labels that skep or docker write themselves.
func checkLabels(r *report, value any, at []string) {
	for _, key := range sortedKeys(pairs(value)) {
		checkLabel(r, key, under(at, key))
	}
}

func checkLabel(r *report, key string, at []string) {
	if strings.HasPrefix(key, "skep.") {
		r.fail("label-reserved", at, "the label %s is reserved: skep writes those that begin with skep. (rename it)", key)
	}
	if key == LabelNamespace || key == LabelImage {
		r.warn("label-reserved", at, "the label %s is overwritten: it tells which stack and image a service is of (remove it)", key)
	}
}

// lint tells what of a stack will not do what its author thinks.
func lint(c *converter, stack *Stack) {
	for _, s := range stack.Services {
		l := linter{converter: c, service: s, at: []string{"services", s.Key}, raw: c.services[s.Key]}
		l.ignored()
		l.image()
		l.binds()
		l.health()
		l.secretsInEnvironment()
	}
	c.lintTop()
	c.lintPorts(stack.Services)
	c.lintUnused()
}

// A linter looks at one service.
type linter struct {
	*converter
	service Service
	at      []string
	raw     map[string]any
}

// ignored tells of every key that comes to nothing.
func (l *linter) ignored() {
	for _, key := range sortedKeys(l.raw) {
		switch {
		case converted[key], strings.HasPrefix(key, "x-"), forbidden[key] != "":
		case key == "build":
			l.report.warn("build-ignored", under(l.at, key), "build is ignored: a Swarm builds no images (%s)", remedies[key])
		default:
			l.report.add(ignoredSeverity(key), "option-ignored", under(l.at, key), "%s is ignored in a Swarm (%s)", key, remedyFor(key))
		}
	}
	if l.raw["restart"] != nil && mapping(l.raw, "deploy")["restart_policy"] != nil {
		l.report.info("option-ignored", under(l.at, "restart"), "restart is ignored: deploy.restart_policy says it already (remove one)")
	}
	l.ignoredIn("ports", "host_ip", "name", "app_protocol")
	l.ignoredIn("volumes", "bind.create_host_path", "bind.selinux", "bind.recursive", "volume.labels", "tmpfs.mode")
	l.ignoredIn("depends_on", "restart")
	l.ignoredIn("networks", "ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "priority", "gw_priority", "interface_name", "use_service_name_alias")
	l.ignoredShort()
	reservations := mapping(l.raw, "deploy", "resources", "reservations")
	for _, key := range []string{"devices", "pids"} {
		if reservations[key] != nil {
			l.report.warn("option-ignored", under(l.at, "deploy", "resources", "reservations", key), "deploy.resources.reservations.%s is ignored in a Swarm (write generic_resources, or remove it)", key)
		}
	}
}

func ignoredSeverity(key string) Severity {
	if harmless[key] {
		return Info
	}
	return Warning
}

func remedyFor(key string) string {
	if remedy, ok := remedies[key]; ok {
		return remedy
	}
	return "remove it"
}

// ignoredIn tells of options in the entries of a list or mapping.
func (l *linter) ignoredIn(section string, options ...string) {
	entries := map[string]any{}
	switch v := l.raw[section].(type) {
	case []any:
		for i, entry := range v {
			entries[strconv.Itoa(i)] = entry
		}
	case map[string]any:
		entries = v
	}
	for _, index := range sortedKeys(entries) {
		entry, ok := entries[index].(map[string]any)
		if !ok {
			continue
		}
		for _, option := range options {
			keys := strings.Split(option, ".")
			if mapping(entry, keys[:len(keys)-1]...)[keys[len(keys)-1]] != nil {
				severity := Warning
				if option == "name" || option == "app_protocol" || option == "bind.create_host_path" {
					severity = Info
				}
				l.report.add(severity, "option-ignored", under(l.at, append([]string{section, index}, keys...)...), "%s.%s is ignored in a Swarm (remove it)", section, option)
			}
		}
	}
}

// ignoredShort tells of options in the short forms of ports and volumes.
func (l *linter) ignoredShort() {
	ports, _ := l.raw["ports"].([]any)
	for i, port := range ports {
		if written, ok := port.(string); ok && strings.Count(written, ":") > 1 {
			l.report.warn("option-ignored", under(l.at, "ports", strconv.Itoa(i)), "the address in %s is ignored: a Swarm publishes on all addresses of its nodes (remove it, and keep others out with a firewall)", written)
		}
	}
	volumes, _ := l.raw["volumes"].([]any)
	for i, volume := range volumes {
		written, _ := volume.(string)
		parts := strings.Split(written, ":")
		for _, option := range strings.Split(parts[len(parts)-1], ",") {
			if len(parts) > 2 && (option == "z" || option == "Z") {
				l.report.warn("option-ignored", under(l.at, "volumes", strconv.Itoa(i)), "the option %s of a volume is ignored in a Swarm (remove it)", option)
			}
		}
	}
}

// image tells of images that are not the same tomorrow.
func (l *linter) image() {
	image := l.service.Spec.TaskTemplate.ContainerSpec.Image
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return // the conversion has the finding
	}
	if _, pinned := named.(reference.Digested); pinned {
		return
	}
	tagged, ok := named.(reference.Tagged)
	switch {
	case !ok:
		l.report.warn("image-untagged", under(l.at, "image"), "the image %s has no tag, which means latest: nobody can tell which version runs, or go back to it (write a version's tag)", image)
	case tagged.Tag() == "latest":
		l.report.warn("image-latest", under(l.at, "image"), "the image %s is latest: nobody can tell which version runs, or go back to it (write a version's tag)", image)
	}
}

// binds tells of paths that have to be on the nodes.
func (l *linter) binds() {
	volumes, _ := l.raw["volumes"].([]any)
	for i, value := range volumes {
		at := under(l.at, "volumes", strconv.Itoa(i))
		volume, err := parseVolume(value)
		if err != nil || volume.Type != "bind" {
			continue
		}
		if relative := !strings.HasPrefix(volume.Source, "/") && !strings.HasPrefix(volume.Source, "~") && !windowsPath(volume.Source); relative {
			l.report.warn("bind-relative", at, "the bind mount of %s is relative to this machine's folder, which other nodes do not have: a task placed there is rejected (make it a config, which the Swarm brings to every node)", volume.Source)
			continue
		}
		l.report.info("bind", at, "the bind mount of %s takes what each node has at that path, and a node that has nothing there rejects the task (see that all nodes have it, or constrain the placement)", volume.Source)
	}
}

// health tells of a rollout that nothing watches.
func (l *linter) health() {
	update, check := l.service.Spec.UpdateConfig, l.service.Spec.TaskTemplate.ContainerSpec.Healthcheck
	if update == nil || update.Order != swarm.UpdateOrderStartFirst {
		return
	}
	if check == nil || (len(check.Test) > 0 && check.Test[0] == "NONE") {
		l.report.info("no-healthcheck", l.at, "%s has no healthcheck here: unless its image has one, a new task gets requests as soon as its process starts, and the old one stops (write a healthcheck)", l.service.Key)
	}
}

var secretName = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credentials?)`)

// secretsInEnvironment tells of values in the file that look like secrets. It never
// tells the value.
func (l *linter) secretsInEnvironment() {
	written := mapping(l.literal, "services", l.service.Key)["environment"]
	vars := pairs(written)
	for _, name := range sortedKeys(vars) {
		value := vars[name]
		if value == nil || *value == "" || !secretName.MatchString(name) || harmlessValue(name, *value) {
			continue
		}
		at := under(l.at, "environment")
		if list, ok := written.([]any); ok {
			i := slices.IndexFunc(list, func(e any) bool { return strings.HasPrefix(text(e), name+"=") })
			at = under(at, strconv.Itoa(i))
		} else {
			at = under(at, name)
		}
		l.report.warn("secret-in-env", at, "the variable %s looks like a secret, and its value stands in the file and in the service for all to read (make it a secret and name its file in %s_FILE, or where the program reads it)", name, name)
	}
}

// harmlessValue says that a variable does not hold the secret itself: it names a
// file, another variable, or a switch.
func harmlessValue(name, value string) bool {
	upper := strings.ToUpper(name)
	if strings.HasSuffix(upper, "_FILE") || strings.HasSuffix(upper, "_PATH") || strings.HasPrefix(value, "/run/secrets/") {
		return true
	}
	if strings.HasPrefix(value, "$") && !strings.HasPrefix(value, "$$") {
		return true
	}
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "0", "1":
		return true
	}
	return false
}

// lintTop tells of what the top-level sections hold in vain.
func (c *converter) lintTop() {
	for _, section := range []string{"jobs", "models"} {
		if c.literal[section] != nil {
			c.report.warn("option-ignored", []string{section}, "%s is ignored in a Swarm (remove it; a job is a service with deploy.mode: replicated-job)", section)
		}
	}
	for key := range c.usedNetworks() {
		declared := mapping(c.literal, "networks", key)
		if c.project.Networks[key].External {
			continue
		}
		at := []string{"networks", key}
		for _, option := range []string{"enable_ipv4", "enable_ipv6"} {
			if declared[option] != nil {
				c.report.warn("option-ignored", under(at, option), "%s is ignored in a Swarm (remove it)", option)
			}
		}
		if mapping(declared, "ipam")["options"] != nil {
			c.report.warn("option-ignored", under(at, "ipam", "options"), "ipam.options is ignored in a Swarm (remove it)")
		}
		pools, _ := mapping(declared, "ipam")["config"].([]any)
		for i, pool := range pools {
			p, _ := pool.(map[string]any)
			for _, option := range []string{"gateway", "ip_range", "aux_addresses"} {
				if p[option] != nil {
					c.report.warn("option-ignored", under(at, "ipam", "config", strconv.Itoa(i), option), "ipam.config.%s is ignored in a Swarm, which takes the subnet alone (remove it)", option)
				}
			}
		}
	}
}

// lintPorts tells of services that want the same port.
func (c *converter) lintPorts(services []Service) {
	type port struct {
		number   uint32
		protocol swarm.PortConfigProtocol
	}
	type holder struct {
		key  string
		mode swarm.PortConfigPublishMode
	}
	holders := map[port][]holder{}
	for _, s := range services {
		for _, p := range s.Spec.EndpointSpec.Ports {
			if p.PublishedPort != 0 {
				at := port{p.PublishedPort, protocol(p)}
				holders[at] = append(holders[at], holder{s.Key, p.PublishMode})
			}
		}
	}
	for at, all := range holders {
		sort.Slice(all, func(i, j int) bool { return all[i].key < all[j].key })
		for i := 1; i < len(all); i++ {
			a, b := all[i-1], all[i]
			if a.key == b.key {
				continue
			}
			what := fmt.Sprintf("the services %s and %s both publish port %d/%s", a.key, b.key, at.number, at.protocol)
			where := []string{"services", b.key, "ports"}
			if a.mode == swarm.PortConfigPublishModeHost && b.mode == swarm.PortConfigPublishModeHost {
				c.report.warn("host-port-conflict", where, "%s of the host, and never run on one node together (give one another port, or constrain their placement)", what)
			} else {
				c.report.fail("port-conflict", where, "%s, and an engine refuses the second (give one another port)", what)
			}
		}
	}
}

// lintUnused tells of what is declared and used by nobody.
func (c *converter) lintUnused() {
	used := map[string]map[string]bool{"networks": c.usedNetworks(), "volumes": {}, "configs": {}, "secrets": {}}
	for key, service := range c.project.Services {
		for _, use := range service.Configs {
			used["configs"][use.Source] = true
		}
		for _, use := range service.Secrets {
			used["secrets"][use.Source] = true
		}
		if service.CredentialSpec != nil {
			used["configs"][service.CredentialSpec.Config] = true
		}
		volumes, _ := c.services[key]["volumes"].([]any)
		for _, value := range volumes {
			if volume, err := parseVolume(value); err == nil {
				used["volumes"][volume.Source] = true
			}
		}
	}
	declared := map[string][]string{
		"networks": sortedKeys(c.project.Networks), "volumes": sortedKeys(c.project.Volumes),
		"configs": sortedKeys(c.project.Configs), "secrets": sortedKeys(c.project.Secrets),
	}
	for section, keys := range declared {
		for _, key := range keys {
			if !used[section][key] {
				c.report.info("unused", []string{section, key}, "%s.%s is declared, and no service uses it (remove it, or name it in a service)", section, key)
			}
		}
	}
}

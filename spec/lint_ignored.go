package spec

import (
	"strconv"
	"strings"
)

// converted holds the keys of a service that become something in the Swarm, or in
// what skep does with it.
var converted = set(
	"image", "entrypoint", "command", "environment", "env_file", "hostname", "user", "working_dir",
	"tty", "stdin_open", "read_only", "init", "isolation", "stop_signal", "stop_grace_period", "sysctls",
	"extra_hosts", "dns", "dns_search", "cap_add", "cap_drop", "ulimits", "healthcheck", "logging",
	"credential_spec", "ports", "volumes", "configs", "secrets", "networks", "deploy", "restart",
	"labels", "label_file", "depends_on", "profiles", "extends", "tmpfs", "group_add", "oom_score_adj", "dns_opt",
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
	"log_driver":     "write logging.driver",
	"log_opt":        "write logging.options",
}

// harmless holds ignored keys whose absence changes nothing about how the service
// runs in a Swarm.
var harmless = set("annotations", "attach", "container_name", "develop", "expose", "links", "platform", "pull_policy", "pull_refresh_after")

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
	l.ignoredIn("ports", "host_ip", "app_protocol")
	l.ignoredIn("volumes", "bind.create_host_path", "bind.selinux")
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
				if option == "app_protocol" || option == "bind.create_host_path" {
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

// lintTop tells of what the top-level sections hold in vain.
func (c *converter) lintTop() {
	for _, section := range []string{"jobs", "models"} {
		if c.literal[section] != nil {
			c.report.warn("option-ignored", []string{section}, "%s is ignored in a Swarm (remove it; a job is a service with deploy.mode: replicated-job)", section)
		}
	}
	for key := range c.usedNetworks() {
		declared := c.project.Networks[key]
		if declared.External {
			continue
		}
		at := []string{"networks", key}
		if declared.EnableIPv4 != nil {
			c.report.warn("option-ignored", under(at, "enable_ipv4"), "enable_ipv4 is ignored in a Swarm, whose networks always have IPv4 (remove it)")
		}
		for i, pool := range declared.Ipam.Config {
			if pool != nil && pool.AuxiliaryAddresses != nil {
				c.report.warn("option-ignored", under(at, "ipam", "config", strconv.Itoa(i), "aux_addresses"), "ipam.config.aux_addresses is ignored in a Swarm, which may give these addresses to tasks (write an ip_range that leaves them out)")
			}
		}
	}
}

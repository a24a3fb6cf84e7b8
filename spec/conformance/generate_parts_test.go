package conformance

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// A field of a mapping: how it is written, and how often it is there.
type field struct {
	key  string
	rare int // there once in so many
	make func() *yaml.Node
}

// fields is a mapping of some of the fields.
func (g *generator) fields(of ...field) *yaml.Node {
	m := &mappingOf{}
	for _, f := range of {
		if g.chance(f.rare) {
			m.add(f.key, f.make())
		}
	}
	return m.node(g, true)
}

// textField is a field with one of some texts.
func (g *generator) textField(key string, rare int, values ...string) field {
	return field{key, rare, func() *yaml.Node { return g.text(one(g, values...)) }}
}

// service is any service, the i-th of the project.
func (g *generator) service(p names, i int) *yaml.Node {
	m := &mappingOf{}
	m.add("image", g.text(one(g, "skep.test/app:1", "nginx", "localhost:5000/a/b:1.0-rc.1",
		"skep.test/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")))
	mode := one(g, "", "", "", "replicated", "global", "replicated-job", "global-job")
	vip := !g.chance(6)
	const rare = 5
	for _, f := range []field{
		{"command", rare, g.command},
		{"entrypoint", rare, g.command},
		{"environment", 2, func() *yaml.Node { return g.environment() }},
		{"env_file", rare, g.envFile},
		{"labels", rare, func() *yaml.Node { return g.pairsOf(4, true, true) }},
		g.textField("hostname", rare, "web", "{{.Service.Name}}-{{.Task.Slot}}"),
		g.textField("user", rare, "1000", "app:staff", "0:0"),
		g.textField("working_dir", rare, "/srv", "relative/dir", "/with space/"),
		{"tty", rare, func() *yaml.Node { return g.boolean(true) }},
		{"stdin_open", rare, func() *yaml.Node { return g.boolean(true) }},
		{"read_only", rare, func() *yaml.Node { return g.boolean(true) }},
		{"init", rare, func() *yaml.Node { return g.boolean(false) }},
		g.textField("isolation", 20, "default", "process", "hyperv"),
		g.textField("stop_signal", rare, "SIGTERM", "SIGQUIT", "9"),
		{"stop_grace_period", rare, g.duration},
		{"sysctls", rare, func() *yaml.Node { return g.pairsOf(3, true, false) }},
		{"extra_hosts", rare, g.extraHosts},
		{"dns", rare, func() *yaml.Node { return g.textOrList("8.8.8.8", "10.0.0.1", "::1") }},
		{"dns_search", rare, func() *yaml.Node { return g.textOrList("example.com", "b.example.com", "a") }},
		{"cap_add", rare, g.capabilities},
		{"cap_drop", rare, g.capabilities},
		{"ulimits", rare, g.ulimits},
		{"healthcheck", 3, g.healthcheck},
		{"logging", rare, g.logging},
		{"credential_spec", 20, func() *yaml.Node { return g.fields(g.textField(one(g, "file", "registry"), 1, "spec.json")) }},
		{"ports", 2, func() *yaml.Node { return g.ports(vip) }},
		{"volumes", 2, func() *yaml.Node { return g.volumes(p.volumes) }},
		{"configs", 3, func() *yaml.Node { return g.references(p.configs) }},
		{"secrets", 3, func() *yaml.Node { return g.references(p.secrets) }},
		{"networks", 2, func() *yaml.Node { return g.attachments(p.networks) }},
		g.textField("restart", rare, "always", "no", "on-failure", "on-failure:5", "unless-stopped", ""),
		{"deploy", 2, func() *yaml.Node { return g.deploy(mode, vip) }},
	} {
		if g.chance(f.rare) {
			m.add(f.key, f.make())
		}
	}
	if i > 0 && g.chance(3) {
		m.add("depends_on", g.texts(p.services[:1+g.upTo(i-1)]...))
	}
	g.ignored(m)
	return m.node(g, true)
}

// ignored adds options that either side passes over and says so.
func (g *generator) ignored(m *mappingOf) {
	for _, f := range []field{
		g.textField("build", 20, ".", "./sub"),
		g.textField("container_name", 20, "name"),
		g.textField("domainname", 20, "example.com"),
		g.textField("ipc", 20, "host"),
		g.textField("mac_address", 20, "02:42:ac:11:65:43"),
		g.textField("network_mode", 20, "host", "bridge"),
		g.textField("pid", 20, "host"),
		g.textField("userns_mode", 20, "host"),
		g.textField("cgroup_parent", 20, "m-executor"),
		g.textField("shm_size", 20, "64M"),
		{"privileged", 20, func() *yaml.Node { return g.boolean(true) }},
		{"devices", 20, func() *yaml.Node { return g.texts("/dev/null:/dev/null") }},
		{"expose", 20, func() *yaml.Node { return g.texts("80", "90") }},
		{"external_links", 20, func() *yaml.Node { return g.texts("other") }},
		{"security_opt", 20, func() *yaml.Node { return g.texts("label=level:s0") }},
		{"x-more", 20, func() *yaml.Node { return g.pairsOf(2, false, true) }},
	} {
		if g.chance(f.rare) {
			m.add(f.key, f.make())
		}
	}
}

// command is text whose quotes are closed, or a list.
func (g *generator) command() *yaml.Node {
	if g.chance(2) {
		var elements []string
		for range g.upTo(4) {
			elements = append(elements, g.word())
		}
		return g.texts(elements...)
	}
	var parts []string
	for range 1 + g.upTo(6) {
		parts = append(parts, one(g, "run", "--flag=a", "'single  quoted'", `"double \"quoted\" 'x'"`, `a\ b`, `x"y"z`, "&&", ";", "|", ">", "2>&1",
			"(a)", "(", ")", "$HOME", "`date`", "#tail", "a#b", "''", `""`, "*", "~", "{a,b}", "ünï", "\n", "!"))
	}
	return g.text(strings.Join(parts, one(g, " ", "  ", "\t")))
}

// environment is as pairsOf, with names that stand alone, set and not.
func (g *generator) environment() *yaml.Node {
	n := g.pairsOf(5, true, true)
	if g.chance(3) {
		name := fmt.Sprintf("ALONE%d", g.next())
		if g.chance(2) {
			g.env[name] = g.word()
		}
		if n.Kind == yaml.SequenceNode {
			n.Content = append(n.Content, g.quoted(name))
		} else {
			n.Content = append(n.Content, g.plain(name), g.plain(one(g, "null", "~", "")))
		}
	}
	return n
}

func (g *generator) envFile() *yaml.Node {
	var names []string
	for range 1 + g.upTo(1) {
		var lines []string
		for range g.upTo(5) {
			name := fmt.Sprintf("FILE%d", g.next())
			if g.chance(3) {
				g.env[name] = g.word()
			}
			lines = append(lines, one(g, "# comment", "", "  # indented", "KEY_1=a", "BOTH="+g.word0(), name, name+"=", name+"="+g.word0(),
				"  "+name+"= spaces ", name+`="quoted" # no comment`, name+"='$HOME ${X}'", name+"=a=b"))
		}
		names = append(names, g.file(strings.Join(lines, one(g, "\n", "\r\n"))+one(g, "", "\n")))
	}
	return g.textOrList(names...)
}

// word0 is a word of one line.
func (g *generator) word0() string { return strings.ReplaceAll(g.word(), "\n", " ") }

func (g *generator) extraHosts() *yaml.Node {
	addresses := []string{"10.0.0.1", "::1", "fe80::1", "host-gateway", "[::1]"}
	if g.chance(3) {
		m := &mappingOf{}
		for range g.upTo(3) {
			m.add(fmt.Sprintf("host%d.example.com", g.next()), g.text(one(g, addresses...)))
		}
		return m.node(g, true)
	}
	var entries []string
	for range g.upTo(4) {
		entries = append(entries, fmt.Sprintf("host%d.example.com%s%s", g.next(), one(g, ":", "="), one(g, addresses...)))
	}
	return g.texts(entries...)
}

func (g *generator) capabilities() *yaml.Node {
	return g.texts(g.subset([]string{"ALL", "net_admin", "CAP_SYS_TIME", "NET_RAW", "cap_net_admin", "Chown", "all"})...)
}

func (g *generator) ulimits() *yaml.Node {
	m := &mappingOf{}
	for _, name := range g.subset([]string{"nproc", "nofile", "core", "memlock", "rtprio"}) {
		value := one(g, -1, 0, 1, 1024, 65535, 1<<31)
		if g.chance(2) {
			m.add(name, g.number(value, true))
			continue
		}
		limits := &mappingOf{}
		limits.add("soft", g.number(value, true))
		hard := max(value, one(g, 0, 2048, 1<<32))
		if value < 0 { // no limit
			hard = value
		}
		limits.add("hard", g.number(hard, true))
		m.add(name, limits.node(g, true))
	}
	return m.node(g, true)
}

func (g *generator) healthcheck() *yaml.Node {
	if g.chance(5) {
		return g.fields(field{"disable", 1, func() *yaml.Node { return g.plain("true") }})
	}
	return g.fields(
		field{"test", 2, func() *yaml.Node {
			switch g.upTo(3) {
			case 0:
				return g.text(one(g, "curl -f http://localhost/ || exit 1", "true", "test $(id -u) = 0 && echo \"ok\""))
			case 1:
				return g.texts("NONE")
			case 2:
				return g.texts("CMD-SHELL", g.word())
			}
			return g.texts("CMD", "wget", g.word(), g.word())
		}},
		field{"interval", 2, g.duration}, field{"timeout", 2, g.duration},
		field{"start_period", 3, g.duration}, field{"start_interval", 4, g.duration},
		field{"retries", 2, func() *yaml.Node { return g.number(g.upTo(10), true) }},
		field{"disable", 10, func() *yaml.Node { return g.plain("false") }},
	)
}

func (g *generator) logging() *yaml.Node {
	return g.fields(
		g.textField("driver", 2, "json-file", "none", "gelf", ""),
		field{"options", 2, func() *yaml.Node { return g.pairsOf(3, false, true) }},
	)
}

// ports are published once each in the whole project. Without vip they are the hosts'.
func (g *generator) ports(vip bool) *yaml.Node {
	var elements []*yaml.Node
	for range 1 + g.upTo(3) {
		elements = append(elements, g.port(vip))
	}
	return g.list(elements...)
}

func (g *generator) port(vip bool) *yaml.Node {
	published := 10000 + 10*g.next()
	target := 1000 + 10*g.next()
	if !vip || g.chance(2) {
		m := &mappingOf{}
		m.add("target", g.number(target, true))
		if g.chance(2) {
			m.add("published", g.number(published, true))
		}
		if g.chance(2) {
			m.add("protocol", g.text(one(g, "tcp", "udp", "sctp")))
		}
		if !vip || g.chance(3) {
			m.add("mode", g.text(one(g, "host", "ingress")))
			if !vip {
				m.pairs[len(m.pairs)-1][1] = g.text("host")
			}
		}
		return m.node(g, true)
	}
	protocol := one(g, "", "", "/tcp", "/udp", "/sctp", "/TCP")
	switch g.upTo(7) {
	case 0:
		return g.number(target, false)
	case 1:
		return g.text(fmt.Sprintf("%d%s", target, protocol))
	case 2:
		return g.text(fmt.Sprintf("%d-%d:%d-%d%s", published, published+3, target, target+3, protocol))
	case 3:
		return g.text(fmt.Sprintf("%d-%d:%d%s", published, published+2, target, protocol))
	case 4:
		return g.text(fmt.Sprintf("%d-%d%s", target, target+2, protocol))
	case 5:
		return g.text(fmt.Sprintf("%s:%d:%d%s", one(g, "127.0.0.1", "0.0.0.0", "[::1]"), published, target, protocol))
	}
	return g.text(fmt.Sprintf("%d:%d%s", published, target, protocol))
}

// volumes are of every type, each at a target of its own.
func (g *generator) volumes(declared []string) *yaml.Node {
	var elements []*yaml.Node
	for range 1 + g.upTo(4) {
		elements = append(elements, g.serviceVolume(declared))
	}
	return g.list(elements...)
}

func (g *generator) serviceVolume(declared []string) *yaml.Node {
	n := g.next()
	target := fmt.Sprintf("/mnt/%d%s", n, one(g, "", "", "/", "//x", fmt.Sprintf("/../y%d", n), "/with space"))
	source := one(g, "/var/run/docker.sock", "/", "/srv/data/", "./rel", "./a/../b/", ".", "./", "~/data", "../up", "/a//b")
	if len(declared) > 0 && g.chance(2) {
		named := one(g, declared...)
		if g.chance(2) {
			return g.text(named + ":" + target + one(g, "", ":ro", ":rw", ":nocopy", ":ro,nocopy", ":z", ":rw,Z"))
		}
		return g.longVolume(one(g, "volume", "volume", "cluster"), named, target)
	}
	switch g.upTo(7) {
	case 0:
		return g.text(target)
	case 1, 2, 3:
		return g.text(source + ":" + target + one(g, "", ":ro", ":rw", ":rslave", ":ro,rprivate", ":z", ":shared,Z"))
	case 4:
		return g.longVolume("tmpfs", "", target)
	case 5:
		return g.longVolume("volume", "", target)
	case 6:
		return g.longVolume(one(g, "image", "npipe", "cluster"), one(g, `\\.\pipe\docker_engine`, "group:shared"), target)
	}
	return g.longVolume("bind", source, target)
}

func (g *generator) longVolume(kind, source, target string) *yaml.Node {
	if kind == "cluster" && source != "" && strings.HasPrefix(source, `\\`) || kind == "image" {
		source = "group:shared"
	}
	if kind == "npipe" {
		source = `\\.\pipe\docker_engine`
	}
	m := &mappingOf{}
	m.add("type", g.text(kind))
	m.add("target", g.text(target))
	if source != "" {
		m.add("source", g.text(source))
	}
	if g.chance(3) {
		m.add("read_only", g.boolean(true))
	}
	if g.chance(6) {
		m.add("consistency", g.text(one(g, "consistent", "cached", "delegated")))
	}
	if g.chance(2) {
		switch kind {
		case "bind":
			m.add("bind", g.fields(g.textField("propagation", 1, "rprivate", "shared", "rslave")))
		case "volume":
			// docker drops the options of an anonymous volume, and so of one that has lost
			// its source; skep does not.
			if source != "" && !g.mutating {
				m.add("volume", g.fields(
					field{"nocopy", 2, func() *yaml.Node { return g.boolean(true) }},
					g.textField("subpath", 3, "sub", "sub/dir")))
			}
		case "tmpfs":
			m.add("tmpfs", g.fields(field{"size", 2, func() *yaml.Node { return g.number(one(g, 0, 65536, 1<<20, 1<<33), false) }}))
		}
	}
	return m.node(g, true)
}

// references are to configs or secrets, each at a target of its own.
func (g *generator) references(declared []string) *yaml.Node {
	var elements []*yaml.Node
	for _, key := range g.subset(declared) {
		if g.chance(2) {
			elements = append(elements, g.text(key))
			continue
		}
		for range 1 + g.upTo(1) {
			m := &mappingOf{}
			m.add("source", g.text(key))
			m.add("target", g.text(fmt.Sprintf("%starget%d", one(g, "", "/etc/", "./", "/etc/a/../"), g.next())))
			if g.chance(3) {
				m.add("uid", g.text(one(g, "0", "103", "app")))
			}
			if g.chance(3) {
				m.add("gid", g.text(one(g, "0", "103")))
			}
			if g.chance(2) {
				if g.chance(2) {
					m.add("mode", g.plain(one(g, "0440", "0o400", "0777", "292", "0", "0x1a0")))
				} else {
					m.add("mode", g.number(one(g, 440, 256, 0), true))
				}
			}
			elements = append(elements, m.node(g, true))
		}
	}
	return g.list(elements...)
}

func (g *generator) attachments(declared []string) *yaml.Node {
	used := g.subset(declared)
	if g.chance(5) && !slices.Contains(used, "default") {
		used = append(used, "default")
	}
	if g.chance(2) {
		return g.texts(used...)
	}
	m := &mappingOf{}
	for _, key := range used {
		if g.chance(3) {
			m.add(key, g.nothing())
			continue
		}
		m.add(key, g.fields(
			field{"aliases", 2, func() *yaml.Node { return g.texts(g.subset([]string{"www", "API", "db.internal"})...) }},
			field{"driver_opts", 3, func() *yaml.Node { return g.pairsOf(2, false, false) }},
			g.textField("ipv4_address", 10, "10.0.0.5"),
		))
	}
	return m.node(g, true)
}

func (g *generator) deploy(mode string, vip bool) *yaml.Node {
	job := strings.HasSuffix(mode, "-job")
	m := &mappingOf{}
	if mode != "" {
		m.add("mode", g.text(mode))
	}
	if !strings.HasPrefix(mode, "global") && g.chance(2) {
		m.add("replicas", g.number(g.upTo(5), true))
	}
	switch {
	case !vip:
		m.add("endpoint_mode", g.text(one(g, "dnsrr", "DNSRR")))
	case g.chance(4):
		m.add("endpoint_mode", g.text(one(g, "vip", "VIP")))
	}
	for _, f := range []field{
		{"labels", 2, func() *yaml.Node { return g.pairsOf(4, true, true) }},
		{"resources", 2, g.resources},
		{"placement", 2, func() *yaml.Node { return g.placement(job || strings.HasPrefix(mode, "global")) }},
		{"restart_policy", 2, func() *yaml.Node {
			conditions := []string{"any", "on-failure", "none"}
			if job {
				conditions = conditions[1:]
			}
			return g.fields(
				g.textField("condition", 1, conditions...),
				field{"delay", 2, g.duration}, field{"window", 2, g.duration},
				field{"max_attempts", 2, func() *yaml.Node { return g.number(g.upTo(5), true) }})
		}},
	} {
		if g.chance(f.rare) {
			m.add(f.key, f.make())
		}
	}
	if !job && g.chance(2) {
		m.add("update_config", g.updateConfig("pause", "continue", "rollback"))
	}
	if !job && g.chance(2) {
		m.add("rollback_config", g.updateConfig("pause", "continue"))
	}
	return m.node(g, true)
}

func (g *generator) updateConfig(actions ...string) *yaml.Node {
	return g.fields(
		field{"parallelism", 2, func() *yaml.Node { return g.number(g.upTo(3), true) }},
		field{"delay", 2, g.duration}, field{"monitor", 2, g.duration},
		g.textField("failure_action", 2, actions...),
		field{"max_failure_ratio", 3, func() *yaml.Node { return g.plain(one(g, "0", "0.1", "0.25", "1", "0.333333333", "1e-1")) }},
		g.textField("order", 2, "start-first", "stop-first"),
	)
}

func (g *generator) resources() *yaml.Node {
	cpus := g.textField("cpus", 2, "0.5", "1", "2.50", "0.001", "0.123456789", ".25", "1.", "64", "1e-1", "1/4", "0.70")
	memory := g.textField("memory", 2, "64M", "512m", "1.5G", "1gb", "64MiB", "20480kb", "8388608", "5242880b", "64 MB", "1g", "16777216B", "0.25gib")
	return g.fields(
		field{"limits", 2, func() *yaml.Node {
			return g.fields(cpus, memory, field{"pids", 3, func() *yaml.Node { return g.number(g.upTo(1000), false) }})
		}},
		field{"reservations", 2, func() *yaml.Node {
			return g.fields(cpus, memory, field{"generic_resources", 4, func() *yaml.Node {
				var elements []*yaml.Node
				for i := range 1 + g.upTo(2) {
					kind := fmt.Sprintf("gpu%d", i)
					elements = append(elements, g.fields(field{"discrete_resource_spec", 1, func() *yaml.Node {
						return g.fields(g.textField("kind", 1, kind), field{"value", 1, func() *yaml.Node { return g.number(1+g.upTo(4), false) }})
					}}))
				}
				return g.list(elements...)
			}})
		}},
	)
}

func (g *generator) placement(everywhere bool) *yaml.Node {
	m := &mappingOf{}
	if g.chance(2) {
		m.add("constraints", g.texts(g.subset([]string{"node.role == manager", "node.labels.zone!=b", "node.hostname == a", "engine.labels.x==y"})...))
	}
	if g.chance(3) {
		var elements []*yaml.Node
		for range g.upTo(2) {
			elements = append(elements, g.fields(g.textField("spread", 1, "node.labels.zone", "node.labels.rack")))
		}
		m.add("preferences", g.list(elements...))
	}
	if !everywhere && g.chance(3) {
		m.add("max_replicas_per_node", g.number(g.upTo(3), true))
	}
	return m.node(g, true)
}

// external is either way to say that something is there already, with a name or not.
func (g *generator) external(key string) *yaml.Node {
	m := &mappingOf{}
	switch g.upTo(2) {
	case 0:
		m.add("external", g.plain("true"))
	case 1:
		m.add("external", g.plain("true"))
		m.add("name", g.text("theirs-"+key))
	default:
		m.add("external", g.fields(g.textField("name", 1, "old-"+key)))
	}
	return m.node(g, true)
}

func (g *generator) network(key string) *yaml.Node {
	switch {
	case g.chance(4):
		return g.nothing()
	case g.chance(4):
		return g.external(key)
	}
	return g.fields(
		g.textField("name", 4, "named-"+key),
		g.textField("driver", 3, "overlay", "bridge", ""),
		field{"driver_opts", 3, func() *yaml.Node { return g.pairsOf(3, false, false) }},
		field{"internal", 3, func() *yaml.Node { return g.boolean(true) }},
		field{"attachable", 3, func() *yaml.Node { return g.boolean(true) }},
		field{"labels", 3, func() *yaml.Node { return g.pairsOf(3, true, true) }},
		field{"ipam", 3, func() *yaml.Node {
			return g.fields(g.textField("driver", 2, "default", ""), field{"config", 2, func() *yaml.Node {
				var elements []*yaml.Node
				for range g.upTo(2) {
					elements = append(elements, g.fields(g.textField("subnet", 1, fmt.Sprintf("10.%d.0.0/24", g.next()%256))))
				}
				return g.list(elements...)
			}})
		}},
	)
}

func (g *generator) volume(key string) *yaml.Node {
	switch {
	case g.chance(4):
		return g.nothing()
	case g.chance(4):
		return g.external(key)
	}
	return g.fields(
		g.textField("name", 3, "named-"+key),
		g.textField("driver", 3, "local", "rexray/ebs", ""),
		field{"driver_opts", 3, func() *yaml.Node { return g.pairsOf(3, false, false) }},
		field{"labels", 3, func() *yaml.Node { return g.pairsOf(3, true, true) }},
	)
}

func (g *generator) config(key string) *yaml.Node {
	if g.chance(4) {
		return g.external(key)
	}
	return g.fields(
		field{"file", 1, func() *yaml.Node { return g.text(g.file(g.word() + "content ${X}\n")) }},
		g.textField("name", 4, "named-"+key, "named."+key),
		g.textField("template_driver", 4, "golang"),
		field{"labels", 3, func() *yaml.Node { return g.pairsOf(3, true, true) }},
	)
}

func (g *generator) secret(key string) *yaml.Node {
	if g.chance(5) {
		return g.fields(
			g.textField("driver", 1, "vault"),
			field{"driver_opts", 2, func() *yaml.Node { return g.pairsOf(2, false, false) }},
			field{"labels", 3, func() *yaml.Node { return g.pairsOf(3, true, true) }})
	}
	return g.config(key)
}

package spec

import (
	"path"
	"strconv"
	"strings"
)

// binds tells of paths that have to be on the nodes.
func (l *linter) binds() {
	volumes, _ := l.raw["volumes"].([]any)
	for i, value := range volumes {
		volume, err := parseVolume(value)
		if err != nil || volume.Type != "bind" {
			continue
		}
		at := under(l.at, "volumes", strconv.Itoa(i))
		switch source := volume.Source; {
		case !strings.HasPrefix(source, "/") && !strings.HasPrefix(source, "~") && !windowsPath(source):
			l.report.warn("bind-relative", at, "the bind mount of %s is relative to this machine's folder, which other nodes do not have: a task placed there is rejected (make a file a config, which the Swarm brings to every node; put a folder into the image, or on a volume)", source)
		case strings.HasPrefix(source, "~") && !l.hasHome(): // which is an error already
		case !onAnyNode(source) && !l.onOneNode():
			l.report.info("bind", at, "the bind mount of %s takes what each node has at that path, and a node that has nothing there rejects the task (see that all nodes have it, or constrain the placement)", source)
		}
	}
}

// everywhere holds paths that every node with an engine on Linux has, each with
// whether what is below it is there too.
var everywhere = map[string]bool{
	"/": false, "/boot": false, "/dev": true, "/etc": false, "/etc/hostname": false, "/etc/hosts": false,
	"/etc/localtime": false, "/etc/os-release": false, "/etc/passwd": false, "/etc/group": false, "/lib/modules": false,
	"/proc": true, "/run": false, "/run/docker.sock": false, "/sys": true, "/tmp": false, "/usr/share/zoneinfo": false, "/var": false,
	"/var/lib": false, "/var/lib/docker": false, "/var/lib/docker/containers": false, "/var/lib/docker/volumes": false,
	"/var/log": false, "/var/run": false, "/var/run/docker.sock": false,
}

// onAnyNode says whether a path is one that every node has.
func onAnyNode(source string) bool {
	source = path.Clean(source)
	if _, ok := everywhere[source]; ok {
		return true
	}
	for dir := path.Dir(source); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if everywhere[dir] {
			return true
		}
	}
	return false
}

// ofSystem says whether a path is the system's and no data that two tasks could
// spoil for each other: sockets, devices and files that are only ever read.
func ofSystem(source string) bool {
	source = path.Clean(source)
	switch source {
	case "/run", "/var/run", "/lib/modules", "/etc/hostname", "/etc/hosts", "/etc/localtime", "/etc/timezone", "/etc/os-release":
		return true
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(source, "/"), "/")
	return top == "dev" || top == "proc" || top == "sys" || strings.HasSuffix(source, ".sock")
}

// onOneNode says whether the service's constraints name the node it runs on.
func (l *linter) onOneNode() bool {
	for _, c := range constraints(&l.service) {
		if !c.not && (strings.EqualFold(c.key, "node.hostname") || strings.EqualFold(c.key, "node.id")) {
			return true
		}
	}
	return false
}

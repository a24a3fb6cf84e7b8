package spec

import (
	"strconv"
	"strings"
)

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

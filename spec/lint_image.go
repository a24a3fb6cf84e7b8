package spec

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/swarm"
)

// image tells of images that are not the same tomorrow, or on another node.
func (l *linter) image() {
	image := l.service.Spec.TaskTemplate.ContainerSpec.Image
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return // the conversion has the finding
	}
	l.imageTag(image, named)
	l.imageSource(image, named)
}

func (l *linter) imageTag(image string, named reference.Named) {
	if _, pinned := named.(reference.Digested); pinned {
		return
	}
	tagged, ok := named.(reference.Tagged)
	switch {
	case !ok:
		l.report.warn("image-untagged", under(l.at, "image"), "the image %s has no tag, which means latest: which version runs depends on the day it was rolled out, and the file does not tell (write a version's tag)", image)
	case tagged.Tag() == "latest":
		l.report.warn("image-latest", under(l.at, "image"), "the image %s is latest: which version runs depends on the day it was rolled out, and the file does not tell (write a version's tag)", image)
	}
}

// imageSource tells of images that other nodes have nowhere to pull from.
//
// What a service builds under a name without a registry and without a user's part
// would be one of docker.io/library, which is for Docker's own images alone: nobody
// can have pushed it. A registry on the loopback is each node's own: that is good
// where one is published through the routing mesh, which answers on every node, so
// it is told in a low voice, and not at all where this stack publishes that port.
func (l *linter) imageSource(image string, named reference.Named) {
	domain := reference.Domain(named)
	switch {
	case l.raw["build"] != nil && domain == "docker.io" && strings.HasPrefix(reference.Path(named), "library/"):
		l.report.warn("image-local-only", under(l.at, "image"), "the image %s is built here, and its name belongs to no registry that it could be pushed to: other nodes cannot pull it, or they pull an image of Docker's own (push it, and name it with its registry, such as registry.example.com/%s)", image, image)
	case loopback(domain) && !l.meshed(domain):
		l.report.info("image-local-only", under(l.at, "image"), "the image %s comes from %s, which is each node itself: a node without a registry there cannot pull it (publish the registry through the routing mesh, or name a host that all nodes reach)", image, domain)
	}
}

// loopback says whether a registry's host is the machine that asks.
func loopback(domain string) bool {
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return addr.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// meshed says whether the stack itself publishes a registry's port on every node.
func (l *linter) meshed(domain string) bool {
	_, port, err := net.SplitHostPort(domain)
	if err != nil {
		return false
	}
	for _, s := range l.stack.Services {
		for _, p := range s.Spec.EndpointSpec.Ports {
			if p.PublishMode == swarm.PortConfigPublishModeIngress && protocol(p) == swarm.PortConfigProtocolTCP && strconv.Itoa(int(p.PublishedPort)) == port {
				return true
			}
		}
	}
	return false
}

package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

const (
	resolveTimeout = 15 * time.Second
	// negativeFor is how long a registry that could not be asked is left alone.
	negativeFor = time.Minute
)

// An imageResolver pins tags to digests through the engine's distribution
// endpoint, once an image however many services use it.
type imageResolver struct {
	swarm Swarm
	creds Credentials
	now   func() time.Time

	mu     sync.Mutex
	failed map[string]failedLookup
}

type failedLookup struct {
	at  time.Time
	err error
}

// pins resolves what the services of a new release need. A service that the file's
// change does not touch keeps its digest, be it of the release before or what
// lives, and so does one whose registry cannot be asked; for those that are touched
// the registry says what their tags mean now. So a tag that moved rolls out when
// the file changes, never by itself. What no registry knows and nothing was known
// of before stays as written. All of that is told as a warning.
func (x *imageResolver) pins(ctx context.Context, stack *spec.Stack, before map[string]Pin, touched map[string]bool, live *Live) (map[string]Pin, []spec.Finding) {
	pins, ask := map[string]Pin{}, map[string][]string{} // image → services
	for i := range stack.Services {
		s := &stack.Services[i]
		written := writtenImage(s)
		if written == "" {
			continue
		}
		p, known := before[s.Name]
		if known = known && p.Written == written; !known && keepsLive(live.Services[s.Name], written) {
			p, known = livePin(live.Services[s.Name], written), true
		}
		if known {
			pins[s.Name] = p
		}
		if s.Follow.On() && !pinnable(written) && !known { // for its platforms alone
			if p, err := x.resolve(ctx, written); err == nil {
				pins[s.Name] = Pin{Written: written, Image: written, Platforms: p.Platforms}
			}
		}
		if (!known || touched[s.Name]) && stack.Policy.Images != spec.ImagesAsWritten && pinnable(written) {
			ask[written] = append(ask[written], s.Name)
		}
	}
	return pins, x.askAll(ctx, stack, ask, pins, live)
}

// askAll asks for images and puts what it is told into pins.
func (x *imageResolver) askAll(ctx context.Context, stack *spec.Stack, ask map[string][]string, pins map[string]Pin, live *Live) []spec.Finding {
	images := sortedKeys(ask)
	found, errs := make([]Pin, len(images)), make([]error, len(images))
	slots := make(chan struct{}, inFlight)
	var wg sync.WaitGroup
	var bad panics
	for i, image := range images {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer bad.catch()
			found[i], errs[i] = x.resolve(ctx, image)
		})
	}
	wg.Wait()
	bad.raise()
	var kept, unpinned []string
	var local []spec.Finding
	var err error
	for i, image := range images {
		for _, service := range ask[image] {
			switch {
			case errs[i] == nil:
				pins[service] = found[i]
			case pins[service].Image != "" && !pinnable(pins[service].Image):
				kept = append(kept, image)
			case live.takers() > 1 && nowhere(image, errs[i]):
				local = append(local, localOnly(image, service, stack, live.takers()))
			default:
				unpinned = append(unpinned, image)
			}
		}
		if errs[i] != nil {
			err = errs[i]
		}
	}
	return slices.Concat(local,
		unresolved(stack, unpinned, "the tag runs as it is", err),
		unresolved(stack, kept, "the digest of before stays", err))
}

func unresolved(stack *spec.Stack, images []string, so string, err error) []spec.Finding {
	if len(images) == 0 {
		return nil
	}
	return []spec.Finding{{File: stack.Source.File, Severity: spec.Warning, Code: "image-not-pinned",
		Message: fmt.Sprintf("%s: no registry could tell the digest, so %s: %v (log in with --registry-config, or set x-skep.images: as-written)", strings.Join(slices.Compact(images), ", "), so, err)}}
}

// nowhere says that a registry was reached and has no such image. A registry that
// denies access may have it; Docker Hub's official images it denies to nobody.
func nowhere(image string, err error) bool {
	if cerrdefs.IsNotFound(err) || strings.Contains(err.Error(), "manifest unknown") || strings.Contains(err.Error(), "name unknown") {
		return true
	}
	ref, bad := reference.ParseNormalizedNamed(image)
	official := bad == nil && reference.Domain(ref) == "docker.io" && strings.HasPrefix(reference.Path(ref), "library/")
	return official && (cerrdefs.IsPermissionDenied(err) || cerrdefs.IsUnauthorized(err) || strings.Contains(err.Error(), "access to the resource is denied"))
}

// localOnly tells of an image that no node can pull, where there are several.
func localOnly(image, service string, stack *spec.Stack, nodes int) spec.Finding {
	key := ""
	for i := range stack.Services {
		if stack.Services[i].Name == service {
			key = stack.Services[i].Key
		}
	}
	return spec.Finding{File: stack.Source.File, Severity: spec.Warning, Code: "image-local-only", Service: key, Message: fmt.Sprintf(
		"the registry has no image %s, and %d nodes take tasks: those where it was not built or loaded reject them (push it to a registry that every node reaches)", image, nodes)}
}

func (x *imageResolver) resolve(ctx context.Context, image string) (Pin, error) {
	if err := x.recentFailure(image); err != nil {
		return Pin{}, err
	}
	p, err := x.inspect(ctx, image)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed == nil {
		x.failed = map[string]failedLookup{}
	}
	if delete(x.failed, image); err != nil {
		x.failed[image] = failedLookup{x.now(), err}
	}
	return p, err
}

func (x *imageResolver) recentFailure(image string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f, ok := x.failed[image]; ok && x.now().Sub(f.at) < negativeFor {
		return f.err
	}
	return nil
}

func (x *imageResolver) inspect(ctx context.Context, image string) (Pin, error) {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return Pin{}, err
	}
	auth := ""
	if x.creds != nil {
		if auth, err = x.creds.EncodedAuth(image); err != nil {
			return Pin{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	d, err := x.swarm.DistributionInspect(ctx, image, auth)
	if err != nil {
		return Pin{}, err
	}
	pinned, err := reference.WithDigest(reference.TagNameOnly(ref), d.Descriptor.Digest)
	if err != nil {
		return Pin{}, err
	}
	p := Pin{Written: image, Image: reference.FamiliarString(pinned)}
	for _, pl := range d.Platforms {
		arch := pl.Architecture
		if strings.EqualFold(arch, "arm") { // nodes call it armv7l and the like: docker/swarmkit#2294
			arch = ""
		}
		p.Platforms = append(p.Platforms, swarm.Platform{Architecture: arch, OS: pl.OS})
	}
	return p, nil
}

func writtenImage(s *spec.Service) string {
	if c := s.Spec.TaskTemplate.ContainerSpec; c != nil {
		return c.Image
	}
	return ""
}

// pinnable says whether an image has a tag and no digest yet.
func pinnable(image string) bool {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return false
	}
	_, digested := ref.(reference.Digested)
	return !digested
}

// keepsLive says whether a live service was deployed from the same written image,
// by Docker's own label, and still runs it.
func keepsLive(s *swarm.Service, written string) bool {
	if s == nil || s.Spec.Labels[spec.LabelImage] != written || s.Spec.TaskTemplate.ContainerSpec == nil {
		return false
	}
	return untagged(s.Spec.TaskTemplate.ContainerSpec.Image) == untagged(written)
}

func livePin(s *swarm.Service, written string) Pin {
	p := Pin{Written: written, Image: s.Spec.TaskTemplate.ContainerSpec.Image}
	if s.Spec.TaskTemplate.Placement != nil {
		p.Platforms = s.Spec.TaskTemplate.Placement.Platforms
	}
	return p
}

// untagged is an image's canonical name with its tag and without its digest.
func untagged(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	named := reference.TrimNamed(ref)
	if t, ok := ref.(reference.Tagged); ok {
		return named.Name() + ":" + t.Tag()
	}
	return reference.TagNameOnly(named).String()
}

package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

const (
	digestThen = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digestNow  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// A tagServer is a registry in which every tag means digestNow.
type tagServer struct {
	Swarm
	away  bool
	asked []string
}

func (s *tagServer) DistributionInspect(_ context.Context, image, _ string) (d registry.DistributionInspect, err error) {
	s.asked = append(s.asked, image)
	if s.away {
		return d, errors.New("no route to host")
	}
	d.Descriptor.Digest = digestNow
	return d, nil
}

func TestPins(t *testing.T) {
	const (
		written = "shop/app:1"
		then    = written + "@" + digestThen
		now     = written + "@" + digestNow
	)
	for name, tt := range map[string]struct {
		before  string // what the release before was pinned to
		live    string // what lives, written as in the file
		touched bool
		policy  spec.ImagePolicy
		away    bool

		want  string // empty: not pinned
		asks  bool
		warns string
	}{
		"a new service":                        {want: now, asks: true},
		"a new service, registry away":         {away: true, asks: true, warns: "the tag runs as it is"},
		"a new service, as written":            {policy: spec.ImagesAsWritten},
		"untouched":                            {before: then, want: then},
		"touched":                              {before: then, touched: true, want: now, asks: true},
		"touched, registry away":               {before: then, touched: true, away: true, want: then, asks: true, warns: "the digest of before stays"},
		"touched, as written":                  {before: then, touched: true, policy: spec.ImagesAsWritten, want: then},
		"adopted, untouched":                   {live: then, want: then},
		"adopted, touched":                     {live: then, touched: true, want: now, asks: true},
		"adopted, touched, registry away":      {live: then, touched: true, away: true, want: then, asks: true, warns: "the digest of before stays"},
		"never pinned, untouched":              {live: written, want: written},
		"never pinned, touched":                {live: written, touched: true, want: now, asks: true},
		"never pinned, touched, registry away": {live: written, touched: true, away: true, want: written, asks: true, warns: "the tag runs as it is"},
	} {
		t.Run(name, func(t *testing.T) {
			server := &tagServer{away: tt.away}
			x := &imageResolver{swarm: server, now: time.Now}
			stack := &spec.Stack{Name: "shop", Services: []spec.Service{{Name: "shop_app", Spec: serviceWith(written, written)}}}
			stack.Policy.Images = tt.policy
			before, live := map[string]Pin{}, &Live{Services: map[string]*swarm.Service{}}
			if tt.before != "" {
				before["shop_app"] = Pin{Written: written, Image: tt.before}
			}
			if tt.live != "" {
				live.Services["shop_app"] = &swarm.Service{Spec: serviceWith(tt.live, written)}
			}

			pins, findings := x.pins(t.Context(), stack, before, map[string]bool{"shop_app": tt.touched}, live)

			if got := pins["shop_app"].Image; got != tt.want {
				t.Errorf("pinned to %q, want %q", got, tt.want)
			}
			if asked := len(server.asked) > 0; asked != tt.asks {
				t.Errorf("asked for %v", server.asked)
			}
			if told := len(findings) > 0; told != (tt.warns != "") || told && !strings.Contains(findings[0].Message, tt.warns) {
				t.Errorf("findings %v, want %q", findings, tt.warns)
			}
		})
	}
}

// One image of several services is asked for once, and one that cannot be had does
// not keep the others from being pinned.
func TestPinsAskOnce(t *testing.T) {
	server := &tagServer{}
	x := &imageResolver{swarm: server, now: time.Now, failed: map[string]failedLookup{"b:1": {time.Now(), errors.New("refused")}}}
	stack := &spec.Stack{Name: "shop"}
	for name, image := range map[string]string{"shop_1": "a:1", "shop_2": "a:1", "shop_3": "b:1", "shop_4": "a:1@" + digestThen} {
		stack.Services = append(stack.Services, spec.Service{Name: name, Spec: serviceWith(image, image)})
	}
	pins, findings := x.pins(t.Context(), stack, nil, nil, &Live{})
	if !slices.Equal(server.asked, []string{"a:1"}) {
		t.Errorf("asked for %v", server.asked)
	}
	if got := slices.Sorted(maps.Keys(pins)); !slices.Equal(got, []string{"shop_1", "shop_2"}) {
		t.Errorf("pinned %v", got)
	}
	if len(findings) != 1 || !strings.HasPrefix(findings[0].Message, "b:1: ") {
		t.Errorf("findings %v", findings)
	}
}

func serviceWith(image, written string) swarm.ServiceSpec {
	return swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: "shop_app", Labels: map[string]string{spec.LabelImage: written}},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: image}},
	}
}

//go:build linux

package swarmlab

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/google/go-containerregistry/pkg/registry"
)

// A Registry is an image registry that every engine of a lab may use, without
// TLS. It keeps what it holds in memory.
type Registry struct {
	Addr string // "198.18.0.1:34567": what image names begin with
	lab  *Lab
}

// Registry starts a registry on this machine's address in the lab. wrap, where it
// is not nil, stands before it, to ask for credentials or to count requests. Down
// ends it.
func (l *Lab) Registry(wrap func(http.Handler) http.Handler) (*Registry, error) {
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	ln, err := net.Listen("tcp4", net.JoinHostPort(l.Gateway.String(), "0"))
	if err != nil {
		return nil, fmt.Errorf("start a registry: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	l.onDown(func() { _ = srv.Close(); <-done })
	return &Registry{Addr: ln.Addr().String(), lab: l}, nil
}

// Push puts an image into the registry as repo ("team/app:1.0") and returns its
// whole name. No engine keeps it: one that is to run it has to pull.
func (r *Registry) Push(ctx context.Context, img Image, repo string) (string, error) {
	img.Ref = r.Addr + "/" + repo
	if err := r.lab.LoadImageOn(ctx, []int{0}, img); err != nil {
		return "", err
	}
	if _, err := r.lab.Docker(ctx, 0, "push", "--quiet", img.Ref); err != nil {
		return "", err
	}
	if _, err := r.lab.Client(0).ImageRemove(ctx, img.Ref, image.RemoveOptions{}); err != nil {
		return "", fmt.Errorf("push %s: %w", img.Ref, err)
	}
	return img.Ref, nil
}

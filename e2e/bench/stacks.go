//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// The stacks are what people write: a folder each, with a network, a config from a
// file, and services of some thirty lines. Their image has a digest, so that neither
// skep nor docker asks a registry; nothing runs, so nothing is pulled. What the file
// says of rollouts is what `docker stack deploy` takes too, so that both write the
// same services.
const (
	composeHead = `version: "3.8"
x-skep:
  rollout:
    bake: 5s
    guard: 0s
services:
`
	composeService = `  s%02d:
    image: registry.example/shop/service%02d:1.4.2@sha256:9f8b1c0d5e7a4f3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b
    command: ["serve", "--listen", ":8080", "--config", "/etc/app/app.conf"]
    environment:
      LISTEN: ":8080"
      LOG_LEVEL: info
      LOG_FORMAT: json
      DATABASE_HOST: db.internal
      DATABASE_NAME: shop
      CACHE_URL: redis://cache:6379/0
      FEATURES: search,checkout,reviews
      CHANGED: "%d"
    healthcheck:
      test: ["CMD", "/app", "health", "--url", "http://127.0.0.1:8080/healthz"]
      interval: 10s
      timeout: 3s
      retries: 3
      start_period: 20s
    configs:
      - source: app
        target: /etc/app/app.conf
    logging:
      driver: json-file
      options: {max-size: 10m, max-file: "3"}
    deploy:
      replicas: 0
      labels:
        team: shop
        route: service%02d.example
      update_config:
        parallelism: 1
        delay: 5s
        order: start-first
        failure_action: pause
      resources:
        limits: {cpus: "0.50", memory: 256M}
        reservations: {memory: 64M}
      restart_policy: {condition: any, delay: 5s}
      placement:
        constraints: ["node.platform.os == linux"]
`
	composeTail = `configs:
  app:
    file: ./app.conf
`
)

// A source is a specs directory of generated stacks.
type source struct {
	dir      string
	services int // a stack
	names    []string
}

// newSource writes n stacks into an empty directory.
func newSource(dir string, n, services int) (*source, error) {
	s := &source{dir: dir, services: services}
	for i := range n {
		s.names = append(s.names, fmt.Sprintf("bench%04d", i))
		if err := os.MkdirAll(filepath.Join(dir, s.names[i]), 0o755); err != nil {
			return nil, err
		}
		conf := strings.Repeat(fmt.Sprintf("upstream service%02d { server 10.0.%d.1:8080; }\n", i%100, i%250), 20)
		if err := os.WriteFile(filepath.Join(dir, s.names[i], "app.conf"), []byte(conf), 0o644); err != nil {
			return nil, err
		}
		if err := s.write(s.names[i], 0); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// size is the number of services.
func (s *source) size() int { return len(s.names) * s.services }

// file is a stack's compose file.
func (s *source) file(stack string) string { return filepath.Join(s.dir, stack, "compose.yml") }

// write puts a stack's file in place in one step, as editors do. Its first service
// says how often it was changed.
func (s *source) write(stack string, changed int) error {
	var text strings.Builder
	text.WriteString(composeHead)
	for i := range s.services {
		n := 0
		if i == 0 {
			n = changed
		}
		fmt.Fprintf(&text, composeService, i, i, n, i)
	}
	text.WriteString(composeTail)
	tmp := filepath.Join(s.dir, stack, ".compose.yml.tmp")
	if err := os.WriteFile(tmp, []byte(text.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.file(stack))
}

// scan reads the directory, all of which has to load.
func (s *source) scan(ctx context.Context, scanner *spec.Scanner) (*spec.Snapshot, error) {
	snap := scanner.Scan(ctx)
	if !snap.Complete || len(snap.Stacks) != len(s.names) {
		return nil, fmt.Errorf("read %s: %d of %d stacks: %v %v", s.dir, len(snap.Stacks), len(s.names), snap.Err, snap.Problems)
	}
	return snap, nil
}

// desired is what the engine is asked for when nothing but its own speed counts: the
// very objects that skep would write, under the names that docker gives them.
func (s *source) desired(ctx context.Context) ([]*reconcile.Desired, error) {
	snap, err := s.scan(ctx, spec.NewScanner(s.dir, spec.Options{}))
	if err != nil {
		return nil, err
	}
	var all []*reconcile.Desired
	for _, name := range s.names {
		all = append(all, plainly(reconcile.Bind(snap.Stacks[name], reconcile.Binding{Live: &reconcile.Live{}})))
	}
	return all, nil
}

// plainly gives configs the names that docker gives them, without a hash.
func plainly(d *reconcile.Desired) *reconcile.Desired {
	plain := map[string]string{}
	for i := range d.Configs {
		plain[d.Configs[i].Name] = d.Configs[i].Plain
		d.Configs[i].Name = d.Configs[i].Plain
	}
	for i := range d.Services {
		for _, r := range d.Services[i].Spec.TaskTemplate.ContainerSpec.Configs {
			r.ConfigName = plain[r.ConfigName]
		}
	}
	return d
}

package spec

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	loadertree "github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"
)

// Whatever the library can cast somewhere, it is left to cast there.
func TestCastsForKeepsWhatMatches(t *testing.T) {
	all := loader.ToOptions(&types.ConfigDetails{}, nil).Interpolate.TypeCastMapping
	if len(all) < 50 {
		t.Fatalf("the library has %d casts", len(all))
	}
	for pattern, cast := range all {
		if got := castsFor(treeWithTextAt(pattern.Parts()), all); got[pattern] == nil {
			t.Errorf("text at %s would not be cast any more (%p)", pattern, cast)
		}
	}
}

func TestCastsForLeavesOutTheRest(t *testing.T) {
	all := loader.ToOptions(&types.ConfigDetails{}, nil).Interpolate.TypeCastMapping
	tree := map[string]any{"services": map[string]any{"web": map[string]any{
		"image":  "web:1",
		"deploy": map[string]any{"replicas": "3", "placement": map[string]any{"constraints": []any{"node.role == manager"}}},
		"init":   true,
	}}}
	for pattern := range castsFor(tree, all) {
		if last := pattern.Last(); last != "replicas" && last != loadertree.PathMatchAll && last != loadertree.PathMatchList {
			t.Errorf("%s is kept, and nothing there is text", pattern)
		}
	}
}

// treeWithTextAt is a tree with one text, where a pattern looks.
func treeWithTextAt(parts []string) map[string]any {
	var value any = "1"
	for _, part := range slices.Backward(parts) {
		switch part {
		case loadertree.PathMatchList:
			value = []any{value}
		case loadertree.PathMatchAll:
			value = map[string]any{"any": value}
		default:
			value = map[string]any{part: value}
		}
	}
	return value.(map[string]any)
}

// BenchmarkLoad loads a stack of ten services of some thirty lines for the first
// time.
func BenchmarkLoad(b *testing.B) {
	var text strings.Builder
	text.WriteString("services:\n")
	for i := range 10 {
		fmt.Fprintf(&text, `  s%d:
    image: registry.example/shop:1.4
    command: ["serve", "--listen", ":8080", "--config", "/etc/app.conf"]
    environment: {LISTEN: ":8080", LEVEL: info, FORMAT: json, HOST: db, NAME: shop, CACHE: "redis://cache", FEATURES: "a,b"}
    healthcheck: {test: ["CMD", "/app", "health"], interval: 10s, timeout: 3s, retries: 3, start_period: 20s}
    logging: {driver: json-file, options: {max-size: 10m, max-file: "3"}}
    deploy:
      replicas: 2
      labels: {team: shop, route: shop.example}
      update_config: {parallelism: 1, delay: 5s, order: start-first}
      resources: {limits: {cpus: "0.50", memory: 256M}, reservations: {memory: 64M}}
      restart_policy: {condition: any, delay: 5s}
      placement: {constraints: ["node.platform.os == linux"]}
`, i)
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.yml"), []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if snap := Scan(context.Background(), dir, Options{}); snap.Stacks["shop"] == nil {
			b.Fatal(snap.Err, snap.Problems)
		}
	}
}

// BenchmarkLoadServices loads files of so many services, the most of which is about
// as much as one file may hold.
func BenchmarkLoadServices(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			file := filepath.Join(b.TempDir(), "large.yml")
			var text strings.Builder
			text.WriteString("services:\n")
			for i := range n {
				fmt.Fprintf(&text, "  s%d: {image: \"a:1\", environment: {A: b}}\n", i)
			}
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if stack, findings := LoadFile(context.Background(), file, Options{}); stack == nil {
					b.Fatal(findings)
				}
			}
		})
	}
}

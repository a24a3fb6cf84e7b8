package cli

import (
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	things := []string{"shop", "blog", "shop-eu"}
	for _, tt := range []struct {
		values []string
		want   string // what fits, or an error
	}{
		{nil, "shop blog shop-eu"},
		{[]string{"stack=shop"}, "shop"},
		{[]string{"stack=SHOP*"}, "shop shop-eu"},
		{[]string{"stack=shop", "stack=blog"}, "shop blog"},
		{[]string{"stack=*", "status=Ready"}, "shop blog shop-eu"},
		{[]string{"stack=shop", "status=Degraded"}, ""},
		{[]string{"revision=abc1"}, "shop blog shop-eu"},
		{[]string{"revision=sha256:abc1234"}, "shop blog shop-eu"},
		{[]string{"revision=bc1"}, ""},
		{[]string{"stack"}, `--filter "stack" is not KEY=VALUE, such as stack=…`},
		{[]string{"stat=x"}, `--filter "stat=x": there is no key "stat" (did you mean status?)`},
		{[]string{"colour=x"}, `there is no key "colour" (there are: stack, status, revision)`},
		{[]string{"stack=["}, "no pattern ends so"},
	} {
		f := filterFlag{values: tt.values, keys: []string{"stack", "status", "revision"}}
		wanted, err := f.parse()
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || tt.want == "" {
				t.Errorf("%q: %v, want %q", tt.values, err, tt.want)
			}
			continue
		}
		got := filtered(wanted, things, func(s *string, key string) string {
			return map[string]string{"stack": *s, "status": "Ready", "revision": "sha256:abc1234"}[key]
		})
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %q, want %q", tt.values, got, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"shop", "blog", "infra"}
	for name, want := range map[string]string{"shpo": "shop", "Shop": "shop", "sho": "shop", "inf": "infra", "shop": "", "monitoring": "", "x": "", "": ""} {
		if got := nearest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

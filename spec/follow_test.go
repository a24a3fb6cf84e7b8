package spec

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFollowIsRead(t *testing.T) {
	for written, want := range map[string]Follow{
		`{tag: "1.27"}`:                   {Tag: "1.27", Every: 5 * time.Minute},
		`{semver: ~1.27, every: 1h}`:      {Semver: "~1.27", Every: time.Hour},
		`{semver: ">=1.2 <3", tag: null}`: {Semver: ">=1.2 <3", Every: 5 * time.Minute},
		`null`:                            {},
	} {
		stack, findings := loadText(t, "services: {web: {image: 'nginx:1.27', x-skep: {follow: "+written+"}}}\n")
		if stack == nil || stack.Services[0].Follow != want {
			t.Errorf("%s: %+v, want %+v\n%s", written, stack, want, findingsText(findings))
		}
	}
}

func TestNewestTag(t *testing.T) {
	for name, tt := range map[string]struct {
		constraint string
		tags       []string
		want       string
	}{
		"the newest, not the last":       {"~1.27", []string{"1.27.9", "1.27.10", "1.27.2"}, "1.27.10"},
		"not beyond the constraint":      {"~1.27", []string{"1.27.1", "1.28.0", "2.0.0"}, "1.27.1"},
		"no pre-release unasked":         {"~1.27", []string{"1.27.1", "1.27.2-rc.1", "1.27.2-alpine"}, "1.27.1"},
		"a pre-release where asked":      {">=1.27.0-0", []string{"1.27.1", "1.27.2-rc.1", "1.27.2-rc.2"}, "1.27.2-rc.2"},
		"with a v":                       {"^1", []string{"v1.2.3", "v1.3.0", "1.2.9"}, "v1.3.0"},
		"a tie goes to the one without":  {"^1", []string{"v1.2.3", "1.2.3"}, "1.2.3"},
		"a tie goes to the longer":       {"^1", []string{"1.2", "1.2.0", "v1.2.0"}, "1.2.0"},
		"two numbers":                    {"^16", []string{"16", "16.4", "16.10", "17.1", "16.10-alpine"}, "16.10"},
		"a date is no version":           {">=1", []string{"20240101", "1.0.0", "2024"}, "1.0.0"},
		"a zero in front is no version":  {">=1", []string{"2024.01.15", "1.0.0"}, "1.0.0"},
		"numbers that nobody can count":  {">=1", []string{"99999999999999999999.0.0", "1.0.0"}, "1.0.0"},
		"nothing":                        {"~1.27", []string{"latest", "stable", "1.26.1"}, ""},
		"no tags":                        {"~1.27", nil, ""},
		"what is no constraint has none": {"newest", []string{"1.0.0"}, ""},
	} {
		if got := (Follow{Semver: tt.constraint}).Newest(tt.tags); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := (Follow{Tag: "1.27"}).Newest([]string{"1.28", "1.27"}); got != "1.27" {
		t.Errorf("a tag: %q", got)
	}
}

// The newest tag is the same in whatever order a registry tells them, is taken by the
// constraint, and none that is taken is newer.
func TestNewestTagIsTheSameInAnyOrder(t *testing.T) {
	tag := rapid.StringMatching(`v?[0-3](\.[0-3]){0,2}(-(rc[12]|alpine))?`)
	rapid.Check(t, func(t *rapid.T) {
		f := Follow{Semver: rapid.SampledFrom([]string{"~1.2", "^1", ">=1 <3", ">=1.0.0-0", "*", "1.x || 3.x"}).Draw(t, "constraint")}
		tags := rapid.SliceOfN(tag, 0, 12).Draw(t, "tags")
		newest := f.Newest(tags)
		seed := rapid.Uint64().Draw(t, "seed")
		shuffled := slices.Clone(tags)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := f.Newest(shuffled); again != newest {
			t.Fatalf("%q of %v, and %q of %v", newest, tags, again, shuffled)
		}
		for _, other := range tags {
			if f.Takes(other) && (newest == "" || Newer(other, newest)) {
				t.Fatalf("%q of %v, and %q is newer", newest, tags, other)
			}
		}
		if newest != "" && (!f.Takes(newest) || !slices.Contains(tags, newest)) {
			t.Fatalf("%q of %v is not taken by %s", newest, tags, f.Semver)
		}
	})
}

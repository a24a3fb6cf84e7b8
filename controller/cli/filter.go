package cli

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// filterFlag is --filter KEY=VALUE as docker's verbs have it: of several values of one
// key one has to fit, of several keys each.
type filterFlag struct {
	values []string
	keys   []string
}

// install takes the keys, the first of which help shows.
func (f *filterFlag) install(cmd *cobra.Command, keys ...string) {
	f.keys = keys
	cmd.Flags().StringArrayVarP(&f.values, "filter", "f", nil,
		fmt.Sprintf("Show only what fits, KEY=VALUE, with * for any text; repeatable. Keys: %s", strings.Join(keys, ", ")))
	words := make([]string, len(keys))
	for i, key := range keys {
		words[i] = key + "="
	}
	_ = cmd.RegisterFlagCompletionFunc("filter", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

// A filter holds the patterns of each key, in lower case.
type filter map[string][]string

func (f *filterFlag) parse() (filter, error) {
	wanted := filter{}
	for _, text := range f.values {
		key, value, ok := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.ToLower(strings.TrimSpace(value))
		switch {
		case !ok:
			return nil, usagef("--filter %q is not KEY=VALUE, such as %s=…", text, f.keys[0])
		case !slices.Contains(f.keys, key):
			return nil, usagef("--filter %q: there is no key %q (%s)", text, key, orElse(meant(key, f.keys), "there are: "+strings.Join(f.keys, ", ")))
		}
		if key == "revision" { // as git takes a part of a commit
			value = strings.TrimPrefix(value, "sha256:") + "*"
		}
		if _, err := path.Match(value, ""); err != nil {
			return nil, usagef("--filter %q: no pattern ends so", text)
		}
		wanted[key] = append(wanted[key], value)
	}
	return wanted, nil
}

// fits says whether what has these values by key is wanted.
func (f filter) fits(value func(key string) string) bool {
	for key, patterns := range f {
		have := strings.ToLower(value(key))
		if key == "revision" {
			have = strings.TrimPrefix(have, "sha256:")
		}
		if !slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, have); return ok }) {
			return false
		}
	}
	return true
}

// filtered are the things that fit.
func filtered[T any](f filter, things []T, value func(*T, string) string) []T {
	if len(f) == 0 {
		return things
	}
	var fit []T
	for i := range things {
		if f.fits(func(key string) string { return value(&things[i], key) }) {
			fit = append(fit, things[i])
		}
	}
	return fit
}

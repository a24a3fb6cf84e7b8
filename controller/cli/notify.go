package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/spec"
)

// notifyFlags say who is told what became different.
type notifyFlags struct {
	targets []string
	file    string
	keyFile string
	on      []string
}

func (n *notifyFlags) install(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&n.targets, "notify", nil, "Where messages are sent: URL or NAME=URL; repeatable")
	f.StringVar(&n.file, "notify-file", "", "File with more of them, one a line, as URLs are secrets")
	f.StringVar(&n.keyFile, "notify-key-file", "", "File with the key that webhooks are signed with")
	f.StringSliceVar(&n.on, "notify-on", nil, "Events to tell of where a stack does not say (default: all)")
}

// apply has the daemon tell them.
func (n *notifyFlags) apply(config *controller.Config) error {
	targets := splitLines(n.targets)
	if n.file != "" {
		more, err := controller.ReadTargets(n.file)
		if err != nil {
			return usagef("--notify-file: %w", err)
		}
		targets = append(targets, more...)
	}
	if len(targets) > 0 && config.Once {
		return usagef("--once tells nobody: leave out --notify and --notify-file")
	}
	var key []byte
	var err error
	if n.keyFile != "" {
		if key, err = controller.ReadNotifyKey(n.keyFile); err != nil {
			return usagef("--notify-key-file: %w", err)
		}
	}
	if config.Notify, err = controller.ParseTargets(targets, key); err != nil {
		return usagef("--notify: %w", err)
	}
	config.NotifyOn, err = eventsOf(n.on)
	return err
}

// splitLines takes targets apart that stand in one value on lines of their own, as they
// do in a variable.
func splitLines(values []string) []string {
	var out []string
	for _, value := range values {
		out = append(out, strings.Fields(value)...)
	}
	return out
}

func eventsOf(names []string) ([]spec.Event, error) {
	var out []spec.Event
	for _, name := range names {
		if !slices.Contains(spec.Events(), spec.Event(name)) {
			var known []string
			for _, e := range spec.Events() {
				known = append(known, string(e))
			}
			return nil, usagef("--notify-on %q is no event (there are %s)", name, strings.Join(known, ", "))
		}
		out = append(out, spec.Event(name))
	}
	return out, nil
}

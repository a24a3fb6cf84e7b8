package spec

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	loadertree "github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"
)

// The library's part: it validates a tree that is complete by now, merges what extends
// and types the values. It reads no file, sees no environment and fills nothing in;
// what it would lose or read otherwise than docker does goes around it.

// project has the library validate the tree, resolve extends and type the values.
// What it would lose on the way comes back beside the project: each service's
// values as they were written, variables and extends resolved.
func (l *loading) project(ctx context.Context, name string, tree map[string]any, bases []string) (*types.Project, map[string]map[string]any) {
	known := clone(tree).(map[string]any)
	hide(mapping(known, "services"))
	details := types.ConfigDetails{
		WorkingDir:  "/",
		Environment: maps.Clone(l.env),
		ConfigFiles: []types.ConfigFile{{Filename: l.report.file, Content: []byte{}, Config: clone(known).(map[string]any)}},
	}
	options := func(o *loader.Options) {
		o.SetProjectName(name, false)
		o.Profiles = slices.Concat(l.o.Profiles, l.policy.Profiles)
		o.Interpolate.Substitute = asIs
		o.Interpolate.TypeCastMapping = castsFor(tree, o.Interpolate.TypeCastMapping)
		o.SkipNormalization = true    // it adds networks, dependencies and names
		o.SkipConsistencyCheck = true // it refuses what an engine takes; convert checks
		o.SkipDefaultValues = true    // it sets targets and port modes
		o.SkipInclude = true
		o.SkipResolveEnvironment = true // it reads files wherever they are
		o.SkipResolveLabels = true
		o.ResolvePaths = false
	}
	model, err := loader.LoadModelWithContext(ctx, details, options)
	if err != nil {
		l.refused(known, err)
		return nil, nil
	}
	for _, key := range bases {
		delete(mapping(model, "services"), key)
	}
	raw := map[string]map[string]any{}
	for key := range mapping(model, "services") {
		written := mapping(tree, "services", key)
		if _, extended := written["extends"]; extended {
			written = mapping(model, "services", key)
			dropAdded(written)
		}
		raw[key], _ = clone(written).(map[string]any)
		unhide(raw[key])
		patch(mapping(model, "services", key), raw[key])
	}
	for key := range mapping(model, "secrets") {
		textValues(mapping(model, "secrets", key, "driver_opts")) // where it takes no fractions
	}
	project, err := loader.ModelToProject(model, loader.ToOptions(&details, []func(*loader.Options){options}), details)
	if err != nil {
		l.refused(known, err)
		return nil, nil
	}
	return project, raw
}

// ignoredKeys are those of a service that `docker stack deploy` takes and ignores, and
// that the library does not know, or is stricter about.
var ignoredKeys = []string{"cgroupns_mode", "container_name"}

// hidden makes an extension of an ignored key, which the library carries along.
const hidden = "x-ignored-"

// hide keeps the library from looking at what is ignored.
func hide(services map[string]any) {
	for name := range services {
		service := mapping(services, name)
		for _, key := range ignoredKeys {
			if value, ok := service[key]; ok {
				service[hidden+key] = value
				delete(service, key)
			}
		}
	}
}

// unhide gives a service back what hide took.
func unhide(service map[string]any) {
	for _, key := range ignoredKeys {
		if value, ok := service[hidden+key]; ok {
			service[key] = value
			delete(service, hidden+key)
		}
	}
}

// castsFor leaves those of the library's casts that may be about a text in the tree,
// by the last key of its path. The library tries every cast on every text, which
// otherwise takes longer than all the rest of loading.
func castsFor(tree map[string]any, casts map[loadertree.Path]interpolation.Cast) map[loadertree.Path]interpolation.Cast {
	keys := map[string]bool{loadertree.PathMatchAll: true, loadertree.PathMatchList: true}
	textKeys(tree, keys)
	kept := map[loadertree.Path]interpolation.Cast{}
	for pattern, cast := range casts {
		if keys[pattern.Last()] {
			kept[pattern] = cast
		}
	}
	return kept
}

// textKeys collects the keys that hold text.
func textKeys(m map[string]any, keys map[string]bool) {
	for key, value := range m {
		textKeysBelow(key, value, keys)
	}
}

func textKeysBelow(key string, value any, keys map[string]bool) {
	switch v := value.(type) {
	case string:
		keys[key] = true
	case map[string]any:
		textKeys(v, keys)
	case []any:
		for _, element := range v {
			textKeysBelow(loadertree.PathMatchList, element, keys)
		}
	}
}

// textValues makes a mapping's numbers text, as docker/cli prints them.
func textValues(m map[string]any) {
	for key, value := range m {
		if value != nil {
			m[key] = text(value)
		}
	}
}

// asIs is the library's interpolation of a tree that has been interpolated.
func asIs(text string, _ template.Mapping) (string, error) { return text, nil }

// patch takes out of a service what the library would read differently than
// `docker stack deploy`, for the converter to read from the raw values, and gives
// back what it dropped.
func patch(service, raw map[string]any) {
	for _, key := range []string{"command", "entrypoint", "environment", "extra_hosts", "ports", "volumes"} {
		delete(service, key)
	}
	for _, key := range []string{"limits", "reservations"} {
		delete(mapping(service, "deploy", "resources", key), "cpus")
	}
	for _, key := range []string{"dns", "dns_search"} {
		switch value := raw[key].(type) {
		case []any:
			if service[key] != nil {
				service[key] = clone(value)
			}
		case string:
			service[key] = []any{value} // the library drops one that is empty
		}
	}
	for _, key := range []string{"configs", "secrets"} {
		if list, ok := raw[key].([]any); ok {
			service[key] = references(list)
		}
	}
}

// dropAdded takes out of an extended service's volumes what the library adds to
// their short form for another program.
func dropAdded(service map[string]any) {
	volumes, _ := service["volumes"].([]any)
	for _, volume := range volumes {
		v, _ := volume.(map[string]any)
		if bind := mapping(v, "bind"); len(bind) == 1 && text(bind["create_host_path"]) == "true" {
			delete(v, "bind")
		}
		if _, ok := v["volume"]; ok && len(mapping(v, "volume")) == 0 {
			delete(v, "volume")
		}
	}
}

// references gives the short form of a config or secret its long one.
func references(list []any) []any {
	out := make([]any, len(list))
	for i, element := range list {
		if source, ok := element.(string); ok {
			element = map[string]any{"source": source}
		}
		out[i] = clone(element)
	}
	return out
}

// refused turns the library's error into findings at the values it is about.
func (l *loading) refused(tree map[string]any, err error) {
	found := faults(tree)
	for _, f := range found {
		l.report.fail("invalid-compose", f.at, "%s", hideBases(f.sentence(&l.report)))
	}
	if len(found) > 0 {
		return
	}
	message := strings.TrimPrefix(err.Error(), "validating "+l.report.file+": ")
	casts := castPattern.FindAllStringSubmatch(message, -1)
	for _, m := range casts {
		l.report.fail("invalid-compose", pathIn(m[1]), "%s is %q, which is no value of its kind (write a number, or true or false)", hideBases(m[1]), m[2])
	}
	if len(casts) > 0 {
		return
	}
	for _, problem := range undecoded(errors.New(message)) {
		l.report.fail("invalid-compose", pathIn(problem), "%s%s", hideBases(problem), composeReference)
	}
}

var (
	pathPattern = regexp.MustCompile(`\b(services|networks|volumes|configs|secrets)[.\[][^\s:,']+`)
	// castPattern is the library's error about a value that is not of its field's type.
	castPattern = regexp.MustCompile(`(?m)^error while interpolating (\S+): failed to cast to expected type: (?:invalid boolean: |strconv\.\w+: parsing ")([^"\n]*)`)
	basePattern = regexp.MustCompile(`extended\.[0-9a-f]+\.`)
)

// hideBases names an imported service as its author does.
func hideBases(text string) string { return basePattern.ReplaceAllString(text, "") }

// pathIn is the path that an error of the library is about, nil where it names
// none.
func pathIn(text string) []string {
	found := pathPattern.FindString(text)
	if found == "" {
		return nil
	}
	return strings.FieldsFunc(found, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

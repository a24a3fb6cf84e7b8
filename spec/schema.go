package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/schema"
)

// The schema that editors complete and check files by. It is made of the compose
// specification's and of the tables by which skep itself reads x-skep, and decides
// nothing: the loader does.

// Schema is the JSON schema of compose files as skep takes them, for editors: that
// of the compose specification, with the x-skep blocks described key by key, and
// with the options marked as deprecated that come to nothing in a Swarm. It is the
// same text for the same skep.
func Schema() ([]byte, error) {
	root, err := composeSchema()
	if err != nil {
		return nil, fmt.Errorf("read the schema of the compose specification: %w", err)
	}
	delete(root, "$id") // it names the specification's own
	root["title"] = "A stack's compose file, as skep takes it"
	defs := mapping(root, "$defs")
	maps.Copy(defs, policyDefs())
	mapping(root, "properties")["x-skep"] = refTo("x-skep")
	mapping(defs, "service", "properties")["x-skep"] = refTo("x-skep-service")
	loosen(root)
	for _, name := range serviceDefs {
		deprecate(mapping(defs, name, "properties"))
	}
	for _, section := range []string{"jobs", "models"} {
		discourage(mapping(root, "properties", section), "Ignored in a Swarm (remove it; a job is a service with deploy.mode: replicated-job).")
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return out.Bytes(), nil
}

// loosen allows what skep takes and the specification has not: a version that is a
// number, keys of a service that are ignored whatever they hold, and the mapping of a
// cluster volume's options, of which there are none.
func loosen(root map[string]any) {
	mapping(root, "properties", "version")["type"] = []string{"string", "number"}
	for _, key := range ignoredKeys {
		mapping(root, "$defs", "service", "properties")[key] = map[string]any{}
	}
	forms, _ := mapping(root, "$defs", "container_spec", "properties", "volumes", "items")["oneOf"].([]any)
	for _, form := range forms {
		if long, _ := form.(map[string]any); mapping(long, "properties") != nil {
			mapping(long, "properties")["cluster"] = map[string]any{
				"description": "Options of a cluster volume; there are none.", "type": []string{"object", "null"}, "maxProperties": 0,
			}
		}
	}
}

// serviceDefs are the parts of which the specification's schema makes a service.
var serviceDefs = []string{"service", "container_spec", "workload_spec"}

// composeSchema is the schema that the library carries, and validates with. Its
// error says that it has not the parts which Schema writes into.
func composeSchema() (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(schema.Schema))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		return nil, err
	}
	parts := [][]string{{"properties"}, {"properties", "version"}}
	for _, name := range serviceDefs {
		parts = append(parts, []string{"$defs", name, "properties"})
	}
	for _, part := range parts {
		if mapping(root, part...) == nil {
			return nil, fmt.Errorf("it has no %s", strings.Join(part, "."))
		}
	}
	return root, nil
}

// deprecate marks the keys of a service that skep refuses or ignores, and says in
// their description what to write.
func deprecate(properties map[string]any) {
	for key := range properties {
		var why string
		switch remedy, refused := forbidden[key]; {
		case refused:
			why = fmt.Sprintf("Refused by skep: it has no effect in a Swarm (%s).", remedy)
		case converted[key], strings.HasPrefix(key, "x-"):
			continue
		default:
			why = fmt.Sprintf("Ignored in a Swarm (%s).", remedyFor(key))
		}
		discourage(mapping(properties, key), why)
	}
}

// discourage marks a property as deprecated.
func discourage(property map[string]any, why string) {
	if property == nil {
		return
	}
	property["deprecated"] = true
	property["deprecationMessage"] = why // what editors of the VS Code family show
	description, _ := property["description"].(string)
	property["description"] = strings.TrimSpace(description + " " + why)
}

// policyDefs are the definitions of the x-skep blocks. They say what readPolicy
// reads; a test holds them to that.
func policyDefs() map[string]any {
	d := defaultPolicy()
	return map[string]any{
		"x-skep": block("How skep treats this stack. It is no part of the objects: a change of it alone rolls nothing out.", map[string]any{
			"suspend":    switched("Look at the stack and write nothing: no rollout, no correction, no rollback.", d.Suspend),
			"depends_on": listOf("Stacks that have to be Ready, as their files now say, before this one gets a new release.", map[string]any{"type": "string", "pattern": objectName.String()}),
			"prune":      switched("Remove what left the file and is skep's own, last of all. Volumes are never removed.", d.Prune),
			"decrypt":    switched("Decrypt the files of SOPS and age that the stack names. Where it is false they are taken as they are, encrypted.", true),
			"drift":      word("What happens when live differs from a release that was healthy and the file has not changed: it is put right, or told.", d.Drift, DriftCorrect, DriftReport),
			"ignore":     listOf("Fields whose live value wins, such as services.web.deploy.replicas where an autoscaler sets it.", map[string]any{"type": "string", "pattern": ignorePattern()}),
			"images":     word("Whether tags become digests when a release is made.", d.Images, ImagesPin, ImagesAsWritten),
			"profiles":   listOf("Profiles that are active for this stack, beside those of --profile; * stands for all.", map[string]any{"type": "string", "minLength": 1}),
			"rollout":    refTo("x-skep-rollout"),
			"findings":   block("How findings are told, by their code. What is an error stays one.", severities()),
			"notify":     atMost(listOf("Who gets messages about this stack: names that skep run knows by --notify NAME=URL, each with the events it is to be told of, if not all.", receiver()), maxReceivers),
		}),
		"x-skep-service": block("How skep treats this service: what the stack's x-skep says, unless it says otherwise.", map[string]any{
			"rollout": refTo("x-skep-rollout"),
			"follow":  refTo("x-skep-follow"),
		}),
		"x-skep-follow": followed(),
		"x-skep-rollout": block("How a release is watched, and what follows when it fails.", map[string]any{
			"deadline":   longer(lasting("A release that is not healthy so long after it began has failed. More than 0.", d.Rollout.Deadline)),
			"bake":       lasting("How long a release is watched after it converged, before it counts as good.", d.Rollout.Bake),
			"guard":      lasting("A service that degrades this soon after a release, by its own fault, takes the release back too. 0 turns it off.", d.Rollout.Guard),
			"on_failure": word("What follows a failure: back to the newest healthy release, or all stays as it is.", d.Rollout.OnFailure, OnFailureRollback, OnFailureHold),
			"scope":      word("What goes back on a failure: the stack as a whole, or the service that failed.", d.Rollout.Scope, ScopeStack, ScopeService),
		}),
		"x-skep-duration": map[string]any{
			"type": "string", "minLength": 1, "pattern": schemaDuration,
			"examples": []string{"90s", "10m", "1h30m"},
		},
		"x-skep-variable": map[string]any{
			"type": "string", "pattern": `\$(\{|[A-Za-z_])`,
			"description": "A value with a variable in it, which is checked when the variable is known.",
		},
	}
}

// followed is what a service follows: exactly one of tag and semver.
func followed() map[string]any {
	text := func(description, pattern string, examples ...string) map[string]any {
		return map[string]any{"description": description, "examples": examples,
			"anyOf": []any{map[string]any{"type": "string", "pattern": pattern}, refTo("x-skep-variable"), map[string]any{"type": "null"}}}
	}
	out := block("Follow what the registry has, and roll it out as a release like any other: the digest of a tag, or the newest version.", map[string]any{
		"tag":    text("The tag whose digest is followed.", wholeTag.String(), "1.27"),
		"semver": text("The constraint that the newest version has to fit.", schemaConstraint, "~1.27", ">=1.2 <3"),
		"every":  longer(lasting("How often the registry is asked, 1m or more.", defaultFollowEvery)),
	})
	says := func(key string) map[string]any {
		return map[string]any{"type": "object", "required": []string{key}, "properties": map[string]any{key: map[string]any{"not": map[string]any{"type": "null"}}}}
	}
	out["oneOf"] = []any{map[string]any{"type": "null"}, says("tag"), says("semver")}
	mapping(out, "properties", "every")["not"] = map[string]any{"anyOf": []any{
		map[string]any{"const": 0},
		map[string]any{"type": "string", "pattern": shortOfAMinute},
	}}
	return out
}

const (
	// schemaConstraint is what begins like a constraint; whether it is one the loader says.
	schemaConstraint = `^[ ]*([=!<>~^]|v?[0-9xX*])[-0-9A-Za-z.*=!<>~^|, +]*$`
	// shortOfAMinute matches durations that are less, of those that schemaDuration takes.
	shortOfAMinute = `^(0+(\.0+)?h)?(0+(\.[0-9]+)?m)?((0*[0-5]?[0-9])(\.[0-9]+)?s)?(0*[0-9]{0,4}(\.[0-9]+)?ms)?$`
)

// severities are the settings of findings, a code each.
func severities() map[string]any {
	out := map[string]any{}
	for _, c := range Codes() {
		words := []any{string(Error), nil}
		if c.Settable() {
			words = append(words, string(Warning), string(Info), string(Off), false) // false: off in YAML 1.1
		}
		if c.From != Reading {
			out[c.Name] = map[string]any{"description": c.Meaning, "anyOf": []any{map[string]any{"enum": words}, refTo("x-skep-variable")}}
		}
	}
	return out
}

func atMost(list map[string]any, n int) map[string]any {
	list["maxItems"] = n
	return list
}

// receiver is an entry of x-skep.notify.
func receiver() map[string]any {
	name := map[string]any{"type": "string", "pattern": notifierName.String()}
	events := []any{}
	for _, e := range Events() {
		events = append(events, string(e))
	}
	long := block("A notifier, and what it is told of.", map[string]any{
		"to": map[string]any{"description": "The notifier's name.", "anyOf": []any{name, refTo("x-skep-variable")}},
		"on": listOf("The events; left out, all of them.", map[string]any{"enum": events}),
	})
	long["type"], long["required"] = "object", []string{"to"}
	return map[string]any{"anyOf": []any{name, long}}
}

// yesOrNo matches the words for true and false that YAML 1.1 had, in any case.
const yesOrNo = `^([yY]([eE][sS])?|[nN][oO]?|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[oO]([nN]|[fF][fF]))$`

// ignorePattern matches the path to a service's field that reaches the engine.
func ignorePattern() string {
	paths := map[string]bool{} // and whether anything may follow
	for _, key := range sortedKeys(converted) {
		paths[key] = isField(key + ".a")
	}
	for _, field := range nestedFields {
		paths[field] = withKeys[field]
		for end := strings.LastIndexByte(field, '.'); end > 0; end = strings.LastIndexByte(field[:end], '.') {
			paths[field[:end]] = false
		}
	}
	var forms []string
	for _, path := range sortedKeys(paths) {
		form := regexp.QuoteMeta(path)
		if paths[path] {
			form += `(\..*)?`
		}
		forms = append(forms, form)
	}
	return `^services\.[a-zA-Z0-9._-]+\.(` + strings.Join(forms, "|") + `)$`
}

// schemaDuration is a duration as people write one: units from the largest to the
// smallest, each at most once, and too few digits for more than a time.Duration
// holds.
const schemaDuration = `^([0-9]{1,5}(\.[0-9]{1,9})?h)?([0-9]{1,6}(\.[0-9]{1,9})?m)?([0-9]{1,8}(\.[0-9]{1,9})?s)?([0-9]{1,11}(\.[0-9]{1,6})?ms)?$`

func refTo(def string) map[string]any { return map[string]any{"$ref": "#/$defs/" + def} }

// block is a mapping with these keys and no other.
func block(description string, properties map[string]any) map[string]any {
	return map[string]any{
		"description": description, "type": []string{"object", "null"},
		"properties": properties, "additionalProperties": false,
	}
}

func switched(description string, normally bool) map[string]any {
	return setting(description, normally, map[string]any{"type": []string{"boolean", "null"}}, map[string]any{"type": "string", "pattern": yesOrNo})
}

func word[T ~string](description string, normally T, choices ...T) map[string]any {
	words := []any{}
	for _, choice := range choices {
		words = append(words, string(choice))
	}
	return setting(description, string(normally), map[string]any{"enum": append(words, nil)})
}

func lasting(description string, normally time.Duration) map[string]any {
	written := normally.String()
	for _, none := range []string{"m0s", "h0m"} { // 10m0s is 10m
		if strings.HasSuffix(written, none) {
			written = written[:len(written)-2]
		}
	}
	return setting(description, written, refTo("x-skep-duration"), map[string]any{"enum": []any{0, "0", nil}})
}

// longer is a duration that is more than nothing.
func longer(duration map[string]any) map[string]any {
	duration["not"] = map[string]any{"anyOf": []any{
		map[string]any{"const": 0},
		map[string]any{"type": "string", "pattern": `^[0.hms]+$`},
	}}
	return duration
}

// setting is a value of one of some forms, or one with a variable in it.
func setting(description string, normally any, forms ...map[string]any) map[string]any {
	return map[string]any{"description": description, "default": normally, "anyOf": append(forms, refTo("x-skep-variable"))}
}

func listOf(description string, items map[string]any) map[string]any {
	return map[string]any{
		"description": description, "type": []string{"array", "null"},
		"items": map[string]any{"anyOf": []any{items, refTo("x-skep-variable")}},
	}
}

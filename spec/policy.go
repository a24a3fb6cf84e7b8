package spec

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Defaults of x-skep.rollout.
const (
	defaultDeadline = 10 * time.Minute
	defaultBake     = time.Minute
	defaultGuard    = 10 * time.Minute
)

func defaultPolicy() Policy {
	return Policy{
		Prune:  true,
		Drift:  DriftCorrect,
		Images: ImagesPin,
		Rollout: Rollout{
			Deadline: defaultDeadline, Bake: defaultBake, Guard: defaultGuard,
			OnFailure: OnFailureRollback, Scope: ScopeStack,
		},
	}
}

// readPolicy reads the stack's x-skep block and those of its services: the policy
// with its defaults filled in, and what each service that has its own says.
// Unknown keys are errors: a misspelt one would leave its author without what was
// asked for.
func readPolicy(r *report, tree map[string]any) (Policy, map[string]servicePolicy) {
	p := defaultPolicy()
	services := mapping(tree, "services")
	if block, ok := policyBlock(r, tree["x-skep"], []string{"x-skep"}); ok {
		f := fields{report: r, block: block, at: []string{"x-skep"}}
		f.known("suspend", "depends_on", "prune", "drift", "ignore", "images", "profiles", "rollout", "findings", "notify", "decrypt")
		f.boolean("suspend", &p.Suspend)
		f.boolean("prune", &p.Prune)
		f.boolean("decrypt", new(bool)) // see readsSealed
		f.names("depends_on", &p.DependsOn)
		f.profiles("profiles", &p.Profiles)
		choose(&f, "drift", &p.Drift, DriftCorrect, DriftReport)
		choose(&f, "images", &p.Images, ImagesPin, ImagesAsWritten)
		p.Ignore = readIgnore(&f, services)
		readSeverities(&f, &p.Findings)
		readNotify(&f, &p.Notify)
		readRollout(r, f.block["rollout"], under(f.at, "rollout"), &p.Rollout)
	}
	own := map[string]servicePolicy{}
	for _, key := range sortedKeys(services) {
		service := mapping(services, key)
		at := []string{"services", key, "x-skep"}
		block, ok := policyBlock(r, service["x-skep"], at)
		if !ok {
			continue
		}
		f := fields{report: r, block: block, at: at}
		f.known("rollout", "follow")
		x := servicePolicy{rollout: p.Rollout}
		readRollout(r, block["rollout"], under(at, "rollout"), &x.rollout)
		x.follow = readFollow(r, block["follow"], under(at, "follow"), service, p)
		own[key] = x
	}
	return p, own
}

// A servicePolicy is what a service's own x-skep block says, over the stack's.
type servicePolicy struct {
	rollout Rollout
	follow  Follow
}

// policyBlock is a block of settings; false where there is none.
func policyBlock(r *report, value any, at []string) (map[string]any, bool) {
	if value == nil {
		return nil, false
	}
	block, ok := value.(map[string]any)
	if !ok {
		r.fail("x-skep", at, "%s is not a mapping (write its keys below it)", strings.Join(at, "."))
	}
	return block, ok
}

func readRollout(r *report, value any, at []string, rollout *Rollout) {
	block, ok := policyBlock(r, value, at)
	if !ok {
		return
	}
	f := fields{report: r, block: block, at: at}
	f.known("deadline", "bake", "guard", "on_failure", "scope")
	f.duration("deadline", &rollout.Deadline)
	f.duration("bake", &rollout.Bake)
	f.duration("guard", &rollout.Guard)
	choose(&f, "on_failure", &rollout.OnFailure, OnFailureRollback, OnFailureHold)
	choose(&f, "scope", &rollout.Scope, ScopeStack, ScopeService)
	if rollout.Deadline <= 0 {
		r.fail("x-skep", under(at, "deadline"), "%s.deadline is 0, by which no release can be healthy (write one like 10m)", strings.Join(at, "."))
	}
}

// fields reads the settings of one block.
type fields struct {
	report *report
	block  map[string]any
	at     []string
}

func (f *fields) fail(key, format string, args ...any) {
	f.report.fail("x-skep", under(f.at, key), "%s.%s %s", strings.Join(f.at, "."), key, fmt.Sprintf(format, args...))
}

// known refuses all other keys.
func (f *fields) known(keys ...string) {
	for _, key := range sortedKeys(f.block) {
		if slices.Contains(keys, key) {
			continue
		}
		if near := f.report.nearest(key, keys); near != "" {
			f.fail(key, "is not known (did you mean %s?)", near)
		} else if len(keys) > 20 {
			f.fail(key, "is not known (the codes of findings are in docs/findings.md)")
		} else {
			f.fail(key, "is not known (the keys here are %s)", strings.Join(keys, ", "))
		}
	}
}

func (f *fields) boolean(key string, to *bool) {
	switch v := f.block[key].(type) {
	case nil:
	case bool:
		*to = v
	default:
		f.fail(key, "is neither true nor false (write one of them)")
	}
}

// duration reads one with its unit; 0 needs none.
func (f *fields) duration(key string, to *time.Duration) {
	value, ok := f.block[key]
	if !ok || value == nil {
		return
	}
	d, err := time.ParseDuration(text(value))
	if err != nil || d < 0 {
		f.fail(key, "is %q, which is no duration (write a number with its unit, such as 90s, 10m or 1h)", text(value))
		return
	}
	*to = d
}

// names reads a list of stacks.
func (f *fields) names(key string, to *[]string) {
	seen := set(*to...)
	for i, value := range f.list(key) {
		name, ok := value.(string)
		switch {
		case !ok || !objectName.MatchString(name):
			f.fail(key, "holds %q at position %d, which is no stack's name (write names of stacks)", text(value), i+1)
		case !seen[name]:
			seen[name] = true
			*to = append(*to, name)
		}
	}
}

// profiles reads a list of profiles, in which * stands for all.
func (f *fields) profiles(key string, to *[]string) {
	seen := set(*to...)
	for i, value := range f.list(key) {
		name, ok := value.(string)
		switch {
		case !ok || name == "":
			f.fail(key, "holds %q at position %d, which is no profile's name (write names of profiles)", text(value), i+1)
		case !seen[name]:
			seen[name] = true
			*to = append(*to, name)
		}
	}
}

func (f *fields) list(key string) []any {
	value, ok := f.block[key]
	if !ok || value == nil {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		f.fail(key, "is not a list (write [a, b])")
	}
	return list
}

// choose reads one of a few words.
func choose[T ~string](f *fields, key string, to *T, choices ...T) {
	value, ok := f.block[key]
	if !ok || value == nil {
		return
	}
	for _, choice := range choices {
		if text(value) == string(choice) {
			*to = choice
			return
		}
	}
	words := make([]string, len(choices))
	for i, choice := range choices {
		words[i] = string(choice)
	}
	f.fail(key, "is %q (write %s)", text(value), strings.Join(words, " or "))
}

// readIgnore reads paths such as services.web.deploy.replicas.
func readIgnore(f *fields, services map[string]any) []IgnorePath {
	var out []IgnorePath
	keys, known := sortedKeys(services), sortedKeys(converted)
	for _, value := range f.list("ignore") {
		written, _ := value.(string)
		rest, ok := strings.CutPrefix(written, "services.")
		if !ok {
			f.fail("ignore", "holds %q, which does not lead to a service's field (write services.NAME.FIELD, such as services.web.deploy.replicas)", text(value))
			continue
		}
		service, path := splitService(rest, services)
		first, _, _ := strings.Cut(path, ".")
		switch {
		case service == "":
			f.fail("ignore", "holds %q, and the file has no such service%s", written, f.report.orNearest(strings.SplitN(rest, ".", 2)[0], keys))
		case path == "":
			f.fail("ignore", "holds %q, which is a whole service (name a field of it, such as services.%s.deploy.replicas)", written, service)
		case converted[first] && !isField(path):
			f.fail("ignore", "holds %q, and %s is no field of a service that reaches the engine%s", written, path, f.report.orNearest(path, nestedFields))
		case !converted[first]:
			f.fail("ignore", "holds %q, and %s is no field of a service that reaches the engine%s", written, first, f.report.orNearest(first, known))
		default:
			out = append(out, IgnorePath{Service: service, Path: path})
		}
	}
	return out
}

// nestedFields are the fields below those of a service whose keys are the compose
// format's. Package reconcile compares them, and a test there holds both together.
var nestedFields = []string{
	"healthcheck.test", "healthcheck.interval", "healthcheck.timeout", "healthcheck.start_period", "healthcheck.start_interval", "healthcheck.retries",
	"logging.driver", "logging.options",
	"deploy.mode", "deploy.replicas", "deploy.labels", "deploy.endpoint_mode",
	"deploy.placement.constraints", "deploy.placement.preferences", "deploy.placement.max_replicas_per_node",
	"deploy.resources.limits.cpus", "deploy.resources.limits.memory", "deploy.resources.limits.pids",
	"deploy.resources.reservations.cpus", "deploy.resources.reservations.memory", "deploy.resources.reservations.generic_resources",
	"deploy.restart_policy.condition", "deploy.restart_policy.delay", "deploy.restart_policy.max_attempts", "deploy.restart_policy.window",
	"deploy.update_config.parallelism", "deploy.update_config.order", "deploy.update_config.delay", "deploy.update_config.monitor",
	"deploy.update_config.failure_action", "deploy.update_config.max_failure_ratio",
	"deploy.rollback_config.parallelism", "deploy.rollback_config.order", "deploy.rollback_config.delay", "deploy.rollback_config.monitor",
	"deploy.rollback_config.failure_action", "deploy.rollback_config.max_failure_ratio",
}

// withKeys are those of the nested fields below which keys of the file's own stand.
var withKeys = set("logging.options", "deploy.labels", "deploy.resources.reservations.generic_resources")

// isField says whether a path leads to a nested field, to what is above some, or to
// what has none.
func isField(path string) bool {
	first, _, _ := strings.Cut(path, ".")
	nested := false
	for _, field := range nestedFields {
		nested = nested || strings.HasPrefix(field, first+".")
		if path == field || strings.HasPrefix(field, path+".") || withKeys[field] && strings.HasPrefix(path, field+".") {
			return true
		}
	}
	return !nested
}

// splitService parts a service's key, which may have dots in it, from the path
// behind it; the longest key wins.
func splitService(rest string, services map[string]any) (service, path string) {
	for end := min(len(rest), maxKey); end > 0; end = strings.LastIndexByte(rest[:end], '.') {
		if end < len(rest) && rest[end] != '.' {
			continue
		}
		if _, ok := services[rest[:end]]; ok {
			return rest[:end], strings.TrimPrefix(rest[end:], ".")
		}
	}
	return "", ""
}

// maxGuesses bounds how many words are compared to find those that were meant.
const maxGuesses = 100_000

// nearest is the candidate that a misspelt word most likely meant, "" where none is
// near, or where so much was guessed already that nobody reads it.
func (r *report) nearest(word string, candidates []string) string {
	if r.guesses += len(candidates); r.guesses > maxGuesses {
		return ""
	}
	return nearest(word, candidates)
}

// orNearest is a remedy: the word that was probably meant.
func (r *report) orNearest(word string, candidates []string) string {
	if near := r.nearest(word, candidates); near != "" {
		return " (did you mean " + near + "?)"
	}
	return " (correct or remove it)"
}

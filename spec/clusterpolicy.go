package spec

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// A cluster policy says what stacks may ask of their Swarm. It is the operator's, and
// not in the hands of those who write stacks: a file beside the specs directory.
//
// It is read so that no rule can open by accident what another one closed:
//
//   - what no rule that is for a stack allows, the stack may not;
//   - what one of them denies, it may not, whoever allows it;
//   - every limit of theirs holds.
//
// The order of rules means nothing. What a rule's stacks may is not told by the first
// that fits: there, a line in the wrong place takes away all that stands behind it.

// A ClusterPolicy is the rules of one file. It is never changed after it was read.
type ClusterPolicy struct {
	File  string // as it was named
	Rules []PolicyRule
}

// A PolicyRule is one rule, for the stacks that it selects.
type PolicyRule struct {
	Name string
	Line int
	// stacks and directories select by a stack's name, and by the folder of its file
	// relative to the specs directory: where both are there, both have to fit; where
	// none is, the rule is for all.
	stacks, directories []entry
	allow, deny         map[Aspect][]entry
	Limit               PolicyLimit
}

// A PolicyLimit bounds each service of a stack. Zero values bound nothing.
type PolicyLimit struct {
	Replicas    uint64 // of a replicated service or job
	NanoCPUs    int64  // a task's limit, which then has to be there, and reservation
	MemoryBytes int64  // likewise
	Pids        int64  // a task's limit, likewise
	Digest      bool   // images are named by digest, once a release has begun
	NonRoot     bool   // user is set, and is not root
	WorkersOnly bool   // a constraint keeps tasks off managers
}

// An Aspect is one kind of thing that a stack can ask for: a key below allow and deny.
type Aspect string

// What stacks ask for.
const (
	AspectBinds           Aspect = "binds"            // paths of nodes
	AspectVolumes         Aspect = "volumes"          // volumes whose names are not the stack's own
	AspectVolumeTypes     Aspect = "volume_types"     // file systems that the local driver mounts
	AspectClusterVolumes  Aspect = "cluster_volumes"  // volumes, and groups, of CSI plugins
	AspectPorts           Aspect = "ports"            // ports of the routing mesh
	AspectHostPorts       Aspect = "host_ports"       // ports of nodes
	AspectNetworks        Aspect = "networks"         // external networks
	AspectConfigs         Aspect = "configs"          // external configs
	AspectSecrets         Aspect = "secrets"          // external secrets
	AspectImages          Aspect = "images"           // repositories, with their registry
	AspectCapabilities    Aspect = "capabilities"     // cap_add
	AspectSysctls         Aspect = "sysctls"          // kernel parameters
	AspectPrivileges      Aspect = "privileges"       // credential_spec, selinux, seccomp, apparmor
	AspectDevices         Aspect = "devices"          // kinds of generic resources
	AspectNetworkDrivers  Aspect = "network_drivers"  // beside overlay
	AspectVolumeDrivers   Aspect = "volume_drivers"   // beside local
	AspectLogDrivers      Aspect = "log_drivers"      // beside those that keep logs on the node
	AspectSecretDrivers   Aspect = "secret_drivers"   // plugins that hold secrets
	AspectTemplateDrivers Aspect = "template_drivers" // beside golang
)

// aspects says how the entries of each are read.
var aspects = map[Aspect]func(text string) (entry, error){
	AspectBinds:           pathEntry,
	AspectVolumes:         nameEntry,
	AspectVolumeTypes:     nameEntry,
	AspectClusterVolumes:  nameEntry,
	AspectPorts:           portEntry,
	AspectHostPorts:       portEntry,
	AspectNetworks:        nameEntry,
	AspectConfigs:         nameEntry,
	AspectSecrets:         nameEntry,
	AspectImages:          imageEntry,
	AspectCapabilities:    capabilityEntry,
	AspectSysctls:         sysctlEntry,
	AspectPrivileges:      privilegeEntry,
	AspectDevices:         nameEntry,
	AspectNetworkDrivers:  nameEntry,
	AspectVolumeDrivers:   nameEntry,
	AspectLogDrivers:      nameEntry,
	AspectSecretDrivers:   nameEntry,
	AspectTemplateDrivers: nameEntry,
}

// Privileges are the words of AspectPrivileges.
var Privileges = []string{"credential_spec", "selinux", "seccomp", "apparmor"}

// A Request is one thing that a stack asks for.
type Request struct {
	Aspect Aspect
	// Value is the thing's name: of a bind what CanonicalPath gives, of an image its
	// repository.
	Value string
	// Port is a published port's number instead, 0 where the engine chooses one.
	Port uint32
	// Tag is an image's tag.
	Tag string
	// ReadOnly says of a bind that the container cannot write to it.
	ReadOnly bool
	// Literal says that only an entry without wildcards allows it: what opens a whole
	// node is never meant by a pattern.
	Literal bool
}

// An entry is one line of a list in a policy.
type entry struct {
	text     string
	pattern  *regexp.Regexp // of the value; nil for a port
	literal  bool           // there is no wildcard in it
	covers   *regexp.Regexp // of a path: what it means, what lies below, and what holds it
	readOnly bool           // :ro
	tag      *regexp.Regexp // of an image's tag; nil: any
	from, to uint32         // of a port
}

// allows says that the entry, in a list of what is allowed, means the request.
func (e entry) allows(q Request) bool {
	switch {
	case e.pattern == nil:
		return e.from <= q.Port && q.Port <= e.to
	case q.Literal && !e.literal, e.readOnly && !q.ReadOnly, e.tag != nil && !e.tag.MatchString(q.Tag):
		return false
	}
	return e.pattern.MatchString(q.Value)
}

// denies says that the entry, in a list of what is denied, means the request: of paths
// also what lies below, and what holds the path.
func (e entry) denies(q Request) bool {
	q.Literal = false
	switch {
	case e.allows(q):
		return true
	case q.Aspect == AspectCapabilities:
		return q.Value == allCapabilities
	case strings.Contains(q.Value, "{{"):
		return true // whatever a template becomes
	case q.Aspect != AspectBinds:
		return false
	}
	value, _, cut := strings.Cut(q.Value, Placeholder)
	if cut {
		value = path.Dir(value + "x") // where a placeholder stands, anything may
	}
	return e.covers.MatchString(value) || Within(value, "/run") && e.covers.MatchString("/var"+value)
}

// Within says that a clean path is another one, or lies below it.
func Within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// A Selection is the rules of a policy that are for one stack.
type Selection struct {
	policy *ClusterPolicy
	stack  string
	rules  []*PolicyRule
}

// For selects the rules for a stack, by its name and its file: as Source.Site has it or,
// of one source alone, relative to the specs directory.
func (p *ClusterPolicy) For(stack, file string) Selection {
	s := Selection{policy: p, stack: stack}
	for i := range p.Rules {
		if p.Rules[i].isFor(stack, file) {
			s.rules = append(s.rules, &p.Rules[i])
		}
	}
	return s
}

func (r *PolicyRule) isFor(stack, file string) bool {
	return r.isForName(stack) && (len(r.directories) == 0 || slices.ContainsFunc(r.directories, func(e entry) bool { return e.holds(file) }))
}

// isForName is isFor as far as the stack's name tells.
func (r *PolicyRule) isForName(stack string) bool {
	return len(r.stacks) == 0 || slices.ContainsFunc(r.stacks, func(e entry) bool { return e.pattern.MatchString(stack) })
}

// holds says that a file, as Source.Site has it, lies in a directory that the entry names:
// of the source that it names before a colon, or of any. Where there is one source alone a
// colon is a character like others: in what folders are called nobody names a source.
func (e entry) holds(site string) bool {
	source, file, several := strings.Cut(site, siteSeparator)
	if !several {
		source, file = "", site
	}
	if named, _ := cutSource(e.text); named != "" && source != "" {
		source += ":"
	} else {
		source = ""
	}
	for dir := path.Dir(path.Clean(filepath.ToSlash(file))); ; dir = path.Dir(dir) {
		if e.pattern.MatchString(source + dir) {
			return true
		}
		if dir == "." || dir == "/" {
			return false
		}
	}
}

// Refuses says whether a stack may not have what it asks for, and which rule says so
// or, where none allows it, which could. The text ends a sentence.
func (s Selection) Refuses(q Request) (why string, refused bool) {
	for _, r := range s.rules {
		for _, e := range r.deny[q.Aspect] {
			if e.denies(q) {
				return fmt.Sprintf("denied by %s, whose deny.%s has %s (take it out)", s.name(r), q.Aspect, e.text), true
			}
		}
	}
	for _, r := range s.rules {
		if slices.ContainsFunc(r.allow[q.Aspect], func(e entry) bool { return e.allows(q) }) {
			return "", false
		}
	}
	return "not allowed: " + s.none(q), true
}

// Limits calls f for the limit of each rule, with the rule's name for a sentence.
func (s Selection) Limits(f func(rule string, limit PolicyLimit)) {
	for _, r := range s.rules {
		f(s.name(r), r.Limit)
	}
}

func (s Selection) name(r *PolicyRule) string {
	return fmt.Sprintf("rule %s (%s:%d)", r.Name, filepath.Base(s.policy.File), r.Line)
}

// maxNamed is how many rules a sentence names.
const maxNamed = 4

// none says that no rule allows something, and what to do.
func (s Selection) none(q Request) string {
	if len(s.rules) == 0 {
		return fmt.Sprintf("no rule of %s is for stack %s (take it out, or have the operator write a rule with allow.%s)", filepath.Base(s.policy.File), s.stack, q.Aspect)
	}
	var names []string
	for _, r := range s.rules[:min(len(s.rules), maxNamed)] {
		names = append(names, s.name(r))
	}
	if n := len(s.rules) - maxNamed; n > 0 {
		names = append(names, fmt.Sprintf("%d more", n))
	}
	by := ""
	if q.Literal {
		by = " by its name, as no pattern means it"
	}
	return fmt.Sprintf("allow.%s has it in none of %s (take it out, or have the operator add it there%s)", q.Aspect, strings.Join(names, ", "), by)
}

// Bounds of a policy file.
const (
	maxPolicySize  = 256 << 10
	maxPolicyRules = 1000
	maxEntry       = 500 // characters of one
	maxPathParts   = 64  // parts of a path in one
	maxWrong       = 20  // errors that are told
)

// LoadClusterPolicy reads a policy file. Its error names each line that is wrong, and
// what to write there; then there is no policy.
func LoadClusterPolicy(file string) (*ClusterPolicy, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicySize+1))
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return ParseClusterPolicy(file, text)
}

// ParseClusterPolicy is LoadClusterPolicy for a text that was read from file.
func ParseClusterPolicy(file string, text []byte) (*ClusterPolicy, error) {
	doc, found := parseBounded(file, text, maxPolicySize)
	if found != nil {
		switch found.Code {
		case "empty-file", "not-a-mapping":
			found.Message = "the policy has no rules (begin it with rules:, and a list below it)"
		case "several-documents":
			found.Message = "the policy holds more than one YAML document (make it one)"
		}
		return nil, fmt.Errorf("policy %s:%d: %s", file, max(found.Line, 1), onOneLine(found.Message))
	}
	r := policyReader{doc: doc}
	for _, t := range doc.tags {
		name := "!override"
		if t.reset {
			name = "!reset"
		}
		r.wrong(t.at, "%s has the tag %s, which is about what other files say, and a policy is one file (take it out)", placeOf(t.at), name)
	}
	p := &ClusterPolicy{File: file, Rules: r.rules()}
	if len(r.errors) > 0 {
		return nil, errors.Join(r.errors...)
	}
	return p, nil
}

// A policyReader gathers what is wrong in a policy.
type policyReader struct {
	doc    *document
	errors []error
}

func (r *policyReader) wrong(at []string, format string, args ...any) {
	if len(r.errors) < maxWrong {
		line, _ := r.doc.at(at...)
		r.errors = append(r.errors, fmt.Errorf("policy %s:%d: %s", r.doc.file, max(line, 1), onOneLine(fmt.Sprintf(format, args...))))
	}
}

// block is the mapping at a path, of which only these keys are known.
func (r *policyReader) block(value any, at []string, known ...string) map[string]any {
	block, ok := value.(map[string]any)
	if !ok {
		if value != nil || len(at) > 0 {
			r.wrong(at, "%s is not a mapping (write its keys below it: %s)", placeOf(at), strings.Join(known, ", "))
		}
		return nil
	}
	for _, key := range sortedKeys(block) {
		if slices.Contains(known, key) {
			continue
		}
		remedy := "the keys here are " + strings.Join(known, ", ")
		if near := nearest(key, known); near != "" {
			remedy = "did you mean " + near + "?"
		}
		r.wrong(under(at, key), "%s is not known in %s (%s)", key, placeOf(at), remedy)
	}
	return block
}

// placeOf names a place in a policy for a sentence.
func placeOf(at []string) string {
	if len(at) == 0 {
		return "a policy"
	}
	words := slices.Clone(at)
	if len(words) > 1 && words[0] == "rules" {
		n, _ := strconv.Atoi(words[1])
		words = append([]string{fmt.Sprintf("rule %d", n+1)}, words[2:]...)
	}
	return strings.Join(words, ".")
}

func (r *policyReader) rules() []PolicyRule {
	top := r.block(r.doc.tree, nil, "rules")
	list, ok := top["rules"].([]any)
	switch {
	case !ok || len(list) == 0:
		r.wrong([]string{"rules"}, "the policy has no rules, and all that takes one would be refused (write a list below rules:)")
	case len(list) > maxPolicyRules:
		r.wrong([]string{"rules"}, "the policy has more than %d rules (select stacks by patterns)", maxPolicyRules)
		return nil
	}
	names := map[string]bool{}
	var out []PolicyRule
	for i, value := range list {
		at := []string{"rules", strconv.Itoa(i)}
		rule := r.rule(value, at)
		if names[rule.Name] && rule.Name != "" {
			r.wrong(under(at, "name"), "there are two rules %s, and findings name a rule (give each a name of its own)", rule.Name)
		}
		names[rule.Name] = true
		out = append(out, rule)
	}
	return out
}

var ruleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

func (r *policyReader) rule(value any, at []string) PolicyRule {
	var rule PolicyRule
	rule.Line, _ = r.doc.at(at...)
	block := r.block(value, at, "name", "stacks", "directories", "allow", "deny", "limit")
	if block == nil {
		return rule
	}
	rule.Name, _ = block["name"].(string)
	if !ruleName.MatchString(rule.Name) {
		r.wrong(under(at, "name"), "%s has no name that findings can tell (write name: and letters, digits, dots and dashes)", placeOf(at))
	}
	rule.stacks = r.list(block, under(at, "stacks"), nameEntry)
	rule.directories = r.list(block, under(at, "directories"), directoryEntry)
	for _, key := range []string{"stacks", "directories"} { // a rule for nobody looks like one for all
		if _, there := block[key]; there && len(r.asList(block[key])) == 0 {
			r.wrong(under(at, key), "%s selects nothing (write a list of patterns, or take the key out: then the rule is for all stacks)", placeOf(under(at, key)))
		}
	}
	rule.allow = r.aspects(block, under(at, "allow"))
	rule.deny = r.aspects(block, under(at, "deny"))
	rule.Limit = r.limit(block, under(at, "limit"))
	return rule
}

func (r *policyReader) asList(value any) []any {
	list, _ := value.([]any)
	return list
}

func (r *policyReader) aspects(rule map[string]any, at []string) map[Aspect][]entry {
	value, there := rule[at[len(at)-1]]
	if !there {
		return nil
	}
	var known []string
	for a := range aspects {
		known = append(known, string(a))
	}
	slices.Sort(known)
	block := r.block(value, at, known...)
	out := map[Aspect][]entry{}
	for _, key := range known {
		out[Aspect(key)] = r.list(block, under(at, key), aspects[Aspect(key)])
	}
	if at[len(at)-1] == "deny" {
		r.deniable(out, at)
	}
	return out
}

// Free is what every stack may use: no rule is asked for it.
var Free = map[Aspect][]string{
	AspectNetworkDrivers:  {"overlay"},
	AspectVolumeDrivers:   {"local"},
	AspectVolumeTypes:     {"tmpfs", "bind"},
	AspectLogDrivers:      {"none", "local", "json-file", "journald"}, // they keep what they get on the node
	AspectTemplateDrivers: {"golang"},
}

// deniable refuses entries of deny that would do nothing, or less than they say.
func (r *policyReader) deniable(denied map[Aspect][]entry, at []string) {
	for i, e := range denied[AspectBinds] {
		if e.readOnly {
			r.wrong(under(at, "binds", strconv.Itoa(i)), "deny.binds has %s, and what is denied may not be read either (take :ro away)", e.text)
		}
	}
	for _, a := range slices.Sorted(maps.Keys(Free)) {
		for i, e := range denied[a] {
			if slices.Contains(Free[a], e.text) {
				r.wrong(under(at, string(a), strconv.Itoa(i)), "deny.%s has %s, which every stack may use and no rule is asked for (take it out)", a, e.text)
			}
		}
	}
}

// list reads the entries of a list, by the last key of its path.
func (r *policyReader) list(block map[string]any, at []string, read func(string) (entry, error)) []entry {
	value, there := block[at[len(at)-1]]
	if !there || value == nil {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		r.wrong(at, "%s is not a list (write [a, b])", placeOf(at))
		return nil
	}
	var out []entry
	for i, value := range list {
		where := under(at, strconv.Itoa(i))
		switch value.(type) {
		case string, int:
		default:
			r.wrong(where, "%s holds what is neither text nor a number (write one entry a line, in quotes where it begins with *)", placeOf(at))
			continue
		}
		written := text(value)
		if written == "" || len(written) > maxEntry {
			r.wrong(where, "%s holds an entry that is empty, or longer than %d characters (correct it)", placeOf(at), maxEntry)
			continue
		}
		if strings.TrimSpace(written) != written { // it would mean nothing that there is
			r.wrong(where, "%s holds %q, which has white space around it (take that away)", placeOf(at), written)
			continue
		}
		e, err := read(written)
		if err != nil {
			r.wrong(where, "%s holds %q, which %v", placeOf(at), written, err)
			continue
		}
		e.text = written
		out = append(out, e)
	}
	return out
}

func (r *policyReader) limit(rule map[string]any, at []string) PolicyLimit {
	var l PolicyLimit
	value, there := rule["limit"]
	if !there {
		return l
	}
	block := r.block(value, at, "replicas", "cpus", "memory", "pids", "digest", "non_root", "workers_only")
	number := func(key, remedy string, parse func(string) (int64, error)) int64 {
		value, there := block[key]
		if !there {
			return 0
		}
		n, err := parse(text(value))
		if err != nil || n <= 0 {
			r.wrong(under(at, key), "%s is %q (write %s)", placeOf(under(at, key)), text(value), remedy)
		}
		return n
	}
	whole := func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
	l.Replicas = uint64(max(0, number("replicas", "a number of 1 or more", whole)))
	l.NanoCPUs = number("cpus", "a number of CPUs, such as 0.5", nanoCPUs)
	l.MemoryBytes = number("memory", "an amount with its unit, such as 512M", units.RAMInBytes)
	l.Pids = number("pids", "a number of 1 or more", whole)
	for key, to := range map[string]*bool{"digest": &l.Digest, "non_root": &l.NonRoot, "workers_only": &l.WorkersOnly} {
		value, there := block[key]
		if !there {
			continue
		}
		var ok bool
		if *to, ok = value.(bool); !ok {
			r.wrong(under(at, key), "%s is neither true nor false (write one of them)", placeOf(under(at, key)))
		}
	}
	return l
}

func nanoCPUs(s string) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0 && f < 1e6) {
		return 0, errors.New("no number of CPUs")
	}
	return int64(math.Round(f * 1e9)), nil
}

// How entries are read.

// nameEntry reads a name in which * stands for any characters.
func nameEntry(text string) (entry, error) {
	return entry{pattern: anchored(strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, `.*`)), literal: !strings.Contains(text, "*")}, nil
}

// sysctlEntry reads a kernel parameter, whose parts may have slashes between them.
func sysctlEntry(text string) (entry, error) { return nameEntry(strings.ReplaceAll(text, "/", ".")) }

// directoryEntry reads a folder of the specs directory; "." is that itself. The name of a
// source and a colon may stand before it.
func directoryEntry(text string) (entry, error) {
	source, dir := cutSource(text)
	dir = path.Clean(dir)
	if path.IsAbs(dir) || !filepath.IsLocal(dir) {
		return entry{}, errors.New("does not lie in the specs directory (write the folder's path relative to that, without a / before it)")
	}
	return globEntry(source + dir)
}

// cutSource takes the name of a source, and its colon, off a folder.
func cutSource(text string) (source, dir string) {
	name, rest, of := strings.Cut(text, ":")
	if !of || strings.Contains(name, "/") {
		return "", text
	}
	return name + ":", rest
}

// pathEntry reads a path of nodes, and :ro behind it.
func pathEntry(text string) (entry, error) {
	text, readOnly := strings.CutSuffix(text, ":ro")
	clean, opaque := CanonicalPath(text)
	if opaque {
		return entry{}, errors.New("is no absolute path (write one that begins with /, without a template)")
	}
	e, err := globEntry(clean)
	e.readOnly = readOnly
	return e, err
}

// globEntry reads a path in which * stands for any characters of one of its parts, and
// ** for any number of parts.
func globEntry(text string) (entry, error) {
	parts := strings.Split(text, "/")
	for _, part := range parts {
		if part != "**" && strings.Contains(part, "**") {
			return entry{}, errors.New("has ** beside other characters (** stands for whole parts of a path: write a/**/b)")
		}
	}
	if len(parts) > maxPathParts {
		return entry{}, fmt.Errorf("has more than %d parts (shorten it)", maxPathParts)
	}
	whole := globExpr(parts)
	around := []string{strings.TrimSuffix(whole, "/") + `(/.*)?`}
	for i := 1; i < len(parts); i++ {
		around = append(around, cmp.Or(globExpr(parts[:i]), "/"))
	}
	return entry{pattern: anchored(whole), literal: !strings.Contains(text, "*"), covers: anchored(strings.Join(around, "|"))}, nil
}

// globExpr is the regular expression of a path's parts.
func globExpr(parts []string) string {
	var b strings.Builder
	for i, part := range parts {
		behind := i > 0 && parts[i-1] != "**" // else the / is a part of what ** stands for
		switch last := i == len(parts)-1; {
		case part != "**":
			if behind {
				b.WriteString("/")
			}
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(part), `\*`, `[^/]*`))
		case last && behind:
			b.WriteString(`(/.*)?`)
		case last:
			b.WriteString(`.*`)
		default:
			if behind {
				b.WriteString("/")
			}
			b.WriteString(`(.*/)?`)
		}
	}
	return b.String()
}

// anchored compiles what was made of quoted text and fixed parts, and so always can be.
func anchored(expr string) *regexp.Regexp { return regexp.MustCompile(`(?s)^(?:` + expr + `)$`) }

// portEntry reads a port, or a range of them; 0 is one that the engine chooses.
func portEntry(text string) (entry, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	switch {
	case err1 != nil || err2 != nil || from > to:
		return entry{}, errors.New("is no port and no range of ports (write 443, or 8000-8999)")
	case isRange && from == 0:
		return entry{}, errors.New("begins at 0, which stands for a port that the engine chooses (write it alone, and the range from 1)")
	}
	return entry{from: uint32(from), to: uint32(to)}, nil
}

// imageEntry reads a repository with its registry, and the pattern of a tag behind it.
func imageEntry(text string) (entry, error) {
	repository, tag := text, ""
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, '/') {
		repository, tag = text[:i], text[i+1:]
	}
	first, rest, _ := strings.Cut(repository, "/")
	switch {
	case strings.Contains(text, "@"):
		return entry{}, errors.New("names a digest (name the repository, and set limit.digest)")
	case !strings.ContainsAny(first, ".:*") && first != "localhost":
		name := repository
		if rest == "" {
			name = "library/" + name
		}
		return entry{}, fmt.Errorf("does not begin with a registry (did you mean docker.io/%s?)", name)
	case repository != "*" && repository != "**" && rest == "" && first != "*":
		return entry{}, fmt.Errorf("is a registry alone (write %s/** for all that is in it)", first)
	}
	if repository == "*" {
		repository = "**"
	}
	e, err := globEntry(strings.ToLower(repository))
	if tag != "" && err == nil {
		e.tag = anchored(strings.ReplaceAll(regexp.QuoteMeta(tag), `\*`, `.*`))
	}
	return e, err
}

// capabilityEntry reads a capability, as CanonicalCapability writes it.
func capabilityEntry(text string) (entry, error) {
	if strings.Contains(text, "*") {
		return entry{}, errors.New("is no capability (write names such as NET_ADMIN, or ALL)")
	}
	if text = CanonicalCapability(text); text == allCapabilities {
		text = "*"
	}
	return nameEntry(text)
}

// allCapabilities is every capability there is.
const allCapabilities = "ALL"

func privilegeEntry(text string) (entry, error) {
	if !slices.Contains(Privileges, text) {
		return entry{}, fmt.Errorf("is no privilege (write one of %s)", strings.Join(Privileges, ", "))
	}
	return nameEntry(text)
}

// CanonicalCapability is the one way to write a capability: NET_ADMIN for
// cap_net_admin.
func CanonicalCapability(name string) string {
	return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(name)), "CAP_")
}

// Placeholder stands in a canonical path for a template that a node puts one part of a
// path in place of, such as its host's name.
const Placeholder = "\x00"

// onePart are the templates (swarmkit's template.Context) whose values have no / in
// them. Any other one may become whatever its author likes: {{"/"}} is one.
var onePart = regexp.MustCompile(`\{\{\s*\.(Service\.(ID|Name)|Node\.(ID|Hostname|Platform\.(Architecture|OS))|Task\.(ID|Name|Slot))\s*\}\}`)

// windowsStart is that of a drive's, or that of a share or a pipe.
var windowsStart = regexp.MustCompile(`^([A-Za-z]:[\\/]|\\\\)`)

// windowsDevice begins the names of devices, by which drives and pipes go too.
var windowsDevice = regexp.MustCompile(`^//[.?]/([a-z]:)?`)

// CanonicalPath is the one way to write the path of a node, whichever way an engine is
// asked for it: /var/run is /run on every node that runs an engine. It is opaque where
// nobody can tell before what the path will be.
func CanonicalPath(source string) (clean string, opaque bool) {
	source = onePart.ReplaceAllString(source, Placeholder)
	if strings.Contains(source, "{{") || strings.Contains(source, Placeholder) && slices.Contains(strings.Split(source, "/"), "..") {
		return source, true // a placeholder may be nothing, and .. then another folder
	}
	if windowsStart.MatchString(source) {
		source = strings.ToLower(strings.ReplaceAll(source, `\`, "/"))
		if drive := windowsDevice.FindStringSubmatch(source); drive != nil {
			source = cmp.Or(drive[1], "/") + source[len(drive[0]):]
		}
		return path.Clean(source), false
	}
	if !strings.HasPrefix(source, "/") {
		return source, true
	}
	clean = path.Clean("/" + strings.TrimLeft(source, "/"))
	for _, link := range [][2]string{{"/var/run", "/run"}, {"/var/lock", "/run/lock"}, {"/dev/fd", "/proc/self/fd"}} {
		if Within(clean, link[0]) {
			clean = link[1] + strings.TrimPrefix(clean, link[0])
		}
	}
	return clean, false
}

// Package spec turns files into desired state: a directory of compose files
// becomes a Snapshot of Stacks, each the set of Swarm objects its author
// described, with findings about what will not do what the author thinks.
//
// It reads files and knows Docker's API types. It never speaks to an engine,
// never reads the process's own environment, and never decides what to do with
// what it read: package reconcile does that.
package spec

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// Labels that Docker's own stack commands use; skep sets them so that
// `docker stack ls|services|ps|rm` work on what it creates.
const (
	LabelNamespace = "com.docker.stack.namespace"
	LabelImage     = "com.docker.stack.image"
)

// A Snapshot is what the specs directory said at one moment, or several of them (see
// Join).
type Snapshot struct {
	Dir string
	// Revision names the moment: a short git commit hash where Dir lies in a
	// git work tree (with "-dirty" behind it when a file that was read differs
	// from that commit), else "sha256:" and twelve hex digits over all files read.
	Revision string
	// Commit is nil where Dir is not in a git work tree.
	Commit *Commit
	// Stacks holds the stacks that loaded without an error, by name.
	Stacks map[string]*Stack
	// Problems holds the errors of stacks that did not load, by stack name (or by
	// path below Dir where not even a name is known). A stack is in Stacks or in
	// Problems, never in both; one that is in Problems is to stay as it is.
	Problems map[string][]Finding
	// Nameless holds the files, relative to Dir, that are too broken to tell their
	// stack's name for sure. Their findings are in Problems under the best guess.
	Nameless []string
	// Findings are about the directory itself, not about a stack.
	Findings []Finding
	// Complete says that the whole directory was read: only then can a stack's
	// absence mean that its file is gone; ask Gone.
	Complete bool
	// Err says why the snapshot is not complete.
	Err error
	// kept holds the names of stacks that are not gone though nothing describes them:
	// folders without a compose file may be theirs, or the commit has their files.
	kept map[string]bool
	// directories are the sources of a joined one; nil: it is of one directory.
	directories []Directory
}

// A Commit is the git commit a snapshot was read at.
type Commit struct {
	Hash    string // 40 hex digits
	Short   string // the first 7
	Subject string
	Author  string
	Time    time.Time
	Dirty   bool
}

// A Stack is the desired state of one stack. Objects refer to each other by the
// names that `docker stack deploy` would give them; package reconcile turns names
// into IDs, and names of configs and secrets into names with a content hash.
// A Stack is never changed after it was loaded.
type Stack struct {
	Name string
	// Source tells which files made it, and Fingerprint is a hash over their
	// content and the variables they were interpolated with.
	Source Source
	// Services, Networks, Configs and Secrets are sorted by name.
	Services []Service
	Networks []Network
	Configs  []Config
	Secrets  []Secret
	Policy   Policy
	Findings []Finding
	// dependsOn is where the file names the stacks of Policy.DependsOn.
	dependsOn []place
}

// Source says where a stack came from.
type Source struct {
	Name        string   // of the source, where it has one
	File        string   // the compose file, relative to the specs directory
	Files       []string // every file that was read for it, or may be there and was not, likewise
	Fingerprint string   // "sha256:" and 64 hex digits
	Revision    string   // the snapshot's revision
	Commit      *Commit  // the snapshot's commit, nil without git
	// variables are those of Files that variables were read from.
	variables []string
}

// A Service is one desired service.
type Service struct {
	Key  string // as the compose file names it
	Name string // as Swarm names it: <stack>_<key>
	// Spec is complete but for what only an engine knows: network targets are
	// names, config and secret references have names (the Name of a Config or
	// Secret of this stack) and no ID, the image is as written.
	Spec swarm.ServiceSpec
	// DependsOn holds the keys of services that come before this one.
	DependsOn []string
	// Rollout is the stack's rollout policy with the service's own over it.
	Rollout Rollout
	// Follow is which tags of its image the service follows, if any.
	Follow Follow
	// StartFirstUnsafe says why start-first is not safe for this service, in
	// words; empty where it is.
	StartFirstUnsafe string
	// ports is where the file publishes the service's ports, places where it says the
	// rest: by key of the service, "" for itself, and mounts by "volumes " and target.
	ports  place
	places map[string]place
}

// A place is a value's in a file, for findings that are made when all stacks are
// read.
type place struct {
	file         string
	line, column int
	ignored      []string // the codes that a comment ignores there
}

// Where tells where the file says what a service asks for: by a key of the service such
// as "image", or by MountPlace. Where it does not, that is the service's own place; all
// is zero where the stack is of no file.
func (s *Stack) Where(service, key string) (file string, line, column int) {
	for i := range s.Services {
		if x := &s.Services[i]; x.Key == service {
			at, ok := x.places[key]
			if !ok {
				at = x.places[""]
			}
			return at.file, at.line, at.column
		}
	}
	return "", 0, 0
}

// WhereObject is Where for a network, config or secret, by its name in the Swarm.
func (s *Stack) WhereObject(kind, name string) (file string, line, column int) {
	for _, n := range ownNames(s) {
		if n.kind == kind && n.name == name {
			return n.at.file, n.at.line, n.at.column
		}
	}
	return "", 0, 0
}

// MountPlace is the key of Where for the mount at a target.
func MountPlace(target string) string { return "volumes " + target }

// A Network is a network that the stack's services use.
type Network struct {
	Key      string
	Name     string // <stack>_<key>, or the file's name
	External bool   // must exist; never created, changed or removed
	Create   network.CreateOptions
	at       place // where the file names it
}

// A Config is a config that the stack declares.
type Config struct {
	Key      string
	Name     string // <stack>_<key>, or the file's name, without a content hash
	External bool
	Spec     swarm.ConfigSpec // Name as above, labels and data; empty where External
	// Sealed says that the data came out of an encrypted file, and is not to be shown.
	Sealed bool
	at     place // where the file names it
}

// A Secret is a secret that the stack declares.
type Secret struct {
	Key      string
	Name     string
	External bool
	// Spec carries no Data: that is in Value, which does not print. Spec.Driver is
	// set where a plugin holds the value; then Value is empty.
	Spec  swarm.SecretSpec
	Value Sensitive
	at    place // where the file names it
}

// Sensitive holds a secret's bytes from the file to the engine. It prints as
// "•••" with every verb and in JSON; Reveal is the only way in.
//
// The bytes are behind two pointers: package fmt cannot ask a value that stands in an
// unexported field how it prints, and would print what is in it. It does not follow a
// pointer there; one alone it does, for a verb that it does not know.
type Sensitive struct{ b **[]byte }

// NewSensitive wraps b, which the caller must not change afterwards.
func NewSensitive(b []byte) Sensitive { return Sensitive{new(&b)} }

// Reveal returns the bytes themselves: for the engine and for keyed hashes only.
func (s Sensitive) Reveal() []byte {
	if s.b == nil {
		return nil
	}
	return **s.b
}

const masked = "•••"

func (s Sensitive) String() string               { return masked }
func (s Sensitive) GoString() string             { return masked }
func (s Sensitive) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(masked)) }
func (s Sensitive) MarshalJSON() ([]byte, error) { return []byte(`"` + masked + `"`), nil }
func (s Sensitive) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Severity of a finding.
type Severity string

// An Error keeps the stack from being applied, a Warning does not, an Info is
// told where somebody asks.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
	// Off is of no finding: x-skep.findings sets it for codes that are not to be told.
	Off Severity = "off"
)

// A Finding is something about a file that its author should know.
type Finding struct {
	File     string   `json:"file"` // relative to the specs directory
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"`
	Severity Severity `json:"severity"`
	Code     string   `json:"code"` // kebab-case, stable: "bind-relative"
	// Message says what is wrong and, in brackets at its end, what to do.
	Message string `json:"message"`
	// Service is the compose key of the service it is about, if any.
	Service string `json:"service,omitempty"`
	// Source is the name of the one that File is in, where there are several.
	Source string `json:"source,omitempty"`
	// variable is the one that is not set, until each is told once a file.
	variable string
}

// String is "file:line:column: severity: code: message", without the parts that
// are not known; with several sources, that of the file and a colon stand before it.
func (f Finding) String() string {
	at := onOneLine(Source{Name: f.Source, File: f.File}.at())
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, f.Line)
		if f.Column > 0 {
			at = fmt.Sprintf("%s:%d", at, f.Column)
		}
	}
	return fmt.Sprintf("%s: %s: %s: %s", at, f.Severity, f.Code, onOneLine(f.Message))
}

// maxMessage is how many characters of a sentence are told, and maxRemedy how many of
// them are its last ones, where what to do stands.
const (
	maxMessage = 2000
	maxRemedy  = 400
)

// onOneLine is text that comes from a file as people get to see it: it cannot steer
// a terminal, begin a line of its own, in which a CI system may see a command, or
// fill a log.
func onOneLine(s string) string {
	if len(s) > maxMessage {
		if r := []rune(s); len(r) > maxMessage {
			s = string(r[:maxMessage-maxRemedy-1]) + "…" + string(r[len(r)-maxRemedy:])
		}
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// Policy is a stack's x-skep block with its defaults filled in.
type Policy struct {
	Suspend   bool
	DependsOn []string // stacks
	Prune     bool     // default true
	Drift     DriftPolicy
	Ignore    []IgnorePath
	Images    ImagePolicy
	Profiles  []string // active for this stack, beside those of Options
	Rollout   Rollout
	// Findings sets the severity of findings by their code, where they are not
	// errors; Weigh applies it. Nil where the file sets none.
	Findings map[string]Severity
	// Notify says who gets the stack's messages: nobody, where it is empty, and whoever
	// gets those of stacks that say nothing, where it is nil.
	Notify []Receiver `json:",omitzero"`
}

// DriftPolicy says what to do when live differs from what was rolled out.
type DriftPolicy string

// Correct (the default) puts it right, Report only tells.
const (
	DriftCorrect DriftPolicy = "correct"
	DriftReport  DriftPolicy = "report"
)

// ImagePolicy says whether tags become digests when a release is made.
type ImagePolicy string

// Pin (the default) asks the registry for the digest, AsWritten does not.
const (
	ImagesPin       ImagePolicy = "pin"
	ImagesAsWritten ImagePolicy = "as-written"
)

// An IgnorePath names a field whose live value wins: the service's key, and the
// path below it as a compose file would write it ("deploy.replicas",
// "environment.FEATURE_X").
type IgnorePath struct {
	Service string
	Path    string
}

// Rollout says how a release is watched.
type Rollout struct {
	Deadline  time.Duration // default 10m
	Bake      time.Duration // default 1m
	Guard     time.Duration // default 10m; 0 turns it off
	OnFailure FailurePolicy
	Scope     ScopePolicy
}

// FailurePolicy says what happens when a release fails.
type FailurePolicy string

// Rollback (the default) goes back to the newest healthy release, Hold stops.
const (
	OnFailureRollback FailurePolicy = "rollback"
	OnFailureHold     FailurePolicy = "hold"
)

// ScopePolicy says what goes back on failure.
type ScopePolicy string

// Stack (the default) takes the whole release back, Service only what failed.
const (
	ScopeStack   ScopePolicy = "stack"
	ScopeService ScopePolicy = "service"
)

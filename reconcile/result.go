package reconcile

import (
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// Outcome is what a pass did, in one word: the `result` of metrics.
type Outcome string

const (
	Unchanged  Outcome = "unchanged"   // live is as desired
	Applied    Outcome = "applied"     // something was written
	Waiting    Outcome = "waiting"     // a rollout goes on, or another stack comes first
	Held       Outcome = "held"        // there is a difference that is not to be written
	RolledBack Outcome = "rolled_back" // this pass went back to an earlier release
	Failed     Outcome = "error"       // the pass could not be finished
)

// A Result is what one pass over one stack found and did.
type Result struct {
	Stack   string
	Outcome Outcome
	// Reason is one CamelCase word for machines, Message a sentence for people.
	Reason  string
	Message string
	// Requeue says when to look again; 0: when something happens.
	Requeue    time.Duration
	Conditions []Condition
	Services   []ServiceStatus
	// Release is the newest release, nil before the first.
	Release *Release
	// Runs is the one that runs in the place of Release, which failed; nil where that is
	// none, or only a part of the stack went back. Only Status tells it.
	Runs *Release
	// Gone is the newest release of a stack whose file is gone, nil where it had none: what
	// it was made of is the revision of what a pass is about.
	Gone *Release
	// Progress is what is under way, nil for nothing.
	Progress *Progress
	// State is what people ask of the stack.
	State State
	// Plan is the difference that was found (and written, where Outcome is Applied).
	Plan     *Plan
	Findings []spec.Finding
	// Followed is what becomes of what services follow, by their keys.
	Followed []FollowStatus
	// Drifted counts the objects that live otherwise than they were rolled out.
	Drifted int
	// Written are the changes that this pass wrote: the part of Plan whose turn it was.
	Written []Change
	// Brief is Message without what was told before, where some of it was: why a release
	// failed, which this process told when it did. Else it is empty.
	Brief string
	// Transitions are what to tell: what became different in this pass.
	Transitions []Transition
	// Current says that the source was found not to be older than what was rolled out
	// last, as Input.Source asked.
	Current bool
	// Err is why Outcome is Failed.
	Err error
}

// ConditionType names a condition.
type ConditionType string

const (
	Ready       ConditionType = "Ready"
	Progressing ConditionType = "Progressing"
	Degraded    ConditionType = "Degraded"
	Stalled     ConditionType = "Stalled"
)

// A Condition says whether something holds of a stack, and why. Since is when it came to
// hold, or not to, whatever the reason has been since then.
type Condition struct {
	Type    ConditionType `json:"type"`
	True    bool          `json:"true"`
	Reason  string        `json:"reason"`
	Message string        `json:"message"`
	Since   time.Time     `json:"since"`
}

// A Transition is something that happened in a pass and is worth telling once.
type Transition struct {
	// Action is "rollout-started", "rollout-converged", "rollout-healthy",
	// "rollout-failed", "rollout-refused", "going-back", "rolled-back",
	// "drift-corrected", "drift-settled", "adopted", "superseded", "unpinned", "pin-moved", "caught-up",
	// "degraded", "recovered", "held" or "stack-removed".
	Action  string
	Service string // where it is about one
	Reason  string
	Message string
	// Bad says that a person should look.
	Bad bool
	// Duration is how long the rollout took, where one ended.
	Duration time.Duration
	// Late says of a rollout that failed that it had been healthy: its guard was still on.
	Late bool
	// Begins says of "going-back" and "rolled-back" that the rollback was not told
	// before: it is neither a further wave of it nor the end of one that this told.
	Begins bool

	brief string // Message for those who were told why the release failed
}

// HealthStatus of a service or a stack; of several the worst counts.
type HealthStatus string

// From best to worst.
const (
	Healthy           HealthStatus = "Healthy"
	Suspended         HealthStatus = "Suspended"
	HealthProgressing HealthStatus = "Progressing"
	Missing           HealthStatus = "Missing"
	HealthDegraded    HealthStatus = "Degraded"
	Unknown           HealthStatus = "Unknown"
)

// A ServiceStatus is a service as status shows it.
type ServiceStatus struct {
	Name    string       `json:"name"`
	Key     string       `json:"key,omitempty"`
	Image   string       `json:"image,omitempty"`
	Mode    string       `json:"mode,omitempty"`
	Running uint64       `json:"running"` // tasks of whatever version
	Updated uint64       `json:"updated"` // of them, those of the newest
	Desired uint64       `json:"desired"`
	Failed  uint64       `json:"failed,omitempty"` // tasks that died since the release began, as far as they were asked for
	Health  HealthStatus `json:"health"`
	Reason  string       `json:"reason,omitempty"` // one sentence
	// Code is what is the matter, or which step its tasks are in, in one word; Since is
	// when that began, Until when it will have been decided, where that is known.
	Code  string    `json:"code,omitempty"`
	Cause Cause     `json:"cause,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	Wave  int       `json:"wave"`
}

// Phase of a release.
type Phase string

const (
	PhaseProgressing Phase = "Progressing" // being written, or not converged yet
	PhaseHealthy     Phase = "Healthy"
	PhaseFailed      Phase = "Failed"
	PhaseSuperseded  Phase = "Superseded" // a newer one came before it was healthy
)

// Who asked for a release.
const (
	ByFile = "file"
	ByHand = "hand" // a rollback that somebody asked for
)

// A Release is a digest that was rolled out, with its outcome.
type Release struct {
	Number   int    `json:"number"`
	Digest   string `json:"digest"`
	Source   string `json:"source"` // the source's fingerprint, keyed
	Revision string `json:"revision"`
	Subject  string `json:"subject,omitempty"` // of the commit
	// Commit is the one that the file was read at, in full, and Committed its committer's
	// time; of a release by file in a git work tree.
	Commit    string    `json:"commit,omitempty"`
	Committed time.Time `json:"committed,omitzero"`
	Phase     Phase     `json:"phase"`
	Reason    string    `json:"reason,omitempty"`
	Message   string    `json:"message,omitempty"`
	Started   time.Time `json:"started"`
	// Converged is when all that the release changed had converged for the first
	// time: since then it bakes. Zero where it does not, or not yet.
	Converged time.Time `json:"converged,omitzero"`
	// Resumed is when it went on after nobody had carried it on for longer than its
	// deadline, which counts from then.
	Resumed time.Time `json:"resumed,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	By      string    `json:"by"`           // ByFile (or "") or ByHand
	Of      int       `json:"of,omitempty"` // by hand: the release that is repeated
	// Failed names the services for which the release failed, where it was for some.
	Failed []string `json:"failed,omitempty"`

	id      string            // of its record
	version swarm.Version     // of its record, the guard of the next write; zero: to be asked for
	stored  map[string]string // the labels that its record has
	owner   string            // who made it
	damaged bool              // its data cannot be read: no way back to it
	index   index             // what passes need of its data
}

// An Input is what a pass is about.
type Input struct {
	Name string
	// Stack is the newest snapshot's, or nil where its file is gone.
	Stack *spec.Stack
	// Blocked says, in a sentence, which stack has to be Ready first; empty when
	// none has.
	Blocked string
	// PruneBlocked says, in a sentence, why a stack whose file is gone must not be
	// removed yet; empty where it may.
	PruneBlocked string
	// Found is what registries said of what services follow, by their names; a service
	// that is not in it keeps what is in force.
	Found map[string]Found
	// Source, if not nil, has the pass find out whether the stack's source is older than
	// what was rolled out of it last; then it is held. Result.Current says that it is not.
	Source *SourceCheck
}

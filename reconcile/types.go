// Package reconcile makes a Swarm be what a stack says: desired × live ×
// remembered → one act. Its pure parts (Bind, Diff, Judge, Decide) take data,
// time included, and return data; a thin layer around them (observe, apply,
// release, reconcile) speaks to the engine through the interface Swarm.
//
// It never reads files, never logs, never blocks on a rollout, and never writes
// to the engine what the engine already has.
package reconcile

import (
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// Labels that skep sets on objects it creates or updates. They are never in a
// task template, and their absence alone is never a difference.
const (
	// LabelOwner names the controller (--owner) that created or last wrote an object.
	LabelOwner = "skep.owner"
	// LabelPrefix is reserved; a compose file's labels below it are an error.
	LabelPrefix = "skep."
)

// Kind of a Swarm object.
type Kind string

const (
	KindService Kind = "service"
	KindNetwork Kind = "network"
	KindConfig  Kind = "config"
	KindSecret  Kind = "secret"
)

// A Ref names an object of a kind.
type Ref struct {
	Kind Kind
	Name string
}

// Live is what the Swarm had at one moment, listed once for all stacks. It is
// never changed after it was made.
type Live struct {
	At         time.Time
	APIVersion string
	Services   map[string]*swarm.Service // by name, with ServiceStatus
	Networks   map[string]*LiveNetwork   // by name
	Configs    map[string]*LiveObject    // by name; release records and leases are not among them
	Secrets    map[string]*LiveObject    // by name
	Nodes      map[string]*swarm.Node    // by ID

	networkNames map[string]string      // ID → name
	stacks       map[string]*stackIndex // by stack
	rest         uint64                 // a stamp over what belongs to no stack, or can stand in another's way
	lookup       lookup                 // what Diff asks across stacks, made when first asked
}

// LiveNetwork is a network with what a diff needs of it.
type LiveNetwork struct {
	ID     string
	Name   string
	Scope  string // "swarm" for what services can use
	Labels map[string]string
	network.CreateOptions
}

// LiveObject is a config or a secret without its data.
type LiveObject struct {
	ID      string
	Name    string
	Version swarm.Version
	Labels  map[string]string
	Driver  string // template driver or secret driver
	// DataHash is hex SHA-256 over a config's data; empty for a secret, whose data
	// an engine never tells.
	DataHash string
}

// Desired is a stack bound to a Swarm: the objects as they shall be, by their
// final names. It serialises to what a release record keeps; payloads are not
// part of that.
type Desired struct {
	Stack    string           `json:"stack"`
	Services []DesiredService `json:"services"` // sorted by name
	Networks []DesiredNetwork `json:"networks,omitempty"`
	Configs  []DesiredObject  `json:"configs,omitempty"`
	Secrets  []DesiredObject  `json:"secrets,omitempty"`
}

// A DesiredService is a service as it shall be. In Spec network targets are
// names, and config and secret references carry final names and no ID.
type DesiredService struct {
	Key  string            `json:"key"`
	Name string            `json:"name"`
	Spec swarm.ServiceSpec `json:"spec"`
	// Written is the image as the file has it; Spec may have it with a digest.
	Written string `json:"written,omitempty"`
	// Wave is 0 for services that wait for none, else one more than the highest
	// wave among those they depend on.
	Wave int `json:"wave,omitempty"`
}

// A DesiredNetwork is a network as it shall be.
type DesiredNetwork struct {
	Key      string                `json:"key"`
	Name     string                `json:"name"`
	External bool                  `json:"external,omitempty"`
	Create   network.CreateOptions `json:"create"`
}

// A DesiredObject is a config or a secret as it shall be.
type DesiredObject struct {
	Key      string `json:"key"`
	Name     string `json:"name"`  // the final one
	Plain    string `json:"plain"` // as `docker stack deploy` would name it
	External bool   `json:"external,omitempty"`
	// Sealed says of a config that it came out of an encrypted file.
	Sealed bool `json:"sealed,omitempty"`
	// Hash is over the content, in hex: HMAC for a secret and a sealed config, SHA-256
	// for any other.
	Hash       string            `json:"hash,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Driver     *swarm.Driver     `json:"driver,omitempty"`     // a secret's plugin
	Templating *swarm.Driver     `json:"templating,omitempty"` // template_driver

	ConfigData []byte         `json:"-"`
	SecretData spec.Sensitive `json:"-"`
}

// Op is what a change does to an object.
type Op string

const (
	OpCreate Op = "create"
	OpUpdate Op = "update"
	OpRemove Op = "remove"
	// OpReplace removes and creates: for what the engine refuses to update (a mode).
	OpReplace Op = "replace"
)

// A Plan is the difference between desired and live, in the order in which it is
// carried out. An empty plan means: write nothing.
type Plan struct {
	Stack   string
	Changes []Change
	// Held are the changes that an error among the findings keeps from being written;
	// where there is one, Changes is empty.
	Held []Change
	// Findings tell what the engine at hand makes of the file: an external object
	// that is missing (an error: nothing is applied), an unpinned image, a network
	// whose attributes differ, a foreign object in the stack.
	Findings []spec.Finding
	// Followed is what becomes of what services follow, by their keys.
	Followed []FollowStatus
}

// Empty says that there is nothing to write.
func (p *Plan) Empty() bool { return p == nil || len(p.Changes) == 0 }

// hold keeps the changes from being written.
func (p *Plan) hold() {
	p.Held, p.Changes = append(p.Held, p.Changes...), nil
}

// A Change is one write.
type Change struct {
	Op     Op
	Kind   Kind
	Name   string
	Key    string  // the compose key, where there is one
	Fields []Field // what differs, for OpUpdate and OpReplace
	// Restarts says that the service's tasks are replaced.
	Restarts bool
	// Wave is the service's; what is removed goes last, or first where Early.
	Wave int
	// Early says that the change frees a port for another service of the plan: early
	// changes are carried out one after another, in order, before any other service.
	Early bool

	// ID and Version are what was observed: the guards of an update or removal.
	ID      string
	Version swarm.Version
	// Spec is what to write for a service: the live spec with every differing field
	// taken from the desired one. References are by name; apply fills in IDs.
	Spec *swarm.ServiceSpec
	// Network or Object is what to create (or whose labels to update).
	Network *DesiredNetwork
	Object  *DesiredObject
}

// A Field is one difference, in the compose author's words ("image",
// "environment.APP_VERSION", "deploy.replicas"). Old and New are for people: what
// looks secret is masked in both.
type Field struct {
	Path     string `json:"path"`
	Old      string `json:"old,omitempty"`
	New      string `json:"new,omitempty"`
	Restarts bool   `json:"restarts,omitempty"`
}

// DiffOptions is what Diff knows beside desired and live.
type DiffOptions struct {
	Owner  string
	Ignore []spec.IgnorePath
	Prune  bool
	// Owned says which live objects are skep's own to remove: those that carry its
	// label or that one of the stack's releases named.
	Owned func(Ref) bool
	// Retained says which configs and secrets a retained release names: they stay.
	Retained func(Ref) bool
	// Added says that an object came with a release that is taken back: it goes, whatever
	// Prune says. Nil: none did.
	Added func(Ref) bool
}

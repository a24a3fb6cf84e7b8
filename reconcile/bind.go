package reconcile

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// maxObjectName is how long the engine lets a config's or secret's name be.
const maxObjectName = 64

// hashDigits of a content hash stand in a name: 48 bits, over the plain name too,
// so that two objects never meet in one name.
const hashDigits = 12

// A Binding is what Bind knows of the Swarm.
type Binding struct {
	// Key is the Swarm's key for hashes over secrets.
	Key []byte
	// Live may hold objects under their plain names, which stay in use.
	Live *Live
	// Believed maps the plain names of adopted secrets to the hash that the file had
	// when they were adopted: an engine never tells a secret's data.
	Believed map[string]string
	// Pins maps a service's name to what its image was resolved to.
	Pins map[string]Pin
}

// A Pin is what an image, as a file writes it, was resolved to.
type Pin struct {
	Written   string           `json:"written"`
	Image     string           `json:"image"`
	Platforms []swarm.Platform `json:"platforms,omitempty"`
}

// Bind gives a stack's objects their final names: a config or secret is called
// by its plain name with a content hash behind it, so that new content is a new
// object and rolls the services that use it. The exception is one that is live
// under its plain name (made by `docker stack deploy`) with the same content.
func Bind(stack *spec.Stack, b Binding) *Desired {
	d := &Desired{Stack: stack.Name}
	for _, n := range stack.Networks {
		d.Networks = append(d.Networks, DesiredNetwork{Key: n.Key, Name: n.Name, External: n.External, Create: n.Create})
	}
	configs, secrets := map[string]string{}, map[string]string{} // plain → final
	for i := range stack.Configs {
		o := bindConfig(stack.Name, &stack.Configs[i], b)
		configs[o.Plain] = o.Name
		d.Configs = append(d.Configs, o)
	}
	for i := range stack.Secrets {
		o := bindSecret(stack.Name, &stack.Secrets[i], b)
		secrets[o.Plain] = o.Name
		d.Secrets = append(d.Secrets, o)
	}
	wave := waves(stack.Services)
	for i := range stack.Services {
		s := &stack.Services[i]
		d.Services = append(d.Services, bindService(s, wave[s.Key], configs, secrets, b.Pins[s.Name]))
	}
	return d
}

func bindConfig(stack string, c *spec.Config, b Binding) DesiredObject {
	o := DesiredObject{Key: c.Key, Name: c.Name, Plain: c.Name, External: c.External}
	if c.External {
		return o
	}
	o.Labels, o.Templating, o.ConfigData = c.Spec.Labels, c.Spec.Templating, c.Spec.Data
	o.Sealed = c.Sealed
	o.Hash = objectHash(hashFor(c.Sealed, b.Key), c.Name, c.Spec.Data, c.Spec.Templating)
	switch {
	case sameLiveConfig(stack, c, b.Live):
	case c.Sealed && b.Key == nil:
		o.Name = shorten(c.Name, maxObjectName-len(unnamed)) + unnamed
	default:
		o.Name = hashedName(c.Name, o.Hash)
	}
	return o
}

// hashFor is the hash that names contents: with the Swarm's key over what is not shown,
// which a plain one could be guessed by.
func hashFor(sealed bool, key []byte) hash.Hash {
	if sealed {
		return hmac.New(sha256.New, key)
	}
	return sha256.New()
}

// sameLiveConfig says whether the stack has a config under the plain name with
// the same content.
func sameLiveConfig(stack string, c *spec.Config, live *Live) bool {
	l := live.plain(KindConfig, stack, c.Name)
	if l == nil {
		return false
	}
	sum := sha256.Sum256(c.Spec.Data)
	return l.DataHash == hex.EncodeToString(sum[:]) && l.Driver == driverName(c.Spec.Templating)
}

func bindSecret(stack string, s *spec.Secret, b Binding) DesiredObject {
	o := DesiredObject{Key: s.Key, Name: s.Name, Plain: s.Name, External: s.External}
	if s.External {
		return o
	}
	o.Labels, o.Driver, o.Templating, o.SecretData = s.Spec.Labels, s.Spec.Driver, s.Spec.Templating, s.Value
	o.Hash = objectHash(hashFor(true, b.Key), s.Name, s.Value.Reveal(), s.Spec.Driver, s.Spec.Templating)
	switch {
	case believedSecret(stack, s, o.Hash, b):
	case b.Key == nil: // a plan before the key is made: the name is not known yet
		o.Name = shorten(s.Name, maxObjectName-len(unnamed)) + unnamed
	default:
		o.Name = hashedName(s.Name, o.Hash)
	}
	return o
}

// unnamed stands for the hash of a secret in a plan, as long as the Swarm has no key.
const unnamed = "-(new)"

// believedSecret says whether the secret that is live under the plain name may be
// taken for the file's: it was when it was adopted, or it is in use by the stack
// now and nothing is known of it yet.
func believedSecret(stack string, s *spec.Secret, hash string, b Binding) bool {
	l := b.Live.plain(KindSecret, stack, s.Name)
	if l == nil {
		return false
	}
	if known, ok := b.Believed[s.Name]; ok {
		return known == hash
	}
	return b.Live.Used(l.ID)
}

// plain returns the live object of a stack under a plain name, or nil.
func (l *Live) plain(kind Kind, stack, name string) *LiveObject {
	if l == nil {
		return nil
	}
	objects := l.Configs
	if kind == KindSecret {
		objects = l.Secrets
	}
	o := objects[name]
	if o == nil || o.Labels[spec.LabelNamespace] != stack {
		return nil
	}
	return o
}

func driverName(d *swarm.Driver) string {
	if d == nil {
		return ""
	}
	return d.Name
}

// objectHash is over all that the engine lets nobody change afterwards.
func objectHash(h hash.Hash, name string, data []byte, drivers ...*swarm.Driver) string {
	h.Write([]byte(name))
	h.Write([]byte{0})
	for _, d := range drivers {
		if d != nil {
			text, _ := json.Marshal(d) // strings only: cannot fail
			h.Write(text)
		}
		h.Write([]byte{0})
	}
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

func hashedName(plain, hash string) string {
	return shorten(plain, maxObjectName-hashDigits-1) + "-" + hash[:hashDigits]
}

// shorten cuts a name to at most n characters, and so that it does not end in a
// separator, which the engine's name rule forbids before the end of a name only,
// but which reads badly.
func shorten(name string, n int) string {
	if len(name) <= n {
		return name
	}
	return strings.TrimRight(name[:n], "-_.")
}

func bindService(s *spec.Service, wave int, configs, secrets map[string]string, pin Pin) DesiredService {
	ds := DesiredService{Key: s.Key, Name: s.Name, Spec: *cloneSpec(&s.Spec), Wave: wave}
	c := ds.Spec.TaskTemplate.ContainerSpec
	if c == nil {
		return ds
	}
	ds.Written = c.Image
	if pin.Written == c.Image && pin.Image != "" {
		c.Image = pin.Image
		if len(pin.Platforms) > 0 {
			pinPlacement(&ds.Spec).Platforms = pin.Platforms
		}
	}
	for _, r := range c.Configs {
		rename(&r.ConfigName, configs)
	}
	for _, r := range c.Secrets {
		rename(&r.SecretName, secrets)
	}
	if p := c.Privileges; p != nil && p.CredentialSpec != nil {
		rename(&p.CredentialSpec.Config, configs)
	}
	return ds
}

func rename(name *string, final map[string]string) {
	if n, ok := final[*name]; ok {
		*name = n
	}
}

func pinPlacement(s *swarm.ServiceSpec) *swarm.Placement {
	if s.TaskTemplate.Placement == nil {
		s.TaskTemplate.Placement = &swarm.Placement{}
	}
	return s.TaskTemplate.Placement
}

// waves gives each service its wave: 0 for those that wait for none. The loader
// has refused cycles and unknown names.
func waves(services []spec.Service) map[string]int {
	byKey := make(map[string]*spec.Service, len(services))
	for i := range services {
		byKey[services[i].Key] = &services[i]
	}
	wave := make(map[string]int, len(services))
	var visit func(key string) int
	visit = func(key string) int {
		if w, ok := wave[key]; ok {
			return w
		}
		wave[key] = 0 // ends a cycle, should one come here
		w := 0
		for _, dep := range byKey[key].DependsOn {
			if byKey[dep] != nil {
				w = max(w, visit(dep)+1)
			}
		}
		wave[key] = w
		return w
	}
	for key := range byKey {
		visit(key)
	}
	return wave
}

// Digest is over the rendered desired objects of a stack: images as written,
// plain names, and contents by hash (keyed, for secrets; as a whole, for a stack with
// values out of encrypted files). Two files with the same
// digest ask for the same.
func Digest(stack *spec.Stack, key []byte) string {
	type object struct {
		Name, Hash string
		External   bool
		Labels     map[string]string
	}
	var x struct {
		Services []swarm.ServiceSpec
		After    map[string][]string
		Networks []spec.Network
		Configs  []object
		Secrets  []object
	}
	x.After = map[string][]string{}
	for i := range stack.Services {
		x.Services = append(x.Services, stack.Services[i].Spec)
		x.After[stack.Services[i].Name] = stack.Services[i].DependsOn
	}
	x.Networks = stack.Networks
	for i := range stack.Configs {
		o := bindConfig(stack.Name, &stack.Configs[i], Binding{Key: key})
		x.Configs = append(x.Configs, object{o.Plain, o.Hash, o.External, o.Labels})
	}
	for i := range stack.Secrets {
		o := bindSecret(stack.Name, &stack.Secrets[i], Binding{Key: key})
		x.Secrets = append(x.Secrets, object{o.Plain, o.Hash, o.External, o.Labels})
	}
	text, err := json.Marshal(x)
	if err != nil {
		panic("digest of stack " + stack.Name + ": " + err.Error()) // plain data, as in cloneSpec
	}
	h := hashFor(hasMasked(stack) && key != nil, key)
	h.Write(text)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// fillFrom takes over payloads, which a record does not keep, from a stack that
// has objects of the same names, which means of the same contents.
func (d *Desired) fillFrom(file *Desired) {
	fill := func(to, from []DesiredObject) {
		for i := range to {
			for j := range from {
				if to[i].Name == from[j].Name {
					to[i].ConfigData, to[i].SecretData = from[j].ConfigData, from[j].SecretData
				}
			}
		}
	}
	fill(d.Configs, file.Configs)
	fill(d.Secrets, file.Secrets)
}

// payloadKnown says whether the object could be created.
func (o *DesiredObject) payloadKnown(kind Kind) bool {
	if kind == KindSecret {
		return o.Driver != nil || len(o.SecretData.Reveal()) > 0
	}
	if o.Sealed {
		return len(o.ConfigData) > 0
	}
	return o.Hash == "" || o.Hash == objectHash(sha256.New(), o.Plain, o.ConfigData, o.Templating)
}

package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/versions"

	"github.com/skep-io/skep/spec"
)

// Diff tells what to write so that live becomes desired, in the order in which it
// is to be written: networks, configs, secrets, services by wave, then what left
// the stack. It sees through everything that an engine fills in, renames or
// forgets; a plan for what is already there is empty. Where something stands in
// the way that no write of this plan resolves, the plan has an error finding, and
// all its changes are held.
//
// A service is written as its live spec with only the differing fields taken from
// desired. So whatever a compose file cannot say stays, and so does the shape of
// what is equal: a nil that becomes an explicit default restarts tasks.
func Diff(d *Desired, live *Live, o DiffOptions) *Plan {
	p := &planner{desired: d, live: live, lookup: live.lookUp(), lacks: lacksOf(live.APIVersion), o: o}
	p.checkIgnored()
	p.networks()
	p.objects(KindConfig, d.Configs, live.Configs)
	p.objects(KindSecret, d.Secrets, live.Secrets)
	for i := range d.Services {
		p.service(&d.Services[i])
	}
	p.leaving()
	p.settlePorts()
	return p.plan()
}

// A planner gathers the changes of one plan by the places they take in it.
type planner struct {
	desired *Desired
	live    *Live
	lookup  *lookup
	lacks   lacks
	o       DiffOptions

	before   []Change // networks, configs, secrets
	early    []Change // what frees a port, in this order
	services []Change
	after    []Change // removals
	findings []spec.Finding
}

func (p *planner) find(severity spec.Severity, code, service, format string, args ...any) {
	p.findings = append(p.findings, spec.Finding{
		Severity: severity, Code: code, Service: service, Message: fmt.Sprintf(format, args...),
	})
}

func (p *planner) plan() *Plan {
	plan := &Plan{Stack: p.desired.Stack, Findings: p.findings}
	if len(p.before)+len(p.early)+len(p.services)+len(p.after) > 0 {
		plan.Changes = slices.Concat(p.before, p.early, p.services, p.after)
	}
	if blocks(p.findings) {
		plan.hold()
	}
	return plan
}

// checkIgnored tells of paths in x-skep.ignore that name nothing.
func (p *planner) checkIgnored() {
	for _, i := range p.o.Ignore {
		if !isField(i.Path) {
			p.find(spec.Warning, "ignore-unknown", i.Service,
				"x-skep.ignore names %q, which is no field that is compared (write it as in the compose file, such as deploy.replicas or environment.NAME)", i.Path)
		}
	}
}

// isField says whether path is a unit, a key of one, or above some.
func isField(path string) bool {
	if path == modePath || under(modePath, path) {
		return true
	}
	return slices.ContainsFunc(serviceUnits, func(u unit) bool {
		return under(u.path, path) || u.keyed && under(path, u.path)
	})
}

func (p *planner) view(ds *DesiredService) *view {
	v := &view{live: p.live, lookup: p.lookup, lacks: p.lacks}
	for _, n := range networksOf(&ds.Spec) {
		if slices.Contains(onEveryNode, n.Target) {
			v.perNode = n.Target
		}
	}
	for _, i := range p.o.Ignore {
		if i.Service != ds.Key {
			continue
		}
		v.ignored = append(v.ignored, i.Path)
		if i.Path == imageUnit.path { // the label says what the image was written as
			v.ignored = append(v.ignored, "deploy.labels."+spec.LabelImage)
		}
	}
	return v
}

func (p *planner) service(ds *DesiredService) {
	p.unsupported(ds)
	ls := p.live.Services[ds.Name]
	if ls != nil && !p.ours(KindService, ds.Name, ds.Key, ls.Spec.Labels) {
		return
	}
	var will *swarm.ServiceSpec
	if ls != nil {
		will = &ls.Spec
	}
	if c := p.changeOf(ds, ls); c != nil {
		p.services = append(p.services, *c)
		will = c.Spec
	}
	p.findings = append(p.findings, nodeFindings(ds.Key, ds.Name, will, p.live)...)
}

// unsupported tells of what the engine at hand is too old for.
func (p *planner) unsupported(ds *DesiredService) {
	for _, lost := range p.lacks.lost(&ds.Spec) {
		p.find(spec.Warning, "field-unsupported", ds.Key,
			"%s has no effect: the engine drops it without a word (it speaks API %s, the field came with %s; upgrade the engine or leave the field out)", lost[0], p.live.APIVersion, lost[1])
	}
	for _, m := range containerOf(&ds.Spec).Mounts {
		if api := p.live.APIVersion; m.Type == mount.TypeCluster && api != "" && versions.LessThan(api, "1.42") {
			p.find(spec.Warning, "field-unsupported", ds.Key,
				"volumes.%s is of type cluster, and the engine refuses the service (it speaks API %s, cluster volumes came with 1.42; upgrade the engine or mount another volume)", m.Target, api)
		}
	}
}

// changeOf is what to write for a service that is nobody else's; nil for nothing.
func (p *planner) changeOf(ds *DesiredService, ls *swarm.Service) *Change {
	if ls == nil {
		return new(p.create(ds))
	}
	v := p.view(ds)
	if modeOf(&ds.Spec) != modeOf(&ls.Spec) && !v.ignores(modePath) {
		p.find(spec.Warning, "mode-changed", ds.Key,
			"the mode changes from %s to %s, which an engine refuses: the service is removed and created anew, and none of its tasks run until the new ones do; its volumes stay (to have no gap, add the new one under another name first)", modeOf(&ls.Spec), modeOf(&ds.Spec))
		return new(p.replace(v, ds, ls))
	}
	differing := v.differing(&ds.Spec, &ls.Spec)
	if len(differing) == 0 {
		return nil
	}
	if isJob(&ls.Spec) && !slices.ContainsFunc(differing, func(u *unit) bool { return !u.quiet }) {
		p.find(spec.Info, "job-labels-wait", ds.Key,
			"labels of job %s differ and wait for its next change (writing them alone would run the job again)", ds.Name)
		return nil
	}
	return new(p.update(v, ds, ls, differing))
}

// ours says whether a live object with a desired name may be written: not when
// it belongs to another stack.
func (p *planner) ours(kind Kind, name, key string, labels map[string]string) bool {
	stack, ok := labels[spec.LabelNamespace]
	if !ok || stack == p.desired.Stack {
		return true
	}
	service, more := "", ""
	switch kind {
	case KindService:
		service = key
	case KindNetwork:
		more = "; or say external: true in this one, to attach to that network"
	}
	p.find(spec.Error, "name-taken", service,
		"%s %s belongs to stack %s (give it another name in one of the two files%s)", kind, name, stack, more)
	return false
}

// strict is the view in which nothing is left to others.
func (v *view) strict() *view {
	s := *v
	s.ignored = nil
	return &s
}

// differing returns the units in which two specs differ, without those that are
// left to others.
func (v *view) differing(d, l *swarm.ServiceSpec) []*unit {
	var out []*unit
	for i := range serviceUnits {
		if u := &serviceUnits[i]; !u.same(v, d, l) && !v.ignores(u.path) {
			out = append(out, u)
		}
	}
	return out
}

func (p *planner) create(ds *DesiredService) Change {
	s := cloneSpec(&ds.Spec)
	p.finish(s, &ds.Spec)
	return Change{Op: OpCreate, Kind: KindService, Name: ds.Name, Key: ds.Key, Wave: ds.Wave, Spec: s}
}

func (p *planner) update(v *view, ds *DesiredService, ls *swarm.Service, differing []*unit) Change {
	c := Change{
		Op: OpUpdate, Kind: KindService, Name: ds.Name, Key: ds.Key, Wave: ds.Wave,
		ID: ls.ID, Version: ls.Version,
		Spec:     merge(v, cloneSpec(&ls.Spec), cloneSpec(&ds.Spec), differing),
		Fields:   v.fields(&ds.Spec, &ls.Spec, differing),
		Restarts: isJob(&ls.Spec),
	}
	for _, u := range differing {
		c.Restarts = c.Restarts || u.restarts
	}
	p.finish(c.Spec, &ds.Spec)
	return c
}

// replace starts from desired, since the service is made anew, and takes from
// live what is left to others and the digest that an image was pinned to.
func (p *planner) replace(v *view, ds *DesiredService, ls *swarm.Service) Change {
	differing := v.differing(&ds.Spec, &ls.Spec)
	s, old := cloneSpec(&ds.Spec), cloneSpec(&ls.Spec)
	if len(v.ignored) > 0 {
		merged := merge(v, cloneSpec(&ls.Spec), cloneSpec(&ds.Spec), differing)
		for i := range serviceUnits {
			if u := &serviceUnits[i]; !u.quiet || !isJob(s) {
				u.write(v.strict(), s, merged)
			}
		}
	}
	if sameImage(&ds.Spec, &ls.Spec) {
		imageUnit.write(v, s, old)
	}
	for k, l := range old.Labels {
		if reservedLabel(k) {
			s.Labels = withLabel(s.Labels, k, l)
		}
	}
	p.finish(s, &ds.Spec)
	mode := Field{Path: modePath, Old: modeOf(&ls.Spec), New: modeOf(&ds.Spec), Restarts: true}
	return Change{
		Op: OpReplace, Kind: KindService, Name: ds.Name, Key: ds.Key, Wave: ds.Wave,
		ID: ls.ID, Version: ls.Version, Restarts: true, Spec: s,
		Fields: append([]Field{mode}, v.fields(&ds.Spec, &ls.Spec, differing)...),
	}
}

// merge writes the differing units of src over dst, and takes a group as src has
// it where nothing of it was left behind.
func merge(v *view, dst, src *swarm.ServiceSpec, differing []*unit) *swarm.ServiceSpec {
	var touched [groups]bool
	for _, u := range differing {
		u.write(v, dst, src)
		touched[u.group] = true
	}
	strict := v.strict()
	for g := noGroup + 1; g < groups; g++ {
		if touched[g] && agree(strict, g, src, dst) {
			settle[g](dst, src)
		}
	}
	return dst
}

func agree(v *view, g group, a, b *swarm.ServiceSpec) bool {
	for i := range serviceUnits {
		if u := &serviceUnits[i]; u.group == g && !u.same(v, a, b) {
			return false
		}
	}
	return true
}

// finish adds what every write carries. Placement is never nil: a nil one over
// one that was there brings the manager down (moby#37883).
func (p *planner) finish(s, desired *swarm.ServiceSpec) {
	mutPlacement(s)
	for k, l := range desired.Labels {
		if reservedLabel(k) {
			s.Labels = withLabel(s.Labels, k, l)
		}
	}
	if p.o.Owner != "" {
		s.Labels = withLabel(s.Labels, LabelOwner, p.o.Owner)
	}
}

func withLabel(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

// fields tells the differences in words. The label that repeats an image is left
// out beside the image itself.
func (v *view) fields(d, l *swarm.ServiceSpec, differing []*unit) []Field {
	var out []Field
	image, hidden := false, maskedFields(d, l)
	for _, u := range differing {
		image = image || u.path == imageUnit.path
		for _, f := range u.fields(v, d, l) {
			if !image || f.Path != "deploy.labels."+spec.LabelImage {
				out = append(out, tellApart(maskField(hidden, f)))
			}
		}
	}
	return out
}

// leaving plans the removal of what carries the stack's namespace label and is
// not desired, if it is skep's own, nothing remembers it and nothing uses it.
func (p *planner) leaving() {
	wanted := p.wanted()
	refs := slices.DeleteFunc(slices.Clone(p.live.Stack(p.desired.Stack)), func(r Ref) bool { return wanted[r] })
	slices.SortFunc(refs, compareRemovals)
	gone := map[string]bool{} // services that this plan removes
	for _, ref := range refs {
		if p.leaves(ref, gone) {
			if ref.Kind == KindService {
				gone[ref.Name] = true
			}
			p.after = append(p.after, p.remove(ref))
		}
	}
}

func (p *planner) wanted() map[Ref]bool {
	d := p.desired
	wanted := make(map[Ref]bool, len(d.Services)+len(d.Networks)+len(d.Configs)+len(d.Secrets))
	for i := range d.Services {
		wanted[Ref{KindService, d.Services[i].Name}] = true
	}
	for i := range d.Networks {
		wanted[Ref{KindNetwork, d.Networks[i].Name}] = true
	}
	for i := range d.Configs {
		wanted[Ref{KindConfig, d.Configs[i].Name}] = true
	}
	for i := range d.Secrets {
		wanted[Ref{KindSecret, d.Secrets[i].Name}] = true
	}
	return wanted
}

func (p *planner) leaves(ref Ref, gone map[string]bool) bool {
	remembered := (ref.Kind == KindConfig || ref.Kind == KindSecret) && p.o.Retained != nil && p.o.Retained(ref)
	switch {
	case remembered:
		return false
	case !p.owned(ref):
		p.find(spec.Info, "foreign", "",
			"%s %s is in the stack and not in its file, and was not made by skep: it stays as it is (remove it by hand, or add it to the file)", ref.Kind, ref.Name)
		return false
	case !p.o.Prune && (p.o.Added == nil || !p.o.Added(ref)):
		p.find(spec.Info, "left-behind", "",
			"%s %s left the file and stays, since x-skep.prune is off (remove it by hand)", ref.Kind, ref.Name)
		return false
	}
	id, _ := p.identity(ref)
	for _, user := range p.lookup.users[id] {
		if !gone[user] {
			p.find(spec.Info, "still-used", "",
				"%s %s left the file and goes once service %s, or its way back, no longer needs it", ref.Kind, ref.Name, user)
			return false
		}
	}
	return true
}

func (p *planner) owned(ref Ref) bool {
	if p.o.Owned != nil {
		return p.o.Owned(ref)
	}
	return p.o.Owner != "" && p.labels(ref)[LabelOwner] == p.o.Owner
}

func (p *planner) remove(ref Ref) Change {
	c := Change{Op: OpRemove, Kind: ref.Kind, Name: ref.Name}
	c.ID, c.Version = p.identity(ref)
	return c
}

func (p *planner) identity(ref Ref) (string, swarm.Version) {
	switch ref.Kind {
	case KindService:
		s := p.live.Services[ref.Name]
		return s.ID, s.Version
	case KindNetwork:
		return p.live.Networks[ref.Name].ID, swarm.Version{}
	case KindConfig:
		o := p.live.Configs[ref.Name]
		return o.ID, o.Version
	default:
		o := p.live.Secrets[ref.Name]
		return o.ID, o.Version
	}
}

func (p *planner) labels(ref Ref) map[string]string {
	switch ref.Kind {
	case KindService:
		return p.live.Services[ref.Name].Spec.Labels
	case KindNetwork:
		return p.live.Networks[ref.Name].Labels
	case KindConfig:
		return p.live.Configs[ref.Name].Labels
	default:
		return p.live.Secrets[ref.Name].Labels
	}
}

// compareRemovals puts what uses before what is used.
func compareRemovals(a, b Ref) int {
	order := []Kind{KindService, KindConfig, KindSecret, KindNetwork}
	if a.Kind != b.Kind {
		return slices.Index(order, a.Kind) - slices.Index(order, b.Kind)
	}
	return strings.Compare(a.Name, b.Name)
}

// sameLabels compares labels but for skep's own.
func sameLabels(d, l map[string]string) bool {
	mine := func(m map[string]string) map[string]string {
		m = maps.Clone(m)
		maps.DeleteFunc(m, func(k, _ string) bool { return reservedLabel(k) })
		return m
	}
	return maps.Equal(d, l) || maps.Equal(mine(d), mine(l))
}

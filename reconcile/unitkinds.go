package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
)

// The kinds of units there are, by the shape of their values: a scalar, a list in
// order or not, a map, a list of things with names.

func in(g group, u unit) unit { u.group = g; return u }
func quietly(u unit) unit     { u.quiet = true; return u }

// unless is a unit that is the same wherever the engine lacks it: what it would
// drop is no difference, or it would be written for ever.
func unless(lacked func(lacks) bool, u unit) unit {
	known := u.same
	u.same = func(v *view, d, l *swarm.ServiceSpec) bool { return lacked(v.lacks) || known(v, d, l) }
	return u
}

// scalar is a unit with one value. get sees through defaults, write does not.
func scalar[T comparable](path string, restarts bool, get func(*view, *swarm.ServiceSpec) T, write func(dst, src *swarm.ServiceSpec), show func(T) string) unit {
	return unit{
		path: path, restarts: restarts,
		same: func(v *view, d, l *swarm.ServiceSpec) bool { return get(v, d) == get(v, l) },
		fields: func(v *view, d, l *swarm.ServiceSpec) []Field {
			return []Field{{Path: path, Old: show(get(v, l)), New: show(get(v, d)), Restarts: restarts}}
		},
		write: func(_ *view, dst, src *swarm.ServiceSpec) { write(dst, src) },
	}
}

// A part is a place in a spec that may be missing: get reads it as if it were
// there, mut makes it be there.
type part[P any] struct {
	get, mut func(*swarm.ServiceSpec) *P
}

var (
	ofContainer    = part[swarm.ContainerSpec]{containerOf, mutContainer}
	ofHealth       = part[container.HealthConfig]{healthOf, mutHealth}
	ofDNS          = part[swarm.DNSConfig]{dnsOf, mutDNS}
	ofPlacement    = part[swarm.Placement]{placementOf, mutPlacement}
	ofLimits       = part[swarm.Limit]{limitsOf, mutLimits}
	ofReservations = part[swarm.Resources]{reservationsOf, mutReservations}
)

// field is a scalar whose zero value is its default.
func field[P any, T comparable](path string, p part[P], at func(*P) *T, show func(T) string) unit {
	return scalar(path, true,
		func(_ *view, s *swarm.ServiceSpec) T { return *at(p.get(s)) },
		func(dst, src *swarm.ServiceSpec) { *at(p.mut(dst)) = *at(p.get(src)) },
		show)
}

func str[P any](path string, p part[P], at func(*P) *string) unit {
	return field(path, p, at, verbatim)
}

func boolean[P any](path string, p part[P], at func(*P) *bool) unit {
	return field(path, p, at, strconv.FormatBool)
}

func amount[P any](path string, p part[P], at func(*P) *int64, show func(int64) string) unit {
	return field(path, p, at, show)
}

// ordered is a unit whose value is a list in which order has a meaning.
func ordered[P any](path string, p part[P], at func(*P) *[]string, show func([]string) string) unit {
	return strs(path, true, p, at, slices.Equal[[]string], show)
}

// unordered is a unit whose value is a list in which order has none.
func unordered[P any](path string, restarts bool, p part[P], at func(*P) *[]string) unit {
	return strs(path, restarts, p, at, sameSet, showList)
}

func strs[P any](path string, restarts bool, p part[P], at func(*P) *[]string, same func(a, b []string) bool, show func([]string) string) unit {
	return unit{
		path: path, restarts: restarts,
		same: func(_ *view, d, l *swarm.ServiceSpec) bool { return same(*at(p.get(d)), *at(p.get(l))) },
		fields: func(_ *view, d, l *swarm.ServiceSpec) []Field {
			return []Field{{Path: path, Old: show(*at(p.get(l))), New: show(*at(p.get(d))), Restarts: restarts}}
		},
		write: func(_ *view, dst, src *swarm.ServiceSpec) { *at(p.mut(dst)) = *at(p.get(src)) },
	}
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	if slices.Equal(a, b) {
		return true
	}
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// dict is a unit that is compared, written and left to others by key. Keys that
// reserved tells are neither compared nor removed; what desired says of them goes
// along with the next write.
func dict(path string, restarts bool, reserved func(key string) bool, get func(*swarm.ServiceSpec) map[string]string, set func(*swarm.ServiceSpec, map[string]string)) unit {
	if reserved == nil {
		reserved = func(string) bool { return false }
	}
	mine := func(v *view, key string) bool { return !reserved(key) && !v.ignoresKey(path, key) }
	return unit{
		path: path, restarts: restarts, keyed: true,
		same: func(v *view, d, l *swarm.ServiceSpec) bool {
			dm, lm, n := get(d), get(l), 0
			for k, dv := range dm {
				if !mine(v, k) {
					continue
				}
				if lv, ok := lm[k]; !ok || lv != dv {
					return false
				}
				n++
			}
			for k := range lm {
				if mine(v, k) {
					n--
				}
			}
			return n == 0
		},
		fields: func(v *view, d, l *swarm.ServiceSpec) []Field {
			dm, lm := get(d), get(l)
			return fieldsOf(path, restarts, dm, lm,
				func(k string) bool { return mine(v, k) },
				func(a, b string) bool { return a == b },
				func(k, s string) string { return showNamed(k, s) })
		},
		write: func(v *view, dst, src *swarm.ServiceSpec) {
			out := maps.Clone(get(src))
			if out == nil {
				out = map[string]string{}
			}
			for k := range out {
				if v.ignoresKey(path, k) {
					delete(out, k)
				}
			}
			for k, lv := range get(dst) {
				if _, said := out[k]; v.ignoresKey(path, k) || reserved(k) && !said {
					out[k] = lv
				}
			}
			if len(out) == 0 {
				out = nil
			}
			set(dst, out)
		},
	}
}

// fieldsOf tells the keys in which two maps differ, sorted.
func fieldsOf[V any](path string, restarts bool, d, l map[string]V, mine func(string) bool, same func(a, b V) bool, show func(string, V) string) []Field {
	keys := map[string]bool{}
	for k := range d {
		keys[k] = true
	}
	for k := range l {
		keys[k] = true
	}
	var out []Field
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		dv, inD := d[k]
		lv, inL := l[k]
		if !mine(k) || inD && inL && same(dv, lv) {
			continue
		}
		f := Field{Path: path + "." + k, Restarts: restarts}
		if inL {
			f.Old = show(k, lv)
		}
		if inD {
			f.New = show(k, dv)
		}
		out = append(out, tellApart(f))
	}
	return out
}

// keyed is a unit whose value is a list of things with names of their own: it is
// compared, written and left to others by name, and order has no meaning. What is
// as desired keeps its live form (an ID, a port's name) when the rest is written.
type keyed[E any] struct {
	path     string
	restarts bool
	lastWins bool // of several with one key only the last has an effect
	get      func(*swarm.ServiceSpec) []E
	set      func(*swarm.ServiceSpec, []E)
	key      func(*view, *E) string
	same     func(v *view, d, l *E) bool // keys included
	show     func(*view, *E) string
}

func (k keyed[E]) unit() unit {
	return unit{path: k.path, restarts: k.restarts, keyed: true, same: k.equal, fields: k.fields, write: k.write}
}

func (k keyed[E]) equal(v *view, d, l *swarm.ServiceSpec) bool {
	ds, ls := k.compared(v, k.get(d)), k.compared(v, k.get(l))
	if k.matched(v, ds, ls) {
		return true
	}
	return maps.EqualFunc(k.byKey(v, ds), k.byKey(v, ls), func(a, b *E) bool { return k.same(v, a, b) })
}

// compared is es without what is left to others.
func (k keyed[E]) compared(v *view, es []E) []E {
	if len(v.ignored) == 0 {
		return es
	}
	return slices.DeleteFunc(slices.Clone(es), func(e E) bool { return v.ignoresKey(k.path, k.key(v, &e)) })
}

// matched is the short way: the same things, mostly in the same order.
func (k keyed[E]) matched(v *view, ds, ls []E) bool {
	if len(ds) != len(ls) {
		return false
	}
	i := 0
	for i < len(ds) && k.same(v, &ds[i], &ls[i]) {
		i++
	}
	if i == len(ds) {
		return true
	}
	rest := slices.Clone(ls[i:])
	for ; i < len(ds); i++ {
		at := slices.IndexFunc(rest, func(l E) bool { return k.same(v, &ds[i], &l) })
		if at < 0 {
			return false
		}
		rest = slices.Delete(rest, at, at+1)
	}
	return true
}

// byKey names the elements; where several share a key, the second and further
// ones, in the order of what they show, get a number behind it.
func (k keyed[E]) byKey(v *view, es []E) map[string]*E {
	out := make(map[string]*E, len(es))
	for i, key := range k.keys(v, es) {
		out[key] = &es[i]
	}
	return out
}

func (k keyed[E]) keys(v *view, es []E) []string {
	keys, count := make([]string, len(es)), make(map[string]int, len(es))
	for i := range es {
		keys[i] = k.key(v, &es[i])
		count[keys[i]]++
	}
	if k.lastWins || len(count) == len(es) {
		return keys
	}
	order := make([]int, len(es))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(strings.Compare(keys[a], keys[b]), strings.Compare(k.show(v, &es[a]), k.show(v, &es[b])))
	})
	seen := make(map[string]int, len(es))
	for _, i := range order {
		plain := keys[i]
		if seen[plain]++; seen[plain] > 1 {
			keys[i] = plain + "#" + strconv.Itoa(seen[plain])
		}
	}
	return keys
}

func (k keyed[E]) fields(v *view, d, l *swarm.ServiceSpec) []Field {
	return fieldsOf(k.path, k.restarts, k.byKey(v, k.compared(v, k.get(d))), k.byKey(v, k.compared(v, k.get(l))),
		func(string) bool { return true },
		func(a, b *E) bool { return k.same(v, a, b) },
		func(_ string, e *E) string { return k.show(v, e) })
}

func (k keyed[E]) write(v *view, dst, src *swarm.ServiceSpec) {
	ds, ls := k.compared(v, k.get(src)), k.get(dst)
	var out []E
	for _, e := range ds {
		if at := slices.IndexFunc(ls, func(l E) bool { return k.same(v, &e, &l) }); at >= 0 {
			e = ls[at]
		}
		out = append(out, e)
	}
	for _, e := range ls {
		if v.ignoresKey(k.path, k.key(v, &e)) {
			out = append(out, e)
		}
	}
	k.set(dst, out)
}

// The mut functions make an optional part be there, so that it can be written.

func mut[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func mutContainer(s *swarm.ServiceSpec) *swarm.ContainerSpec {
	return mut(&s.TaskTemplate.ContainerSpec)
}
func mutHealth(s *swarm.ServiceSpec) *container.HealthConfig {
	return mut(&mutContainer(s).Healthcheck)
}
func mutDNS(s *swarm.ServiceSpec) *swarm.DNSConfig         { return mut(&mutContainer(s).DNSConfig) }
func mutPlacement(s *swarm.ServiceSpec) *swarm.Placement   { return mut(&s.TaskTemplate.Placement) }
func mutRestart(s *swarm.ServiceSpec) *swarm.RestartPolicy { return mut(&s.TaskTemplate.RestartPolicy) }
func mutLog(s *swarm.ServiceSpec) *swarm.Driver            { return mut(&s.TaskTemplate.LogDriver) }
func mutEndpoint(s *swarm.ServiceSpec) *swarm.EndpointSpec { return mut(&s.EndpointSpec) }
func mutLimits(s *swarm.ServiceSpec) *swarm.Limit          { return mut(&mutResources(s).Limits) }
func mutReservations(s *swarm.ServiceSpec) *swarm.Resources {
	return mut(&mutResources(s).Reservations)
}
func mutResources(s *swarm.ServiceSpec) *swarm.ResourceRequirements {
	return mut(&s.TaskTemplate.Resources)
}

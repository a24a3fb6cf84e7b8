package reconcile

import (
	"cmp"
	"maps"
	"slices"
)

// A wave's changes are written when what was changed in the waves before has
// converged. What creates networks, configs and secrets, and a removal that frees
// a port, belongs to the first step; removals come after all else has converged.

// step returns the changes of a plan that may be written now: what services
// need, and the first wave of services; or, when nothing else is left, the
// removals. With reverse, as in a rollback, the last wave is the first.
func step(p *Plan, reverse bool) []Change {
	var objects, first, last []Change
	wave, found := 0, false
	for _, c := range p.Changes {
		if writesService(c) && (!found || reverse && c.Wave > wave || !reverse && c.Wave < wave) {
			wave, found = c.Wave, true
		}
	}
	for _, c := range p.Changes {
		switch {
		case writesService(c):
			if c.Wave == wave {
				first = append(first, c)
			}
		case c.Op == OpRemove && !c.Early:
			last = append(last, c)
		default:
			objects = append(objects, c)
		}
	}
	if now := append(objects, first...); len(now) > 0 {
		return now
	}
	return last
}

func writesService(c Change) bool {
	return c.Kind == KindService && c.Op != OpRemove && !c.Early
}

// waveOpen says whether the plan's next step may be written: of the services that
// were changed before it (marks names them) none is still on its way, but for
// those of the same wave.
func waveOpen(s Situation, marks map[string]string, reverse bool) bool {
	under := underWay(s, marks)
	if len(under) == 0 {
		return true
	}
	services := 0
	for _, c := range step(s.Plan, reverse) {
		if writesService(c) {
			services++
			if slices.ContainsFunc(under, func(wave int) bool { return wave != c.Wave }) {
				return false
			}
		}
	}
	return services > 0 // removals wait for all
}

// underWay returns the waves of the services in marks that were written and have
// not converged. One that is at fault is on no way: who waits for it waits in vain.
func underWay(s Situation, marks map[string]string) []int {
	var waves []int
	for name := range marks {
		if h, ok := s.Health[name]; ok && !h.Converged && !atFault(h) && !inPlan(s.Plan, name) {
			waves = append(waves, h.Wave)
		}
	}
	return waves
}

func inPlan(p *Plan, name string) bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Kind == KindService && c.Name == name })
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

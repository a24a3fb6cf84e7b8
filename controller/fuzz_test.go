package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// FuzzKept puts whatever labels there are on what controllers keep for an owner: a lease
// that nobody wrote names no holder whom others would wait for in vain, and a
// confirmation has nothing removed but what its ID stands for, what has no file and what
// lives.
func FuzzKept(f *testing.F) {
	confirmed := reconcile.StacksID([]string{"blog", "shop"})
	for _, lines := range []string{
		"", "skep.kind=lease\nskep.holder=a.1\nskep.renewed=7", "skep.kind=lease\nskep.holder=\x1b[2J\nskep.renewed=18446744073709551615\nskep.since=never",
		"skep.kind=lease\nskep.renewed=-1", "skep.prune-plan=" + confirmed,
		"skep.prune-plan=" + confirmed + "\nskep.prune-confirmed=blog,shop\nskep.prune-stacks=shop",
		"skep.prune-plan=" + confirmed + "\nskep.prune-confirmed=blog,shop\nskep.prune-stacks=shop,infra,,",
		"skep.prune-plan=00000000\nskep.prune-confirmed=blog,shop\nskep.prune-stacks=shop",
		"skep.prune-stacks=shop,blog", "skep.prune-plan=\nskep.prune-confirmed=",
	} {
		f.Add(lines)
	}
	known := []string{"blog", "infra", "shop"}
	f.Fuzz(func(t *testing.T, lines string) {
		labels := map[string]string{}
		for line := range strings.SplitSeq(lines, "\n") {
			if key, value, ok := strings.Cut(line, "="); ok {
				labels[key] = value
			}
		}
		c := &swarm.Config{Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Labels: labels}}}
		r := parseLease(c)
		if _, said := labels[labelHolder]; !r.damaged && (!said || labels[reconcile.LabelKind] != reconcile.KindLease) || r.damaged && r.holder != (Holder{}) {
			t.Errorf("%v: %+v", labels, r)
		}
		if told := r.holder.String(); told != reconcile.Printable(told) || len([]rune(told)) > 4*maxHolder {
			t.Errorf("a holder is told as %q", told)
		}
		if p := parsePublished(labels[labelReport]); p != nil {
			_ = p.fitted()
		}
		in := parseIntent(c)
		for _, going := range [][]string{nil, {"shop"}, {"blog", "shop"}} {
			_, blocked := reconcile.GuardStacks(known, going, nil, nil, 0)
			next, ok := in.next(blocked, known, going)
			if !ok {
				continue
			}
			if reconcile.StacksID(next.all) != labels[labelPlan] {
				t.Errorf("%s confirms the removal of %v", labels[labelPlan], next.all)
			}
			if len(intersect(intersect(next.stacks, next.all), going)) != len(next.stacks) || !slices.Contains(next.all, next.stacks[0]) {
				t.Errorf("%v go, of %v, and %v have no file", next.stacks, next.all, going)
			}
		}
	})
}

// Names beside a confirmation that its ID does not stand for are confirmed by nobody.
func TestConfirmationOfSomethingElse(t *testing.T) {
	names := []string{"blog", "shop"}
	for all, want := range map[string]int{"blog,shop": 1, "shop": 0, "blog,infra,shop": 0, "": 0} {
		in := parseIntent(&swarm.Config{Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Labels: map[string]string{
			labelPlan: reconcile.StacksID(names), labelAll: all, labelStacks: "shop,infra",
		}}}})
		if len(in.stacks) != want {
			t.Errorf("with %q confirmed: %v are to go", all, in.stacks)
		}
	}
}

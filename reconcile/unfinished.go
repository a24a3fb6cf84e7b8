package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-io/skep/spec"
)

// An imageFault is of a digest whose images no registry could tell of when its
// release was to begin: why, and until when that counts.
type imageFault struct {
	digest  string
	message string
	until   time.Time
}

// why is what keeps a file of this digest from being rolled out, "" where that is nothing
// any more, or not known.
func (u imageFault) why(digest string, now time.Time) string {
	if u.digest != digest || !now.Before(u.until) {
		return ""
	}
	return u.message
}

// unfinished says that the newest release is under way, or still has to go back.
func (p *pass) unfinished() bool {
	rel := last(p.releases)
	switch {
	case rel == nil || rel.damaged:
		return false
	case rel.Phase == PhaseProgressing:
		return true
	case rel.Phase != PhaseFailed || rel.index.back || Quarantined(p.releases, rel.Digest, "", p.state.Pardoned) == nil:
		return false
	}
	return goesBackTo(p.releases, rel) != nil && !holds(p.stack.Policy.Rollout, p.rollouts(), rel)
}

// goOn turns a pass back to the newest release where that is still under way, or still
// has to go back, and the file that came after it cannot take over: it has an error that
// only the Swarm could tell, or a registry, or waits for another stack. A file that waits must not
// leave a rollout half done, nor a bad version that nobody judges.
func (r *Reconciler) goOn(ctx context.Context, p *pass, blocked string) error {
	why := blocked
	if bad := firstError(p.plan); bad != nil {
		why = bad.Message
	} else if b := r.blockade(p); b != nil && why == "" {
		why = b.Why()
	}
	rel := last(p.releases)
	if why == "" || p.pinned != nil || p.pinEnds || p.pinMoves || p.failed != nil || !p.unfinished() || rel.Digest == p.digest {
		return nil
	}
	q := *p
	q.digest, q.source, q.failed = rel.Digest, "", Quarantined(p.releases, rel.Digest, "", p.state.Pardoned)
	if err := r.bindUnfinished(ctx, &q, rel); err != nil || blocks(q.plan.Findings) {
		return err
	}
	q.waiting = why
	q.missing = append(q.missing, withSeverity(p.plan.Findings, spec.Error)...)
	*p = q
	return nil
}

// bindUnfinished leads on to a release that is unfinished, or back from it.
func (r *Reconciler) bindUnfinished(ctx context.Context, p *pass, rel *Release) error {
	if rel.Phase == PhaseProgressing {
		return r.bindForward(ctx, p, rel)
	}
	return r.bindBack(ctx, p, goesBackTo(p.releases, rel))
}

// bindForward leads to a release as recorded, as a file does: jobs run.
func (r *Reconciler) bindForward(ctx context.Context, p *pass, rel *Release) error {
	if err := r.bindRecord(ctx, p, rel, nil); err != nil {
		return err
	}
	p.plan, p.back = r.diff(p), false
	return nil
}

// tellWaiting adds to a result that a newer file waits, and why.
func tellWaiting(res *Result, waiting string) {
	if waiting == "" {
		return
	}
	if res.Message += fmt.Sprintf("; a newer file waits: %s", waiting); res.Requeue == 0 {
		res.Requeue = again
	}
}

func withSeverity(findings []spec.Finding, s spec.Severity) []spec.Finding {
	var out []spec.Finding
	for _, f := range findings {
		if f.Severity == s {
			out = append(out, f)
		}
	}
	return out
}

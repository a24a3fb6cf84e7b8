package reconcile

import "testing"

// What came to a stop is started again by a new release; what waits for a node goes on
// by itself, and a release that does not change it must not answer for it.
func TestStoppedForGood(t *testing.T) {
	for name, c := range map[string]struct {
		health  ServiceHealth
		stopped bool
	}{
		"a job that failed":           {ServiceHealth{Code: CodeJobFailed, Final: true}, true},
		"tasks nobody starts again":   {ServiceHealth{Code: CodeFailed, Final: true}, true},
		"an update that is paused":    {ServiceHealth{Code: CodeUpdatePaused, Verdict: "paused"}, true},
		"no node fits":                {ServiceHealth{Code: CodeNoNodeFits, Final: true}, false},
		"no room beside its own":      {ServiceHealth{Code: CodeMaxReplicas, Final: true}, false},
		"no node fits, and is paused": {ServiceHealth{Code: CodeNoNodeFits, Final: true, Verdict: "paused"}, true},
		"a crash loop":                {ServiceHealth{Code: CodeCrashLoop}, false},
	} {
		if got := stoppedForGood(c.health); got != c.stopped {
			t.Errorf("%s: %v", name, got)
		}
	}
}

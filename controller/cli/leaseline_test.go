package cli

import (
	"testing"
	"time"

	"github.com/skep-io/skep/controller"
)

func TestHolderLine(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		holder controller.Holder
		want   string
	}{
		{controller.Holder{}, "Controller: none acts"},
		{controller.Holder{ID: "a.1", Host: "a", Since: now.Add(-3 * time.Hour), Renewed: now.Add(-4 * time.Second)}, "Controller: a.1 acts, for 3 hours"},
		{controller.Holder{ID: "a.1", Host: "b", Renewed: now.Add(time.Minute)}, "Controller: a.1 on b acts"}, // a clock that goes before ours
		{controller.Holder{ID: "a.1", Host: "a", Since: now.Add(-3 * time.Hour), Renewed: now.Add(-5 * time.Minute)}, "Controller: a.1 acted, and has not been heard of for 5 minutes"},
	} {
		if got := holderLine(tt.holder, now); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.holder, got, tt.want)
		}
	}
}

func TestOwnerIsChecked(t *testing.T) {
	for owner, good := range map[string]bool{"skep": true, "team-a.prod_1": true, "7": true, "": false, "a b": false, "-a": false, "a-": false, "a/b": false, "ü": false} {
		var v ownerValue
		if err := v.Set(owner); (err == nil) != good {
			t.Errorf("%q: %v", owner, err)
		}
	}
}

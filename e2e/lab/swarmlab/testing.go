//go:build linux

package swarmlab

import (
	"testing"
)

// ForTest brings up a lab that ends with the test. Where the machine cannot hold
// one the test fails in words that say what to do; under -short it is skipped.
func ForTest(t testing.TB, o Options) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("a lab is not brought up under -short")
	}
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for i, n := range l.Nodes {
				t.Logf("the end of %s's engine log:\n%s", n.Name, tail(l.Log(i), 30))
			}
		}
		if err := l.Down(); err != nil {
			t.Errorf("the lab left something behind: %v", err)
		}
	})
	return l
}

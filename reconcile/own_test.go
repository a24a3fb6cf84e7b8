package reconcile

import "testing"

// An engine takes names for the same that differ in upper and lower case alone: two
// owners must not share a lease's.
func TestCheckOwner(t *testing.T) {
	for owner, ok := range map[string]bool{
		"skep": true, "a": true, "a-b": true, "team_1.prod": true,
		"": false, "-a": false, "a.": false, "a b": false, "é": false, "Prod": false, "pROD": false,
	} {
		if err := CheckOwner(owner); (err == nil) != ok {
			t.Errorf("%q: %v", owner, err)
		}
	}
}

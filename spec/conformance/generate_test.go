package conformance

import "testing"

func testGenerated(t *testing.T, known *differences) {}

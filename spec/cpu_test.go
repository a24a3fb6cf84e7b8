package spec

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is the processor time that the process has used: unlike the time on the
// clock it does not grow with what else the machine does. Tests that compare it must
// not run beside others.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

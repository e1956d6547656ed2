//go:build unix

package sim

import "syscall"

// cpu is what this process has used of processors so far, in seconds: on a machine that
// others use too the wall clock says little.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

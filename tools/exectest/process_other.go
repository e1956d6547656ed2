//go:build !linux

package exectest

import "os/exec"

// DieWithParent does what it does on Linux only.
func DieWithParent(*exec.Cmd) {}

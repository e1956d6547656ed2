package exectest

import (
	"os/exec"
	"syscall"
)

// DieWithParent has the kernel end the program when the test's process ends, so that
// one killed by its timeout, which runs no cleanup, leaves nothing behind. It is for
// programs that Start does not start.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

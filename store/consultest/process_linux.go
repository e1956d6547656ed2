package consultest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// diesWithParent has the kernel end the server when the test process does, so
// that one killed by its timeout, which runs no cleanup, leaves nothing behind.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// stopped says whether SIGSTOP, which is only requested by kill(2), has come to
// every thread: proc_pid_stat(5), the state after the parenthesized name.
func stopped(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	if _, after, _ := bytes.Cut(b, []byte(") ")); !bytes.HasPrefix(after, []byte("T")) {
		return fmt.Errorf("state %.1s", after)
	}
	return nil
}

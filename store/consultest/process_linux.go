package consultest

import (
	"bytes"
	"fmt"
	"os"
)

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

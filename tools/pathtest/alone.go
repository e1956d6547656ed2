package pathtest

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"bailiwick/tools/exectest"
)

// inside names the test that a process is there for.
const inside = "BAILIWICK_TEST_NAMESPACE"

// Alone says whether the test runs in network and mount namespaces of its own. Where
// it does not, Alone runs the test's program once more in fresh ones, for this test
// only and with that environment too, and takes its verdict over: everything of the test is
// inside then, its own dials included, and nothing outside changes. The namespaces end with
// that process.
func Alone(t *testing.T, env ...string) bool {
	t.Helper()
	return AloneWith(t, nil, "10m", env...)
}

// AloneWith is Alone with further flags, and a time limit of its own.
func AloneWith(t *testing.T, flags []string, limit string, env ...string) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=" + limit}, flags...)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(append(os.Environ(), inside+"="+t.Name()), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 { // who is not root is it in a user namespace, where the kernel lets them
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	runtime.LockOSThread() // the kernel sends Pdeathsig when the thread ends that started the process
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		exectest.Absent(t, "network namespace: "+err.Error()+": needs root, or user namespaces")
	}
	err = cmd.Wait()
	t.Log(out.String())
	if err != nil {
		t.Fatalf("inside its namespace: %v", err)
	}
	if strings.Contains(out.String(), "--- SKIP: "+t.Name()) {
		t.Skip("skipped inside its namespace")
	}
	return false
}

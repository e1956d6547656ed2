package e2e

import (
	"strings"
	"testing"
)

func TestDevOnBusyPort(t *testing.T) {
	d := startDev(t)
	out, code := run(t, "dev", "--net", d.net)
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	for _, want := range []string{d.net + ".0.1:8080", "address already in use", "--net 127.1"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q does not say %q", out, want)
		}
	}
	if strings.Contains(out, "ready\n") {
		t.Errorf("it ran on a busy port: %q", out)
	}
	// The first one did not notice.
	if out, code := d.run(t, "region", "list"); code != 0 || !strings.Contains(out, "de-ber") {
		t.Errorf("region list: exit code %d: %s", code, out)
	}
}

func TestInterruptStopsDev(t *testing.T) {
	d := startDev(t)
	t.Logf("stopped in %v", d.stop())
	// Its ports are free again.
	again := start(t, "dev", "--net", d.net)
	t.Logf("and again in %v", again.stop())
}

package exectest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// verdict is a test that is told to end.
type verdict struct {
	testing.TB
	got, why string
}

func (v *verdict) Helper()                           {}
func (v *verdict) Fatal(args ...any)                 { v.end("fail", args...) }
func (v *verdict) Skip(args ...any)                  { v.end("skip", args...) }
func (v *verdict) Fatalf(format string, args ...any) { v.Fatal(fmt.Sprintf(format, args...)) }

func (v *verdict) end(got string, why ...any) {
	v.got, v.why = got, fmt.Sprint(why...)
	runtime.Goexit()
}

// judge says how a test of need ends.
func judge(t *testing.T, need func(testing.TB) string) *verdict {
	v, done := &verdict{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		v.why = need(v)
	}()
	<-done
	return v
}

// TestAbsence: a skip is for developers' machines alone, and says what to do.
func TestAbsence(t *testing.T) {
	built := filepath.Join(t.TempDir(), "consul")
	if err := os.WriteFile(built, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	find := func(t testing.TB) string { return Need(t, "no-such-program", "no-such-package") }
	build := func(t testing.TB) string { return NeedBuilt(t, "consul", "1.22.7") }
	for _, c := range []struct {
		name, ci, consul, cache string
		need                    func(testing.TB) string
		got, why                string // how the test ends, or "" and the path
	}{
		{"a program here", "", "", "", func(t testing.TB) string { return Need(t, "no-such-program", "x") }, "skip", "no no-such-program: install x"},
		{"a program in CI", "true", "", "", find, "fail", "no no-such-program: install no-such-package"},
		{"a program that is there", "true", "", "", func(t testing.TB) string { return Need(t, "sh", "dash") }, "", "sh"},
		{"built, here", "", built + "-not", "", build, "skip", "make consul, or set $BAILIWICK_CONSUL"},
		{"built, in CI", "true", built + "-not", "", build, "fail", "make consul, or set $BAILIWICK_CONSUL"},
		{"built, of the environment", "true", built, "", build, "", built},
		{"built, of an empty cache", "true", "", t.TempDir(), build, "fail", "bailiwick/consul-1.22.7/consul"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CI", c.ci)
			t.Setenv("BAILIWICK_CONSUL", c.consul)
			t.Setenv("XDG_CACHE_HOME", c.cache)
			v := judge(t, c.need)
			if v.got != c.got || !strings.Contains(v.why, c.why) {
				t.Errorf("got %q, %q, want %q, %q", v.got, v.why, c.got, c.why)
			}
		})
	}
}

// TestProcess: a program is stopped even where it does not mind, and what it said is kept.
func TestProcess(t *testing.T) {
	p := Start(t, exec.Command(Need(t, "sh", "dash"), "-c", "for i in 1 2 3; do echo line $i; done; exec sleep 1000"))
	p.Await(t, func() error {
		if p.Tail(2) != "line 2\nline 3" {
			return fmt.Errorf("got %q", p.Log())
		}
		return nil
	})
	select {
	case <-p.Exited:
		t.Error("ended by itself")
	default:
	}
	p.Stop()
	if p.cmd.ProcessState == nil {
		t.Error("runs after Stop")
	}
	p.Stop() // as the cleanup does once more
}

// TestProcessThatEnds: nobody waits for a program that is gone.
func TestProcessThatEnds(t *testing.T) {
	p := Start(t, exec.Command(Need(t, "sh", "dash"), "-c", "exit 3"))
	v := judge(t, func(t testing.TB) string {
		p.Await(t, func() error { return errors.New("not yet") })
		return ""
	})
	if v.got != "fail" || !strings.Contains(v.why, "exit status 3") {
		t.Errorf("got %q, %q, want it to fail with exit status 3", v.got, v.why)
	}
}

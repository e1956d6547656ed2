// Package pathtest gives tests a bad network: a namespace behind a path that has a rate, a
// delay, a buffer and loss, which may change while it carries. For tests only; it needs Linux,
// TUN devices, and a test that has network namespaces of its own.
package pathtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bailiwick/tools/exectest"
)

// Shape is what a path does, each way by itself.
type Shape struct {
	Rate  int           // bit/s of IP packets; 0: all there is
	Delay time.Duration // of each packet, beside its turn on the wire
	Queue time.Duration // what would wait longer for its turn is lost; 0: 300 ms
	Loss  float64       // share of packets that are lost by chance, 0 to 1
}

// Path is a network namespace that is reached by one path alone.
type Path struct {
	Near, Far netip.Addr // its ends: here, and in the namespace

	holder *exec.Cmd
	shape  atomic.Pointer[Shape]
}

// New makes a namespace behind a path, for the test. The n-th of a test is 198.18.0.4n+1 and
// 198.18.0.4n+2. The losses of one seed are the same each time, packet by packet.
func New(t testing.TB, n int, s Shape, seed uint64) *Path {
	t.Helper()
	at := netip.AddrFrom4([4]byte{198, 18, byte(n >> 6), byte(n<<2 + 1)})
	p := &Path{Near: at, Far: at.Next(), holder: exec.Command("sleep", "infinity")}
	p.Set(s)
	p.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := p.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.holder.Process.Kill()
		p.holder.Wait()
	})
	near, far := fmt.Sprint("near", n), fmt.Sprint("far", n)
	one, two := tun(t, near), tun(t, far)
	var copying sync.WaitGroup
	copying.Go(func() { p.carry(one, two, rand.New(rand.NewPCG(seed, 1))) })
	copying.Go(func() { p.carry(two, one, rand.New(rand.NewPCG(seed, 2))) })
	t.Cleanup(func() {
		one.Close()
		two.Close()
		copying.Wait()
	})
	ip := exectest.Need(t, "ip", "iproute2")
	do := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	do(ip, "addr", "add", p.Near.String()+"/30", "dev", near)
	do(ip, "link", "set", near, "up")
	do(ip, "link", "set", far, "netns", fmt.Sprint(p.holder.Process.Pid))
	enter := exectest.Need(t, "nsenter", "util-linux")
	for _, args := range []string{"link set lo up", "addr add " + p.Far.String() + "/30 dev " + far, "link set " + far + " up",
		"route add default via " + p.Near.String()} {
		do(enter, append([]string{p.namespace(), ip}, strings.Fields(args)...)...)
	}
	return p
}

func (p *Path) namespace() string { return fmt.Sprintf("--net=/proc/%d/ns/net", p.holder.Process.Pid) }

// Set changes what the path does from the next packet on.
func (p *Path) Set(s Shape) {
	if s.Queue == 0 {
		s.Queue = 300 * time.Millisecond
	}
	p.shape.Store(&s)
}

// Program is one that runs another in the namespace.
func (p *Path) Program(t testing.TB, program string) string {
	t.Helper()
	wrapper := filepath.Join(t.TempDir(), filepath.Base(program))
	text := fmt.Sprintf("#!/bin/sh\nexec %s %s %s \"$@\"\n", exectest.Need(t, "nsenter", "util-linux"), p.namespace(), program)
	if err := os.WriteFile(wrapper, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return wrapper
}

func tun(t testing.TB, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		exectest.Absent(t, "TUN device: "+err.Error())
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		exectest.Absent(t, "TUN device "+name+": "+err.Error())
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun")
}

// carry carries packets one way until a device closes: each waits its turn on the wire and
// then the delay; what the buffer has no room for is lost.
func (p *Path) carry(from, to *os.File, dice *rand.Rand) {
	type packet struct {
		bytes []byte
		due   time.Time
	}
	wire := make(chan packet, 4096)
	var writing sync.WaitGroup
	writing.Go(func() {
		for p := range wire {
			time.Sleep(time.Until(p.due)) // this is the path's delay: there is no event to wait for
			to.Write(p.bytes)             // the other end may be down yet: so is a path
		}
	})
	defer writing.Wait()
	defer close(wire)
	var free time.Time // when the wire is free again
	for buf := make([]byte, 64<<10); ; {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		s, now := p.shape.Load(), time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > s.Queue {
			continue
		}
		if s.Rate > 0 {
			free = free.Add(time.Duration(n) * 8 * time.Second / time.Duration(s.Rate))
		}
		if dice.Float64() >= s.Loss { // what is lost was on the wire
			wire <- packet{append([]byte(nil), buf[:n]...), free.Add(s.Delay)}
		}
	}
}

package sfu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"bailiwick/tools/nettest"
)

// The servers that ratios are of.
const (
	ownName     = "bailiwick"
	livekitName = "LiveKit"
	janusName   = "Janus"
	floorName   = "floor"
)

// The environment of this program as a server.
const (
	roleVar = "BENCH_SFU_ROLE"
	atVar   = "BENCH_SFU_AT"
)

// peer is a server under test.
type peer struct {
	name    string
	version string
	absent  string     // why it is not measured
	tells   bool       // it says what it allocates
	media   netip.Addr // where clients reach it, and have their own sockets
	command func(t testing.TB, at netip.AddrPort) (*exec.Cmd, error)
	join    func(at netip.AddrPort, c *client) error
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func peers() []*peer {
	return []*peer{
		{name: ownName, version: "this tree", tells: true, media: loopback, command: self("own"), join: joinOwn},
		livekitPeer(),
		janusPeer(),
		{name: floorName, version: "this tree", tells: true, media: loopback, command: self("floor"), join: joinFloor},
	}
}

// self is this program in another role.
func self(role string) func(testing.TB, netip.AddrPort) (*exec.Cmd, error) {
	return func(_ testing.TB, at netip.AddrPort) (*exec.Cmd, error) {
		path, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(path)
		cmd.Env = append(os.Environ(), roleVar+"="+role, atVar+"="+at.String())
		return cmd, nil
	}
}

func playRole(role string) error {
	at, err := netip.ParseAddrPort(os.Getenv(atVar))
	if err != nil {
		return err
	}
	switch role {
	case "own":
		return serveOwn(at)
	case "floor":
		return serveFloor(at)
	}
	return fmt.Errorf("role %q: own or floor", role)
}

func livekitPeer() *peer {
	p := &peer{name: livekitName, media: loopback, join: joinLiveKit}
	path := os.Getenv("BAILIWICK_LIVEKIT")
	if _, err := os.Stat(path); err != nil {
		p.absent = "not built: make livekit"
		return p
	}
	p.version = versionOf(path)
	p.command = func(t testing.TB, at netip.AddrPort) (*exec.Cmd, error) {
		return exec.Command(path, "--config-body", livekitConfig(at, nettest.Free(t, loopback))), nil
	}
	return p
}

func janusPeer() *peer {
	p := &peer{name: janusName, join: joinJanus}
	path, err := exec.LookPath("janus")
	if err != nil {
		p.absent = "not installed: apt-get install janus"
		return p
	}
	if p.media, err = outward(); err != nil {
		p.absent = err.Error()
		return p
	}
	p.version = versionOf(path)
	p.command = func(t testing.TB, at netip.AddrPort) (*exec.Cmd, error) {
		dir := t.TempDir()
		return exec.Command(path, "-F", dir, "-C", filepath.Join(dir, "janus.jcfg")), janusConfig(dir, at, p.media)
	}
	return p
}

// outward is an IPv4 address of this machine that is not loopback's.
func outward() (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		if n, err := netip.ParsePrefix(a.String()); err == nil && n.Addr().Is4() && !n.Addr().IsLoopback() {
			return n.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("it takes no media on loopback, and there is no other interface with IPv4")
}

var number = regexp.MustCompile(`\d+\.\d+\.\d+`)

// versionOf asks a binary; Janus prints it while it complains of the option.
func versionOf(path string) string {
	out, _ := exec.Command(path, "--version").CombinedOutput()
	return number.FindString(string(out))
}

// Package consultest runs real Consul servers for tests: alone or as a cluster,
// to be killed, paused and restarted at will.
//
// The binary is $BAILIWICK_CONSUL, else consul-1.22.7/consul in the bailiwick
// folder of the user's cache directory, where `make consul` puts it. Without it tests
// are skipped, except under CI=true, where they fail.
//
// On Linux each server has a loopback address of its own, drawn at random, with
// Consul's usual ports: packages tested in parallel do not meet, a restarted
// server gets its ports back, and no ephemeral port is in the way. Elsewhere it
// is 127.0.0.1 with free ports.
package consultest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"testing"

	"bailiwick/tools/exectest"
	"bailiwick/tools/nettest"
)

// Version is the Consul that the tests are written against.
const Version = "1.22.7"

// Binary returns the path of the consul program, or ends the test.
func Binary(t testing.TB) string {
	t.Helper()
	return exectest.NeedBuilt(t, "consul", Version)
}

// Start runs one server, with each config (HCL) laid over its own settings, and
// returns once it takes writes. It is killed when the test ends.
func Start(t testing.TB, config ...string) *Server {
	t.Helper()
	s := newServer(t, config)
	s.join = []*Server{s}
	s.start()
	s.ready()
	return s
}

// StartCluster runs n servers of one datacenter and returns once each of them
// takes writes. They notice a lost leader as fast as Consul can, and a busy
// machine is enough to lose one: a test that has nothing to do with that says
// `performance { raft_multiplier = 5 }`.
func StartCluster(t testing.TB, n int, config ...string) []*Server {
	t.Helper()
	servers := make([]*Server, n)
	for i := range servers {
		servers[i] = newServer(t, config)
	}
	for _, s := range servers {
		s.join = servers
		s.start()
	}
	for _, s := range servers {
		s.ready()
	}
	return servers
}

// Leader returns the server that the cluster follows, as the first of the
// servers that knows says; it waits for an election.
func Leader(t testing.TB, servers []*Server) *Server {
	t.Helper()
	var leader *Server
	poll(t, "a leader", func() error {
		for _, s := range servers {
			raft, err := s.leader()
			if err != nil {
				continue
			}
			for _, l := range servers {
				if l.running() && raft == net.JoinHostPort(l.ip, strconv.Itoa(l.ports.server)) {
					leader = l
					return nil
				}
			}
		}
		return fmt.Errorf("none known among the running servers")
	})
	return leader
}

type ports struct{ http, server, serf int }

// address draws a loopback address and ports that nobody listens on.
func address(t testing.TB) (string, ports) {
	t.Helper()
	if runtime.GOOS != "linux" {
		free := func() int { return int(nettest.Free(t, netip.MustParseAddr("127.0.0.1")).Port()) }
		return "127.0.0.1", ports{free(), free(), free()}
	}
	usual := ports{http: 8500, server: 8300, serf: 8301}
	for range 20 {
		// 127.0 and 127.1 are left to people and to other tests.
		ip := fmt.Sprintf("127.%d.%d.%d", 16+rand.IntN(200), rand.IntN(256), 1+rand.IntN(254))
		if free(ip, usual) == nil {
			return ip, usual
		}
	}
	err := free("127.16.0.1", usual)
	t.Fatalf("consultest: no loopback address with free ports: %v", err)
	return "", ports{}
}

func free(ip string, p ports) error {
	var errs [3]error
	for i, port := range []int{p.http, p.server, p.serf} {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
		if err == nil {
			l.Close()
		}
		errs[i] = err
	}
	return cmp.Or(errs[:]...)
}

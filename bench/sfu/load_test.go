package sfu

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/tools/exectest"
	"bailiwick/tools/nettest"
)

// scenario is one shape of load in its sizes.
type scenario struct {
	name  string
	of    string // what a size counts
	sizes []int
	seats func(size int) []seat
}

type seat struct {
	room      int
	publishes bool
	hears     int // other publishers
}

var (
	pairs = scenario{"1:1", "consults", []int{4, 8, 16}, func(n int) (s []seat) {
		for room := range n {
			s = append(s, seat{room + 1, true, 1}, seat{room + 1, true, 1})
		}
		return s
	}}
	fanout = scenario{"1 → N", "subscribers", []int{10, 20, 40}, func(n int) []seat {
		return append([]seat{{1, true, 0}}, slices.Repeat([]seat{{1, false, 1}}, n)...)
	}}
)

// figure is what one run measured.
type figure struct {
	Packets   int           // forwarded in the window
	CPU       time.Duration // the server's in it
	Loss      float64       // share of what should have come
	P50, P99  time.Duration // from send to receive
	Memory    int64         // bytes above the server without participants
	Allocated float64       // objects a forwarded packet; -1 where the server does not tell
	Generator float64       // processors that the generator used
	With      []string      // what of everything was negotiated
}

// everything is what must be on, and what a description with video then says.
var everything = []struct{ name, sdp string }{
	{"TWCC", "draft-holmer-rmcat-transport-wide-cc-extensions-01"},
	{"RTX", " rtx/90000"},
	{"NACK", " nack\r\n"},
	{"MID", "urn:ietf:params:rtp-hdrext:sdes:mid"},
}

func (f figure) micros() float64 { return float64(f.CPU.Microseconds()) / float64(max(1, f.Packets)) }

// server is a peer that runs.
type server struct {
	*peer
	at  netip.AddrPort
	cmd *exec.Cmd
}

func (p *peer) start(t testing.TB) (*server, error) {
	s := &server{peer: p, at: nettest.Free(t, loopback)}
	var err error
	if s.cmd, err = p.command(t, s.at); err != nil {
		return nil, err
	}
	exectest.Start(t, s.cmd).Await(t, func() error {
		conn, err := net.DialTimeout("tcp", s.at.String(), time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	})
	time.Sleep(time.Second) // it serves; what it does once at start is no participant's cost
	return s, nil
}

// enter joins everybody and returns once each hears everything, and nobody has negotiated
// for a while.
func (s *server) enter(ctx context.Context, clients []*client, settle time.Duration) error {
	var joining errgroup.Group
	for i, c := range clients {
		joining.Go(func() error {
			if err := s.join(s.at, c); err != nil {
				return fmt.Errorf("participant %s: %w", c.name, err)
			}
			if c.publishes {
				c.running.Go(func() { c.stream(time.Duration(i%7) * 5 * time.Millisecond) })
			}
			return nil
		})
	}
	if err := joining.Wait(); err != nil {
		return err
	}
	timeout := time.After(exectest.Patience)
	for _, c := range clients {
		for n := range 2 * c.hears {
			select {
			case <-c.heard:
			case err := <-c.failed:
				return err
			case <-ctx.Done():
				return ctx.Err()
			case <-timeout:
				return fmt.Errorf("participant %s: hears %d of %d tracks after %s", c.name, n, 2*c.hears, exectest.Patience)
			}
		}
	}
	entered := now()
	for quiet := entered + settle; now() < quiet; {
		if quiet > entered+exectest.Patience {
			return fmt.Errorf("still negotiating after %s", exectest.Patience)
		}
		time.Sleep(quiet - now())
		for _, c := range clients {
			quiet = max(quiet, time.Duration(c.negotiated.Load())+settle)
		}
	}
	return nil
}

func (p *peer) clients(ctx context.Context, seats []seat) (list []*client) {
	for i, s := range seats {
		list = append(list, newClient(ctx, s.room, fmt.Sprintf("p%d", i), s.publishes, s.hears, p.media))
	}
	return list
}

func closeAll(clients []*client) {
	var closing errgroup.Group
	for _, c := range clients {
		closing.Go(func() error { c.close(); return nil })
	}
	closing.Wait()
}

// run starts the peer, loads it, measures one window and leaves.
func run(t testing.TB, p *peer, seats []seat, settle, window time.Duration) (f figure, err error) {
	s, err := p.start(t)
	if err != nil {
		return f, err
	}
	defer s.cmd.Process.Kill() // LiveKit would wait ten seconds for nobody
	pid := s.cmd.Process.Pid
	base, err := memory(pid)
	if err != nil {
		return f, err
	}
	clients := p.clients(t.Context(), seats)
	defer closeAll(clients)
	if err := s.enter(t.Context(), clients, settle); err != nil {
		return f, err
	}
	before, err := s.read()
	if err != nil {
		return f, err
	}
	time.Sleep(window)
	after, err := s.read()
	if err != nil {
		return f, err
	}
	full, err := memory(pid)
	if err != nil {
		return f, err
	}
	time.Sleep(window / 10) // what is on its way
	var with []string
	for _, what := range everything {
		if !slices.ContainsFunc(clients, func(c *client) bool { return !c.agreed(what.sdp) }) {
			with = append(with, what.name)
		}
	}
	closeAll(clients)
	for _, c := range clients {
		select {
		case err := <-c.failed:
			return f, err
		default:
		}
	}
	f = tally(clients, before.at, after.at)
	f.With = with
	f.CPU, f.Memory, f.Allocated = after.server-before.server, full-base, -1
	f.Generator = float64(after.own-before.own) / float64(after.at-before.at)
	if after.objects > 0 {
		f.Allocated = float64(after.objects-before.objects) / float64(max(1, f.Packets))
	}
	return f, nil
}

// reading is what the clocks and counters say at one moment.
type reading struct {
	at          time.Duration
	server, own time.Duration
	objects     int64
}

func (s *server) read() (r reading, err error) {
	if s.tells {
		if r.objects, err = s.allocated(); err != nil {
			return r, err
		}
	}
	if r.server, err = processor(s.cmd.Process.Pid); err != nil {
		return r, err
	}
	r.own, err = processor(0) // this process
	r.at = now()
	return r, err
}

func (s *server) allocated() (int64, error) {
	resp, err := http.Get("http://" + s.at.String() + "/allocated")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(b), 10, 64)
}

// tally counts what was sent from one moment to another, and what came of it.
func tally(clients []*client, from, to time.Duration) (f figure) {
	within := func(at time.Duration) bool { return from <= at && at < to }
	sent := map[int]int{} // by room
	own := make([]int, len(clients))
	for i, c := range clients {
		for _, list := range c.sent {
			for _, at := range list {
				if within(at) {
					own[i]++
				}
			}
		}
		sent[c.room] += own[i]
	}
	due := 0
	var took []time.Duration
	for i, c := range clients {
		due += sent[c.room] - own[i]
		for _, r := range c.receivers {
			for _, a := range r.got {
				if within(a.sent) {
					took = append(took, a.took)
				}
			}
		}
	}
	slices.Sort(took)
	f.Packets, f.P50, f.P99 = len(took), quantile(took, 0.5), quantile(took, 0.99)
	if due > 0 {
		f.Loss = 1 - float64(len(took))/float64(due)
	}
	return f
}

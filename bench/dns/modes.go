package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	seenWithin = 10 * time.Second
	lateAfter  = 2 * time.Second // then a query is lost
	catchUp    = 16              // queries sent at once, when the pacer was late
)

// changed is what 100 mode changes under load brought.
type changed struct {
	took    []time.Duration // from the write's return to the first answer that shows it
	early   int             // of these, seen before the write returned
	unseen  int
	sent    int
	lost    int
	bare    int // answered without an address
	elapsed time.Duration
}

// changeModes toggles a region of a real deployment, of a process each: one Consul
// server, two edges, and the DNS node on the servers' core.
func (b *bench) changeModes() error {
	say("changing modes")
	d, err := b.deploy()
	if d != nil {
		defer d.stop()
	}
	if err != nil {
		return err
	}
	p, err := newPacer(d.dns)
	if err != nil {
		return err
	}
	defer p.conn.Close()
	c := &changed{}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	received, sent := make(chan error, 1), make(chan error, 1)
	began := time.Now()
	go func() { received <- p.receive() }()
	go func() { sent <- p.send(ctx) }()
	if !p.await(d.edges[0], time.Now()) {
		return errors.New("no answer under load")
	}
	for i := range changes {
		time.Sleep(50*time.Millisecond + time.Duration(i*37%100)*time.Millisecond) // at no phase of anything
		mode, want := "down", d.edges[1]
		if i%2 == 1 {
			mode, want = "serving", d.edges[0]
		}
		if err := d.put("bailiwick/regions/"+away, mode); err != nil {
			return err
		}
		returned := time.Now()
		if !p.await(want, returned) {
			c.unseen++
			continue
		}
		took := p.at.Sub(returned)
		if took < 0 {
			c.early++
		}
		c.took = append(c.took, max(0, took))
	}
	cancel()
	if err := <-sent; err != nil {
		return err
	}
	c.elapsed = time.Since(began)
	p.conn.SetReadDeadline(time.Now().Add(lateAfter)) // ends receive
	if err := <-received; err != nil {
		return err
	}
	c.sent, c.lost, c.bare = int(p.sent.Load()), int(p.sent.Load())-p.answered, p.bare
	slices.Sort(c.took)
	b.changed = c
	return nil
}

// pacer asks one question over and over at a steady rate. Query n has ID n modulo 65536.
type pacer struct {
	conn  *net.UDPConn
	query []byte
	sent  atomic.Uint64
	times [1 << 16]atomic.Int64 // Unix nanoseconds of each ID's last query

	turns chan turn // an answer that differs from the one before
	at    time.Time // of the turn that await met

	answered, bare int // of receive, until it has returned
}

type turn struct {
	addr netip.Addr
	at   time.Time
}

func newPacer(at netip.AddrPort) (*pacer, error) {
	q, err := wire(clients, false)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	return &pacer{conn: conn, query: q, turns: make(chan turn, 1<<12)}, err
}

// send keeps the rate until ctx ends. What it is late with it sends in small groups:
// a burst would overrun the server's socket, and be no fault of the server's.
func (p *pacer) send(ctx context.Context) error {
	began := time.Now()
	q := slices.Clone(p.query)
	for ctx.Err() == nil {
		due := uint64(time.Since(began).Seconds() * rate)
		for range min(due-p.sent.Load(), catchUp) {
			n := p.sent.Load()
			binary.BigEndian.PutUint16(q, uint16(n))
			p.times[uint16(n)].Store(time.Now().UnixNano())
			p.sent.Add(1) // before the answer can come
			if _, err := p.conn.Write(q); err != nil {
				return err
			}
		}
		time.Sleep(time.Second / rate)
	}
	return nil
}

// receive counts the answers that come within lateAfter of their query, until the
// connection's deadline.
func (p *pacer) receive() error {
	buf := make([]byte, 4096)
	var last netip.Addr
	for {
		n, err := p.conn.Read(buf)
		now := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		var m dns.Msg
		if err := m.Unpack(buf[:n]); err != nil {
			return fmt.Errorf("answer % x: %w", buf[:n], err)
		}
		asked := p.times[m.Id].Swap(0) // an answer that comes twice counts once
		if asked == 0 || now.UnixNano()-asked > int64(lateAfter) {
			continue
		}
		p.answered++
		a := read(&m).addr
		if !a.IsValid() {
			p.bare++
		}
		if a != last {
			last = a
			p.turns <- turn{a, now}
		}
	}
}

// await takes turns until the answer is want.
func (p *pacer) await(want netip.Addr, from time.Time) bool {
	late := time.After(seenWithin - time.Since(from))
	for {
		select {
		case t := <-p.turns:
			if t.addr == want {
				p.at = t.at
				return true
			}
		case <-late:
			return false
		}
	}
}

// quantile of sorted times; q is 0 to 1.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func (b *bench) writeChanges(p printer) {
	p("\n## Mode changes\n")
	c := b.changed
	if c == nil {
		p("Not measured: %s", b.notChanged)
		return
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
	p("`bailiwick dns` with one Consul server and two edges, a process each; `bailiwick/regions/%s` written %d times through Consul's API, down and serving in turn, under %d queries a second from one client. The time is from the write's return to the first answer that shows it, with %d seen before the write returned (0 here); lost is unanswered after %s.\n",
		away, changes, rate, c.early, lateAfter)
	p("| changes seen | median | 95 %% | most | queries | a second | lost | answers without an address |")
	p("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	p("| %d of %d | %s | %s | %s | %d | %.0f | %d | %d |", len(c.took), len(c.took)+c.unseen, ms(quantile(c.took, 0.5)), ms(quantile(c.took, 0.95)),
		ms(quantile(c.took, 1)), c.sent, float64(c.sent)/c.elapsed.Seconds(), c.lost, c.bare)
}

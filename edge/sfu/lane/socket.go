package lane

import (
	"errors"
	"net/netip"
	"runtime"
	"time"

	"bailiwick/datagram"
)

const (
	socketBuffer = 4 << 20 // bytes; the system may grant less
	// maxWorkers of an address: more than this share one map of peers badly. There is one for
	// two processors: two on two woke more and did no more.
	maxWorkers = 16
)

// sockets are those of one UDP address, one a worker.
type sockets []*datagram.Socket

func (l *Lane) openUDP(at netip.AddrPort) (*Conn, error) {
	if at.Addr().IsUnspecified() {
		return nil, errors.New("unspecified: name the interface's")
	}
	all, err := datagram.ListenPolled(at, min(max(runtime.GOMAXPROCS(0)/2, 1), maxWorkers))
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		s.SetBuffers(socketBuffer)
	}
	c := l.conn(all[0].LocalAddr())
	c.out = sockets(all)
	return c, nil
}

func (s sockets) serve(c *Conn) {
	for i, socket := range s {
		b := c.lane.batch(i)
		c.lane.workers.Go(func() { c.work(socket, b) })
	}
}

// work serves one socket until it is closed.
func (c *Conn) work(s *datagram.Socket, b *Batch) {
	r := s.Reader()
	defer r.Close()
	for {
		burst, err := r.Read()
		if err != nil {
			return
		}
		now := time.Now()
		for i := range burst {
			c.take(b, burst[i].In, burst[i].From, now)
		}
		b.Flush()
	}
}

func (s sockets) writer(worker int) writer { return s[worker%len(s)].Writer() }

func (s sockets) WriteTo(b []byte, to netip.AddrPort) (int, error) { return s[0].WriteTo(b, to) }

func (s sockets) Close() error {
	for _, socket := range s {
		socket.Close()
	}
	return nil
}

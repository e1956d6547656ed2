package geodns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// endless is a client that asks without end and takes every answer at once.
type endless struct {
	net.Conn
	queries []byte
	at      int
	answers *atomic.Int64
	over    *atomic.Bool
}

func (c *endless) Read(b []byte) (int, error) {
	if c.over.Load() {
		return 0, io.EOF
	}
	n := copy(b, c.queries[c.at:])
	c.at = (c.at + n) % len(c.queries)
	return n, nil
}

func (c *endless) Write(b []byte) (int, error) {
	c.answers.Add(1)
	return len(b), nil
}

func (c *endless) SetReadDeadline(time.Time) error  { return nil }
func (c *endless) SetWriteDeadline(time.Time) error { return nil }

// TestPipelinesTakeTurns: between two turns of another goroutine, such as UDP's, each of
// some endless pipelines answers once, not for as long as the scheduler lets it.
func TestPipelinesTakeTurns(t *testing.T) {
	const pipelines, turns = 8, 50
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := listen(t)
	q, err := new(dns.Msg).SetQuestion("join.media.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	q = append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
	var answers atomic.Int64
	var over atomic.Bool
	var wg sync.WaitGroup
	for range pipelines {
		c := &endless{queries: q, answers: &answers, over: &over}
		wg.Go(func() { s.serveStream(c, &stream{Conn: c}, netip.MustParseAddr("192.0.2.7"), overTCP) })
	}
	for answers.Load() < pipelines {
		runtime.Gosched()
	}
	before := answers.Load()
	for range turns {
		runtime.Gosched()
	}
	got := answers.Load() - before
	over.Store(true)
	wg.Wait()
	if got > turns*pipelines*3 { // the scheduler may look at queues in another order now and then
		t.Errorf("answers of %d pipelines in %d turns: got %d, want about %d", pipelines, turns, got, turns*pipelines)
	}
}

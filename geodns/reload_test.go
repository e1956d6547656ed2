package geodns

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/zonefile"
	"bailiwick/steer"
)

// TestReloadsLoseNoQuery: geo table, zone file, World and keys are swapped without a
// pause while clients ask over UDP, TCP and TLS: every query gets the answer of one
// of the two states.
func TestReloadsLoseNoQuery(t *testing.T) {
	var current atomic.Pointer[steer.World]
	worlds := [2]*steer.World{demo(), demo()}
	worlds[1].Regions[worlds[1].RegionIndex("de-ber")].Mode = steer.Down
	worlds[1].Generation++
	current.Store(worlds[0])
	tables := [2]*geo.Table{table(t), table(t, over("192.0.2.64/28", "GB"))}
	var zones [2]*zonefile.Records
	for i := range zones {
		z, err := zonefile.Parse(zone, "zone.db", fmt.Appendf(nil, "@ NS ns\nns A 198.18.200.%d\n", i+1))
		if err != nil {
			t.Fatal(err)
		}
		zones[i] = z
	}
	_, signer := keys(t, false)
	signers := [2]*dnssec.Signer{nil, signer}
	with, client := withTLS(t)
	s := listen(t, with, func(c *Config) { c.World, c.Records = current.Load, zones[0] })
	serve(t, s)

	var swaps atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			current.Store(worlds[i%2])
			s.SetGeo(tables[i/2%2])
			if err := s.SetRecords(zones[i/4%2]); err != nil {
				t.Error(err)
			}
			s.SetSigner(signers[i/8%2])
			swaps.Add(1)
		}
	}()
	questions := []struct {
		q    *dns.Msg
		want []string
	}{
		{ask("join.media.example.", dns.TypeA, ecs("192.0.2.0/27"), do), []string{"A 198.18.3.1", "A 198.18.4.1"}},
		{ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/28")), []string{"A 198.18.5.1", "A 198.18.6.1"}},
		{ask("ns.media.example.", dns.TypeA), []string{"A 198.18.200.1", "A 198.18.200.2"}},
		{ask("media.example.", dns.TypeNS, do), []string{"NS ns.media.example."}},
	}
	const n, leastSwaps = 400, 1000
	run := func(name string, exchange func(packet []byte) (*dns.Msg, error)) {
		for i := 0; i < n || swaps.Load() < leastSwaps; i++ {
			asked := questions[i%len(questions)]
			q := asked.q.Copy()
			q.Id = uint16(i)
			packet, err := q.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			m, err := exchange(packet)
			if err != nil || m.Id != q.Id {
				t.Errorf("%s: query %d after %d swaps: %v, %v", name, i, swaps.Load(), m, err)
				return
			}
			if m.Rcode != dns.RcodeSuccess || !m.Authoritative || len(m.Answer) == 0 || show(m.Answer)[0] != asked.want[0] && show(m.Answer)[0] != asked.want[len(asked.want)-1] {
				t.Errorf("%s: query %d after %d swaps: got %v, want one of %v", name, i, swaps.Load(), m, asked.want)
			}
		}
	}
	overUDP := func(c net.Conn) func([]byte) (*dns.Msg, error) {
		return func(packet []byte) (*dns.Msg, error) {
			if _, err := c.Write(packet); err != nil {
				return nil, err
			}
			b := make([]byte, 4096)
			k, err := c.Read(b)
			if err != nil {
				return nil, err
			}
			m := new(dns.Msg)
			return m, m.Unpack(b[:k])
		}
	}
	overStream := func(c net.Conn) func([]byte) (*dns.Msg, error) {
		return func(packet []byte) (*dns.Msg, error) {
			if _, err := c.Write(framed(packet)); err != nil {
				return nil, err
			}
			return readTCP(c)
		}
	}
	var clients sync.WaitGroup
	for name, f := range map[string]func([]byte) (*dns.Msg, error){
		"udp": overUDP(dial(t, s, "udp")), "a second udp": overUDP(dial(t, s, "udp")), "tcp": overStream(dial(t, s, "tcp")), "tls": overStream(dialTLS(t, s, client))} {
		clients.Go(func() { run(name, f) })
	}
	clients.Wait()
	close(stop)
	<-stopped
}

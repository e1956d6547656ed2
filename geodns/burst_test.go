package geodns

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/datagram"
	"bailiwick/geodns/cookie"
)

// burstOf is what came at once, all from one client.
func burstOf(packets ...[]byte) []datagram.Datagram {
	all := make([]datagram.Datagram, len(packets))
	for i, p := range packets {
		all[i] = datagram.Datagram{In: p, From: netip.MustParseAddrPort(berlin + ":53"), Out: make([]byte, 0, datagram.MaxOut)}
	}
	return all
}

// A query is answered in a burst as it is alone, whatever came with it, and whatever the
// burst before left in its memory.
func TestBurst(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Node = "dns-1" })
	_, k := keys(t, false)
	s.SetSigner(k)
	var packets [][]byte
	for _, q := range []*dns.Msg{
		ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/26"), do), ask("JOIN.media.example.", dns.TypeAAAA, ecs("2001:db8:1000::/48")),
		ask("join.media.example.", dns.TypeA), ask("join.media.example.", dns.TypeHTTPS, noEDNS), ask("_turn._udp.join.media.example.", dns.TypeSRV, ecs("203.0.113.0/27")),
		ask("de.join.media.example.", dns.TypeA, do), ask("nope.media.example.", dns.TypeA, do), ask("media.example.", dns.TypeSOA), ask("x.example.", dns.TypeA),
		ask("join.media.example.", dns.TypeA, ecs("9.9.9.0/24")), ask("join.media.example.", dns.TypeA, ecs("0.0.0.0/0")), ask("join.media.example.", dns.TypeA, option(dns.EDNS0NSID)),
	} {
		packets = append(packets, pack(t, q))
	}
	packets = append(packets, nil, []byte("no query"), raw(0, 1, 0, 0, 2, joinA, opt, opt), raw(0x8000, 1, 0, 0, 0, joinA))
	b := s.newBurst()
	for shift := range packets {
		var turned [][]byte
		for i := range packets[:len(packets)-shift/2] { // shorter and shorter
			turned = append(turned, packets[(i*7+shift)%len(packets)])
		}
		all := burstOf(turned...)
		b.answer(all)
		for i, p := range turned {
			if want := s.respond(nil, p, all[i].From.Addr(), overUDP); !bytes.Equal(all[i].Out, want) {
				t.Fatalf("% x, number %d: got % x, want % x", p, i, all[i].Out, want)
			}
		}
	}
}

// FuzzBurst: whatever strangers send at once, each is answered as it is alone. A packet
// is a length of two octets and so many more.
func FuzzBurst(f *testing.F) {
	s := listen(f, withRecords(f, zoneFile))
	at := time.Now()
	s.now = func() time.Time { return at } // a cookie has the second
	cookie := option(dns.EDNS0COOKIE, make([]byte, 8)...)
	var all []byte
	for _, p := range [][]byte{pack(f, ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/26"))), pack(f, ask("JOIN.media.example.", dns.TypeAAAA, cookie)),
		nil, raw(0, 1, 0, 0, 2, joinA, opt, opt), pack(f, ask("nope.media.example.", dns.TypeA, noEDNS)), pack(f, ask("join.media.example.", dns.TypeA, ecs("2001:db8:1000::/48"), cookie))} {
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(p))), p...)
	}
	f.Add(all)
	f.Add(append(slices.Clone(all), all...))
	b := s.newBurst()
	f.Fuzz(func(t *testing.T, all []byte) {
		var packets [][]byte
		for len(all) >= 2 && len(packets) < datagram.Size {
			n := min(int(binary.BigEndian.Uint16(all)), len(all)-2, datagram.MaxIn)
			packets = append(packets, all[2:2+n])
			all = all[2+n:]
		}
		if len(packets) == 0 {
			return
		}
		got := burstOf(packets...)
		b.answer(got)
		for i, p := range packets {
			if want := s.respond(nil, p, got[i].From.Addr(), overUDP); !bytes.Equal(got[i].Out, want) {
				t.Fatalf("% x, number %d of %d: got % x, want % x", p, i, len(packets), got[i].Out, want)
			}
		}
	})
}

// A bug that one query meets costs those beside it nothing.
func TestPanicInABurst(t *testing.T) {
	s := listen(t, func(c *Config) { c.Secrets = func() cookie.Secrets { panic("a bug") } })
	good, bad := pack(t, ask("join.media.example.", dns.TypeA)), pack(t, ask("join.media.example.", dns.TypeA, option(dns.EDNS0COOKIE, make([]byte, 8)...)))
	all := burstOf(good, bad, good, bad, good)
	s.newBurst().answer(all)
	for i := range all {
		m := new(dns.Msg)
		if err := m.Unpack(all[i].Out); err != nil {
			t.Fatalf("answer %d: % x: %v", i, all[i].Out, err)
		}
		if got, want := m.Rcode == dns.RcodeServerFailure, i%2 == 1; got != want || !want && len(m.Answer) == 0 {
			t.Errorf("answer %d: %v", i, m)
		}
	}
	if n := s.metrics.panicked.Load(); n != 2 {
		t.Errorf("%d panics counted, want 2", n)
	}
}

// BenchmarkBurst is a full batch of what most ask, per query.
func BenchmarkBurst(b *testing.B) {
	s := listen(b)
	_, k := keys(b, false)
	s.SetSigner(k)
	for _, r := range []struct {
		name    string
		options []func(*dns.Msg)
	}{{"join", []func(*dns.Msg){ecs("192.0.2.0/27")}}, {"join, signed", []func(*dns.Msg){ecs("192.0.2.0/27"), do}}} {
		b.Run(r.name, func(b *testing.B) {
			p := pack(b, ask("join.media.example.", dns.TypeA, r.options...))
			p[1] |= 1 // not timed
			var packets [datagram.Size][]byte
			for i := range packets {
				packets[i] = p
			}
			all, w := burstOf(packets[:]...), s.newBurst()
			w.answer(all)
			b.ReportAllocs()
			for i := 0; i < b.N; i += len(all) {
				for k := range all {
					all[k].Out = all[k].Out[:0]
				}
				w.answer(all)
			}
		})
	}
}

func TestLower(t *testing.T) {
	for at := range 20 {
		for c := range 256 {
			got := bytes.Repeat([]byte{0xda, 'Q', 63}, 7)
			got[at] = byte(c)
			want := slices.Clone(got)
			for i, c := range want {
				if 'A' <= c && c <= 'Z' {
					want[i] += 'a' - 'A'
				}
			}
			if lower(got); !bytes.Equal(got, want) {
				t.Fatalf("octet %d is %d: got % x, want % x", at, c, got, want)
			}
		}
	}
}

package geodns

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// raw builds packets that the library refuses to.
func raw(flags uint16, qd, an, ns, ar uint16, sections ...string) []byte {
	b := []byte{0xab, 0xcd}
	for _, n := range []uint16{flags, qd, an, ns, ar} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	for _, s := range sections {
		part, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			panic(err)
		}
		b = append(b, part...)
	}
	return b
}

const (
	joinA   = "046a6f696e 056d65646961 076578616d706c65 00 0001 0001" // join.media.example. A IN
	opt     = "00 0029 04d0 00000000 0000"
	txtRR   = "c00c 0010 0001 00000000 0002 0161"
	dropped = -1
)

func TestHeaders(t *testing.T) {
	s := listen(t)
	labels := strings.Repeat("3f"+strings.Repeat("61", 63), 3)              // 192 octets
	longest := labels + "3d" + strings.Repeat("61", 61) + "00 0001 0001"    // 255 octets of name
	tooLong := labels + "3e" + strings.Repeat("61", 62) + "00 0001 0001"    // 256
	farTooLong := labels + "3f" + strings.Repeat("61", 63) + "00 0001 0001" // 257
	for _, r := range []struct {
		name   string
		packet []byte
		rcode  int
		echo   bool // the question comes back
	}{
		{"a query", raw(0, 1, 0, 0, 0, joinA), noerror, true},
		{"with RD (RFC 1035 section 4.1.1)", raw(0x0100, 1, 0, 0, 0, joinA), noerror, true},
		{"AD, CD and Z set are ignored (RFC 8906 section 8.1.3)", raw(0x0070, 1, 0, 0, 0, joinA), noerror, true},
		{"an OPT", raw(0, 1, 0, 0, 1, joinA, opt), noerror, true},
		{"nothing", nil, dropped, false},
		{"half a header", raw(0, 1, 0, 0, 0)[:11], dropped, false},
		{"a response (RFC 1035 section 4.1.1)", raw(0x8000, 1, 0, 0, 0, joinA), dropped, false},
		{"opcode IQUERY (RFC 3425)", raw(1<<11, 1, 0, 0, 0, joinA), notimp, false},
		{"opcode STATUS", raw(2<<11, 0, 0, 0, 0), notimp, false},
		{"opcode NOTIFY (RFC 1996)", raw(4<<11, 1, 0, 0, 0, joinA), notimp, false},
		{"opcode UPDATE (RFC 2136)", raw(5<<11, 1, 0, 0, 0, joinA), notimp, false},
		{"opcode 15 (RFC 8906 section 8.1.4)", raw(15<<11, 0, 0, 0, 0), notimp, false},
		{"no question", raw(0, 0, 0, 0, 0), formerr, false},
		{"two questions (RFC 9619)", raw(0, 2, 0, 0, 0, joinA, joinA), formerr, false},
		{"a question promised and not there", raw(0, 1, 0, 0, 0), formerr, false},
		{"an answer in the query", raw(0, 1, 1, 0, 0, joinA, txtRR), formerr, false},
		{"authority in the query", raw(0, 1, 0, 1, 0, joinA, txtRR), formerr, true},
		{"additional is passed over", raw(0, 1, 0, 0, 2, joinA, txtRR, opt), noerror, true},
		{"additional promised and not there", raw(0, 1, 0, 0, 1, joinA), formerr, true},
		{"additional cut off", raw(0, 1, 0, 0, 1, joinA, "c00c 0010 0001 00000000 0009 0161"), formerr, true},
		{"an owner that points back", raw(0, 1, 0, 0, 1, joinA, "c00c 0010 0001 00000000 0002 0161"), noerror, true},
		{"an owner of a label and a pointer", raw(0, 1, 0, 0, 1, joinA, "0161 c00c 0010 0001 00000000 0002 0161"), noerror, true},
		{"an owner that points to itself", raw(0, 1, 0, 0, 1, joinA, "c024 0010 0001 00000000 0002 0161"), formerr, true},
		{"an owner that points ahead", raw(0, 1, 0, 0, 1, joinA, "c025 0010 0001 00000000 0002 0161"), formerr, true},
		{"half a pointer", raw(0, 1, 0, 0, 1, joinA, "c0"), formerr, true},
		{"an owner of an unknown kind of label", raw(0, 1, 0, 0, 1, joinA, "4161 00 0010 0001 00000000 0002 0161"), formerr, true},
		{"a name without end", raw(0, 1, 0, 0, 0, "046a6f696e"), formerr, false},
		{"a name of 255 octets (RFC 1035 section 2.3.4), of no zone here", raw(0, 1, 0, 0, 0, longest), refused, true},
		{"a name of 256 octets", raw(0, 1, 0, 0, 0, tooLong), formerr, false},
		{"a name of 257 octets", raw(0, 1, 0, 0, 0, farTooLong), formerr, false},
		{"no type", raw(0, 1, 0, 0, 0, "046a6f696e 00"), formerr, false},
		{"a label of type 01 (RFC 6891 section 5)", raw(0, 1, 0, 0, 0, "41 61 00 0001 0001"), formerr, false},
		{"a question that is a pointer to itself", raw(0, 1, 0, 0, 0, "c00c 0001 0001"), formerr, false},
		{"a pointer that loops in additional", raw(0, 1, 0, 0, 1, joinA, "c025 0010 0001 00000000 0000"), formerr, true},
		{"class CH (RFC 8906)", raw(0, 1, 0, 0, 0, "046a6f696e 056d65646961 076578616d706c65 00 0001 0003"), refused, true},
		{"class ANY", raw(0, 1, 0, 0, 0, "046a6f696e 056d65646961 076578616d706c65 00 0001 00ff"), refused, true},
		{"two OPTs (RFC 6891 section 6.1.1)", raw(0, 1, 0, 0, 2, joinA, opt, opt), formerr, true},
		{"two OPTs, one with ECS", raw(0, 1, 0, 0, 2, joinA, "00 0029 04d0 00000000 000b 0008 0007 0001 1800 c00002", opt), formerr, true},
		{"an OPT that the root does not own", raw(0, 1, 0, 0, 1, joinA, "c00c 0029 04d0 00000000 0000"), formerr, true},
		{"an OPT in authority", raw(0, 1, 0, 1, 0, "056d65646961 076578616d706c65 00 00fb 0001", opt), formerr, true},
		{"EDNS version 1 (RFC 6891 section 6.1.3)", raw(0, 1, 0, 0, 1, joinA, "00 0029 04d0 00010000 0000"), dns.RcodeBadVers, true},
		{"EDNS version 1 and an option of unknown shape", raw(0, 1, 0, 0, 1, joinA, "00 0029 04d0 00010000 0003 000800"), dns.RcodeBadVers, true},
		{"unknown EDNS flags (RFC 8906 section 8.2.4)", raw(0, 1, 0, 0, 1, joinA, "00 0029 04d0 00007fff 0000"), noerror, true},
		{"an unknown option (RFC 6891 section 6.1.2)", raw(0, 1, 0, 0, 1, joinA, "00 0029 04d0 00000000 0006 fde9 0002 abcd"), noerror, true},
		{"half an option", raw(0, 1, 0, 0, 1, joinA, "00 0029 04d0 00000000 0003 000800"), formerr, true},
		{"an option longer than its record", raw(0, 1, 0, 0, 1, joinA, "00 0029 04d0 00000000 0004 fde9 0002"), formerr, true},
	} {
		m := exchange(t, s, r.packet, berlin, overUDP)
		if m == nil {
			if r.rcode != dropped {
				t.Errorf("%s: dropped, want %s", r.name, dns.RcodeToString[r.rcode])
			}
			continue
		}
		if m.Rcode != r.rcode || len(m.Question) == 1 != r.echo {
			t.Errorf("%s: got %s, question %v, want %s, question %v", r.name, dns.RcodeToString[m.Rcode], m.Question, dns.RcodeToString[r.rcode], r.echo)
		}
		if m.Id != 0xabcd || !m.Response || m.Opcode != int(r.packet[2]>>3) || m.RecursionDesired != (r.packet[2]&1 == 1) || m.CheckingDisabled || m.Zero {
			t.Errorf("%s: header %+v", r.name, m.MsgHdr)
		}
		if o := m.IsEdns0(); o != nil && (o.Version() != 0 || o.Z() != 0 || o.UDPSize() != maxUDP) {
			t.Errorf("%s: OPT %v", r.name, o)
		}
		if m.Rcode == formerr && scopeOf(m) >= 0 {
			t.Errorf("%s: ECS is answered", r.name)
		}
		// RFC 6891 section 7: an OPT is answered with an OPT. A query that has none gets none.
		if has := bytes.Contains(r.packet, []byte{0, 0x29, 0x04, 0xd0}); has != (m.IsEdns0() != nil) {
			t.Errorf("%s: OPT in the query %v, in the answer %v", r.name, has, m.IsEdns0() != nil)
		}
	}
}

func TestLetterCaseComesBack(t *testing.T) {
	s := listen(t)
	rnd := rand.New(rand.NewPCG(0x20, 0))
	for _, name := range []string{"join.media.example.", "_why.join.media.example.", "de-fra-1.edge.media.example.", "none.media.example.", "ns1.media.example."} {
		for range 8 {
			b := []byte(name)
			for i := range b {
				if rnd.IntN(2) == 0 && 'a' <= b[i] && b[i] <= 'z' {
					b[i] -= 'a' - 'A'
				}
			}
			q := pack(t, ask(string(b), dns.TypeA))
			got := s.respond(nil, q, netip.MustParseAddr("127.0.0.1"), overUDP)
			if end := headerLen + len(name) + 1 + 4; !bytes.Equal(got[headerLen:end], q[headerLen:end]) {
				t.Errorf("%s: question % x, want % x", b, got[headerLen:end], q[headerLen:end])
			}
		}
	}
}

func TestSizes(t *testing.T) {
	w := demo()
	for range 60 { // enough regions for an answer of more than 1232 octets
		w.Regions = append(w.Regions, w.Regions[w.RegionIndex("us-iad")])
	}
	s := listen(t, world(w))
	for _, r := range []struct {
		name  string
		size  int // advertised; 0: no EDNS
		via   transport
		limit int
		tc    bool
	}{
		{"no EDNS (RFC 1035 section 2.3.4)", 0, overUDP, 512, true},
		{"less than 512 counts as 512 (RFC 6891 section 6.2.3)", 100, overUDP, 512, true},
		{"what the client takes", 700, overUDP, 700, true},
		{"never more than 1232 (RFC 9715)", 4096, overUDP, 1232, true},
		{"TCP (RFC 7766)", 512, overTCP, 65535, false},
		{"TCP without EDNS", 0, overTCP, 65535, false},
	} {
		q := ask("_why.join.media.example.", dns.TypeTXT, func(m *dns.Msg) {
			if r.size == 0 {
				noEDNS(m)
			} else {
				m.IsEdns0().SetUDPSize(uint16(r.size))
			}
		})
		b := s.respond(nil, pack(t, q), netip.MustParseAddr("127.0.0.1"), r.via)
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if len(b) > r.limit || m.Truncated != r.tc || r.tc && len(m.Answer) != 0 || !r.tc && len(m.Answer) != 1 {
			t.Errorf("%s: got %d octets, TC %v, %d records; want at most %d, TC %v", r.name, len(b), m.Truncated, len(m.Answer), r.limit, r.tc)
		}
		if (m.IsEdns0() != nil) != (r.size != 0) {
			t.Errorf("%s: OPT %v", r.name, m.IsEdns0())
		}
	}
	q := ask("join.media.example.", dns.TypeA, func(m *dns.Msg) { m.IsEdns0().SetDo() })
	if m := exchange(t, s, pack(t, q), berlin, overUDP); !m.IsEdns0().Do() {
		t.Error("DO is not copied (RFC 3225 section 3)")
	}
	q = ask("join.media.example.", dns.TypeA, func(m *dns.Msg) { m.IsEdns0().SetUDPSize(1) })
	if m := exchange(t, s, pack(t, q), berlin, overUDP); m.Truncated || len(m.Answer) == 0 {
		t.Errorf("an answer of less than 512 octets, for a client that says 1: got %v", m)
	}
	s = listen(t, withRecords(t, "@ NS ns\n$GENERATE 1-40 ns A 198.18.201.$\n"))
	q = ask("media.example.", dns.TypeNS, noEDNS)
	if m := exchange(t, s, pack(t, q), berlin, overUDP); m.Truncated || len(m.Answer) != 1 || len(m.Extra) != 0 {
		t.Errorf("with glue that does not fit: got %v, want the answer without it (RFC 2181 section 9)", m)
	}
}

func TestECS(t *testing.T) {
	g := table(t, over("10.0.0.0/9", "DE"), over("10.128.0.0/9", "FR"), over("10.0.7.0/25", "GB"), over("10.1.7.0/25", "AE"), over("100.0.0.0/7", "DE"), over("2a00::/12", "DE"))
	s := listen(t, func(c *Config) { c.Geo = g })
	ber, par := "198.18.3.1", "198.18.5.1"
	for _, r := range []struct {
		name  string
		data  []byte
		rcode int
		scope int // -1: no option in the answer
		first string
	}{
		{"a /24 in a wider place", []byte{0, 1, 24, 0, 10, 1, 2}, noerror, 22, ber},
		{"a /32", []byte{0, 1, 32, 0, 10, 200, 2, 1}, noerror, 9, par},
		{"the place is the client's, not the resolver's", []byte{0, 1, 27, 0, 192, 0, 2, 64}, noerror, 27, par},
		{"IPv6 /56", []byte{0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 2, 0, 0}, noerror, 40, par},
		{"mapped IPv4", append([]byte{0, 2, 128, 0}, netip.MustParseAddr("::ffff:192.0.2.64").AsSlice()...), noerror, 96 + 27, par},
		{"a scope is never shorter than /8", []byte{0, 1, 24, 0, 100, 1, 1}, noerror, 8, ber},
		{"never shorter than /16 (IPv6)", []byte{0, 2, 32, 0, 0x2a, 0, 0, 1}, noerror, 16, ber},
		{"unknown place", []byte{0, 1, 24, 0, 9, 9, 9}, noerror, 8, ""},
		{"source /0: the source address counts, scope 0 (section 7.1.2)", []byte{0, 1, 0, 0}, noerror, 0, ber},
		{"source /0, IPv6", []byte{0, 2, 0, 0}, noerror, 0, ber},
		{"source /0, no family", []byte{0, 0, 0, 0}, noerror, 0, ber},
		{"a source that spans four countries, the Emirates one of them: no edge", []byte{0, 1, 8, 0, 10}, noerror, 22, ""},
		{"a source that spans France and Britain", []byte{0, 1, 26, 0, 192, 0, 2, 64}, noerror, 27, "198.18.5.1"},
		{"a source that spans Britain and Germany: not London", []byte{0, 1, 24, 0, 10, 0, 7}, noerror, 25, par},
		{"a source that spans Germany and the Emirates: no edge", []byte{0, 1, 24, 0, 10, 1, 7}, noerror, 25, ""},
		{"a source with an unknown part: no edge", []byte{0, 1, 16, 0, 192, 0}, noerror, 23, ""},
		{"bits beyond the prefix", []byte{0, 1, 24, 0, 10, 1, 2, 1}, formerr, -1, ""},
		{"bits beyond the prefix, in its last octet", []byte{0, 1, 23, 0, 10, 1, 3}, formerr, -1, ""},
		{"a scope in a query", []byte{0, 1, 24, 24, 10, 1, 2}, formerr, -1, ""},
		{"address too long", []byte{0, 1, 16, 0, 10, 1, 0}, formerr, -1, ""},
		{"address too short", []byte{0, 1, 24, 0, 10, 1}, formerr, -1, ""},
		{"/33 of IPv4", []byte{0, 1, 33, 0, 10, 1, 2, 3, 0}, formerr, -1, ""},
		{"/129 of IPv6", append([]byte{0, 2, 129, 0}, make([]byte, 17)...), formerr, -1, ""},
		{"family 0 with bytes", []byte{0, 0, 8, 0, 10}, formerr, -1, ""},
		{"family 0, /0, with bytes", []byte{0, 0, 0, 0, 10}, formerr, -1, ""},
		{"family 3", []byte{0, 3, 8, 0, 10}, formerr, -1, ""},
		{"three octets", []byte{0, 1, 0}, formerr, -1, ""},
		{"empty", nil, formerr, -1, ""},
	} {
		m := exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, option(dns.EDNS0SUBNET, r.data...))), berlin, overUDP)
		first := ""
		if a := addrsOf(m); len(a) > 0 {
			first = a[0].String()
		}
		if m.Rcode != r.rcode || scopeOf(m) != r.scope || first != r.first {
			t.Errorf("%s: got %s, scope %d, %q; want %s, scope %d, %q", r.name, dns.RcodeToString[m.Rcode], scopeOf(m), first, dns.RcodeToString[r.rcode], r.scope, r.first)
		}
		for _, o := range m.IsEdns0().Option {
			if e, ok := o.(*dns.EDNS0_SUBNET); ok && (e.Family != uint16(r.data[1]) || e.SourceNetmask != r.data[2]) {
				t.Errorf("%s: echoed %v", r.name, e)
			}
		}
	}
	twice := ask("join.media.example.", dns.TypeA, ecs("10.0.0.0/24"), ecs("10.0.0.0/24"))
	if m := exchange(t, s, pack(t, twice), berlin, overUDP); m.Rcode != formerr {
		t.Errorf("two options: got %s, want FORMERR", dns.RcodeToString[m.Rcode])
	}
	if m := exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA)), berlin, overUDP); scopeOf(m) != -1 {
		t.Errorf("no option in the query: got scope %d, want no option", scopeOf(m))
	}
	for _, name := range []string{"media.example.", "ns1.media.example.", "de.join.media.example.", "ec.join.media.example.", "de-fra-1.edge.media.example.", "www.media.example."} {
		if m := exchange(t, s, pack(t, ask(name, dns.TypeA, ecs("10.1.2.0/24"))), berlin, overUDP); scopeOf(m) != 0 {
			t.Errorf("%s: scope %d, want 0: everybody gets this answer", name, scopeOf(m))
		}
	}
	if m := exchange(t, s, pack(t, ask("other.example.", dns.TypeA, ecs("10.1.2.0/24"))), berlin, overUDP); m.Rcode != refused || scopeOf(m) != 0 {
		t.Errorf("another zone: %s, scope %d, want REFUSED for everybody", dns.RcodeToString[m.Rcode], scopeOf(m))
	}
}

// What follows the pointers of thousands of owners pays for each: a packet of them would
// cost more than a hundred queries.
func TestOwnersAreNotUnpacked(t *testing.T) {
	s := listen(t)
	const n = 1000
	record := make([]byte, 0, 16*n)
	for range n {
		record = append(record, 0xc0, headerLen, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0)
	}
	packet := append(raw(0, 1, 0, 0, n, joinA), record...)
	q := newQuery()
	if got := testing.AllocsPerRun(10, func() { s.read(q, packet, netip.MustParseAddr(berlin), overTCP) }); got > 0 || q.rcode != noerror {
		t.Errorf("%v allocations, rcode %d, want none and NOERROR", got, q.rcode)
	}
}

// TestScopeNeverSpansTwoAnswers: over random geography, every address inside a
// returned scope gets the same answer, and no answer is unlawful for its place.
func TestScopeNeverSpansTwoAnswers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(78, 71))
	countries := []residency.Jurisdiction{"DE", "FR", "GB", "US-TX", "CA-QC", "AU", "AE", "EC", "CH"}
	w := demo()
	for range 40 {
		var list []region.Override
		seen := map[netip.Prefix]bool{}
		for range 1 + rnd.IntN(30) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(rnd.IntN(8)), byte(rnd.IntN(256))}), 14+rnd.IntN(19)).Masked()
			if !seen[p] {
				seen[p] = true
				list = append(list, over(p.String(), countries[rnd.IntN(len(countries))]))
			}
		}
		g, err := geo.Load("", list)
		if err != nil {
			t.Fatal(err)
		}
		s := listen(t, world(w), func(c *Config) { c.Geo = g })
		random := func(p netip.Prefix) netip.Addr {
			b := p.Addr().As4()
			n := binary.BigEndian.Uint32(b[:]) | rnd.Uint32()&^(^uint32(0)<<(32-p.Bits()))
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
		}
		at := func(p netip.Prefix) *dns.Msg {
			m := exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, ecs(p.String()))), nowhere, overUDP)
			js, ok := g.Jurisdictions(p, make([]residency.Jurisdiction, 0, maxPlaces))
			for _, a := range addrsOf(m) {
				r := regionOf(w, a)
				if v := steer.Permits(w, r, &steer.Client{Participants: js}); !ok || !v.Permitted() {
					t.Fatalf("%s with %v: %s is in %s: %s", p, js, a, r.ID, v.Code)
				}
			}
			return m
		}
		for range 12 {
			a := random(netip.MustParsePrefix("10.0.0.0/21"))
			m := at(netip.PrefixFrom(a, 32))
			inside := netip.PrefixFrom(a, scopeOf(m)).Masked()
			for range 8 {
				b := random(inside)
				if other := at(netip.PrefixFrom(b, 32)); !slices.Equal(show(m.Answer), show(other.Answer)) || scopeOf(other) > 32 {
					t.Fatalf("%v: %s: scope %s, but %s gets %v, not %v", list, a, inside, b, show(other.Answer), show(m.Answer))
				}
			}
			at(netip.PrefixFrom(a, 14+rnd.IntN(18)).Masked()) // coarse sources are lawful too
		}
		s.Close()
	}
}

package geodns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/geodns/cookie"
	"bailiwick/steer"
)

// TestRFC has rows for each document that this server honours, named by it and, where
// one says it, the section. What is more than one query has a test of its own: headers
// and options that no library makes TestHeaders (RFC 1035, 6891, 9619), names TestNames,
// sizes TestSizes (RFC 6891, 9715), ECS TestECS and TestScopeNeverSpansTwoAnswers (RFC
// 7871), pipelining TestTCP, TestPipelining and TestHalfClose (RFC 7766), TLS
// TestDNSOverTLS (RFC 7858), padding TestPadding (RFC 7830, 8467), every opcode, version,
// flag and option TestWhatIsUnknown (RFC 8906), cookies TestCookieVectors and TestCookies (RFC
// 9018), letter case TestLetterCaseComesBack (0x20), zone files TestRecordFaults.
func TestRFC(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Node = "dns-1" })
	hdr := func(f func(*dns.Msg)) func(*dns.Msg) { return f }
	rd := hdr(func(m *dns.Msg) { m.RecursionDesired = true })
	do := func(m *dns.Msg) { m.IsEdns0().SetDo() }
	version := func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }
	z := func(m *dns.Msg) { m.IsEdns0().SetZ(0x40) }
	client := []byte("8 octets")
	const fra = "198.18.4.1"
	for _, r := range []struct {
		name  string
		query string
		qtype uint16
		alter []func(*dns.Msg)
		src   string
		tcp   bool
		want  string
	}{
		{"RFC 1035 4.1.1 RD is copied, RA is not set", "media.example.", dns.TypeMX, []func(*dns.Msg){rd}, berlin, false, "NOERROR aa rd | MX 10 mail.media.example. | opt"},
		{"RFC 1035 4.1.1 answers of the zone are authoritative", "media.example.", dns.TypeA, nil, berlin, false, "NOERROR aa | A 198.18.200.1 | opt"},
		{"RFC 2308 2.1 NXDOMAIN has the SOA", "none.media.example.", dns.TypeA, nil, berlin, false, "NXDOMAIN aa | soa | opt"},
		{"RFC 2308 2.2 NODATA has the SOA", "mail.media.example.", dns.TypeTXT, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 2782: SRV follows the steering", "_turn._udp.join.media.example.", dns.TypeSRV, nil, berlin, false, "NOERROR aa | SRV 0 0 3478 de-ber-1.edge.media.example. SRV 1 0 3478 de-ber-2.edge.media.example. | opt"},
		{"RFC 2782: at the apex, for STUN", "_stun._udp.media.example.", dns.TypeSRV, nil, "192.0.2.65", false, "NOERROR aa | SRV 0 0 3478 fr-par-1.edge.media.example. SRV 1 0 3478 fr-par-2.edge.media.example. | opt"},
		{"RFC 2782: pinned", "_turn._udp.gb.join.media.example.", dns.TypeSRV, nil, nowhere, false, "NOERROR aa | SRV 0 0 3478 gb-lon-1.edge.media.example. SRV 1 0 3478 gb-lon-2.edge.media.example. | opt"},
		{"RFC 2782: and no unlawful edge", "_turn._udp.join.media.example.", dns.TypeSRV, nil, dubai, false, "NOERROR aa | CNAME none.edge.media.example. | soa | opt ede=18"},
		{"RFC 2782: of no such country", "_turn._udp.zz.join.media.example.", dns.TypeSRV, nil, berlin, false, "NXDOMAIN aa | soa | opt"},
		{"RFC 5928: TURN over TLS follows the steering", "_turns._tcp.media.example.", dns.TypeSRV, nil, "192.0.2.33", false, "NOERROR aa | SRV 0 0 5349 de-fra-1.edge.media.example. SRV 1 0 5349 de-fra-2.edge.media.example. | opt"},
		{"RFC 5928: pinned, on a port of its own", "_turns._tcp.us.join.media.example.", dns.TypeSRV, nil, nowhere, false, "NOERROR aa | SRV 0 0 443 us-iad-1.edge.media.example. SRV 1 0 443 us-iad-2.edge.media.example. | opt"},
		{"RFC 5928: but not to edges without TLS", "_turns._tcp.media.example.", dns.TypeSRV, nil, berlin, false, "NOERROR aa | CNAME none.edge.media.example. | soa | opt"},
		{"RFC 5928: nor over the law", "_turns._tcp.join.media.example.", dns.TypeSRV, nil, dubai, false, "NOERROR aa | CNAME none.edge.media.example. | soa | opt ede=18"},
		{"RFC 3225 3 DO is copied", "media.example.", dns.TypeA, []func(*dns.Msg){do}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt do"},
		{"RFC 3597 5 an unknown type in the zone", "odd.media.example.", 65280, nil, berlin, false, `NOERROR aa | TYPE65280 \# 4 0a000001 | opt`},
		{"RFC 4343: letter case does not matter", "MAIL.media.EXAMPLE.", dns.TypeA, nil, berlin, false, "NOERROR aa | A 198.18.200.2 | opt"},
		{"RFC 4592 3.3 a wildcard", "a.b.apps.media.example.", dns.TypeA, nil, berlin, false, "NOERROR aa | A 198.18.200.3 | opt"},
		{"RFC 4592 3.3.1 a name that exists hides it", "x.sip.apps.media.example.", dns.TypeA, nil, berlin, false, "NXDOMAIN aa | soa | opt"},
		{"RFC 5001 2.2 NSID names the node", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0NSID)}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt nsid=dns-1"},
		{"RFC 5001 2.2 what the query's holds does not matter", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0NSID, 1, 2)}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt nsid=dns-1"},
		{"RFC 5928 3 NAPTR leads to the SRV", "join.media.example.", dns.TypeNAPTR, nil, berlin, false, `NOERROR aa | NAPTR 100 10 "s" "RELAY:turn.udp" "" _turn._udp.join.media.example. NAPTR 100 20 "s" "RELAY:turn.tls" "" _turns._tcp.join.media.example. | opt`},
		{"RFC 5928 3 at the apex", "media.example.", dns.TypeNAPTR, nil, berlin, false, `NOERROR aa | NAPTR 100 10 "s" "RELAY:turn.udp" "" _turn._udp.media.example. NAPTR 100 20 "s" "RELAY:turn.tls" "" _turns._tcp.media.example. | opt`},
		{"RFC 5936: no zone transfer", "media.example.", dns.TypeAXFR, nil, berlin, true, "REFUSED | opt ede=18"},
		{"RFC 6604 3 the end of a CNAME chain is the rcode", "dead.media.example.", dns.TypeA, nil, berlin, false, "NXDOMAIN aa | CNAME gone.media.example. | soa | opt"},
		{"RFC 6891 6.1.3 BADVERS", "media.example.", dns.TypeA, []func(*dns.Msg){version}, berlin, false, "BADVERS | opt"},
		{"RFC 7828 3.3.2 keepalive over TCP, in 100 ms", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0TCPKEEPALIVE)}, berlin, true, "NOERROR aa | A 198.18.200.1 | opt keepalive=100"},
		{"RFC 7828 3.3.1 ignored over UDP", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0TCPKEEPALIVE)}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt"},
		{"RFC 7830: no padding in the clear, where it would hide nothing and amplify", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0PADDING, 0, 0)}, berlin, true, "NOERROR aa | A 198.18.200.1 | opt"},
		{"RFC 7871 7.2.1 the client's place, not the resolver's", "join.media.example.", dns.TypeA, []func(*dns.Msg){ecs("192.0.2.32/32")}, nowhere, false, "NOERROR aa | A " + fra + " A 198.18.4.2 | opt scope=27"},
		{"RFC 7871: also for HTTPS", "join.media.example.", dns.TypeHTTPS, []func(*dns.Msg){ecs("192.0.2.64/32")}, "192.0.2.33", false, "NOERROR aa | soa | opt scope=27"},
		{"RFC 7873 5.2.3 a client cookie gets a server's", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE, client...)}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt cookie"},
		{"RFC 7873 5.2.4 a server cookie that is not ours is no reason to refuse", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE, make([]byte, 40)...)}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt cookie"},
		{"RFC 7873 5.2.2 a cookie of 7 octets", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE, client[:7]...)}, berlin, false, "FORMERR | opt"},
		{"RFC 7873 5.2.2 a cookie of 15", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE, make([]byte, 15)...)}, berlin, false, "FORMERR | opt"},
		{"RFC 7873 5.2.2 a cookie of 41", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE, make([]byte, 41)...)}, berlin, false, "FORMERR | opt"},
		{"RFC 7873 5.2.2 an empty cookie", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE)}, berlin, false, "FORMERR | opt"},
		{"RFC 7873 5.2 the first of two cookies counts", "media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE, client...), option(dns.EDNS0COOKIE, 1)}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt cookie"},
		{"RFC 7873 5.4 a query for a cookie alone", "", 0, []func(*dns.Msg){option(dns.EDNS0COOKIE, client...)}, berlin, false, "NOERROR | opt cookie"},
		{"RFC 7873 5.4 with a server cookie that is not ours", "", 0, []func(*dns.Msg){option(dns.EDNS0COOKIE, make([]byte, 24)...)}, berlin, false, "BADCOOKIE | opt cookie"},
		{"RFC 7873 5.4 no question and no cookie", "", 0, nil, berlin, false, "FORMERR | opt"},
		{"RFC 9018 4 over TCP and IPv6 too", "none.media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0COOKIE, client...)}, "2001:db8::1", true, "NXDOMAIN aa | soa | opt cookie"},
		{"RFC 8020 2 nothing is below a name that does not exist", "a.none.media.example.", dns.TypeA, nil, berlin, false, "NXDOMAIN aa | soa | opt"},
		{"RFC 8482 4.2 ANY", "media.example.", dns.TypeANY, nil, berlin, false, `NOERROR aa | HINFO "RFC8482" "" | opt`},
		{"RFC 8482 4.2 ANY of an alias", "www.media.example.", dns.TypeANY, nil, berlin, false, "NOERROR aa | CNAME join.media.example. | opt"},
		{"RFC 8482 4.2 ANY below a wildcard", "x.apps.media.example.", dns.TypeANY, nil, berlin, false, `NOERROR aa | HINFO "RFC8482" "" | opt`},
		{"RFC 8482 4.2 ANY of an empty non-terminal", "c.media.example.", dns.TypeANY, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 8482 4.2 ANY of a steered one", "_udp.de.join.media.example.", dns.TypeANY, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 8482 4.2 ANY where challenges may be below", "de-fra.edge.media.example.", dns.TypeANY, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 8482 4.2 ANY at the apex's", "_tcp.media.example.", dns.TypeANY, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 8659 4.2 CAA", "media.example.", dns.TypeCAA, nil, berlin, false, `NOERROR aa | CAA 0 issue "ca.example" | opt`},
		{"RFC 8659 3 the tree is climbed from a name without", "join.media.example.", dns.TypeCAA, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 8906 8.1.1 SOA", "media.example.", dns.TypeSOA, []func(*dns.Msg){noEDNS}, berlin, false, "NOERROR aa | SOA ns.media.example. dns-admin.media.example. 3000000000 7200 900 1209600 5"},
		{"RFC 8906 8.1.2 an unknown type", "media.example.", 1000, []func(*dns.Msg){noEDNS}, berlin, false, "NOERROR aa | soa"},
		{"RFC 8906 8.1.3.1 CD, which RFC 4035 3.1.6 clears", "media.example.", dns.TypeA, []func(*dns.Msg){noEDNS, func(m *dns.Msg) { m.CheckingDisabled = true }}, berlin, false, "NOERROR aa | A 198.18.200.1"},
		{"RFC 8906 8.1.3.2 AD, which RFC 4035 3.1.6 keeps out of the answer", "media.example.", dns.TypeA, []func(*dns.Msg){noEDNS, func(m *dns.Msg) { m.AuthenticatedData = true }}, berlin, false, "NOERROR aa | A 198.18.200.1"},
		{"RFC 8906 8.1.3.3 the reserved bit is not copied", "media.example.", dns.TypeA, []func(*dns.Msg){noEDNS, func(m *dns.Msg) { m.Zero = true }}, berlin, false, "NOERROR aa | A 198.18.200.1"},
		{"RFC 8906 8.1.3.4 RD", "media.example.", dns.TypeA, []func(*dns.Msg){noEDNS, rd}, berlin, false, "NOERROR aa rd | A 198.18.200.1"},
		{"RFC 8906 8.1.4 an unknown opcode", "", 0, []func(*dns.Msg){noEDNS, func(m *dns.Msg) { m.Opcode = 15 }}, berlin, false, "NOTIMP"},
		{"RFC 8906 8.1.5 TCP", "media.example.", dns.TypeSOA, []func(*dns.Msg){noEDNS}, berlin, true, "NOERROR aa | SOA ns.media.example. dns-admin.media.example. 3000000000 7200 900 1209600 5"},
		{"RFC 8906 8.2.1 minimal EDNS", "media.example.", dns.TypeA, nil, berlin, false, "NOERROR aa | A 198.18.200.1 | opt"},
		{"RFC 8906 8.2.2 EDNS version 1", "media.example.", dns.TypeSOA, []func(*dns.Msg){version}, berlin, false, "BADVERS | opt"},
		{"RFC 8906 8.2.3 an unknown option", "media.example.", dns.TypeA, []func(*dns.Msg){option(100)}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt"},
		{"RFC 8906 8.2.4 an unknown flag", "media.example.", dns.TypeA, []func(*dns.Msg){z}, berlin, false, "NOERROR aa | A 198.18.200.1 | opt"},
		{"RFC 8906 8.2.5 version 1 and an unknown flag", "media.example.", dns.TypeA, []func(*dns.Msg){version, z}, berlin, false, "BADVERS | opt"},
		{"RFC 8906 8.2.6 version 1 and an unknown option", "media.example.", dns.TypeA, []func(*dns.Msg){version, option(100)}, berlin, false, "BADVERS | opt"},
		{"RFC 8906 8.2.7 a truncated answer has its OPT", "big.media.example.", dns.TypeTXT, []func(*dns.Msg){func(m *dns.Msg) { m.IsEdns0().SetUDPSize(512) }, ecs("192.0.2.32/32")}, berlin, false, "NOERROR aa tc | opt scope=0"},
		{"RFC 2181 9 TC, and no part of a set", "big.media.example.", dns.TypeTXT, []func(*dns.Msg){noEDNS}, berlin, false, "NOERROR aa tc"},
		{"RFC 8906 8.2.8 DO", "media.example.", dns.TypeSOA, []func(*dns.Msg){do}, berlin, false, "NOERROR aa | SOA ns.media.example. dns-admin.media.example. 3000000000 7200 900 1209600 5 | opt do"},
		{"RFC 8906 8.2.9 version 1 and DO", "media.example.", dns.TypeA, []func(*dns.Msg){version, do}, berlin, false, "BADVERS | opt do"},
		{"RFC 8906 8.2.10 several options", "join.media.example.", dns.TypeA, []func(*dns.Msg){option(dns.EDNS0NSID), option(dns.EDNS0COOKIE, client...), option(dns.EDNS0EXPIRE), ecs("192.0.2.32/32")}, berlin, false, "NOERROR aa | A " + fra + " A 198.18.4.2 | opt scope=27 cookie nsid=dns-1"},
		{"RFC 8914 4.19 a refusal says why", "join.media.example.", dns.TypeA, nil, dubai, false, "NOERROR aa | CNAME none.edge.media.example. | soa | opt ede=18"},
		{"RFC 8914 4.21 not this server's zone", "example.org.", dns.TypeA, nil, berlin, false, "REFUSED | opt ede=20"},
		{"RFC 9156: an empty non-terminal is NOERROR", "c.media.example.", dns.TypeA, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 9156: the steered ones too", "_udp.join.media.example.", dns.TypeA, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 9156: and pinned", "_udp.de.join.media.example.", dns.TypeA, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 9460 9 HTTPS follows the steering", "join.media.example.", dns.TypeHTTPS, nil, "192.0.2.33", false,
			`NOERROR aa | HTTPS 1 de-fra-1.edge.media.example. alpn="h2,http/1.1" ipv4hint="198.18.4.1" ipv6hint="2001:db8:ffff:4::1" HTTPS 2 de-fra-2.edge.media.example. alpn="h2,http/1.1" ipv4hint="198.18.4.2" ipv6hint="2001:db8:ffff:4::2" | opt`},
		{"RFC 9460 7.2 the port, where it is not 443", "us.join.media.example.", dns.TypeHTTPS, nil, nowhere, false,
			`NOERROR aa | HTTPS 1 us-iad-1.edge.media.example. alpn="h2,http/1.1" port="8443" ipv4hint="198.18.7.1" ipv6hint="2001:db8:ffff:7::1" HTTPS 2 us-iad-2.edge.media.example. alpn="h2,http/1.1" port="8443" ipv4hint="198.18.7.2" ipv6hint="2001:db8:ffff:7::2" | opt`},
		{"RFC 9460 2.5.2 an edge's own", "DE-fra-1.edge.media.example.", dns.TypeHTTPS, nil, nowhere, false, `NOERROR aa | HTTPS 1 . alpn="h2,http/1.1" ipv4hint="198.18.4.1" ipv6hint="2001:db8:ffff:4::1" | opt`},
		{"RFC 9460 9.5 none without TLS", "de-ber-1.edge.media.example.", dns.TypeHTTPS, nil, nowhere, false, "NOERROR aa | soa | opt"},
		{"RFC 9460: and no unlawful edge", "ae.join.media.example.", dns.TypeHTTPS, nil, berlin, false, "NOERROR aa | soa | opt ede=18"},
		{"RFC 9460: SVCB at a name that steers is NODATA", "join.media.example.", dns.TypeSVCB, []func(*dns.Msg){ecs("192.0.2.32/32")}, berlin, false, "NOERROR aa | soa | opt scope=0"},
		{"RFC 9460: and at the apex", "media.example.", dns.TypeSVCB, nil, berlin, false, "NOERROR aa | soa | opt"},
		{"RFC 9461: no name server is announced by SVCB", "_dns.ns1.media.example.", dns.TypeSVCB, nil, berlin, false, "NXDOMAIN aa | soa | opt"},
		{"RFC 9715 3.1 no datagram over 1232, whatever the client takes", "big.media.example.", dns.TypeTXT, []func(*dns.Msg){func(m *dns.Msg) { m.IsEdns0().SetUDPSize(4096) }}, berlin, false, "NOERROR aa tc | opt"},
		{"0x20 the letter case comes back (draft-vixie-dnsext-dns0x20)", "jOIN.mEDIA.eXAMPLE.", dns.TypeA, nil, berlin, false, "NOERROR aa | A 198.18.3.1 A 198.18.3.2 | opt"},
	} {
		m := ask(r.query, r.qtype, r.alter...)
		if r.query == "" {
			m.Question = nil
		}
		via := overUDP
		if r.tcp {
			via = overTCP
		}
		a := exchange(t, s, pack(t, m), r.src, via)
		if a == nil {
			t.Errorf("%s: no answer, want %s", r.name, r.want)
			continue
		}
		if got := line(a); got != r.want {
			t.Errorf("%s: got\n%s, want\n%s", r.name, got, r.want)
		}
		if !slices.Equal(a.Question, m.Question) || a.Id != m.Id || !a.Response || a.RecursionAvailable {
			t.Errorf("%s: header %v, question %v; want the query's", r.name, a.MsgHdr, a.Question)
		}
	}
}

// TestWhatIsUnknown asks with every opcode, EDNS version, flag and option that this
// server does not know (RFC 8906 sections 8.1.4 and 8.2.2 to 8.2.6).
func TestWhatIsUnknown(t *testing.T) {
	s := listen(t)
	known := []int{dns.EDNS0NSID, dns.EDNS0SUBNET, dns.EDNS0COOKIE, dns.EDNS0TCPKEEPALIVE, dns.EDNS0PADDING}
	check := func(what, want string, m *dns.Msg) {
		t.Helper()
		for _, via := range []transport{overUDP, overTCP, overTLS} {
			if a := exchange(t, s, pack(t, m), berlin, via); a == nil || line(a) != want || a.Opcode != m.Opcode {
				t.Errorf("%s over %s: got %v, want %s", what, transports[via], a, want)
			}
		}
	}
	const answer = "NOERROR aa | A 198.18.3.1 A 198.18.3.2 | opt"
	for opcode := 1; opcode < 16; opcode++ {
		for _, header := range []bool{false, true} {
			m := ask("join.media.example.", dns.TypeA, func(m *dns.Msg) { m.Opcode = opcode })
			if header {
				m.Question, m.Extra = nil, nil
			}
			check(fmt.Sprintf("opcode %d, a header alone: %v", opcode, header), "NOTIMP", m)
		}
	}
	for version := 1; version < 256; version++ {
		check(fmt.Sprint("version ", version), "BADVERS | opt", ask("join.media.example.", dns.TypeA, func(m *dns.Msg) { m.IsEdns0().SetVersion(uint8(version)) }, option(100, 1, 2)))
	}
	for bit := range 14 { // below DO and CO
		check(fmt.Sprint("flag ", bit), answer, ask("join.media.example.", dns.TypeA, func(m *dns.Msg) { m.IsEdns0().SetZ(1 << bit) }))
	}
	for code := range 1 << 16 {
		if slices.Contains(known, code) || testing.Short() && code > 1000 {
			continue
		}
		m := ask("join.media.example.", dns.TypeA, option(uint16(code), 1, 2, 3))
		if a := exchange(t, s, pack(t, m), berlin, overUDP); a == nil || line(a) != answer {
			t.Fatalf("option %d: got %v, want %s", code, a, answer)
		}
	}
}

// TestZoneFileAnnouncesTLS: who wants SVCB for the name server (RFC 9461) writes it.
func TestZoneFileAnnouncesTLS(t *testing.T) {
	s := listen(t, withRecords(t, "@ NS ns\nns A 198.18.200.9\n_dns.ns SVCB 1 ns.media.example. alpn=dot\n"))
	if got := line(exchange(t, s, pack(t, ask("_dns.ns.media.example.", dns.TypeSVCB)), berlin, overUDP)); got != `NOERROR aa | SVCB 1 ns.media.example. alpn="dot" | opt` {
		t.Errorf("got %s", got)
	}
}

// line is an answer in one line: rcode and flags, records, whether there is a SOA in
// authority, and EDNS.
func line(m *dns.Msg) string {
	var flags []string
	flags = append(flags, dns.RcodeToString[m.Rcode])
	if m.Rcode == dns.RcodeBadVers {
		flags[0] = "BADVERS"
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"}, {m.Zero, "z"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}} {
		if f.set {
			flags = append(flags, f.name)
		}
	}
	parts := []string{strings.Join(flags, " ")}
	if len(m.Answer) > 0 {
		parts = append(parts, strings.Join(show(m.Answer), " "))
	}
	for _, rr := range m.Ns {
		parts = append(parts, strings.ToLower(dns.TypeToString[rr.Header().Rrtype]))
	}
	o := m.IsEdns0()
	if o == nil {
		return strings.Join(parts, " | ")
	}
	words := []string{"opt"}
	if o.Do() {
		words = append(words, "do")
	}
	if o.Z() != 0 || o.Version() != 0 || o.UDPSize() != maxUDP {
		words = append(words, o.String())
	}
	for _, e := range o.Option {
		switch e := e.(type) {
		case *dns.EDNS0_SUBNET:
			words = append(words, fmt.Sprintf("scope=%d", e.SourceScope))
		case *dns.EDNS0_COOKIE:
			if len(e.Cookie) == 2*cookie.Whole {
				words = append(words, "cookie")
			}
		case *dns.EDNS0_NSID:
			words = append(words, "nsid="+strings.NewReplacer("646e732d31", "dns-1").Replace(e.Nsid))
		case *dns.EDNS0_TCP_KEEPALIVE:
			words = append(words, fmt.Sprintf("keepalive=%d", e.Timeout))
		case *dns.EDNS0_EDE:
			words = append(words, fmt.Sprintf("ede=%d", e.InfoCode))
		default:
			words = append(words, fmt.Sprintf("option %d", e.Option()))
		}
	}
	return strings.Join(append(parts, strings.Join(words, " ")), " | ")
}

// TestRelaysHaveTheirAddresses: SRV comes with the targets' addresses, and NODATA
// where no edge relays.
func TestRelaysHaveTheirAddresses(t *testing.T) {
	w := demo()
	s := listen(t, func(c *Config) { c.World = func() *steer.World { return w } })
	q := pack(t, ask("_turn._udp.media.example.", dns.TypeSRV))
	m := exchange(t, s, q, berlin, overUDP)
	if got := show(m.Extra); len(got) != 5 || got[0] != "A 198.18.3.1" || got[1] != "AAAA 2001:db8:ffff:3::1" || m.Extra[0].Header().Name != "de-ber-1.edge.media.example." {
		t.Errorf("additional: got %q, want both edges' addresses", got)
	}
	bare := demo()
	for i := range bare.Regions {
		for k := range bare.Regions[i].Edges {
			bare.Regions[i].Edges[k].Turns = netip.AddrPort{}
		}
	}
	w = bare
	naptr := pack(t, ask("media.example.", dns.TypeNAPTR))
	if got := show(exchange(t, s, naptr, berlin, overUDP).Answer); len(got) != 1 || strings.Contains(got[0], "turn.tls") {
		t.Errorf("NAPTR without an edge that has TLS: got %q, want UDP alone", got)
	}
	w = demo()
	ber := &w.Regions[w.RegionIndex("de-ber")]
	ber.Edges[0].Turn = netip.AddrPort{}
	if got := show(exchange(t, s, q, berlin, overUDP).Answer); !slices.Equal(got, []string{"SRV 0 0 3478 de-ber-2.edge.media.example."}) {
		t.Errorf("one edge without a relay: got %q, want the other", got)
	}
}

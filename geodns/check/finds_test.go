package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/nodetest"
)

// TestRunFinds: each thing that goes wrong is told by its check, and by no other.
func TestRunFinds(t *testing.T) {
	t.Parallel() // as its parts do: they wait for what does not come
	set, signer := zoneKeys(t, time.Now())
	resigned := func(r *dns.Msg, validity, refresh time.Duration) *dns.Msg {
		p := dnssec.DefaultPolicy()
		p.Validity, p.Refresh = validity, refresh
		s, err := dnssec.NewSigner(set, p)
		if err != nil {
			t.Error(err)
			return r
		}
		sigs, _, err := s.Sign(r.Answer[:1], time.Now())
		if err != nil {
			t.Error(err)
			return r
		}
		r.Answer = append(r.Answer[:1], sigs...)
		return r
	}
	good := nodetest.Start(t)
	good.SetSigner(signer)
	soa := func(q *dns.Msg) bool { return len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeSOA }
	is := func(q *dns.Msg, name string, t uint16) bool {
		return len(q.Question) == 1 && q.Question[0].Name == name && q.Question[0].Qtype == t
	}
	options := func(r *dns.Msg, f func(dns.EDNS0) dns.EDNS0) {
		o := r.IsEdns0()
		if o == nil {
			return
		}
		var kept []dns.EDNS0
		for _, e := range o.Option {
			if e = f(e); e != nil {
				kept = append(kept, e)
			}
		}
		o.Option = kept
	}
	for _, r := range []struct {
		name   string
		meddle func(network string, q, r *dns.Msg) *dns.Msg
		want   []string
	}{
		{"nothing wrong", func(_ string, q, r *dns.Msg) *dns.Msg { return r }, nil},
		{"no UDP", func(n string, q, r *dns.Msg) *dns.Msg {
			if n == "udp" {
				return nil
			}
			return r
		}, []string{"udp"}},
		{"no TCP", func(n string, q, r *dns.Msg) *dns.Msg {
			if n == "tcp" {
				return nil
			}
			return r
		}, []string{"tcp"}},
		{"a resolver's answers", func(_ string, q, r *dns.Msg) *dns.Msg {
			r.RecursionAvailable = true
			return r
		}, []string{"rfc8906 8.1.1", "rfc8906 8.1.2", "rfc8906 8.1.3.1", "rfc8906 8.1.3.2", "rfc8906 8.1.3.3", "rfc8906 8.1.3.4", "rfc8906 8.1.4", "rfc8906 8.1.5",
			"rfc8906 8.2.1", "rfc8906 8.2.10", "rfc8906 8.2.2", "rfc8906 8.2.3", "rfc8906 8.2.4", "rfc8906 8.2.5", "rfc8906 8.2.6", "rfc8906 8.2.7", "rfc8906 8.2.8", "rfc8906 8.2.9"}},
		{"OPT that nobody asked for", func(_ string, q, r *dns.Msg) *dns.Msg {
			if q.IsEdns0() == nil {
				r.SetEdns0(1232, false)
			}
			return r
		}, []string{"rfc8906 8.1.1", "rfc8906 8.1.2", "rfc8906 8.1.3.1", "rfc8906 8.1.3.2", "rfc8906 8.1.3.3", "rfc8906 8.1.3.4", "rfc8906 8.1.4", "rfc8906 8.1.5"}},
		{"unknown opcodes dropped", func(_ string, q, r *dns.Msg) *dns.Msg {
			if q.Opcode != 0 {
				return nil
			}
			return r
		}, []string{"rfc8906 8.1.4"}},
		{"EDNS version 1 answered as version 0", func(_ string, q, r *dns.Msg) *dns.Msg {
			if r.Rcode == dns.RcodeBadVers {
				r.Rcode = 0
				r.IsEdns0().SetExtendedRcode(0)
			}
			return r
		}, []string{"rfc8906 8.2.2", "rfc8906 8.2.5", "rfc8906 8.2.6", "rfc8906 8.2.9"}},
		{"EDNS version 1 in the answer", func(_ string, q, r *dns.Msg) *dns.Msg {
			if r.Rcode == dns.RcodeBadVers {
				r.IsEdns0().SetVersion(1)
			}
			return r
		}, []string{"rfc8906 8.2.2", "rfc8906 8.2.5", "rfc8906 8.2.6", "rfc8906 8.2.9"}},
		{"records beside an error", func(_ string, q, r *dns.Msg) *dns.Msg {
			if r.Rcode == dns.RcodeBadVers {
				r.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "media.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"x"}}}
			}
			return r
		}, []string{"rfc8906 8.2.2", "rfc8906 8.2.5", "rfc8906 8.2.6", "rfc8906 8.2.9"}},
		{"another opcode in the answer", func(_ string, q, r *dns.Msg) *dns.Msg {
			r.Opcode = 0
			return r
		}, []string{"rfc8906 8.1.4"}},
		{"RD not copied", func(_ string, q, r *dns.Msg) *dns.Msg {
			r.RecursionDesired = false
			return r
		}, []string{"rfc8906 8.1.3.4"}},
		{"unknown options echoed", func(_ string, q, r *dns.Msg) *dns.Msg {
			if o := q.IsEdns0(); o != nil && r.Rcode == 0 {
				for _, e := range o.Option {
					if e.Option() == 100 {
						r.IsEdns0().Option = append(r.IsEdns0().Option, e)
					}
				}
			}
			return r
		}, []string{"rfc8906 8.2.3"}},
		{"unknown flags copied", func(_ string, q, r *dns.Msg) *dns.Msg {
			if o := q.IsEdns0(); o != nil && r.Rcode == 0 {
				r.IsEdns0().SetZ(o.Z())
			}
			return r
		}, []string{"rfc8906 8.2.4"}},
		{"the reserved header bit copied", func(_ string, q, r *dns.Msg) *dns.Msg {
			r.Zero = q.Zero
			return r
		}, []string{"rfc8906 8.1.3.3"}},
		{"unknown types dropped", func(_ string, q, r *dns.Msg) *dns.Msg {
			if len(q.Question) == 1 && q.Question[0].Qtype == 1000 {
				return nil
			}
			return r
		}, []string{"rfc8906 8.1.2"}},
		{"an answer without authority", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "media.example.", 1000) {
				r.Authoritative = false
			}
			return r
		}, []string{"rfc8906 8.1.2"}},
		{"an answer of no authority for a pinned name", func(_ string, q, r *dns.Msg) *dns.Msg {
			r.Authoritative = r.Authoritative && !is(q, "de.join.media.example.", dns.TypeA)
			return r
		}, []string{"served"}},
		{"cut over UDP, whole over TCP", func(n string, q, r *dns.Msg) *dns.Msg {
			if n == "udp" && is(q, "de.join.media.example.", dns.TypeA) {
				r.Truncated, r.Answer = true, nil
			}
			return r
		}, nil},
		{"cut over UDP, and nothing over TCP", func(n string, q, r *dns.Msg) *dns.Msg {
			if is(q, "_why.join.media.example.", dns.TypeTXT) {
				r.Truncated, r.Answer = n == "udp", nil
			}
			return r
		}, []string{"sizes"}},
		{"DO not copied", func(_ string, q, r *dns.Msg) *dns.Msg {
			if o := r.IsEdns0(); o != nil {
				o.SetDo(false)
			}
			return r
		}, []string{"rfc8906 8.2.7", "rfc8906 8.2.8"}},
		{"a server that takes fragments", func(_ string, q, r *dns.Msg) *dns.Msg {
			if o := r.IsEdns0(); o != nil && is(q, "join.media.example.", dns.TypeHTTPS) {
				o.SetUDPSize(4096)
			}
			return r
		}, []string{"sizes"}},
		{"ECS scope 0", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e, ok := e.(*dns.EDNS0_SUBNET); ok {
					e.SourceScope = 0
				}
				return e
			})
			return r
		}, []string{"join 192.0.2.0/27", "join 198.51.100.0/27"}},
		{"ECS scope over two countries", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e, ok := e.(*dns.EDNS0_SUBNET); ok && e.SourceNetmask > 0 {
					e.SourceScope = 4
				}
				return e
			})
			return r
		}, []string{"ecs-scope"}},
		{"ECS not answered", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e.Option() == dns.EDNS0SUBNET {
					return nil
				}
				return e
			})
			return r
		}, []string{"join 192.0.2.0/27", "join 198.51.100.0/27"}},
		{"a jurisdiction without an edge", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "de.join.media.example.", dns.TypeA) {
				r.Answer = nil
			}
			return r
		}, []string{"served"}},
		{"cookies dropped", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e.Option() == dns.EDNS0COOKIE {
					return nil
				}
				return e
			})
			return r
		}, []string{"cookies"}},
		{"cookies of another client, taken by all", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e, ok := e.(*dns.EDNS0_COOKIE); ok {
					e.Cookie = strings.Repeat("f", 16) + e.Cookie[16:]
				}
				return e
			})
			if q.Opcode == 0 && len(q.Question) == 0 {
				r.Rcode = dns.RcodeSuccess
			}
			return r
		}, []string{"cookies"}},
		{"cookies given and not taken", func(_ string, q, r *dns.Msg) *dns.Msg {
			if q.Opcode == 0 && len(q.Question) == 0 {
				r.Rcode = dns.RcodeFormatError
			}
			return r
		}, []string{"cookies"}},
		{"other name servers", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "media.example.", dns.TypeNS) && q.IsEdns0() != nil && !q.IsEdns0().Do() {
				r.Answer[0].(*dns.NS).Ns = "ns9.media.example."
			}
			return r
		}, []string{"ns"}},
		{"a name server without an address", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "ns1.media.example.", dns.TypeA) {
				r.Answer = nil
			}
			return r
		}, []string{"glue ns1.media.example."}},
		{"fragments", func(n string, q, r *dns.Msg) *dns.Msg {
			if n == "udp" && is(q, "join.media.example.", dns.TypeHTTPS) {
				r.Ns = append(r.Ns, &dns.TXT{Hdr: dns.RR_Header{Name: "media.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: slices.Repeat([]string{strings.Repeat("x", 250)}, 6)})
			}
			return r
		}, []string{"sizes"}},
		{"a signature of something else", func(_ string, q, r *dns.Msg) *dns.Msg {
			if soa(q) && len(r.Answer) > 1 { // with its RRSIG
				r.Answer[0].(*dns.SOA).Serial++
			}
			return r
		}, []string{"dnssec"}},
		{"a signature that ends soon", func(_ string, q, r *dns.Msg) *dns.Msg {
			if soa(q) && len(r.Answer) > 1 { // with its RRSIG
				return resigned(r, 4*time.Hour, 2*time.Hour)
			}
			return r
		}, []string{"dnssec"}},
		{"a signature that ends in three days", func(_ string, q, r *dns.Msg) *dns.Msg {
			if soa(q) && len(r.Answer) > 1 {
				return resigned(r, 84*time.Hour, 72*time.Hour)
			}
			return r
		}, nil},
		{"signatures taken out", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "bailiwick-check.media.example.", dns.TypeA) {
				r.Ns = slices.DeleteFunc(r.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
			}
			return r
		}, []string{"dnssec"}},
		{"a CDS of another key", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "media.example.", dns.TypeCDS) {
				r.Answer[0].(*dns.CDS).KeyTag++
			}
			return r
		}, []string{"cds"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			rows := asked(t, meddler(t, good.Addr().String(), r.meddle)).Run(t.Context())
			slices.Sort(r.want)
			if got := failed(rows); !slices.Equal(got, r.want) {
				t.Errorf("failed %v, want %v: %v", got, r.want, rows)
			}
			for _, row := range rows {
				if row.OK == (row.Do != "") {
					t.Errorf("%s: ok %v, do %q", row.Check, row.OK, row.Do)
				}
			}
		})
	}
}

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestWire(t *testing.T) {
	for _, network := range []string{"192.0.2.0/24", "198.51.0.0/17", "2001:db8:7::/56"} {
		for _, do := range []bool{false, true} {
			want := netip.MustParsePrefix(network)
			b, err := wire(want, do)
			if err != nil {
				t.Fatal(err)
			}
			var m dns.Msg
			if err := m.Unpack(b); err != nil {
				t.Fatalf("%s: %v", network, err)
			}
			o := m.IsEdns0()
			if o == nil || len(o.Option) != 1 {
				t.Fatalf("%s: options %v, want one", network, o)
			}
			e, ok := o.Option[0].(*dns.EDNS0_SUBNET)
			if !ok {
				t.Fatalf("%s: option %v, want ECS", network, o.Option[0])
			}
			a, _ := netip.AddrFromSlice(e.Address)
			if e.Family == 1 {
				a = a.Unmap()
			}
			if got := netip.PrefixFrom(a, int(e.SourceNetmask)); got != want || e.SourceScope != 0 || o.Do() != do {
				t.Errorf("ECS %s/%d, DO %v, want %s/0, DO %v", got, e.SourceScope, o.Do(), want, do)
			}
		}
	}
}

func TestLastOf(t *testing.T) {
	for p, want := range map[string]string{"0.0.0.0/0": "255.255.255.255", "192.0.2.64/27": "192.0.2.95", "192.0.2.1/32": "192.0.2.1",
		"2001:db8::/33": "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"} {
		if got := lastOf(netip.MustParsePrefix(p)).String(); got != want {
			t.Errorf("lastOf(%s) = %s, want %s", p, got, want)
		}
	}
}

// A name may hold what separates the other fields.
func TestStatFields(t *testing.T) {
	f := statFields([]byte("42 (a) (b c) S 1 42 42 0 -1 4194304 9 0 0 0 70 30 0 0 20 0 1 0\n"))
	for i, want := range map[int]string{0: "S", 2: "42", 11: "70", 12: "30"} {
		if f[i] != want {
			t.Errorf("field %d = %s, want %s", i+3, f[i], want)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, row := range []struct {
		name string
		in   []int
		want spread
	}{
		{"odd", []int{3, 1, 2}, spread{2, 1, 3}},
		{"even", []int{4, 1, 3, 2}, spread{2.5, 1, 4}},
	} {
		var all []sample
		for _, n := range row.in {
			all = append(all, sample{tally: tally{answered: n}})
		}
		if got := spreadOf(all, func(s sample) float64 { return float64(s.answered) }); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

func TestShares(t *testing.T) {
	got := shares("      flat  flat%   sum%        cum   cum%\n     1.25s 25.15% 25.15%      2.50s 50.30%  net.(*UDPConn).ReadMsgUDPAddrPort (inline)\n")
	if want := 0.503; len(got) != 1 || got["net.(*UDPConn).ReadMsgUDPAddrPort"] != want {
		t.Errorf("shares = %v, want %v of one function", got, want)
	}
}

func TestListed(t *testing.T) {
	for in, want := range map[string]int{"0": 1, "0-1": 2, "0-1,4": 3, "": 0} {
		if got := len(listed(in)); got != want {
			t.Errorf("listed(%q) has %d cores, want %d", in, got, want)
		}
	}
}

// A peer that is not there has a row that says what to install.
func TestAbsentPeer(t *testing.T) {
	s := &server{name: "none", binary: "no-such-name-server", pkg: "some-package"}
	own := &server{name: "bailiwick", asked: 1, samples: map[string][]sample{}}
	for _, set := range []string{served, withDO, everywhere} {
		own.samples[set] = []sample{{tally: tally{answered: 1}}}
	}
	b := &bench{own: own, servers: []*server{own, s}, sets: map[string][][]byte{everywhere: {nil}}}
	err := b.launch(s)
	if err == nil {
		t.Fatal("a server was started that is not there")
	}
	s.absent = err.Error()
	var w strings.Builder
	b.writeCost(func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) })
	if want := "| none | not measured: not installed: apt-get install some-package |"; !strings.Contains(w.String(), want) {
		t.Errorf("report:\n%s\nwant %q in it", w.String(), want)
	}
}

func TestParseCalls(t *testing.T) {
	c, err := parseCalls("Events enabled\n1000,,raw_syscalls:sys_enter,1,100.00,,\n100,,syscalls:sys_exit_recvmmsg,1,100.00,,\n" +
		"10,,syscalls:sys_exit_recvmmsg,1,100.00,,\n200,,syscalls:sys_exit_sendmmsg,1,100.00,,\n0,,syscalls:sys_exit_sendmmsg,1,100.00,,\n50,,syscalls:sys_enter_futex,1,100.00,,\n")
	if err != nil {
		t.Fatal(err)
	}
	c.answered = 2000
	if in, out, empty := c.batches(); in != 20 || out != 10 || empty != 0.5 {
		t.Errorf("%v datagrams in, %v out, %v empty, want 20, 10, 0.5", in, out, empty)
	}
	if got, want := c.names()+"; "+c.others(), "recvmmsg, sendmmsg; futex 2.5"; got != want {
		t.Errorf("calls %q, want %q", got, want)
	}
	for name, text := range map[string]string{"refused": "Error: no permission\n", "not counted": "<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"} {
		if _, err := parseCalls(text); err == nil {
			t.Errorf("%s: counted", name)
		}
	}
}

func TestParsePerf(t *testing.T) {
	got, err := parsePerf("Statistics:\n\n  Queries sent:         218922\n  Queries completed:    218900 (99.99%)\n  Queries lost:         22 (0.01%)\n\n" +
		"  Response codes:       NOERROR 218900 (100.00%)\n  Run time (s):         3.0\n  Queries per second:   72966.5\n")
	if want := (perfed{218922, 218900, 22, 218900, 72966.5}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := parsePerf("[Fatal] no address\n"); err == nil {
		t.Error("no statistics were read as some")
	}
}

func TestQuantile(t *testing.T) {
	sorted := []time.Duration{1, 2, 3, 4, 5}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.95: 5, 1: 5} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	for want, g := range map[string]goal{"reached": {measured: true, met: true}, "**not reached**": {measured: true}, "not measured": {met: true}} {
		if got := g.verdict(); got != want {
			t.Errorf("%+v: %s, want %s", g, got, want)
		}
	}
}

// A changed answer must not pass for signed, nor one without a signature.
func TestVerify(t *testing.T) {
	signer, err := newSigner()
	if err != nil {
		t.Fatal(err)
	}
	a := func(addr string) dns.RR {
		rr, err := dns.NewRR(joinName + " 5 IN A " + addr)
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	set := []dns.RR{a("198.18.0.1")}
	sigs, _, err := signer.Sign(set, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := given{rrs: set, sig: sigs[0].(*dns.RRSIG)}
	keys := keysOf(signer.Apex[dns.TypeDNSKEY])
	for _, row := range []struct {
		name string
		in   given
		n    int
		bad  bool
	}{
		{"signed", good, 1, false},
		{"unsigned", given{rrs: set}, 0, false},
		{"another address", given{rrs: []dns.RR{a("198.18.0.2")}, sig: good.sig}, 0, true},
	} {
		if n, err := verify(keys, []given{row.in}); n != row.n || (err != nil) != row.bad {
			t.Errorf("%s: %d verified, error %v; want %d, an error %v", row.name, n, err, row.n, row.bad)
		}
	}
}

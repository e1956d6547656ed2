package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/store/consultest"
	"bailiwick/tools/exectest"
	"bailiwick/tools/nettest"
)

// A DNS node makes the zone's keys in Consul, `dns ds` prints what the parent should
// have, and a node that starts without Consul signs with the same keys.
func TestKeysOutliveConsul(t *testing.T) {
	server := consultest.Start(t)
	n, state := nettest.Net(t), t.TempDir()
	args := []string{"dns", "--listen", n + ".0.1:8053", "--consul", server.Addr(), "--state", state, "--probe-interval", "250ms", "--dnssec"}
	node := start(t, args...)
	signed := func() string {
		t.Helper()
		full := digFull(t, n+".0.1", "media.example", "SOA", "+dnssec")
		if !strings.Contains(full, "RRSIG\tSOA 13 2 5") {
			t.Fatalf("the SOA is not signed:\n%s", full)
		}
		return strings.Join(dig(t, n+".0.1", "media.example", "DNSKEY"), " ")
	}
	key := signed()

	out, code := run(t, "dns", "ds", "--consul", server.Addr())
	if code != 0 || !strings.HasPrefix(out, "; not for the parent before ") {
		t.Fatalf("exit code %d, %q: want the records, and that it is early", code, out)
	}
	rr, err := dns.NewRR("media.example. DNSKEY " + key)
	if err != nil {
		t.Fatal(err)
	}
	for _, digest := range []uint8{dns.SHA256, dns.SHA384} {
		if want := rr.(*dns.DNSKEY).ToDS(digest).Digest; !strings.Contains(strings.ToLower(out), want) {
			t.Errorf("want the digest %s in\n%s", want, out)
		}
	}

	node.stop()
	server.Kill()
	start(t, args...)
	if again := signed(); again != key {
		t.Errorf("without Consul: signed by %s, want %s", again, key)
	}
	if out, code := run(t, "dns", "ds", "--consul", server.Addr()); code == 0 || !strings.Contains(out, "media.example") {
		t.Errorf("without Consul: exit code %d, %q", code, out)
	}
}

// TestDnsviz has dnsviz look at the zone from the outside: no error, no warning, and
// every RRset and denial secure from its key.
func TestDnsviz(t *testing.T) {
	exectest.Need(t, "dnsviz", "dnsviz")
	d := startDev(t, "--dnssec")
	dir := t.TempDir()
	rr := strings.Join(dig(t, d.dns(), "media.example", "DNSKEY"), " ")
	other := "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==" // RFC 6605's
	const types = "SOA,NS,DNSKEY,NAPTR,A,AAAA,HTTPS,SRV,TXT"
	names := []string{"media.example", "join.media.example", "de.join.media.example", "_turn._udp.media.example", "nope.media.example", "edge.media.example"}
	probe := append([]string{"probe", "-4", "-A", "-x", "media.example+:ns1.media.example=" + d.dns() + ":8053", "-R", types, "-o", dir + "/probe.json"}, names...)
	if out, err := output("dnsviz", probe...); err != nil {
		t.Fatalf("dnsviz probe: %v\n%s", err, out)
	}
	for _, c := range []struct {
		name, key string
		well      bool
	}{{"from its key", rr, true}, {"from another key", other, false}} {
		if err := os.WriteFile(dir+"/key", []byte("media.example. 3600 IN DNSKEY "+c.key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := output("dnsviz", "print", "-r", dir+"/probe.json", "-t", dir+"/key", "-R", types)
		out := string(b)
		secure := strings.Count(out, "[.]")
		unwell := len(regexp.MustCompile(`(?m)\[[^.\]][^\]]*\]|\[\.[^\]]+\]|^\s*[EW]:`).FindAllString(out, -1))
		if err != nil || c.well && (unwell > 0 || secure < 40) || !c.well && unwell == 0 {
			t.Errorf("%s: %v, %d secure and %d not:\n%s", c.name, err, secure, unwell, out)
		}
	}
}

package e2e

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/store/consultest"
)

// A DNS node makes the zone's keys in Consul, `dns ds` prints what the parent should
// have, and a node that starts without Consul signs with the same keys.
func TestKeysOutliveConsul(t *testing.T) {
	server := consultest.Start(t)
	n, state := newNet(), t.TempDir()
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

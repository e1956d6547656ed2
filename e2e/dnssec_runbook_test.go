package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/store"
	"bailiwick/store/consul"
	"bailiwick/store/consultest"
	"bailiwick/tools/nettest"
)

// aged puts a key set of that state into Consul, as if the zone were some days old.
func aged(t *testing.T, addr, state string) dnssec.Set {
	t.Helper()
	p, begin := dnssec.DefaultPolicy(), time.Now().Add(-72*time.Hour)
	set, err := dnssec.NewSet("media.example", dnssec.ECDSAP256, false, begin)
	if err == nil {
		set, _, err = dnssec.Next(set, begin.Add(3*time.Hour), p, nil)
	}
	if err == nil && state == "active" {
		var ds *dns.DS
		if ds, err = set.DS(set.Keys[0], dns.SHA256); err != nil {
			t.Fatal(err)
		}
		if set, _, err = dnssec.Next(set, begin.Add(4*time.Hour), p, &dnssec.Parent{DS: []*dns.DS{ds}, By: "test"}); err == nil {
			set, _, err = dnssec.Next(set, begin.Add(60*time.Hour), p, nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := set.Encode()
	if err != nil {
		t.Fatal(err)
	}
	st, err := consul.New(addr, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := store.Store(st).Put(ctx, dnssec.StoreKey("media.example"), b); err != nil {
		t.Fatal(err)
	}
	return set
}

// runs is a block of the runbook that a test runs, and the state that the zone's key
// has before.
var runs = regexp.MustCompile("(?m)^ *<!-- run(?:: (\\w+))? -->\n *```sh\n((?:.*\n)*?) *```$")

// TestDNSSECRunbook runs the commands of docs/operations/dnssec.md as they stand.
func TestDNSSECRunbook(t *testing.T) {
	text, err := os.ReadFile("../docs/operations/dnssec.md")
	if err != nil {
		t.Fatal(err)
	}
	server := consultest.Start(t)
	blocks := runs.FindAllStringSubmatch(string(text), -1)
	if n := strings.Count(string(text), "```sh"); len(blocks) != n || n < 4 {
		t.Fatalf("%d blocks are run of %d", len(blocks), n)
	}
	for _, b := range blocks {
		aged(t, server.Addr(), b[1])
		for _, cmd := range commands(b[2]) {
			t.Run(cmd, func(t *testing.T) {
				shell(t, strings.NewReplacer("bin/bailiwick", binary, "127.0.0.1:8500", server.Addr()).Replace(cmd))
			})
		}
	}
}

// TestDNSSECVerbs: what each verb prints, and what it refuses.
func TestDNSSECVerbs(t *testing.T) {
	server := consultest.Start(t)
	for _, c := range []struct {
		name, state string // of the key before; "": no keys
		args        []string
		code        int
		want        []string
	}{
		{"no keys", "", []string{"keys"}, 1, []string{"run a node with bailiwick dns --dnssec first"}},
		{"no keys to roll", "", []string{"roll"}, 1, []string{"run a node with bailiwick dns --dnssec first"}},
		{"an active key", "active", []string{"keys"}, 0, []string{"KEY", "csk", "13", "active", "stays until it is rolled"}},
		{"JSON", "active", []string{"keys", "--json"}, 0, []string{`"zone": "media.example."`, `"serial": 4`, `"state": "active"`, `"ds_by": "test"`}},
		{"nothing waits", "active", []string{"ds", "--confirm"}, 1, []string{"no key waits for its DS"}},
		{"a key that waits", "ready", []string{"keys"}, 0, []string{"ready", "waits until the parent has its DS and no other"}},
		{"a roll before its time", "ready", []string{"roll"}, 1, []string{"one is under way, or its first key is not yet active"}},
		{"confirmed", "ready", []string{"ds", "--confirm"}, 0, []string{"active at ", "DS seen by "}},
		{"confirmed twice", "", []string{"ds", "--confirm"}, 1, []string{"its DS was seen at ", "already"}},
		{"rolled", "active", []string{"roll"}, 0, []string{"active", "published", "ready at "}},
		{"rolled twice", "", []string{"roll"}, 1, []string{"one is under way"}},
		{"not for the parent yet", "", []string{"ds", "--confirm"}, 1, []string{"its DS is not for the parent yet: it becomes ready at "}},
		{"to another algorithm", "active", []string{"roll", "--algorithm", "15"}, 0, []string{"signing", "published at "}},
		{"no such algorithm", "active", []string{"roll", "--algorithm", "8"}, 2, []string{"--algorithm 8: want 13 (ECDSA P-256) or 15 (Ed25519)"}},
		{"no such role", "active", []string{"roll", "--role", "zsk"}, 1, []string{"roll of the zsk: the zone has no active one"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.state != "" {
				aged(t, server.Addr(), c.state)
			}
			out, code := run(t, append(append([]string{"dns"}, c.args...), "--consul", server.Addr())...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("want %q in\n%s", w, out)
				}
			}
		})
	}
}

// TestNodeWithoutKeys: with neither Consul nor a copy, a node that signs says nothing and
// is not ready; once Consul is there it answers, signed from the first word.
func TestNodeWithoutKeys(t *testing.T) {
	server := consultest.Start(t)
	server.Pause()
	n := nettest.Net(t)
	node := launch(t, "dns", "--listen", n+".0.1:8053", "--http", n+".0.1:8081", "--consul", server.Addr(), "--dnssec")
	eventually(t, "says why it is not ready", func() error {
		r, err := client.Get("http://" + n + ".0.1:8081/readyz")
		if err != nil {
			return err // it is starting
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), "no dnssec keys yet") {
			return fmt.Errorf("%s: %s, %v", r.Status, b, err)
		}
		return nil
	})
	c := dns.Client{Timeout: 300 * time.Millisecond}
	if m, _, err := c.Exchange(new(dns.Msg).SetQuestion("media.example.", dns.TypeSOA), n+".0.1:8053"); err == nil {
		t.Errorf("answers without keys: %v", m)
	}
	server.Resume()
	node.ready()
	if full := digFull(t, n+".0.1", "media.example", "SOA", "+dnssec"); !strings.Contains(full, "RRSIG\tSOA 13 2 5") {
		t.Errorf("not signed:\n%s", full)
	}
	_, text := get(t, "http://"+n+".0.1:8081/metrics")
	for _, want := range []string{`bailiwick_dnssec_keys{state="published"} 1`, "bailiwick_dnssec_findings 0", "bailiwick_dnssec_signature_expires_timestamp_seconds 1."} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics: want %q", want)
		}
	}
}

// TestDNSSECFlags: what a node refuses to start with.
func TestDNSSECFlags(t *testing.T) {
	n := nettest.Net(t)
	zone := t.TempDir() + "/zone.db"
	if err := os.WriteFile(zone, []byte("\na 86400 TXT x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"a TTL that no roll waits for", []string{"--dnssec", "--zone-file", zone}, zone + ":2: a.media.example. TXT: TTL 86400: want at most 3600"},
		{"an algorithm", []string{"--dnssec", "--dnssec-algorithm", "8"}, "want 13 (ECDSA P-256) or 15 (Ed25519)"},
		{"a parent without keys", []string{"--parent", "192.0.2.53"}, "want --dnssec"},
		{"a parent by name", []string{"--dnssec", "--parent", "ns.example"}, `--parent: "ns.example": want the IP address of a DNS server`},
		{"a short life", []string{"--dnssec", "--dnssec-lifetime", "1h"}, "a roll takes longer"},
	} {
		out, code := run(t, append([]string{"dns", "--listen", n + ".0.1:8053"}, c.args...)...)
		if code != 2 || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d, want 2 and %q in\n%s", c.name, code, c.want, out)
		}
	}
}

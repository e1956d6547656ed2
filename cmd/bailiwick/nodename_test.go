package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"bailiwick/geodns"
)

// TestNodeOf: a host's name becomes one that the store and NSID take.
func TestNodeOf(t *testing.T) {
	label := strings.Repeat("a", 60)
	for _, r := range []struct{ name, host, want string }{
		{"a plain name", "ns-fra", "ns-fra"},
		{"in capitals", "NS1.Media.Example", "ns1.media.example"},
		{"with a final dot", "ns1.media.example.", "ns1.media.example"},
		{"with what Consul does not take", "Kühler Keller/1%", "khlerkeller1"},
		{"too long with its domain", label + ".media.example", label},
		{"too long", label + "-media", "dns-1"},
		{"none", "", "dns-1"},
		{"dots alone", "..", "dns-1"},
		{"nothing that is left", "名前", "dns-1"},
	} {
		got := nodeOf(r.host)
		if got != r.want || len(got) > geodns.MaxNode {
			t.Errorf("%s: got %q, want %q", r.name, got, r.want)
		}
		if err := (&dnsCmd{Node: got}).check(); err != nil && strings.Contains(err.Error(), "--node") {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}

// TestDNSNodeIsCalledByItsHost: two machines without --node are two nodes, and --help says
// what this one is called.
func TestDNSNodeIsCalledByItsHost(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	if code := run(context.Background(), []string{"dns", "serve", "--help"}, strings.NewReader(""), &stdout, &stderr); code != 0 {
		t.Fatal(stderr.String())
	}
	words := strings.Join(strings.Fields(stdout.String()), " ")
	if want := "host name when none is given. Default: " + nodeOf(host) + "."; !strings.Contains(words, want) {
		t.Errorf("no %q in\n%s", want, stdout.String())
	}
}

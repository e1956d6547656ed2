package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
)

func TestDSRecords(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	set, err := dnssec.NewSet("media.example", dnssec.ECDSAP256, false, at)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		name  string
		after time.Duration
		note  bool
	}{{"while caches may hold unsigned answers", 0, true}, {"after", 3 * time.Hour, false}} {
		if set, _, err = dnssec.Next(set, at.Add(r.after), dnssec.DefaultPolicy(), nil); err != nil {
			t.Fatal(err)
		}
		signer, err := dnssec.NewSigner(set, dnssec.DefaultPolicy())
		if err != nil {
			t.Fatal(err)
		}
		text, err := dsRecords(set)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.HasPrefix(text, "; not for the parent before 2026-11-24T1"); got != r.note {
			t.Errorf("%s: got %q", r.name, text)
		}
		var digests []uint8
		p := dns.NewZoneParser(strings.NewReader(text), ".", "")
		for rr, ok := p.Next(); ok; rr, ok = p.Next() {
			ds := rr.(*dns.DS)
			want := signer.Apex[dns.TypeDNSKEY][0].(*dns.DNSKEY).ToDS(ds.DigestType)
			if ds.KeyTag != want.KeyTag || !strings.EqualFold(ds.Digest, want.Digest) || ds.Hdr.Name != "media.example." {
				t.Errorf("%s: got %v, want %v", r.name, ds, want)
			}
			digests = append(digests, ds.DigestType)
		}
		if p.Err() != nil || len(digests) != 2 || digests[0] != dns.SHA256 || digests[1] != dns.SHA384 {
			t.Errorf("%s: digests %v, error %v", r.name, digests, p.Err())
		}
	}
}

// TestDNSWithoutAVerb: the flags of a node need no "serve".
func TestDNSWithoutAVerb(t *testing.T) {
	for _, args := range [][]string{{"dns"}, {"dns", "serve"}} {
		var stdout, stderr strings.Builder
		args = append(args, "--map", "missing.yaml", "--listen", "127.0.0.1:0", "--rate", "5", "--dnssec")
		if code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); code != exitMisuse || !strings.Contains(stderr.String(), "missing.yaml") {
			t.Errorf("%q: exit code %d, %q: want the flags taken and the map missed", args, code, stderr.String())
		}
	}
}

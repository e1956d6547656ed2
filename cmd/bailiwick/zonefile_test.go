package main

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/geodns"
	"bailiwick/geodns/geo"
	"bailiwick/steer"
)

// TestZoneFileReload: a changed zone file is served, a broken one is told with its
// line and leaves the last good one in force.
func TestZoneFileReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zone.db")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	table, err := geo.Load("", geo.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	e := &env{log: slog.New(slog.NewTextHandler(&log, nil))}
	f := &zoneFlags{ZoneFile: path}
	write("a TXT one\n")
	z, err := f.records("media.example")
	if err != nil {
		t.Fatal(err)
	}
	world := &steer.World{}
	srv, err := geodns.Listen(geodns.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: "media.example", Records: z,
		World: func() *steer.World { return world }, Geo: table})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- srv.Serve(t.Context()) }()
	defer func() { srv.Close(); <-served }()
	for _, r := range []struct{ text, want, log string }{
		{"a TXT one\n", "one", ""},
		{"a TXT two\n", "two", ""},
		{"\na TXT two\nb A oops\n", "two", path + ":3: "},
		{"a TXT three ; mended\n", "three", ""},
	} {
		log.Reset()
		before := stamp(path)
		write(r.text)
		if stamp(path) == before && r.want != "one" {
			t.Errorf("%q: the change is not seen", r.text)
		}
		taken := f.reload(e, srv, "media.example")
		if want := map[bool]string{true: path}[r.log == ""]; taken != want {
			t.Errorf("%q: taken %q, want %q", r.text, taken, want)
		}
		m, err := dns.Exchange(new(dns.Msg).SetQuestion("a.media.example.", dns.TypeTXT), srv.Addr().String())
		if err != nil || len(m.Answer) != 1 || m.Answer[0].(*dns.TXT).Txt[0] != r.want {
			t.Errorf("%q: got %v, %v; want %s", r.text, m, err, r.want)
		}
		if got := log.String(); !strings.Contains(got, r.log) || (r.log == "") != (got == "") {
			t.Errorf("%q: log %q, want %q in it", r.text, got, r.log)
		}
	}
}

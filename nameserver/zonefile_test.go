package nameserver

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/store"
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
	var logged bytes.Buffer
	log, st := slog.New(slog.NewTextHandler(&logged, nil)), store.NewMemory()
	write("a TXT one\n")
	c := config(t, newWorld(t, st, log), st, "127.0.0.1", log)
	var err error
	if c.Records, err = ReadZone(path, "media.example", false); err != nil {
		t.Fatal(err)
	}
	c.ZoneFile = path
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	<-s.Ready()
	for _, r := range []struct{ text, want, log string }{
		{"a TXT one\n", "one", ""},
		{"a TXT two\n", "two", ""},
		{"\na TXT two\nb A oops\n", "two", path + ":3: "},
		{"a TXT three ; mended\n", "three", ""},
	} {
		logged.Reset()
		write(r.text)
		taken := s.Reload()
		if want := map[bool]string{true: path}[r.log == ""]; taken != want {
			t.Errorf("%q: taken %q, want %q", r.text, taken, want)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) { // a new view is prepared beside the queries
			m, err := dns.Exchange(new(dns.Msg).SetQuestion("a.media.example.", dns.TypeTXT), s.Addr().String())
			if err == nil && len(m.Answer) == 1 && m.Answer[0].(*dns.TXT).Txt[0] == r.want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q: got %v, %v; want %s", r.text, m, err, r.want)
			}
		}
		if got := logged.String(); !strings.Contains(got, r.log) || (r.log == "") != (got == "") {
			t.Errorf("%q: log %q, want %q in it", r.text, got, r.log)
		}
	}
}

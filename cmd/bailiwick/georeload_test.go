package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/nodetest"
	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/tools/exectest"
	"bailiwick/tools/logtest"
)

// TestGeoDatabaseReload: a database that is cut off while it is replaced leaves the
// last good one in force, and the next whole one is served. The log calls reloaded what
// was, and nothing else.
func TestGeoDatabaseReload(t *testing.T) {
	dir := t.TempDir()
	database := func(name, country string) string {
		path := filepath.Join(dir, name)
		from := binary.BigEndian.Uint32(netip.MustParseAddr("11.0.0.0").AsSlice())
		if _, err := geo.Import(path, strings.NewReader(fmt.Sprintf("%d,%d,%s\n", from, from+1<<20, country)), strings.NewReader("2600::,2600::ffff,"+country+"\n"), nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	german, french := database("de.mmdb", "DE"), database("fr.mmdb", "FR")
	path := filepath.Join(dir, "country.mmdb")
	replace := func(from string, part int) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b[:len(b)*part/100], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(german, 100)
	log := new(logtest.Buffer)
	n, err := newNode(&env{log: slog.New(slog.NewTextHandler(log, nil))}, "dns-1", mapFlags{Map: shippedMap, Geo: path}, new(devCmd).stores, health.Production(), "")
	if err != nil {
		t.Fatal(err)
	}
	where, err := n.places(n.world.Current().Map)
	if err != nil {
		t.Fatal(err)
	}
	s := nodetest.Start(t, func(c *geodns.Config) { c.Geo = where.table })
	locate, relocate, err := n.locator() // an edge's
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- n.reload(ctx, func(m *region.Map) []string {
			return append(relocate(m), n.place(m, func(p *places) { s.SetGeo(p.table) }))
		})
	}()
	defer func() { cancel(); <-done }()
	choice := func() string {
		q := new(dns.Msg).SetQuestion("join.media.example.", dns.TypeA).SetEdns0(1232, false)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{11, 0, 7, 0}}}
		r, err := dns.Exchange(q, s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Answer) != 1 {
			t.Fatalf("got %v, want one address", r.Answer)
		}
		return r.Answer[0].(*dns.A).A.String()
	}
	await := func(name, want string, seen int) {
		t.Helper()
		for deadline := time.Now().Add(exectest.Patience); strings.Count(log.String(), want) == seen; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: no %q in the log: %s", name, want, log.String())
			}
		}
	}
	const refused = "geo database not reloaded: the last good one stays in force"
	german1 := choice()
	for _, r := range []struct {
		name string
		file string
		part int
		log  string
		same bool // as the German one's
	}{
		{"half of the next", french, 50, refused, true},
		{"all but its end", french, 99, refused, true},
		{"nothing of it", french, 0, refused, true},
		{"the whole", french, 100, "msg=reloaded", false},
	} {
		seen := strings.Count(log.String(), r.log)
		replace(r.file, r.part)
		await(r.name, r.log, seen)
		if got := choice(); got == "" || (got == german1) != r.same {
			t.Errorf("%s: got %s, with the German database %s", r.name, got, german1)
		}
		if at := locate(netip.MustParseAddr("11.0.7.1")); (at.Place.Jurisdiction == "DE") != r.same || (at.Database.(*geo.Record).Country == "DE") != r.same {
			t.Errorf("%s: an edge explains %v by %v", r.name, at.Place, at.Database)
		}
	}
	seen := strings.Count(log.String(), refused)
	replace(french, 50)
	await("cut again", refused, seen)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("SIGHUP", "files=["+shippedMap+"]", 0)
	var reloaded []string
	for line := range strings.Lines(log.String()) {
		if _, what, ok := strings.Cut(line, "msg=reloaded "); ok {
			reloaded = append(reloaded, strings.TrimSpace(what))
		}
		if strings.Contains(line, refused) && !strings.Contains(line, "file="+path) {
			t.Errorf("the file is not named: %s", line)
		}
	}
	if want := []string{"files=[" + path + "] regions=10", "files=[" + shippedMap + "] regions=10"}; !slices.Equal(reloaded, want) {
		t.Errorf("reloaded %q, want %q", reloaded, want)
	}
}

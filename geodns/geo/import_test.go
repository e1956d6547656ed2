package geo

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"bailiwick/residency"
	"bailiwick/tools/exectest"
)

const (
	text4 = "# Generated: Thu, 25 Jun 2026 04:33:59 GMT\n16777216,16777471,AU\n16777472,16778239,??\n16778240,16778495,EU\n\n16778496,16778751,DE\n"
	text6 = "# Generated: Wed, 24 Jun 2026 04:33:59 GMT\n2001:200::,2001:200:ffff:ffff:ffff:ffff:ffff:ffff,JP\n2002::,2002:1::,DE\n"
)

func TestImport(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "country.mmdb")
	var last [2]int
	s, err := Import(dst, strings.NewReader(text4), strings.NewReader(text6), func(done, total int) { last = [2]int{done, total} })
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{Ranges: 6, Unknown: 3, Countries: 3, Generated: builtAt}
	if s != want || last != [2]int{6, 6} {
		t.Errorf("got %+v, progress %v, want %+v, progress [6 6]", s, last, want)
	}
	table, err := Load(dst, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !table.Built().Equal(builtAt) {
		t.Errorf("built: got %v, want %v", table.Built(), builtAt)
	}
	for a, want := range map[string]residency.Jurisdiction{"1.0.0.255": "AU", "1.0.1.0": "", "1.0.4.1": "", "1.0.5.0": "DE", "1.0.6.0": "",
		"2001:200::1": "JP", "2002::5": "", "2003::": ""} {
		if p, _ := table.Lookup(netip.MustParseAddr(a)); p.Jurisdiction != want {
			t.Errorf("%s: got %q, want %q", a, p.Jurisdiction, want)
		}
	}
	first, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Import(dst, strings.NewReader(text4), strings.NewReader(text6), nil); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(dst); !bytes.Equal(first, again) {
		t.Error("the same text gave another file")
	}
}

func TestImportFaults(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "country.mmdb")
	for _, r := range []struct{ name, v4, v6, want string }{
		{"empty", "", "", "no range in it"},
		{"comments only", "# nothing\n", "", "no range in it"},
		{"two fields", "1,2\n", "", `IPv4 text: line 1: "1,2": want START,END,CC`},
		{"long code", "1,2,DEU\n", "", "line 1"},
		{"negative", "#\n-1,2,DE\n", "", `line 2: "-1": want an IPv4 address as a number`},
		{"too large", "1,4294967296,DE\n", "", `"4294967296"`},
		{"backwards", "5,4,DE\n", "", "ends before it starts"},
		{"out of order", "5,6,DE\n1,2,DE\n", "", "line 2: 0.0.0.1: not after the range before it"},
		{"overlapping", "5,9,DE\n9,12,FR\n", "", "line 2"},
		{"IPv4 in IPv6", "1,2,DE\n", "1.0.0.0,1.0.0.1,DE\n", `IPv6 text: line 1: "1.0.0.0": want an IPv6 address`},
		{"mapped", "", "::ffff:1.0.0.0,::ffff:1.0.0.1,DE\n", "want an IPv6 address"},
		{"a zone", "", "fe80::1%a,fe80::2%a,DE\n", "want an IPv6 address"},
		{"a long line", "1,2,DE\n" + strings.Repeat("9", 600), "", "IPv4 text: line 2"},
	} {
		_, err := Import(dst, strings.NewReader(r.v4), strings.NewReader(r.v6), nil)
		if err == nil || !strings.Contains(err.Error(), r.want) || !strings.Contains(err.Error(), "tor-geoipdb") {
			t.Errorf("%s: got %v, want an error with %q and what to use", r.name, err, r.want)
		}
	}
	if _, err := Import(filepath.Join(t.TempDir(), "none", "x.mmdb"), strings.NewReader(text4), nil, nil); err == nil {
		t.Error("no such directory: got no error")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dst), "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// FuzzImport reads lines from strangers; what parses is in order and in range.
func FuzzImport(f *testing.F) {
	f.Add(text4)
	f.Add(text6)
	f.Fuzz(func(t *testing.T, text string) {
		for name, addr := range map[string]func(string) (netip.Addr, error){"IPv4": number4, "IPv6": address6} {
			all, _, err := parseText(strings.NewReader(text), addr)
			if err != nil {
				continue
			}
			for i, r := range all {
				if r.last.Less(r.first) || i > 0 && !all[i-1].last.Less(r.first) || len(r.country) != 0 && len(r.country) != 2 {
					t.Errorf("%s: range %d: %v", name, i, r)
				}
			}
		}
	})
}

const torDir = "/usr/share/tor"

// tor opens the real text of Debian's tor-geoipdb.
func tor(t testing.TB) (v4, v6 *os.File) {
	t.Helper()
	v4, err4 := os.Open(filepath.Join(torDir, "geoip"))
	v6, err6 := os.Open(filepath.Join(torDir, "geoip6"))
	if err4 != nil || err6 != nil {
		exectest.Absent(t, fmt.Sprintf("no tor-geoipdb: %v %v: install tor-geoipdb", err4, err6))
	}
	t.Cleanup(func() { v4.Close(); v6.Close() })
	return v4, v6
}

// importTor makes one database a test binary.
func importTor(t testing.TB) (path string) {
	t.Helper()
	v4, v6 := tor(t)
	path = filepath.Join(t.TempDir(), "tor.mmdb")
	s, err := Import(path, v4, v6, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Ranges < 500_000 || s.Countries < 200 || s.Generated.Before(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %+v, want a whole world", s)
	}
	return path
}

// TestTorAgrees: the country of 10,000 addresses is the text's, read here by code
// of its own.
func TestTorAgrees(t *testing.T) {
	path := importTor(t)
	began := time.Now()
	table, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("loaded in %v: %d ranges, built %v; heap %d MiB", time.Since(began), table.Ranges(), table.Built(), m.HeapAlloc>>20)

	v4, _ := tor(t)
	type textual struct {
		first, last uint64
		cc          string
	}
	var ranges []textual
	for sc := bufio.NewScanner(v4); sc.Scan(); {
		f := strings.Split(sc.Text(), ",")
		if strings.HasPrefix(sc.Text(), "#") || len(f) != 3 {
			continue
		}
		a, _ := strconv.ParseUint(f[0], 10, 32)
		b, _ := strconv.ParseUint(f[1], 10, 32)
		ranges = append(ranges, textual{a, b, f[2]})
	}
	none := map[string]bool{"??": true, "EU": true, "AP": true, "CS": true, "AN": true, "A1": true, "A2": true}
	rnd := rand.New(rand.NewPCG(2026, 11))
	wrong, known := 0, 0
	for n := 0; n < 10_000; {
		r := ranges[rnd.IntN(len(ranges))]
		v := r.first + rnd.Uint64N(r.last-r.first+1)
		a := netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
		if !a.IsGlobalUnicast() || a.IsPrivate() {
			continue
		}
		n++
		want := residency.Jurisdiction(r.cc)
		if none[r.cc] {
			want = ""
		} else {
			known++
		}
		got, scope := table.Lookup(a)
		if got.Jurisdiction != want {
			if wrong++; wrong < 10 {
				t.Errorf("%s: got %q, want %q", a, got.Jurisdiction, want)
			}
		}
		first, last := ends(scope)
		for _, b := range []netip.Addr{first, last} {
			if p, _ := table.Lookup(b); p != got {
				t.Errorf("%s: scope %s: %s has another place", a, scope, b)
			}
		}
	}
	if wrong > 0 || known < 9_000 {
		t.Errorf("%d of 10000 differ from the text, %d have a country; want 0, and most", wrong, known)
	}
}

var sink Place

func BenchmarkLookup(b *testing.B) {
	table, err := Load(importTor(b), nil)
	if err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var four, six [1 << 12]netip.Addr
	for i := range four {
		v := rnd.Uint32()
		four[i] = netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
		six[i] = addr(u128{0x2a00<<48 | rnd.Uint64()>>8, rnd.Uint64()}, false)
	}
	for name, addrs := range map[string]*[1 << 12]netip.Addr{"IPv4": &four, "IPv6": &six} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				sink, _ = table.Lookup(addrs[i&(len(addrs)-1)])
			}
		})
	}
}

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/geo"
	"bailiwick/tools/exectest"
)

// why is the answer of `bailiwick why --json`.
type why struct {
	Prefix        string
	Jurisdictions []string
	Refused       string
	Citation      []string
	Choice        *struct{ Region, Edge string }
	Standby       *struct{ Region, Edge string }
	Regions       []struct {
		Region, Code string
		Citation     []string
	}
}

func (d *dev) why(t *testing.T, args ...string) why {
	t.Helper()
	out, code := d.run(t, append([]string{"why", "--json"}, args...)...)
	var w why
	if err := json.Unmarshal([]byte(out), &w); err != nil {
		t.Fatalf("why %v: exit %d: %v\n%s", args, code, err, out)
	}
	if want := w.Refused != ""; (code == 1) != want || code > 1 {
		t.Errorf("why %v: exit %d, refused %q", args, code, w.Refused)
	}
	return w
}

// edgeAddr is where dev puts an edge: the N-th region of the map on 127.x.N.1.
func (d *dev) edgeAddr(t *testing.T, edge string) string {
	t.Helper()
	var s status
	call(t, "GET", d.api()+"/v1/status", "", &s)
	for i, r := range s.Regions {
		for _, e := range r.Edges {
			if e.ID == edge {
				return fmt.Sprintf("%s.%d.1", d.net, i+1)
			}
		}
	}
	t.Fatalf("no edge %s", edge)
	return ""
}

// Points 1 and 7: dig with a subnet answers the edge that why explains, and the
// scope is set; every rejected region has its code and, where it is the law, the
// citation.
func TestDigAnswersWhatWhyExplains(t *testing.T) {
	d := startDev(t)
	places := map[string]bool{}
	for _, o := range geo.BuiltIn() {
		ip := o.Prefix.Addr()
		if !o.Prefix.IsSingleIP() {
			ip = ip.Next()
		}
		w := d.why(t, "--ip", ip.String())
		if len(w.Jurisdictions) != 1 || w.Jurisdictions[0] != string(o.Place.Jurisdiction) {
			t.Errorf("%s: jurisdiction %v, want %s", ip, w.Jurisdictions, o.Place.Jurisdiction)
		}
		places[w.Jurisdictions[0]] = true
		kind := "A"
		full := digFull(t, d.dns(), "join.media.example", kind, "+subnet="+ip.String())
		if want := fmt.Sprintf("CLIENT-SUBNET: %s/%d/%s", ip, ip.BitLen(), strings.Split(w.Prefix, "/")[1]); !strings.Contains(full, want) {
			t.Errorf("%s: no %q in\n%s", ip, want, full)
		}
		answer := strings.Join(dig(t, d.dns(), "join.media.example", kind, "+subnet="+ip.String()), " ")
		switch {
		case w.Choice == nil && answer != "none.edge.media.example.": // an alias of nothing
			t.Errorf("%s in %v is refused (%s), DNS answers %s", ip, w.Jurisdictions, w.Refused, answer)
		case w.Choice != nil && answer != d.edgeAddr(t, w.Choice.Edge):
			t.Errorf("%s in %v: why says %s, DNS answers %s", ip, w.Jurisdictions, w.Choice.Edge, answer)
		}
		if len(w.Regions) != 10 {
			t.Errorf("%s: %d regions explained, want 10", ip, len(w.Regions))
		}
		for _, r := range w.Regions {
			if r.Code != "" && !strings.HasPrefix(r.Code, "region_") && len(r.Citation) == 0 {
				t.Errorf("%s: %s is rejected with %s and no citation", ip, r.Region, r.Code)
			}
		}
	}
	for _, j := range []string{"DE", "FR", "GB", "AE", "AU", "BR", "CA-QC", "US-CA"} {
		if !places[j] {
			t.Errorf("no built-in address in %s was tried", j)
		}
	}
}

// Point 7, the router's half: what why says for a country is where a consult of
// that country is placed, and what its pinned name answers.
func TestWhyIsTheRoutersDecision(t *testing.T) {
	d := startDev(t)
	for _, j := range []string{"DE", "FR", "IT", "PL", "NO", "GB", "US", "US-TX", "CA", "CA-QC", "AU", "BR", "CH", "AE", "JP", "CN", "ZZ"} {
		w := d.why(t, "--country", j)
		country, sub, _ := strings.Cut(j, "-")
		who := fmt.Sprintf(`{"role":"patient","country":%q,"subdivision":%q}`, country, sub)
		var c struct {
			Code      string
			Citation  []string
			Placement struct{ Region, Edge string }
		}
		status := call(t, "POST", d.api()+"/v1/consults", `{"participants":[`+who+`,`+strings.Replace(who, "patient", "clinician", 1)+`]}`, &c)
		answer := strings.Join(dig(t, d.dns(), strings.ToLower(j)+".join.media.example", "A"), " ")
		if w.Choice == nil {
			// DNS knows a country at best: what it answers then is a hint.
			hint := w.Refused == "subdivision_needed"
			if status < 400 || c.Code != w.Refused || (answer != "") != hint {
				t.Errorf("%s: why refuses with %s; router %d %s, DNS %q", j, w.Refused, status, c.Code, answer)
			}
			if len(w.Citation) == 0 || len(c.Citation) == 0 {
				t.Errorf("%s: refused without a citation", j)
			}
			continue
		}
		if status != http.StatusCreated || c.Placement.Region != w.Choice.Region {
			t.Errorf("%s: why says %s, the router placed it on %q (%d %s)", j, w.Choice.Region, c.Placement.Region, status, c.Code)
		}
		if answer != d.edgeAddr(t, w.Choice.Edge) {
			t.Errorf("%s: why says %s, DNS answers %q", j, w.Choice.Edge, answer)
		}
	}
}

// Point 5: home-only law without a region at home. The map refuses patients from there, with
// the law as its reason (READING, rule 19); a clinician is the law's to refuse.
func TestHomeOnlyLawIsRefused(t *testing.T) {
	d := startDev(t)
	var p struct {
		Code, Jurisdiction, Detail string
		Status                     int
		Citation                   []string
	}
	for of, want := range map[string]string{"patient": "refused_by_operator", "clinician": "home_only"} {
		other := map[string]string{"patient": "clinician", "clinician": "patient"}[of]
		code := call(t, "POST", d.api()+"/v1/consults", fmt.Sprintf(`{"participants":[{"role":%q,"country":"AE"},{"role":%q,"country":"DE"}]}`, of, other), &p)
		if code != 422 || p.Code != want || p.Jurisdiction != "AE" || len(p.Citation) == 0 || !strings.Contains(p.Citation[0], "Federal Law 2/2019 Art. 13") {
			t.Errorf("%s: %d %+v, want %s", of, code, p, want)
		}
	}
	full := digFull(t, d.dns(), "ae.join.media.example", "A")
	for _, want := range []string{"status: NOERROR", "ANSWER: 0", "EDE: 18 (Prohibited)", "refused_by_operator", "Federal Law 2/2019"} {
		if !strings.Contains(full, want) {
			t.Errorf("no %q in\n%s", want, full)
		}
	}
}

// 10,000 public addresses drawn with a fixed seed from the imported tor-geoipdb:
// the country of _why is the database's for all of them.
func TestWhyCountryIsTheDatabases(t *testing.T) {
	const source = "/usr/share/tor/geoip"
	if _, err := os.Stat(source); err != nil {
		exectest.Absent(t, "no country addresses: install tor-geoipdb")
	}
	db := filepath.Join(t.TempDir(), "country.mmdb")
	if out, code := run(t, "geo", "import", "--out", db); code != 0 {
		t.Fatalf("geo import: exit %d: %s", code, out)
	}
	d := startDev(t, "--geo", db)
	conn, err := net.Dial("udp", d.dns()+":8053")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	resolver := &dns.Conn{Conn: conn, UDPSize: 4096}
	same, asked := 0, 0
	for _, a := range drawn(t, source, 10_000) {
		q := new(dns.Msg).SetQuestion("_why.join.media.example.", dns.TypeTXT)
		q.SetEdns0(4096, false)
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, Address: a.addr.AsSlice()})
		conn.SetDeadline(time.Now().Add(patience))
		if err := resolver.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		r, err := resolver.ReadMsg()
		if err != nil {
			t.Fatalf("%s: %v", a.addr, err)
		}
		asked++
		got := ""
		for _, rr := range r.Answer {
			for _, s := range rr.(*dns.TXT).Txt {
				if j, ok := strings.CutPrefix(s, "jurisdiction="); ok {
					got = j
				}
			}
		}
		if want := a.country; got == want || got == "unknown" && pseudo[want] || got == "" && pseudo[want] {
			same++
		} else if asked-same < 10 {
			t.Errorf("%s: _why says %q, the database %q (%s)", a.addr, got, want, r)
		}
	}
	t.Logf("%d of %d addresses: _why names the database's country", same, asked)
	if same != asked {
		t.Errorf("%d of %d, want all", same, asked)
	}
}

// pseudo are codes of geo databases that are no countries.
var pseudo = map[string]bool{"??": true, "EU": true, "AP": true, "CS": true, "AN": true, "A1": true, "A2": true}

type placed struct {
	addr    netip.Addr
	country string
}

// drawn picks n public IPv4 addresses, uniformly over the database's ranges.
func drawn(t *testing.T, path string, n int) []placed {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type span struct {
		from, to uint32
		country  string
	}
	var spans []span
	for s := bufio.NewScanner(f); s.Scan(); {
		parts := strings.Split(s.Text(), ",")
		if len(parts) != 3 || strings.HasPrefix(parts[0], "#") {
			continue
		}
		from, err1 := strconv.ParseUint(parts[0], 10, 32)
		to, err2 := strconv.ParseUint(parts[1], 10, 32)
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: %q", path, s.Text())
		}
		spans = append(spans, span{uint32(from), uint32(to), parts[2]})
	}
	rnd := rand.New(rand.NewPCG(2026, 11))
	var list []placed
	for len(list) < n {
		s := spans[rnd.IntN(len(spans))]
		x := s.from + rnd.Uint32N(s.to-s.from+1)
		a := netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)})
		if a.IsPrivate() || a.IsLoopback() || !a.IsGlobalUnicast() {
			continue
		}
		list = append(list, placed{a, s.country})
	}
	return list
}

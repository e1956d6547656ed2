package router

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crypto/ed25519"

	"bailiwick/access"
	"bailiwick/consult"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// asserted are all facts of one scope.
func asserted(scope string) residency.Facts {
	f := residency.Facts{}
	for name, r := range residency.Shipped().Facts() {
		if r.Scope == scope {
			f[name] = residency.Record{ID: "test", Date: time.Unix(1, 0)}
		}
	}
	return f
}

func testWorld() *steer.World {
	m := &region.Map{Zone: "media.example", Operator: region.Operator{Facts: asserted("operator")},
		Providers: map[region.ProviderID]*region.Provider{"p": {Facts: asserted("provider")}},
		Tenants:   map[string]*residency.Tenant{"default": {Facts: asserted("tenant")}, "clinic": {Facts: asserted("tenant")}}}
	for _, r := range []struct {
		id       region.ID
		at       residency.Jurisdiction
		lat, lon float64
	}{{"de-ber", "DE", 52.5, 13.4}, {"de-fra", "DE", 50.1, 8.7}, {"us-iad", "US-VA", 39, -77.5}} {
		m.Regions = append(m.Regions, region.Region{ID: r.id, Provider: "p", Place: region.Place{Jurisdiction: r.at, Point: region.Point{Lat: r.lat, Lon: r.lon}, Located: true}})
	}
	w := &steer.World{Generation: 7, StoreUp: true, At: time.Now(), Law: residency.Shipped(), Map: m}
	for i := range m.Regions {
		r := &m.Regions[i]
		w.Regions = append(w.Regions, steer.Region{Region: r, Hop: m.Hop(r), Edges: []steer.Edge{{ID: region.EdgeID(r.ID + "-1"), Host: "http://" + string(r.ID), Health: steer.Up, Admits: 10}}})
	}
	return w
}

type fixture struct {
	*Router
	*httptest.Server
	world atomic.Pointer[steer.World]
}

func start(t *testing.T, st store.Store) *fixture {
	t.Helper()
	signer, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{}
	f.world.Store(testWorld())
	keys, err := access.Parse("keys", "secret\nother\nclinic name=c tenant=clinic roles=backend\nwatch name=w roles=viewer\nops name=o roles=operator\n", []string{"clinic", "default"})
	if err != nil {
		t.Fatal(err)
	}
	f.Router = New(Config{World: f.world.Load, Stores: store.Set{"": st}, Signer: signer, Keys: keys, Node: "n", Log: slog.New(slog.DiscardHandler),
		Locate: func(a netip.Addr) Located {
			p, _ := a.Prefix(24)
			return Located{Place: region.Place{Jurisdiction: "DE", Point: region.Point{Lat: 50, Lon: 8}, Located: true}, Prefix: p,
				Override: netip.PrefixFrom(a, 32), Database: "what the database says"}
		}})
	mux := http.NewServeMux()
	f.Register(mux)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Server.Close)
	return f
}

// call makes a request with a key and decodes the answer into out.
func (f *fixture) call(t *testing.T, method, path, key, body string, out any) int {
	t.Helper()
	q, err := http.NewRequest(method, f.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		q.Header.Set("Authorization", "Bearer "+key)
	}
	r, err := f.Client().Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v in %q", method, path, err, b)
		}
	}
	if r.StatusCode >= 400 && r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %s: %d is no problem document but %s", method, path, r.StatusCode, r.Header.Get("Content-Type"))
	}
	return r.StatusCode
}

func two(a, b string) string {
	return fmt.Sprintf(`{"participants":[{"role":"patient","country":%q},{"role":"clinician","country":%q}]}`, a, b)
}

func TestCreateReadDelete(t *testing.T) {
	f := start(t, store.NewMemory())
	var c Reply
	if code := f.call(t, "POST", "/v1/consults", "secret", two("DE", "DE"), &c); code != http.StatusCreated {
		t.Fatalf("status %d", code)
	}
	if c.Placement.Region != "de-ber" || len(c.Placement.Standby) != 1 || c.Placement.Standby[0] != "de-fra-1" || c.Placement.Epoch != 1 {
		t.Errorf("placement %+v", c.Placement)
	}
	for i, p := range c.Participants {
		tok, err := consult.Verify(p.Token, time.Now(), func(string) ed25519.PublicKey { return f.Signer.Public() })
		if err != nil || tok.Participant != p.ID || tok.Consult != c.ID || tok.Edge != "de-ber-1" {
			t.Errorf("token %d: %+v, %v", i, tok, err)
		}
		if want := "http://de-ber/c/" + string(c.ID) + "#" + p.Token; p.URL != want {
			t.Errorf("url %s, want %s", p.URL, want)
		}
	}
	var again Reply
	if code := f.call(t, "GET", "/v1/consults/"+string(c.ID), "other", "", &again); code != http.StatusOK {
		t.Errorf("read: status %d", code)
	}
	if again.Participants[0].Token != "" || again.Placement.Edge != c.Placement.Edge {
		t.Errorf("read gives %+v", again)
	}
	if code := f.call(t, "DELETE", "/v1/consults/"+string(c.ID), "secret", "", nil); code != http.StatusNoContent {
		t.Errorf("delete: status %d", code)
	}
	f.call(t, "GET", "/v1/consults/"+string(c.ID), "secret", "", &again)
	if !again.Ended {
		t.Error("the consult did not end")
	}
}

func TestProblems(t *testing.T) {
	f := start(t, store.NewMemory())
	tests := []struct {
		name, method, path, key, body string
		status                        int
		code                          string
	}{
		{"no key", "POST", "/v1/consults", "", two("DE", "DE"), 401, "unauthorized"},
		{"wrong key", "POST", "/v1/consults", "guess", two("DE", "DE"), 401, "unauthorized"},
		{"not json", "POST", "/v1/consults", "secret", "hello", 400, "bad_request"},
		{"too large", "POST", "/v1/consults", "secret", `{"tenant":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "body_too_large"},
		{"home-only law", "POST", "/v1/consults", "secret", two("AE", "AE"), 422, "home_only"},
		{"unknown country", "POST", "/v1/consults", "secret", two("ZZ", "DE"), 422, "policy_missing"},
		{"no such consult", "GET", "/v1/consults/cnope", "secret", "", 404, "not_found"},
		{"end no such consult", "DELETE", "/v1/consults/cnope", "secret", "", 404, "not_found"},
		{"an id that is a path", "GET", "/v1/consults/%2e%2e", "secret", "", 404, "not_found"},
		{"an id with a slash", "GET", "/v1/consults/c%2f%2e%2e%2fmodes", "secret", "", 404, "not_found"},
		{"an id with a NUL", "DELETE", "/v1/consults/c%00", "secret", "", 404, "not_found"},
		{"an id without end", "DELETE", "/v1/consults/c" + strings.Repeat("x", 4096), "secret", "", 404, "not_found"},
		{"a viewer's consult", "POST", "/v1/consults", "watch", two("DE", "DE"), 403, "forbidden"},
		{"an operator's consult", "GET", "/v1/consults/cnope", "ops", "", 403, "forbidden"},
		{"another tenant's consult", "POST", "/v1/consults", "clinic", strings.Replace(two("DE", "DE"), "{", `{"tenant":"other",`, 1), 400, "bad_request"},
		{"explain nothing", "GET", "/v1/explain", "secret", "", 400, "bad_request"},
		{"explain both", "GET", "/v1/explain?ip=192.0.2.1&country=DE", "secret", "", 400, "bad_request"},
		{"explain an unknown overlay", "GET", "/v1/explain?country=DE&overlay=x", "secret", "", 400, "bad_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p problem.Document
			if status := f.call(t, tt.method, tt.path, tt.key, tt.body, &p); status != tt.status || p.Status != tt.status || p.Code != tt.code {
				t.Errorf("got %d %+v, want %d %s", status, p, tt.status, tt.code)
			}
			if p.ID == "" || p.Title == "" {
				t.Errorf("problem %+v lacks an id or a title", p)
			}
		})
	}
}

func TestRefusalNamesRuleAndCitation(t *testing.T) {
	f := start(t, store.NewMemory())
	var p problem.Document
	f.call(t, "POST", "/v1/consults", "secret", two("AE", "DE"), &p)
	if p.Jurisdiction != "AE" || len(p.Citation) == 0 || !strings.Contains(p.Citation[0], "Federal Law 2/2019") || p.AsOf != residency.Shipped().AsOf() {
		t.Errorf("problem %+v does not cite the law of AE", p)
	}
}

func TestExplainIsTheDecision(t *testing.T) {
	f := start(t, store.NewMemory())
	var x Explanation
	f.call(t, "GET", "/v1/explain?country=DE", "secret", "", &x)
	if x.Choice == nil || x.Choice.Region != "de-ber" || len(x.Regions) != 3 || x.Generation != 7 {
		t.Errorf("got %+v", x)
	}
	for _, r := range x.Regions {
		if r.Region == "us-iad" && (r.Code == "" || len(r.Citation) == 0) {
			t.Errorf("us-iad is rejected without code and citation: %+v", r)
		}
	}
	f.call(t, "GET", "/v1/explain?ip=192.0.2.77", "secret", "", &x)
	if x.Prefix != "192.0.2.0/24" || x.Choice.Region != "de-fra" || x.Override != "192.0.2.77/32" || x.Database != "what the database says" {
		t.Errorf("by address: %+v", x)
	}
	f.call(t, "GET", "/v1/explain?country=DE&overlay=de_statutory", "secret", "", &x)
	if x.Refused != "fact_missing" {
		t.Errorf("de_statutory without E2EE: refused %q", x.Refused)
	}
	var under Explanation
	f.call(t, "GET", "/v1/explain?country=DE&overlay=de_statutory&e2ee=1", "secret", "", &under)
	if under.Choice == nil && under.Detail == x.Detail {
		t.Errorf("de_statutory under E2EE: the same as without: %+v", under)
	}
}

func place(t *testing.T, f *fixture) *consult.Placement {
	t.Helper()
	var c Reply
	if code := f.call(t, "POST", "/v1/consults", "secret", two("DE", "DE"), &c); code != http.StatusCreated {
		t.Fatalf("POST: %d", code)
	}
	p, _, err := f.Records.Read(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseKeyRefusesNonsense(t *testing.T) {
	for _, bad := range []string{"", "{}", `{"x":"AAAA"}`, `{"x":"!"}`} {
		if _, err := ParseKey([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a key", bad)
		}
	}
}

// TestTenantsKeys: a key that is bound to a tenant makes that tenant's consults, and neither
// reads nor ends another's.
func TestTenantsKeys(t *testing.T) {
	f := start(t, store.NewMemory())
	var own, others Reply
	if code := f.call(t, "POST", "/v1/consults", "clinic", two("DE", "DE"), &own); code != http.StatusCreated {
		t.Fatalf("POST: %d", code)
	}
	if code := f.call(t, "POST", "/v1/consults", "secret", two("DE", "DE"), &others); code != http.StatusCreated {
		t.Fatalf("POST: %d", code)
	}
	p, _, err := f.Look(t.Context(), own.ID)
	if err != nil || p.Tenant != "clinic" {
		t.Errorf("tenant %q, %v: want clinic", p.Tenant, err)
	}
	for _, tt := range []struct {
		method, key string
		id          consult.ID
		want        int
	}{
		{"GET", "clinic", others.ID, 404},
		{"DELETE", "clinic", others.ID, 404},
		{"GET", "secret", own.ID, 200},
		{"GET", "clinic", own.ID, 200},
		{"DELETE", "clinic", own.ID, 204},
		{"DELETE", "secret", others.ID, 204},
	} {
		if code := f.call(t, tt.method, "/v1/consults/"+string(tt.id), tt.key, "", nil); code != tt.want {
			t.Errorf("%s of %s with %s: %d, want %d", tt.method, tt.id, tt.key, code, tt.want)
		}
	}
}

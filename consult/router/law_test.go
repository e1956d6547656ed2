package router

import (
	"crypto/ed25519"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"bailiwick/consult"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// What POST /v1/consults answers to each way of naming whose law binds.
func TestCreateByTheLaw(t *testing.T) {
	f := start(t, store.NewMemory())
	w := testWorld()
	w.Map.Refused = map[residency.Jurisdiction]string{"IN": "no interpreter yet"}
	w.Map.Served = []residency.Jurisdiction{"DE", "IN", "US", "US-TX", "GB"}
	f.world.Store(w)
	who := func(patient string, more ...string) string {
		return `{` + strings.Join(more, "") + `"participants":[{"role":"patient",` + patient + `},{"role":"clinician","country":"DE"}]}`
	}
	for _, row := range []struct {
		name, body   string
		status       int
		code, detail string
	}{
		{"a country without rows for its parts", who(`"country":"DE"`), 201, "", ""},
		{"its part in any case", who(`"country":"de","subdivision":"by"`), 201, "", ""},
		{"a state", who(`"country":"US","subdivision":"US-NY"`), 201, "", ""},
		{"no state", who(`"country":"US"`), 422, "subdivision_needed", "https://www.iso.org/obp/ui/#iso:code:3166:US"},
		{"no province of a clinician", `{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"CA"}]}`, 422, "subdivision_needed", "CA:"},
		{"a state that is none", who(`"country":"US","subdivision":"US-ZZ"`), 400, "bad_request", "did you mean US-AZ?"},
		{"the edition of the codes", who(`"country":"US-ZZ"`), 400, "bad_request", residency.Edition()},
		{"a bad request of the second goes before a refusal of the first", `{"participants":[{"role":"patient","country":"ZZ"},{"role":"clinician","country":"CA","subdivision":"PQ"}]}`, 400, "bad_request", "participants[1]"},
		{"refused by the map", who(`"country":"IN"`), 422, "refused_by_operator", "no interpreter yet"},
		{"a clinician from there", `{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"IN"}]}`, 201, "", ""},
		{"not served", who(`"country":"FR"`), 422, "not_served", "FR:"},
		{"a clinician who is not", `{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"FR"}]}`, 201, "", ""},
		{"any patient, not the first alone", `{"participants":[{"role":"patient","country":"DE"},{"role":"patient","country":"FR"}]}`, 422, "not_served", "FR:"},
		{"a tenant of another map", who(`"country":"DE"`, `"tenant":"clinc",`), 400, "bad_request", "clinc"},
		{"a tag of no law", who(`"country":"DE"`, `"tags":["mhr"],`), 400, "bad_request", "my_health_record_data"},
		{"an overlay as a tag", who(`"country":"DE"`, `"tags":["de_statutory"],`), 422, "fact_missing", "e2ee"},
		{"end-to-end encryption", who(`"country":"DE"`, `"e2ee":true,`), 201, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var p problem.Document
			status := f.call(t, "POST", "/v1/consults", "secret", row.body, &p)
			if status != row.status || p.Code != row.code || !strings.Contains(p.Detail, row.detail) {
				t.Errorf("got %d %q: %s; want %d %q: %s", status, p.Code, p.Detail, row.status, row.code, row.detail)
			}
		})
	}
}

// Under end-to-end encryption the SFU is a hop that forwards ciphertext: it may be where the law
// lets a relay be and no SFU that could hear.
func TestEndToEndEncryptionOpensRelayPlaces(t *testing.T) {
	f := start(t, store.NewMemory())
	w := testWorld()
	w.Map.Regions = append(w.Map.Regions, region.Region{ID: "ch-zrh", Provider: "p", Place: region.Place{Jurisdiction: "CH", Point: region.Point{Lat: 47.4, Lon: 8.5}, Located: true}})
	for i := range w.Regions {
		w.Regions[i].Region, w.Regions[i].Mode = &w.Map.Regions[i], steer.Down // evidence still has a place
	}
	swiss := &w.Map.Regions[3]
	w.Regions = append(w.Regions, steer.Region{Region: swiss, Hop: w.Map.Hop(swiss), Edges: []steer.Edge{{ID: "ch-zrh-1", Host: "http://ch-zrh", Health: steer.Up, Admits: 10}}})
	f.world.Store(w)
	var refused problem.Document
	if status := f.call(t, "POST", "/v1/consults", "secret", two("DE", "DE"), &refused); status == 201 {
		t.Errorf("media that the SFU could hear are placed in CH")
	}
	var made Reply
	body := `{"e2ee":true,` + two("DE", "DE")[1:]
	if status := f.call(t, "POST", "/v1/consults", "secret", body, &made); status != 201 || made.Placement.Region != "ch-zrh" {
		t.Fatalf("end-to-end encrypted: got %d, at %q", status, made.Placement.Region)
	}
	for _, who := range made.Participants {
		token, err := consult.Verify(who.Token, time.Now(), func(string) ed25519.PublicKey { return f.Signer.Public() })
		if err != nil || !token.E2EE {
			t.Errorf("token %+v, %v: want e2ee", token, err)
		}
		if _, k, _ := strings.Cut(who.URL, "#"); strings.Contains(k, "&") {
			t.Errorf("link %s: k is the backend's to draw", who.URL)
		}
	}
	// The record says so too: whoever moves the consult judges it alike.
	p, _, err := f.Records.Read(t.Context(), made.ID)
	if err != nil || !p.Terms.Client(w.Map).E2EE {
		t.Errorf("record %+v, %v: want e2ee", p, err)
	}
	for query, want := range map[string]string{"country=DE": "", "country=DE&e2ee=0": "", "country=DE&e2ee=1": "ch-zrh"} {
		var x Explanation
		f.call(t, "GET", "/v1/explain?"+query, "secret", "", &x)
		if got := x.Choice; (got == nil) != (want == "") || got != nil && string(got.Region) != want {
			t.Errorf("explain %s: chose %+v, want %q", query, got, want)
		}
	}
}

func TestParametersWhereThereAreNone(t *testing.T) {
	f := start(t, store.NewMemory())
	for _, row := range []struct{ method, path, body string }{
		{"POST", "/v1/consults?e2ee=1", two("DE", "DE")},
		{"GET", "/v1/consults/c1?verbose", ""},
		{"DELETE", "/v1/consults/c1?dry_run=1", ""},
	} {
		var p problem.Document
		if status := f.call(t, row.method, row.path, "secret", row.body, &p); status != 400 || !strings.Contains(p.Detail, "takes no parameters") {
			t.Errorf("%s %s: got %d %s", row.method, row.path, status, p.Detail)
		}
	}
}

func TestExplainIsStrict(t *testing.T) {
	f := start(t, store.NewMemory())
	long := strings.Repeat("A", 5000)
	for _, row := range []struct{ query, want string }{ // "" is taken
		{"country=DE", ""}, {"country=de", ""}, {"country=CA-QC", ""}, {"country=CA&subdivision=qc", ""}, {"ip=192.0.2.1", ""},
		{"country=DE&overlay=de_statutory&overlay=nhs_england", ""}, {"country=DE&e2ee=0", ""}, {"country=DE&e2ee=1", ""},
		{"", "one of ip and country"}, {"country=DE&ip=192.0.2.1", "one of ip and country"}, {"country=", "country: empty"}, {"ip=", "ip: empty"},
		{"Country=DE", `"Country": no parameter`}, {"country=DE&E2EE=1", `"E2EE": no parameter`}, {"country=DE&tenant=x", `"tenant": no parameter`}, {"country=DE&x", `"x": no parameter`},
		{"ip=192.0.2.1&e2ee=1", "e2ee: goes with country"}, {"country=DE&e2ee=true", `e2ee: "true": want 0 or 1`}, {"country=DE&e2ee=", `e2ee: "": want 0 or 1`}, {"country=DE&e2ee", `e2ee: "": want 0 or 1`},
		{"country=DE&country=FR", "country: given 2 times"}, {"country=DE&e2ee=0&e2ee=0", "e2ee: given 2 times"},
		{"country=DE&overlay=de_statutary", "want one of de_statutory"}, {"country=DE&overlay=DE_statutory", "want one of"}, {"country=DE&overlay=", "overlay: empty"},
		{"country=DE&overlay=de_statutory&overlay=de_statutory", "named twice"}, {"country=DE" + strings.Repeat("&overlay=x", 9), "limit 8"},
		{"country=CA-PQ", "did you mean CA-PE?"}, {"country=CA&subdivision=US-TX", "two places"}, {"subdivision=QC", "one of ip and country"}, {"ip=192.0.2.1&subdivision=QC", "goes with country"},
		{"country=DE%00", "want an ISO 3166 country"}, {"country=%EF%BB%BFDE", "want an ISO 3166 country"}, {"country=%ZZ", "query:"}, {"country=DE;ip=1", "query:"}, {"country=" + long, "want an ISO 3166 country"},
		{"ip=" + long, "ip:"}, {"ip=192.0.2.1%20", "ip:"}, {long + "=1", "no parameter"},
	} {
		var out struct {
			problem.Document
			Jurisdictions []string
		}
		status := f.call(t, "GET", "/v1/explain?"+row.query, "secret", "", &out)
		switch {
		case row.want == "" && (status != 200 || len(out.Jurisdictions) != 1):
			t.Errorf("%.60s: got %d %s", row.query, status, out.Detail)
		case row.want != "" && (status != 400 || out.Code != "bad_request" || !strings.Contains(out.Detail, row.want) || len(out.Detail) > 512):
			t.Errorf("%.60s: got %d %.200s, want %s", row.query, status, out.Detail, row.want)
		}
	}
}

// An address is answered as DNS answers it, a country as a consult is.
func TestExplainSaysWhatIsAHint(t *testing.T) {
	w := testWorld()
	w.Map.Served = []residency.Jurisdiction{"FR"}
	locate := func(j residency.Jurisdiction) Locator {
		return func(netip.Addr) Located { return Located{Place: region.Place{Jurisdiction: j}} }
	}
	x, bad := Explain(w, locate("US"), Question{IP: "192.0.2.1"})
	if bad != nil || x.Choice == nil || !strings.Contains(x.Hint, "US is judged by the country's row") {
		t.Errorf("by address: got %+v, %v", x, bad)
	}
	if x, bad = Explain(w, locate(""), Question{IP: "8.8.8.8"}); bad != nil || x.Refused == "" || !strings.Contains(x.Hint, "nobody said where this address is") {
		t.Errorf("an address that no database has: got %+v, %v", x, bad)
	}
	if x, bad = Explain(w, nil, Question{Country: "US"}); bad != nil || x.Refused != "subdivision_needed" {
		t.Errorf("by country: got %+v, %v", x, bad)
	}
	if x, bad = Explain(w, nil, Question{Country: "US", Sub: "NY"}); bad != nil || x.Refused != "not_served" || !slices.Equal(x.Jurisdictions, []string{"US-NY"}) {
		t.Errorf("by state: got %+v, %v", x, bad)
	}
}

func FuzzParseQuestion(f *testing.F) {
	for _, q := range []string{"country=DE&overlay=x", "ip=192.0.2.1", "country=CA&subdivision=QC&e2ee=0", "e2ee=1", "%", "a&a;b", "country=DE&country=DE"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, bad := ParseQuestion(query)
		if bad != nil {
			return
		}
		if (q.IP == "") == (q.Country == "") {
			t.Errorf("%q: got %+v", query, q)
		}
		all, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range all {
			if !slices.Contains([]string{"ip", "country", "subdivision", "overlay", "e2ee"}, name) || len(values) > 1 && name != "overlay" {
				t.Errorf("%q: %s was taken", query, name)
			}
		}
	})
}

package consult

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// keyPair is fixed: tests must not depend on chance.
func keyPair(seed byte) (ed25519.PublicKey, ed25519.PrivateKey) {
	k := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
	return k.Public().(ed25519.PublicKey), k
}

func placement() *Placement {
	return &Placement{Terms: Terms{Consult: "c1", Jurisdictions: []residency.Jurisdiction{"CA-QC", "DE"}, Patient: 1,
		Edge: "de-fra-1", Standby: []region.EdgeID{"de-ber-1"}, Epoch: 3, Priority: Routine, Tenant: "default",
		Tags: []string{"my_health_record_data"}, E2EE: true},
		Region: "de-fra", Participants: []Participant{{ID: "p1", Role: "clinician"}, {ID: "p2", Role: "patient"}}, Created: now, Expires: now.Add(Life)}
}

func TestTokenRoundTrip(t *testing.T) {
	pub, key := keyPair('a')
	want := placement().Token(1, now)
	s, err := want.Sign(key, "k1", now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(s, now, func(kid string) ed25519.PublicKey {
		if kid != "k1" {
			t.Errorf("kid %q, want k1", kid)
		}
		return pub
	})
	if err != nil {
		t.Fatal(err)
	}
	got.Expires = got.Expires.UTC()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.Expires.Sub(now) != TokenLife {
		t.Errorf("good for %s, want %s", got.Expires.Sub(now), TokenLife)
	}
}

func TestTokenDoesNotOutliveTheConsult(t *testing.T) {
	p := placement()
	p.Expires = now.Add(time.Minute)
	if tok := p.Token(0, now); !tok.Expires.Equal(p.Expires) {
		t.Errorf("good until %s, want %s", tok.Expires, p.Expires)
	}
}

func TestVerifyRefuses(t *testing.T) {
	pub, key := keyPair('a')
	_, other := keyPair('b')
	tok := placement().Token(0, now)
	sign := func(k ed25519.PrivateKey) string {
		s, err := tok.Sign(k, "k1", now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := sign(key)
	parts := strings.Split(good, ".")
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	forged := strings.Replace(string(payload), `"de-fra-1"`, `"us-iad-1"`, 1)
	with := func(change func(jwt.MapClaims)) string {
		c := jwt.MapClaims{}
		if err := json.Unmarshal(payload, &c); err != nil {
			t.Fatal(err)
		}
		change(c)
		j := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
		j.Header["kid"] = "k1"
		s, err := j.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"sub": "p1"}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	hmac, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "p1"}).SignedString([]byte(pub))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, token string
		at          time.Time
		want        error
	}{
		{"another edge's key under this kid", sign(other), now, ErrTokenInvalid},
		{"claims changed after signing", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(forged)) + "." + parts[2], now, ErrTokenInvalid},
		{"alg none", none, now, ErrTokenInvalid},
		{"alg HS256 keyed with the public key", hmac, now, ErrTokenInvalid},
		{"not a token", "x.y", now, ErrTokenInvalid},
		{"empty", "", now, ErrTokenInvalid},
		{"expired", good, now.Add(TokenLife + Skew + time.Second), ErrTokenExpired},
		{"an early forgery is a forgery", sign(other), now.Add(-time.Hour), ErrTokenInvalid},
		{"early, and of another audience", with(func(c jwt.MapClaims) { c["aud"] = "admin" }), now.Add(-time.Hour), ErrTokenInvalid},
		{"an expired forgery is a forgery", sign(other), now.Add(TokenLife * 2), ErrTokenInvalid},
		{"other issuer", with(func(c jwt.MapClaims) { c["iss"] = "else" }), now, ErrTokenInvalid},
		{"other audience", with(func(c jwt.MapClaims) { c["aud"] = "admin" }), now, ErrTokenInvalid},
		{"no expiry", with(func(c jwt.MapClaims) { delete(c, "exp") }), now, ErrTokenInvalid},
		{"no jurisdiction", with(func(c jwt.MapClaims) { delete(c, "jurisdictions") }), now, ErrTokenInvalid},
		{"a patient who is nobody", with(func(c jwt.MapClaims) { c["patient"] = 2 }), now, ErrTokenInvalid},
		{"no epoch", with(func(c jwt.MapClaims) { delete(c, "epoch") }), now, ErrTokenInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Verify(tt.token, tt.at, func(string) ed25519.PublicKey { return pub }); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := Verify(good, now, func(string) ed25519.PublicKey { return nil }); !errors.Is(err, ErrTokenInvalid) || !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("unknown kid: got %v", err)
	}
}

func TestNames(t *testing.T) {
	tok := placement().Token(0, now)
	for edge, want := range map[region.EdgeID]bool{"de-fra-1": true, "de-ber-1": true, "us-iad-1": false} {
		if got := tok.Names(edge); got != want {
			t.Errorf("%s: got %v, want %v", edge, got, want)
		}
	}
}

func testMap() *region.Map {
	return &region.Map{Tenants: map[string]*residency.Tenant{"default": {ID: "default"}, "clinic": {ID: "clinic"}}}
}

func TestParseRequest(t *testing.T) {
	body := `{"tenant":"clinic","e2ee":true,"tags":["my_health_record_data","de_statutory"],"participants":[
		{"role":"clinician","country":"de"},{"role":"patient","country":"CA","subdivision":"qc","at":[45.5,-73.6]},
		{"role":"companion","country":"CA","subdivision":"CA-QC"}]}`
	p, err := ParseRequest([]byte(body), testMap(), residency.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	if p.Priority != Routine || p.Tenant != "clinic" || !p.E2EE || len(p.Tags) != 2 {
		t.Errorf("got %+v", p)
	}
	c := p.Client(testMap())
	if want := []residency.Jurisdiction{"DE", "CA-QC", "CA-QC"}; !reflect.DeepEqual(c.Participants, want) {
		t.Errorf("jurisdictions %v, want %v", c.Participants, want)
	}
	if c.Patient != 1 || c.Places[1].Point.Lat != 45.5 || !c.Places[0].Located {
		t.Errorf("patient %d at %+v", c.Patient, c.Places)
	}
	if c.Tenant.ID != "clinic" || !c.E2EE {
		t.Errorf("tenant %v, end-to-end encrypted %v", c.Tenant, c.E2EE)
	}
	if p := p.Patients(); len(p) != 1 || p[0] != 1 {
		t.Errorf("patients %v", p)
	}
}

func TestParseRequestSaysEveryFault(t *testing.T) {
	two := `{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}`
	tests := []struct {
		name, body string
		want       []string
	}{
		{"not json", `{`, []string{"body"}},
		{"unknown field", `{"prio":"urgent"}`, []string{"prio"}},
		{"two objects", `{"participants":[` + two + `]}{}`, []string{"more follows"}},
		{"nobody", `{}`, []string{"participants: 0, want 2 to 6"}},
		{"seven", `{"participants":[` + two + "," + two + "," + two + `,{"role":"patient","country":"DE"}]}`, []string{"participants: 7"}},
		{"all at once", `{"priority":"asap","tenant":"x","participants":[{"role":"doctor","country":"Germany"},{"role":"patient","country":"DE","at":[91,0]}]}`,
			[]string{"priority", "tenant", "participants[0]", "role", "GERMANY", "participants[1]", "at:"}},
		{"a tenant of another map", `{"tenant":"clinc","participants":[` + two + `]}`, []string{"clinc", "not in regions.yaml"}},
		{"a tenant in another case", `{"tenant":"Clinic","participants":[` + two + `]}`, []string{"not in regions.yaml"}},
		{"an unknown tag", `{"tags":["my_heath_record_data"],"participants":[` + two + `]}`, []string{"tags[0]", "my_health_record_data"}},
		{"a tag that is a fact of another scope", `{"tags":["baa"],"participants":[` + two + `]}`, []string{"tags[0]"}},
		{"e2ee as a tag", `{"tags":["e2ee"],"participants":[` + two + `]}`, []string{"tags[0]"}},
		{"a tag twice", `{"tags":["de_statutory","de_statutory"],"participants":[` + two + `]}`, []string{"tags[1]", "named twice"}},
		{"a tag in another case", `{"tags":["DE_statutory"],"participants":[` + two + `]}`, []string{"tags[0]"}},
		{"a hundred tags", `{"tags":["x"` + strings.Repeat(`,"x"`, 99) + `],"participants":[` + two + `]}`, []string{"tags: 100, limit 8"}},
		{"a subdivision that is none", `{"participants":[` + two + `,{"role":"patient","country":"CA","subdivision":"PQ"}]}`, []string{"participants[2]", "CA-PQ", "did you mean CA-PE?"}},
		{"one in the country", `{"participants":[` + two + `,{"role":"patient","country":"US-ZZ"}]}`, []string{"participants[2]", "US-ZZ", "did you mean US-AZ?"}},
		{"two that disagree", `{"participants":[` + two + `,{"role":"patient","country":"US","subdivision":"CA-QC"}]}`, []string{"participants[2]", "two places"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseRequest([]byte(tt.body), testMap(), residency.Shipped())
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(strings.ToUpper(err.Error()), strings.ToUpper(w)) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

// A token may name a tenant that this edge's map does not have: it opens no place.
func TestTermsOpenNothingThatIsNotKnown(t *testing.T) {
	m := testMap()
	if c := (&Terms{}).Client(m); c.Tenant == nil || c.Tenant.ID != "default" {
		t.Errorf("no tenant: got %+v", c.Tenant)
	}
	terms := Terms{Jurisdictions: []residency.Jurisdiction{"DE"}, Tenant: "clinc"}
	c := terms.Client(m)
	s := residency.Subject{Participants: c.Participants, Tenant: c.Tenant}
	if v := residency.Shipped().Permits(residency.Stored, &residency.Hop{At: "DE"}, &s, now); v.Code != residency.PolicyMissing || v.Fact != "tenant clinc" {
		t.Errorf("got %+v: want policy_missing, which names the tenant", v)
	}
}

func TestPlacementRoundTrip(t *testing.T) {
	want := placement()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParsePlacement(b)
	if err != nil || !reflect.DeepEqual(&got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "down", `{}`, `{"consult":"c","edge":"e"}`, `{"consult":"c","edge":"e","epoch":1}`,
		`{"consult":"c","edge":"e","epoch":1,"jurisdictions":["DE"],"participants":[]}`,
		`{"consult":"c","edge":"e","epoch":1,"jurisdictions":["DE"],"participants":[{}],"patient":1}`} {
		if _, err := ParsePlacement([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a placement", bad)
		}
	}
}

// Edges of two versions share the records: the older one must not lose what the newer
// one wrote.
func TestPlacementKeepsWhatItDoesNotKnow(t *testing.T) {
	b, err := json.Marshal(placement())
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(b), `{`, `{"cascade":{"root":"de-fra-1"},"epoch_of":[1,2],`, 1)
	p, err := ParsePlacement([]byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	p.Epoch, p.Tags = 4, nil
	b, err = json.Marshal(&p)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got["cascade"]) != "map[root:de-fra-1]" || fmt.Sprint(got["epoch_of"]) != "[1 2]" || got["epoch"] != 4.0 {
		t.Errorf("got %s", b)
	}
	if _, kept := got["tags"]; kept {
		t.Errorf("tags that were taken away came back: %s", b)
	}
}

func TestSupersedes(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Terms
	}{
		{"the higher epoch", Terms{Epoch: 2, Edge: "z"}, Terms{Epoch: 1, Edge: "a"}},
		{"of one epoch the same for everybody", Terms{Epoch: 2, Edge: "a"}, Terms{Epoch: 2, Edge: "z"}},
	} {
		if !c.a.Supersedes(&c.b) || c.b.Supersedes(&c.a) || c.a.Supersedes(&c.a) {
			t.Errorf("%s: got %v, %v, %v", c.name, c.a.Supersedes(&c.b), c.b.Supersedes(&c.a), c.a.Supersedes(&c.a))
		}
	}
}

// The clocks of edges differ: by as much as Skew nothing comes of it, and beyond it the token
// is called early, or expired, and not invalid.
func TestTokenSkew(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := placement()
	token := p.Token(0, now)
	signed, err := token.Sign(key, "kid", now)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(at time.Time) error {
		_, err := Verify(signed, at, func(string) ed25519.PublicKey { return pub })
		return err
	}
	for _, off := range []time.Duration{-Skew, -Skew + time.Second, -2 * time.Minute, -61 * time.Second, 0, TokenLife, TokenLife + Skew - time.Second} {
		if err := judge(now.Add(off)); err != nil {
			t.Errorf("%s after it was signed: %v", off, err)
		}
	}
	for _, off := range []time.Duration{-Skew - time.Second, -24 * time.Hour} {
		var early *TokenEarly
		if err := judge(now.Add(off)); !errors.As(err, &early) || !early.From.Equal(now.Truncate(time.Second)) || !early.Clock.Equal(now.Add(off)) {
			t.Errorf("%s after it was signed: %v", off, err)
		}
	}
	if err := judge(now.Add(TokenLife + Skew)); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("past its end: %v", err)
	}
}

func TestEndedRecordOutlivesEveryToken(t *testing.T) {
	p := placement()
	p.Participants[1].At = &region.Point{Lat: 1}
	last := p.Token(0, now)
	p.End(now)
	if !p.Ended || !p.Expires.After(last.Expires.Add(Skew)) || p.Participants[1].At != nil {
		t.Errorf("got %+v, a token is good until %s", p, last.Expires)
	}
	if p.Expires.Sub(now) > 2*TokenLife {
		t.Errorf("the record stays until %s", p.Expires)
	}
}

func TestDatacenterIsInTheID(t *testing.T) {
	for dc, want := range map[string]ID{"": "cabc", "de1": "cabc-de1", "eu-west": "cabc-eu-west"} {
		if id := ID("cabc").In(dc); id != want || id.Datacenter() != dc {
			t.Errorf("got %s of datacenter %q, want %s of %q", id, id.Datacenter(), want, dc)
		}
	}
}

func TestPlaceRaisesTheEpoch(t *testing.T) {
	r := region.Region{ID: "de-fra"}
	w := &steer.World{Regions: []steer.Region{{Region: &r, Edges: []steer.Edge{{ID: "de-fra-1"}, {ID: "de-fra-2"}}}}}
	p := placement()
	p.Place(&steer.Decision{World: w, Candidates: []steer.Candidate{{Region: 0, Edge: 1}, {Region: 0, Edge: 0}}})
	if p.Epoch != 4 || p.Edge != "de-fra-2" || len(p.Standby) != 1 || p.Standby[0] != "de-fra-1" {
		t.Errorf("got %+v", p)
	}
}

func FuzzVerify(f *testing.F) {
	pub, key := keyPair('a')
	tok := placement().Token(0, now)
	s, err := tok.Sign(key, "k1", now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := Verify(token, now, func(string) ed25519.PublicKey { return pub })
		if err == nil && (got.Consult == "" || got.Edge == "" || len(got.Jurisdictions) == 0) {
			t.Errorf("%q was accepted as %+v", token, got)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"CA","subdivision":"QC","at":[1,2]}]}`))
	f.Add([]byte(`{"participants":[{},{}],"tags":["x"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParseRequest(body, testMap(), residency.Shipped())
		if err != nil {
			return
		}
		if len(p.Jurisdictions) != len(p.Participants) || p.Patient < 0 || p.Patient >= len(p.Participants) {
			t.Fatalf("got %+v", p)
		}
		if n := len(p.Participants); n < MinParticipants || n > MaxParticipants {
			t.Errorf("%d participants", n)
		}
		for _, law := range p.Jurisdictions {
			if _, err := residency.ParseJurisdiction(string(law)); err != nil {
				t.Errorf("jurisdiction %q got through", law)
			}
		}
	})
}

// What a backend writes decides whose law binds, so nothing in it may be read in two ways.
func TestParseRequestReadsExactly(t *testing.T) {
	const de = `{"role":"clinician","country":"DE"}`
	with := func(member string) string {
		return `{` + member + `,"participants":[{"role":"patient","country":"DE"},` + de + `]}`
	}
	who := func(patient string) string { return `{"participants":[` + patient + `,` + de + `]}` }
	for _, row := range []struct{ name, body, want string }{
		{"country in another case", who(`{"role":"patient","Country":"US"}`), `"participants/0/Country": unknown member`},
		{"country twice", who(`{"role":"patient","country":"DE","country":"US"}`), `"participants/0/country": named twice`},
		{"country in two cases", who(`{"role":"patient","country":"DE","COUNTRY":"US"}`), `"participants/0/COUNTRY": unknown member`},
		{"participants twice", `{"participants":[` + de + `,` + de + `],"participants":[{"subdivision":"QC"}]}`, `"participants": named twice`},
		{"participants in another case", `{"Participants":[` + de + `,` + de + `]}`, `"Participants": unknown member`},
		{"a member nobody knows", with(`"jurisdiction":"DE"`), `"jurisdiction": unknown member`},
		{"a tenant that is a number", with(`"tenant":1`), `"tenant": want a string, not a number`},
		{"e2ee that is a string", with(`"e2ee":"false"`), `"e2ee": want true or false, not a string`},
		{"tags that are a string", with(`"tags":"de_statutory"`), `"tags": want an array, not a string`},
		{"a country that is a list", who(`{"role":"patient","country":["DE"]}`), `"participants/0/country": want a string, not an array`},
		{"a huge latitude", who(`{"role":"patient","country":"DE","at":[1e999,0]}`), `"participants/0/at/0": want a number`},
		{"a control character in the country", who(`{"role":"patient","country":"D\u0000E"}`), `participants[0]`},
		{"a byte order mark", "\ufeff" + who(de), "byte order mark"},
		{"no UTF-8", who("{\"role\":\"patient\",\"country\":\"D\xff\"}"), "UTF-8"},
		{"more after it", who(de) + "[]", "more follows"},
		{"null", "null", "participants: 0"},
		{"a list", "[]", "want an object"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if p, err := ParseRequest([]byte(row.body), testMap(), residency.Shipped()); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %+v, %v: want %s", p, err, row.want)
			}
		})
	}
}

// A token is signed, so only an edge can have written it; what it says is still read once.
func TestVerifyReadsExactly(t *testing.T) {
	pub, key := keyPair('a')
	tok := placement().Token(0, now)
	good, err := tok.Sign(key, "k1", now)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	decode := func(s string) string {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	head, claims := decode(parts[0]), decode(parts[1])
	sign := func(head, claims string) string {
		s := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		return s + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(s)))
	}
	open := func(s string) string { return strings.Replace(s, "{", "", 1) }
	for _, row := range []struct{ name, head, claims, want string }{
		{"as it was signed", head, claims, ""},
		{"jurisdictions twice", head, `{"jurisdictions":["US"],` + open(claims), `"jurisdictions": named twice`},
		{"jurisdictions in another case", head, `{"Jurisdictions":["US"],` + open(claims), `"Jurisdictions": unknown member`},
		{"a claim nobody knows", head, `{"jurisdiction":"US",` + open(claims), `"jurisdiction": unknown member`},
		{"an epoch that is a string", head, strings.Replace(claims, `"epoch":3`, `"epoch":"3"`, 1), `"epoch": want a whole number`},
		{"a byte order mark", head, "\ufeff" + claims, "byte order mark"},
		{"two claim sets", head, claims + claims, "more follows"},
		{"kid twice", `{"kid":"k2",` + open(head), claims, `"kid": named twice`},
		{"a critical extension", `{"crit":["b64"],"b64":false,` + open(head), claims, `"crit": unknown member`},
		{"a kid that is a number", strings.Replace(head, `"k1"`, `1`, 1), claims, `"kid": want a string`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Verify(sign(row.head, row.claims), now, func(string) ed25519.PublicKey { return pub })
			switch {
			case row.want == "":
				if err != nil || got.Jurisdictions[0] != "CA-QC" {
					t.Errorf("got %+v, %v", got, err)
				}
			case !errors.Is(err, ErrTokenInvalid) || !strings.Contains(err.Error(), row.want):
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

// Nodes of two versions share the records: what is not known is kept, what is known is
// read exactly.
func TestPlacementIsReadExactly(t *testing.T) {
	b, err := json.Marshal(placement())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, member, want string }{
		{"jurisdictions twice", `"jurisdictions":["US","US"]`, "named twice"},
		{"two records in one", `"newer":1,"newer":2`, "named twice"},
		{"in another case: unknown, and kept", `"Jurisdictions":["US","US"]`, ""},
	} {
		p, err := ParsePlacement([]byte(strings.Replace(string(b), "{", "{"+row.member+",", 1)))
		if row.want == "" {
			if err != nil || p.Jurisdictions[0] != "CA-QC" || len(p.unknown) != 1 {
				t.Errorf("%s: got %+v, %v", row.name, p, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}

func BenchmarkParsePlacement(b *testing.B) {
	data, err := json.Marshal(placement())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ParsePlacement(data); err != nil {
			b.Fatal(err)
		}
	}
}

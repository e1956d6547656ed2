package exact

import (
	"strings"
	"testing"
	"time"
)

type part struct {
	Country string    `json:"country"`
	At      []float64 `json:"at"`
}

type whole struct {
	part
	E2EE    bool              `json:"e2ee"`
	Epoch   uint64            `json:"epoch"`
	Until   time.Time         `json:"until,omitzero"`
	Key     []byte            `json:"key"`
	People  []part            `json:"people"`
	ByName  map[string]string `json:"by_name"`
	private int
}

func TestReadRefuses(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"nothing", ``, "line 1: no JSON here"},
		{"a byte order mark", "\ufeff{}", "byte order mark"},
		{"wrong case", `{"Country":"DE"}`, `"Country": unknown member: want country, at, e2ee, epoch`},
		{"wrong case beside the right one", `{"country":"DE","COUNTRY":"US"}`, `"COUNTRY": unknown member`},
		{"twice", "{\"country\":\"DE\",\n\"country\":\"US\"}", `line 2: "country": named twice`},
		{"twice by an escape", `{"country":"DE","countr\u0079":"US"}`, `"country": named twice`},
		{"twice, deep", `{"people":[{},{"country":"DE","country":"DE"}]}`, `"people/1/country": named twice`},
		{"twice in a map of names", `{"by_name":{"a":"1","a":"2"}}`, `"by_name/a": named twice`},
		{"unknown, deep", `{"people":[{"land":"DE"}]}`, `"people/0/land": unknown member: want country, at`},
		{"unexported", `{"private":1}`, `"private": unknown member`},
		{"a string for a truth", `{"e2ee":"true"}`, `"e2ee": want true or false, not a string`},
		{"a number for a truth", `{"e2ee":1}`, `"e2ee": want true or false, not a number`},
		{"a string for a list", `{"people":"DE"}`, `"people": want an array, not a string`},
		{"a list for an object", `[]`, `want an object, not an array`},
		{"a negative epoch", `{"epoch":-1}`, `"epoch"`},
		{"an epoch with a fraction", `{"epoch":1.5}`, `"epoch": want a whole number`},
		{"a huge epoch", `{"epoch":18446744073709551616}`, `"epoch"`},
		{"a huge number", `{"at":[1e999]}`, `"at/0"`},
		{"no time", `{"until":"tomorrow"}`, `"until": want a time such as`},
		{"no base64", `{"key":"*"}`, `"key": want base64`},
		{"a raw control character", "{\"country\":\"D\x00E\"}", "line 1"},
		{"not UTF-8", "{\"country\":\"\xff\"}", "UTF-8"},
		{"half a surrogate pair", `{"country":"\ud800"}`, "line 1"},
		{"a comment", `{} // x`, "more follows"},
		{"two values", `{}{}`, "more follows"},
		{"a comma too many", `{"e2ee":true,}`, "line 1"},
		{"not a number", `{"at":[NaN]}`, "line 1"},
		{"deeper than anybody writes", strings.Repeat("[", 20000), "line 1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var v whole
			err := Read([]byte(row.in), &v)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestReadTakes(t *testing.T) {
	var v whole
	err := Read([]byte("\t{\"country\":\"DE\",\"e2ee\":true,\"epoch\":18446744073709551615,\"until\":\"2026-11-24T12:00:00Z\",\"key\":\"AAE=\",\"people\":[{\"at\":[1,-2.5]}],\"by_name\":null}\r\n"), &v)
	if err != nil || v.Country != "DE" || !v.E2EE || v.Epoch != 1<<64-1 || v.Until.Year() != 2026 || len(v.Key) != 2 || v.People[0].At[1] != -2.5 {
		t.Errorf("got %+v, %v", v, err)
	}
}

// Of what a newer version wrote only what is not known is forgiven.
func TestKnownIgnoresTheUnknownAlone(t *testing.T) {
	var v whole
	if err := Known([]byte(`{"newer":{"country":1},"country":"DE","Country":"US"}`), &v); err != nil || v.Country != "DE" {
		t.Errorf("got %+v, %v: want the exact name alone", v, err)
	}
	for _, in := range []string{`{"country":"DE","country":"US"}`, `{"newer":1,"newer":2}`, `{"e2ee":"true"}`, "\ufeff{}", `{}{}`} {
		if err := Known([]byte(in), &v); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

// A refusal may be logged and shown: what was written may be a key.
func TestErrorsQuoteNoValue(t *testing.T) {
	for _, in := range []string{`{"epoch":"hunter2"}`, `{"key":"hunter2*"}`, `{"until":"hunter2"}`, `{"e2ee":hunter2}`, `{"at":[hunter2]}`, `"hunter2"`} {
		var v whole
		if err := Read([]byte(in), &v); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", in, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"country":"DE","people":[{"at":[1,2]}],"epoch":3}`))
	f.Add([]byte(`{"country":"DE","country":"US"}`))
	f.Add([]byte("\ufeff{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, lax whole
		if Read(data, &strict) == nil && Known(data, &lax) != nil {
			t.Error("read exactly, and not read")
		}
	})
}

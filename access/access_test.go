package access

import (
	"strings"
	"testing"
)

var tenants = []string{"clinic", "default"}

func TestParse(t *testing.T) {
	const good = "\ufeff# keys of today\r\ns3cret name=clinic-backend tenant=clinic roles=backend\r\n\r\nwatch name=oncall roles=operator,viewer\nold\n"
	k, err := Parse("keys", good, tenants)
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Warnings) != 1 || !strings.HasPrefix(k.Warnings[0], "keys:5: ") || strings.Contains(k.Warnings[0], "old") {
		t.Errorf("warnings %q: want one, of line 5, without the key", k.Warnings)
	}
	for _, x := range []struct {
		header string
		want   string // the principal's name; empty: nobody's
	}{
		{"Bearer s3cret", "clinic-backend"},
		{"bearer s3cret", "clinic-backend"},
		{"BEARER  s3cret", "clinic-backend"},
		{"Bearer watch", "oncall"},
		{"Bearer old", "line 5"},
		{"Bearer ", ""},
		{"Bearer", ""},
		{"", ""},
		{"Basic s3cret", ""},
		{"Bearer s3cret ", ""},
		{"Bearer S3CRET", ""},
		{"Bearer s3cret name=clinic-backend", ""},
		{"s3cret", ""},
	} {
		p, ok := k.Principal(x.header)
		if p.Name != x.want || ok != (x.want != "") {
			t.Errorf("%q: got %q, %t; want %q", x.header, p.Name, ok, x.want)
		}
	}
	clinic, _ := k.Principal("Bearer s3cret")
	if !clinic.Is(Backend) || clinic.Is(Operator, Viewer) || !clinic.Sees("clinic") || clinic.Sees("default") || clinic.Sees("") {
		t.Errorf("%+v: want a backend of clinic alone", clinic)
	}
	if oncall, _ := k.Principal("Bearer watch"); oncall.Is(Backend) || !oncall.Is(Backend, Viewer) || !oncall.Sees("clinic") {
		t.Errorf("%+v: want an operator and viewer", oncall)
	}
}

// TestParseSays: each fault by its line, all at once, and never with a key.
func TestParseSays(t *testing.T) {
	for _, x := range []struct{ line, want string }{
		{"", "holds no API key"},
		{"# KEY", "holds no API key"},
		{"zq9x name=a", "keys:1: roles= is missing"},
		{"zq9x roles=viewer", "keys:1: name= is missing"},
		{"zq9x viewer", `keys:1: "viewer": want name=, tenant= or roles= after the key`},
		{"zq9x name=a name=b roles=viewer", "keys:1: name= is there twice"},
		{"zq9x name=a roles=viewer,admin", `keys:1: role "admin": want backend, operator or viewer`},
		{"zq9x name=a roles=Viewer", `keys:1: role "Viewer"`},
		{"zq9x name=a roles=", "keys:1: roles= says nothing"},
		{"zq9x name=a/b roles=viewer", `keys:1: name "a/b": want letters`},
		{"zq9x name=a tenant=clinik roles=backend", `keys:1: tenant "clinik": not in the map; it has clinic, default`},
		{"zq9x name=a tenant=clinic roles=backend,operator", "tenant=clinic goes with roles=backend alone"},
		{"zq9x name=a colour=red roles=viewer", "keys:1: colour=: want name=, tenant= or roles="},
		{"name=a roles=viewer", "keys:1: name= comes where the key should be"},
		{"zq9x name=a roles=viewer\nzq9x name=b roles=viewer", "keys:2: the key is that of a already"},
		{"zq9x name=a roles=viewer\nzq8x name=a roles=viewer", "keys:2: name a is another key's"},
		{"zq9\x07 name=a roles=viewer", "keys:1: the key has characters that no HTTP header carries"},
		{"zq9ü name=a roles=viewer", "keys:1: the key has characters that no HTTP header carries"},
		{"zq9x name=a\nzq8x roles=viewer", "keys:1: roles= is missing\nkeys:2: name= is missing"},
	} {
		_, err := Parse("keys", x.line, tenants)
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "zq") {
			t.Errorf("%q: got %v, want %q and no key", x.line, err, x.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("KEY name=a tenant=clinic roles=backend\nold\n")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse("keys", text, tenants)
		if err != nil {
			return
		}
		for _, x := range k.list {
			if x.of.Name == "" || len(x.of.Roles) == 0 {
				t.Errorf("%q: a principal without name or role", text)
			}
		}
	})
}

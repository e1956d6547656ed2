package dnssec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fullSet has a key in each state that a set can hold at once.
func fullSet(t testing.TB) Set {
	t.Helper()
	p := scenarioPolicy()
	p.ZoneLifetime = 100 * time.Hour
	s, err := NewSet("media.example", ECDSAP256, true, epoch)
	if err != nil {
		t.Fatal(err)
	}
	for hour := range 250 {
		parent := &Parent{TTL: time.Hour}
		for _, k := range s.Wanted() {
			ds, err := s.DS(k, 2)
			if err != nil {
				t.Fatal(err)
			}
			parent.DS = append(parent.DS, ds)
		}
		if s, _, err = Next(s, epoch.Add(time.Duration(hour)*time.Hour), p, parent); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestFileRoundTrip(t *testing.T) {
	s := fullSet(t)
	path := filepath.Join(t.TempDir(), "media.example.keys")
	if err := s.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := s.Encode()
	b, _ := got.Encode()
	if !bytes.Equal(a, b) || len(got.Keys) != len(s.Keys) {
		t.Errorf("got %v, want %v", got, s)
	}
	for i, k := range got.Keys {
		want := s.Keys[i]
		if (k.private == nil) != (k.State == Removed) {
			t.Errorf("%v: private part: %t", k, k.private != nil)
		}
		k.private, want.private = nil, nil
		if !reflect.DeepEqual(k, want) {
			t.Errorf("got %#v, want %#v", k, want)
		}
	}

	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: got %v", err)
	}
	if _, err := ReadFile(path + ".none"); !os.IsNotExist(unwrap(err)) {
		t.Errorf("no file: got %v", err)
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return err
}

// TestPrivateKeyIsNeverPrinted tries each way by which a key could get into a log.
func TestPrivateKeyIsNeverPrinted(t *testing.T) {
	for _, a := range []Algorithm{ECDSAP256, Ed25519} {
		set, s := newSigner(t, a, false)
		raw := set.Keys[0].private().raw
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("keys", "key", set.Keys[0], "set", set, "signer", s, "pointer", &set.Keys[0])
		}
		for _, v := range []any{set, &set, set.Keys, set.Keys[0], &set.Keys[0], s, *s, []any{s, set}, map[string]any{"k": set.Keys[0]}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				fmt.Fprintf(&out, verb, v)
			}
			if b, err := json.Marshal(v); err == nil {
				out.Write(b)
			}
		}
		decimal := strings.Trim(fmt.Sprint(raw), "[]")
		for _, secret := range []string{string(raw), base64.StdEncoding.EncodeToString(raw), fmt.Sprintf("%x", raw), decimal,
			strings.ReplaceAll(decimal, " ", ", "), strings.ReplaceAll(strings.TrimSuffix(fmt.Sprintf("%#v", raw), "}"), "[]byte{", "")} {
			if strings.Contains(out.String(), secret[:min(len(secret), 24)]) {
				t.Errorf("algorithm %d: the private key was printed", a)
			}
		}
		if !strings.Contains(out.String(), set.Keys[0].String()) {
			t.Error("the key was not printed at all")
		}
	}
}

// TestTagsDiffer: a tag that another key has is not given again.
func TestTagsDiffer(t *testing.T) {
	var other []Key
	for tag := 0; tag < 1<<16; tag += 2 {
		other = append(other, Key{Tag: uint16(tag)})
	}
	for range 20 {
		if k, err := generate("media.example.", CSK, Ed25519, other); err != nil || k.Tag%2 == 0 {
			t.Fatalf("got tag %d, %v, want one that no other key has", k.Tag, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	b, err := fullSet(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	set, _ := newSigner(t, Ed25519, false)
	one, _ := set.Encode()
	private := base64.StdEncoding.EncodeToString(set.Keys[0].private().raw)
	other, _ := newSigner(t, Ed25519, false)
	edit := func(from, to string) string {
		if !strings.Contains(string(one), from) {
			t.Fatalf("%q is not in %s", from, one)
		}
		return strings.Replace(string(one), from, to, 1)
	}
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", "no JSON here"},
		{"no JSON", "{", "no JSON here"},
		{"too long", strings.Repeat(" ", maxFile+1), "the limit is 65536"},
		{"another version", edit(`"version": 1`, `"version": 2`), "version 2"},
		{"unknown field", edit(`"version"`, `"nonsense": 0, "version"`), "unknown member"},
		{"more after the end", good + "{}", "more follows"},
		{"zone in capitals", edit("media.example.", "Media.example."), "lower case"},
		{"zone of another", edit("media.example.", "media.test."), ""}, // the key tag does not cover the name
		{"tag of another", edit(fmt.Sprint(set.Keys[0].Tag), "1"), "the tag of this key is"},
		{"role", edit(`"csk"`, `"king"`), `role "king"`},
		{"a zsk alone", edit(`"csk"`, `"zsk"`), "the tag of this key is"},
		{"state", edit(`"state": "published"`, `"state": "dormant"`), `state "dormant"`},
		{"state without since", edit(`"state": "published"`, `"state": "active"`), "active, but not since when"},
		{"a DS that lives for ever", edit(`"role"`, `"ds_ttl": 2147483648, "role"`), "ds_ttl 2147483648: want seconds"},
		{"active, and never published", strings.Replace(edit(`"state": "published"`, `"state": "active"`), `"published": "`, `"active": "`, 1), "active, but not since when"},
		{"year", edit("2026-11", "0026-11"), "a time in the year 26"},
		{"algorithm", edit(`"algorithm": 15`, `"algorithm": 8`), "algorithm 8: want 13"},
		{"algorithm of another", edit(`"algorithm": 15`, `"algorithm": 13`), "public does not belong"},
		{"private of another", edit(private, base64.StdEncoding.EncodeToString(other.Keys[0].private().raw)), "public does not belong"},
		{"short private", edit(private, "AAAA"), "seed of 32 bytes"},
		{"no private", edit(`"`+private+`"`, `null`), "seed of 32 bytes"},
		{"removed with private", edit(`"published"`, `"removed", "removed": "2026-11-02T00:00:00Z"`), "its private part is still there"},
		{"no keys", `{"version":1,"zone":"media.example.","keys":[]}`, "no csk or ksk"},
		{"too many keys", `{"version":1,"zone":"media.example.","keys":[` + strings.Repeat("{},", 16) + `{}]}`, "17 keys, the limit is 16"},
		{"twice", strings.Replace(string(one), `"keys": [`, `"keys": [`+string(one)[strings.Index(string(one), `[`)+1:strings.LastIndex(string(one), `]`)]+",", 1), "is there twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.in))
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), private) {
				t.Error("the error quotes the private key")
			}
		})
	}
}

// FuzzParse: no input makes it panic, and what it takes is written and read again as
// the same, signs, and steps.
func FuzzParse(f *testing.F) {
	b, err := fullSet(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		out, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, out)
		}
		if second, err := again.Encode(); err != nil || !bytes.Equal(out, second) {
			t.Fatalf("%v\n%s\n%s", err, out, second)
		}
		signer, err := NewSigner(s, DefaultPolicy())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := signer.Sign(s.DNSKEY(DefaultPolicy()), epoch); err != nil {
			t.Fatal(err)
		}
		next, _, err := Next(s, epoch, DefaultPolicy(), &Parent{})
		if err != nil {
			t.Fatal(err)
		}
		if err := next.signs(); err != nil {
			t.Fatalf("after a step: %v", err)
		}
	})
}

package residency

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestParseRefuses reads testdata/bad: one fault a file, its message beside it.
func TestParseRefuses(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			beside := strings.TrimSuffix(path, ".yaml") + ".txt"
			l, err := Parse(read(t, path))
			if err == nil || l != nil {
				t.Fatalf("Parse = %v, %v, want no law and an error", l, err)
			}
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(beside, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(read(t, beside)); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestParseGood(t *testing.T) {
	l, err := Parse(read(t, "testdata/good.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h := Hop{At: "NO", Provider: Facts{"baa": paper}}
	s := Subject{Participants: []Jurisdiction{"AT"}}
	if v := l.Permits(Relay, &h, &s, now); !v.Permitted() {
		t.Errorf("AT at NO: %s, want permitted", text(v))
	}
	h.Provider = nil
	if got, want := text(l.Permits(Relay, &h, &s, now)), "baa_missing AT EU baa"; got != want {
		t.Errorf("AT at NO without BAA: %q, want %q", got, want)
	}
}

// A written default of stored and an overlay's own break-glass ground bind.
func TestParseReadsWhatIsWritten(t *testing.T) {
	text := strings.NewReplacer(
		"    break_glass: {value: vital}", "    product_default: {stored: {rule: block, allow: [DE]}}\n    break_glass: {value: vital}",
		"note: by contract", "note: by contract, break_glass: {value: vital}",
	).Replace(string(read(t, "testdata/good.yaml")))
	l, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	h, s := Hop{At: "AT", Provider: Facts{"baa": paper}}, Subject{Participants: []Jurisdiction{"AT"}}
	for plane, want := range []Code{OK, OK, ProductDefault} {
		if got := l.Permits(Plane(plane), &h, &s, now).Code; got != want {
			t.Errorf("%s: %q, want %q", Plane(plane), got, want)
		}
	}
	if got := l.overlays["clinic"].BreakGlass; got != "vital" {
		t.Errorf("overlay's break-glass %q, want vital", got)
	}
}

// contract_route: false shuts the contract route of a rule that has one.
func TestParseContractRoute(t *testing.T) {
	for flag, want := range map[string]Code{"true": OK, "false": NotAdequate} {
		text := strings.NewReplacer(
			"media: {rule: block, allow: [EEA]", "contract_route: "+flag+"\n    media: {rule: adequacy_or_contract, list: [EEA]",
		).Replace(string(read(t, "testdata/good.yaml")))
		l, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		h, s := Hop{At: "IN", Provider: Facts{"baa": paper}}, Subject{Participants: []Jurisdiction{"AT"}}
		instrument("AT", "IN")(&s)
		if got := l.Permits(Media, &h, &s, now).Code; got != want {
			t.Errorf("contract_route %s: %q, want %q", flag, got, want)
		}
	}
}

func TestParseLimits(t *testing.T) {
	if _, err := Parse(make([]byte, maxCatalogue+1)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("%d bytes: %v, want the limit", maxCatalogue+1, err)
	}
	// Blocks of blocks, each naming the last a hundred times, are expanded once.
	var b strings.Builder
	b.WriteString("blocks:\n  B0: [DE]\n")
	for i := 1; i < 40; i++ {
		n := string(rune('0'+i/10)) + string(rune('0'+i%10))
		last := "B0"
		if i > 1 {
			last = "B" + string(rune('0'+(i-1)/10)) + string(rune('0'+(i-1)%10))
		}
		b.WriteString("  B" + n + ": [" + strings.Repeat(last+", ", 99) + last + "]\n")
	}
	if _, err := Parse([]byte(b.String())); err == nil || strings.Contains(err.Error(), "names itself") {
		t.Errorf("a tower of blocks: %v, want the other faults only", err)
	}
}

func TestWithFlags(t *testing.T) {
	h := hopTest{who: "DE", at: "US", with: defaultOff(paper, "DE")}
	l, hop, s := h.parts()
	on := l.With(map[string]bool{"dpf_valid": true})
	if got := text(on.Permits(Media, &hop, &s, now)); got != "" {
		t.Errorf("flag on: %q, want permitted", got)
	}
	if got := on.With(nil).Permits(Media, &hop, &s, now).Code; got != ConditionUnmet {
		t.Errorf("flag not named: %q, want %q", got, ConditionUnmet)
	}
	if got := Shipped().Permits(Media, &hop, &s, now).Code; got != ConditionUnmet {
		t.Errorf("the shipped law after With: %q, want %q: it is immutable", got, ConditionUnmet)
	}
}

// FuzzParse: a stranger's catalogue is an error or a law that answers, and two
// readings of one text say the same.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data)
		again, errAgain := Parse(data)
		if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
			t.Fatalf("two readings: %v\nand: %v", err, errAgain)
		}
		if err != nil {
			return
		}
		h := Hop{At: "DE"}
		for _, j := range l.Jurisdictions() {
			s := Subject{Participants: []Jurisdiction{j}, Tenant: &Tenant{Overlays: l.Overlays()}}
			for plane := Media; plane <= Stored; plane++ {
				v := l.Permits(plane, &h, &s, now)
				if text(v) != text(again.Permits(plane, &h, &s, now)) {
					t.Fatalf("%s %s: two readings give two verdicts", j, plane)
				}
				if !v.Permitted() && len(v.Citation()) == 0 {
					t.Fatalf("%s %s: %s cites nothing", j, plane, v.Code)
				}
			}
		}
	})
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A digest names the bytes and the flags that are on, and nothing else.
func TestDigest(t *testing.T) {
	l := Shipped()
	if len(l.Digest()) != 16 {
		t.Fatalf("digest %q, want 16 hex digits", l.Digest())
	}
	again, err := Parse(shipped)
	if err != nil || again.Digest() != l.Digest() {
		t.Errorf("the same bytes: %q, %v, want %q", again.Digest(), err, l.Digest())
	}
	other, err := Parse(append([]byte("# read again\n"), shipped...))
	if err != nil || other.Digest() == l.Digest() {
		t.Errorf("other bytes: %q, %v", other.Digest(), err)
	}
	on, off := l.With(map[string]bool{"dpf_valid": true}), l.With(map[string]bool{"dpf_valid": false})
	if on.Digest() == off.Digest() {
		t.Error("a flag makes no difference")
	}
	if off.Digest() != l.With(nil).Digest() {
		t.Error("a flag that is off is one that nobody asserts")
	}
}

package residency

import "testing"

func TestNumber(t *testing.T) {
	seen := map[int]Jurisdiction{}
	for a := byte('A'); a <= 'Z'; a++ {
		for b := byte('A'); b <= 'Z'; b++ {
			j := Jurisdiction([]byte{a, b})
			n := j.number()
			if other, twice := seen[n]; twice || n < 0 || n >= numbers {
				t.Fatalf("%s: number %d, also of %q: want one of its own below %d", j, n, other, numbers)
			}
			seen[n] = j
			if got := (j + "-X1").number(); got != n {
				t.Fatalf("%s-X1: number %d, want its country's, %d", j, got, n)
			}
		}
	}
	for _, j := range []Jurisdiction{"", "D", "de", "dE", "De", "D1", "??", "[[", "@A", "USA", "DE ", "DE_BY", "\xff\xff"} {
		if n := j.number(); n != -1 {
			t.Errorf("%q: number %d, want -1", j, n)
		}
	}
}

func TestArea(t *testing.T) {
	a := set{"AA": true, "CA-QC": true, "NO": true, "ZZ": true}.area()
	for at, want := range map[Jurisdiction]bool{"AA": true, "ZZ": true, "NO": true, "NO-03": true, "CA-QC": true,
		"CA": false, "CA-ON": false, "AB": false, "ZY": false, "": false, "no": false, "NOR": false} {
		if got := a.has(at); got != want {
			t.Errorf("has(%q) = %t, want %t", at, got, want)
		}
	}
	if none := (set{}).area(); none.has("AA") || none.has("") {
		t.Error("an empty area has something")
	}
}

// What has not the shape of a place is refused on both sides: lower case would
// pass every deny list, and USA would have the law of US.
func TestPlaceOfNoShape(t *testing.T) {
	run(t, []hopTest{
		{name: "a hop in lower case", who: "IN", at: "ru", want: "policy_missing IN -"},
		{name: "the same in upper case", who: "IN", at: "RU", want: "denied_country IN IN"},
		{name: "a hop nowhere", who: "HK", at: "", want: "policy_missing HK -"},
		{name: "a hop that a geo database does not know", who: "HK", at: "??", want: "policy_missing HK -"},
		{name: "three letters", who: "HK", at: "USA", want: "policy_missing HK -"},
		{name: "a participant in lower case", who: "in", at: "IN", want: "policy_missing in -"},
		{name: "a participant of three letters", who: "USA", at: "US", want: "policy_missing USA -"},
		{name: "an instrument to nowhere", who: "GB", at: "", with: instrument("GB", ""), want: "policy_missing GB -"},
	})
}

package residency

import "testing"

func FuzzDeclared(f *testing.F) {
	for _, s := range [][2]string{{"US", "TX"}, {"US-PR", ""}, {"uk", "eng"}, {"CA", "PQ"}, {"PR", "US-TX"}, {"\u0131t", ""}, {"", "-"}, {"CA", "CA-QC"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, country, subdivision string) {
		j, err := Declared(country, subdivision)
		if err != nil {
			if j != "" || len(err.Error()) > 512 {
				t.Errorf("%q %q: %q beside %v", country, subdivision, j, err)
			}
			return
		}
		if again, err := ParseJurisdiction(string(j)); again != j || err != nil {
			t.Errorf("%q %q: %s is read as %q, %v", country, subdivision, j, again, err)
		}
		if sub := codes().reads[j]; j.IsSubdivision() && sub != j {
			t.Errorf("%q %q: %s is read as %s", country, subdivision, j, sub)
		}
	})
}

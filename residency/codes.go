package residency

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:generate go run ../tools/subdivisions -cldr package -date 2026-03-25 -out subdivisions.txt

//go:embed subdivisions.txt
var isoText string

// iso is ISO 3166-2 as the file beside has it.
type iso struct {
	edition string
	reads   map[Jurisdiction]Jurisdiction // a code → itself, or the country that it is (rule 17)
	of      map[Jurisdiction][]Jurisdiction
	all     []Jurisdiction // as the file orders them
}

var codes = sync.OnceValue(func() *iso {
	c := &iso{reads: map[Jurisdiction]Jurisdiction{}, of: map[Jurisdiction][]Jurisdiction{}}
	for line := range strings.Lines(isoText) {
		country, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch country {
		case "#":
			continue
		case "edition":
			c.edition = rest
			continue
		}
		for word := range strings.FieldsSeq(rest) {
			sub, own, has := strings.Cut(word, "=")
			j := Jurisdiction(country + "-" + sub)
			if c.reads[j] = j; has {
				c.reads[j] = Jurisdiction(own)
			}
			c.of[Jurisdiction(country)] = append(c.of[Jurisdiction(country)], j)
			c.all = append(c.all, j)
		}
	}
	return c
})

// Edition says which ISO 3166-2 this version knows, and of what day it is.
func Edition() string { return codes().edition }

// Subdivisions are those of a country, ordered; the slice is not to be changed.
func Subdivisions(country Jurisdiction) []Jurisdiction { return codes().of[country] }

// ParseJurisdiction reads one code in either case: a country, by its shape alone, for whether
// a law is on file for it is [Law.Maps]'s business; or a subdivision that ISO 3166-2 has. One
// that has a country code of its own is that country: US-PR is PR.
func ParseJurisdiction(s string) (Jurisdiction, error) {
	j, ok := upper(s)
	if !ok {
		return "", fmt.Errorf("%.32q: want an ISO 3166 country such as DE, or a subdivision such as CA-QC", s)
	}
	if !j.IsSubdivision() {
		return j, nil
	}
	if as, known := codes().reads[j]; known {
		return as, nil
	}
	return "", fmt.Errorf("%s: no subdivision of ISO 3166-2 (%s): did you mean %s?", j, Edition(), nearest(j))
}

// Declared reads a country and a subdivision as people declare them: the subdivision as the
// whole code or without its country, or as part of the country. Where both are given they
// must agree.
func Declared(country, subdivision string) (Jurisdiction, error) {
	if subdivision == "" {
		return ParseJurisdiction(country)
	}
	c, err := ParseJurisdiction(country)
	if err != nil {
		return "", err
	}
	given, _ := upper(country)
	within := given.Country()
	if within == "UK" { // reserved in ISO 3166, where the codes are those of GB
		within = "GB"
	}
	whole := subdivision
	if !strings.Contains(whole, "-") {
		whole = string(within) + "-" + whole
	}
	j, err := ParseJurisdiction(whole)
	if err != nil {
		return "", err
	}
	written, _ := upper(whole)
	if j == c || !given.IsSubdivision() && written.Country() == within {
		return j, nil
	}
	return "", fmt.Errorf("country %.32q and subdivision %.32q name two places", country, subdivision)
}

// upper is a code in upper case, where it has the shape of one. It folds ASCII alone: to
// Unicode, ſ is a small S and ı a small I.
func upper(s string) (Jurisdiction, bool) {
	country, sub, has := strings.Cut(s, "-")
	if len(country) != 2 || has && (len(sub) < 1 || len(sub) > 32) { // a code has three: a name gets the nearest one
		return "", false
	}
	b := []byte(s)
	for i, c := range b {
		switch {
		case 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9' && i > 2, c == '-' && i == 2:
		default:
			return "", false
		}
	}
	return Jurisdiction(b), true
}

// nearest is the code with the fewest edits: of the country where it has any, and of what is
// as near the one that begins and ends most like it.
func nearest(j Jurisdiction) Jurisdiction {
	among := codes().of[j.Country()]
	if len(among) == 0 {
		among = codes().all
	}
	best, least, most := Jurisdiction(""), len(j)+8, -1
	for _, c := range among {
		if d := Edits(string(j), string(c)); d < least || d == least && alike(j, c) > most {
			best, least, most = c, d, alike(j, c)
		}
	}
	return best
}

// alike counts the letters at both ends that two codes have in common, those of the
// beginning twice.
func alike(a, b Jurisdiction) (n int) {
	for i := 0; i < min(len(a), len(b)) && a[i] == b[i]; i++ {
		n += 2
	}
	for k := 1; k <= min(len(a), len(b)) && a[len(a)-k] == b[len(b)-k]; k++ {
		n++
	}
	return n
}

// Edits is the Levenshtein distance of two words, in bytes: how far a spelling is from one
// that is known.
func Edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

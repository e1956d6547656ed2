package residency

// numbers is how many countries two letters can name.
const numbers = 26 * 26

// number counts the two letters of j's country, AA being 0; -1 where j has not
// the shape of a country or of a subdivision of one.
func (j Jurisdiction) number() int {
	if len(j) < 2 || len(j) > 2 && j[2] != '-' {
		return -1
	}
	a, b := j[0]-'A', j[1]-'A' // a byte below 'A' wraps to above 25
	if a > 25 || b > 25 {
		return -1
	}
	return int(a)*26 + int(b)
}

// set holds countries and, where a list names them, subdivisions.
type set map[Jurisdiction]bool

// area is a set made for asking: every hop of every consult is looked up in some.
type area struct {
	countries    [numbers/64 + 1]uint64
	subdivisions []Jurisdiction
}

func (s set) area() area {
	var a area
	for j := range s {
		if j.IsSubdivision() {
			a.subdivisions = append(a.subdivisions, j)
		} else if n := j.number(); n >= 0 {
			a.countries[n/64] |= 1 << (n % 64)
		}
	}
	return a
}

// has tells whether at, or its country, is in the area.
func (a *area) has(at Jurisdiction) bool {
	if n := at.number(); n >= 0 && a.countries[n/64]&(1<<(n%64)) != 0 {
		return true
	}
	for _, j := range a.subdivisions {
		if j == at {
			return true
		}
	}
	return false
}

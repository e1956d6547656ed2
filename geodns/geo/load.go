package geo

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/oschwald/maxminddb-golang/v2"

	"bailiwick/region"
	"bailiwick/residency"
)

// maxDatabase bounds what is read into memory; the largest city databases are
// below 200 MiB.
const maxDatabase = 1 << 30

// Database is a MaxMind DB (a country or city database), read whole: the file is not kept
// open, so it may be replaced at any time. It is immutable and safe for concurrent use.
type Database struct {
	path   string
	reader *maxminddb.Reader // nil: none
}

// Open reads the database at path; "" is none. An error says which file and what to do.
func Open(path string) (*Database, error) {
	if path == "" {
		return &Database{}, nil
	}
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("geo database: %w: want a country or city database in MaxMind's .mmdb format", err)
	}
	return parse(path, data)
}

func parse(path string, data []byte) (*Database, error) {
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("geo database %s: truncated, or no MaxMind DB: %w: download it again", path, err)
	}
	return &Database{path, reader}, nil
}

// Compile makes the table of the database under the overrides, of which the longest prefix
// wins. There is never half a table.
func (d *Database) Compile(overrides []region.Override) (*Table, error) {
	b, err := newBuilder(overrides)
	if err != nil {
		return nil, err
	}
	if d.reader == nil {
		return b.table(), nil
	}
	t, err := b.load(d.reader)
	if err != nil {
		return nil, fmt.Errorf("geo database %s: %w", d.path, err)
	}
	return t, nil
}

// Load compiles the database at path, and forgets it.
func Load(path string, overrides []region.Override) (*Table, error) {
	d, err := Open(path)
	if err != nil {
		return nil, err
	}
	return d.Compile(overrides)
}

func read(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxDatabase {
		return nil, fmt.Errorf("%s: %d bytes, %s: not a file of at most %d bytes", path, fi.Size(), fi.Mode().Type(), maxDatabase)
	}
	return os.ReadFile(path)
}

// record is what is read of a MaxMind country or city record. country is where the
// address is used; registered_country, where its holder is registered, is not asked.
type record struct {
	Country struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
}

func (b *builder) load(db *maxminddb.Reader) (*Table, error) {
	leaves, networks, located := uint(0), 0, 0
	known := map[uintptr]uint32{} // by record: many networks share one
	for n := range db.Networks(maxminddb.IncludeNetworksWithoutData()) {
		if err := n.Err(); err != nil {
			return nil, fmt.Errorf("truncated or damaged: %w: download it again", err)
		}
		// A tree of n nodes has n+1 leaves, the empty ones among them. Damage can make
		// it a graph, with more paths than there is time for.
		if leaves++; leaves > db.Metadata.NodeCount+1 {
			return nil, errors.New("damaged: the search tree has loops or shared branches: download it again")
		}
		if !n.Found() {
			continue
		}
		networks++
		place, ok := known[n.Offset()]
		if !ok {
			var r record
			if err := n.Decode(&r); err != nil {
				return nil, fmt.Errorf("%s: %w: want a country or city database (this is %.40q), or download it again",
					n.Prefix(), err, db.Metadata.DatabaseType)
			}
			place = b.intern(r.place())
			known[n.Offset()] = place
		}
		if place != 0 {
			located++
		}
		if err := b.add(n.Prefix(), place); err != nil {
			return nil, fmt.Errorf("damaged: %s: %w: download it again", n.Prefix(), err)
		}
	}
	if located == 0 {
		return nil, fmt.Errorf("no country.iso_code in any of %d networks (this is %.40q): want a country or city database",
			networks, db.Metadata.DatabaseType)
	}
	t := b.table()
	t.built = db.Metadata.BuildTime().UTC()
	return t, nil
}

// place reads a record: the exact point and the subdivision where a city database
// has them, else the country's principal place.
func (r *record) place() Place {
	j := country(r.Country.ISOCode)
	if j == "" {
		return Place{}
	}
	// The law distinguishes subdivisions of these two alone.
	if (j == "CA" || j == "US") && len(r.Subdivisions) > 0 {
		if sub, err := residency.ParseJurisdiction(string(j) + "-" + r.Subdivisions[0].ISOCode); err == nil {
			j = sub
		}
	}
	p := Place{Jurisdiction: j}
	if lat, lon := r.Location.Latitude, r.Location.Longitude; lat != nil && lon != nil &&
		math.Abs(*lat) <= 90 && math.Abs(*lon) <= 180 {
		p.Point, p.Located = region.Point{Lat: *lat, Lon: *lon}, true
		return p
	}
	p.Point, p.Located = region.Locate(j)
	return p
}

// pseudo are codes that geo databases use for what is no country (residency
// READING, rule 8); "??", "A1" and "A2" are not even shaped like one.
var pseudo = []residency.Jurisdiction{"AN", "AP", "CS", "EU"}

// country is the ISO 3166 code, or empty for what is none.
func country(code string) residency.Jurisdiction {
	j, err := residency.ParseJurisdiction(code)
	if err != nil || j.IsSubdivision() || slices.Contains(pseudo, j) {
		return ""
	}
	return j
}

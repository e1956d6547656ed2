package geo

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/oschwald/geoip2-golang/v2"

	"bailiwick/region"
)

// Record is what a database itself says of an address, beside what [Table] makes of it. It
// is for people: what differs from the decision tells a wrong database from a wrong
// override. A database that has no such fields leaves them empty.
type Record struct {
	Network      netip.Prefix  `json:"network"` // all of it has this record
	Country      string        `json:"country,omitempty"`
	Registered   string        `json:"registered_country,omitempty"`
	Represented  string        `json:"represented_country,omitempty"` // by an embassy or a base there
	As           string        `json:"represented_type,omitempty"`
	Subdivisions []Subdivision `json:"subdivisions,omitempty"` // the largest first
	City         string        `json:"city,omitempty"`
	Lat          *float64      `json:"latitude,omitempty"`
	Lon          *float64      `json:"longitude,omitempty"`
	Accuracy     int           `json:"accuracy_radius_km,omitempty"`
	Fault        string        `json:"fault,omitempty"` // why it cannot be read
	Type         string        `json:"type"`
	Built        time.Time     `json:"built"`
}

// Subdivision is a part of a country, by its ISO 3166-2 code without the country's.
type Subdivision struct {
	Code string `json:"iso_code,omitempty"`
	Name string `json:"name,omitempty"`
}

// Record looks an address up; nil without a database. Nothing is steered by it.
//
// The records are geoip2-golang's, and the reader decodes them: that library's own takes
// databases of the types that it knows alone, and [Import]'s is none of them.
func (d *Database) Record(addr netip.Addr) *Record {
	if d.reader == nil {
		return nil
	}
	r := &Record{Type: d.reader.Metadata.DatabaseType, Built: d.reader.Metadata.BuildTime().UTC()}
	at := d.reader.Lookup(addr.Unmap().WithZone(""))
	if err := at.Err(); err != nil {
		r.Fault = err.Error()
		return r
	}
	r.Network = at.Prefix()
	var c geoip2.City // a country's record is one with less in it
	if err := at.Decode(&c); err != nil {
		r.Fault = err.Error()
		return r
	}
	r.Country, r.Registered, r.Represented, r.As = c.Country.ISOCode, c.RegisteredCountry.ISOCode, c.RepresentedCountry.ISOCode, c.RepresentedCountry.Type
	for _, s := range c.Subdivisions {
		r.Subdivisions = append(r.Subdivisions, Subdivision{Code: s.ISOCode, Name: named(s.Names)})
	}
	r.City, r.Accuracy = named(c.City.Names), int(c.Location.AccuracyRadius)
	r.Lat, r.Lon = c.Location.Latitude, c.Location.Longitude
	return r
}

// named is the English name, or where there is none, another.
func named(n geoip2.Names) string {
	return cmp.Or(n.English, n.German, n.French, n.Spanish, n.BrazilianPortuguese, n.Russian, n.Japanese, n.SimplifiedChinese)
}

// Overriding is the override that places an address, whatever a database says; the invalid
// prefix where there is none.
func Overriding(overrides []region.Override, addr netip.Addr) (by netip.Prefix) {
	addr = addr.Unmap().WithZone("")
	for _, o := range overrides {
		if o.Prefix.Contains(addr) && (!by.IsValid() || o.Prefix.Bits() > by.Bits()) {
			by = o.Prefix
		}
	}
	return by
}

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"bailiwick/consult/router"
	"bailiwick/geodns/geo"
	"bailiwick/region"
)

type geoCmd struct {
	Import geoImportCmd `cmd:"" help:"Turn Debian's tor-geoipdb text into an mmdb."`
	Lookup geoLookupCmd `cmd:"" help:"Place addresses as DNS does."`
}

type geoImportCmd struct {
	V4  string `arg:"" optional:"" help:"IPv4 ranges." default:"/usr/share/tor/geoip"`
	V6  string `arg:"" optional:"" help:"IPv6 ranges." default:"/usr/share/tor/geoip6"`
	Out string `help:"The mmdb to write." default:"country.mmdb" placeholder:"FILE.mmdb"`
}

func (geoImportCmd) Help() string {
	return `Example:
  apt-get install tor-geoipdb
  bailiwick geo import --out country.mmdb
  bailiwick dev --geo country.mmdb`
}

func (geoCmd) Help() string {
	return `A country database places the clients that the overrides of the region map do not.

Example:
  bailiwick geo import --out country.mmdb
  bailiwick geo lookup --geo country.mmdb 9.9.9.9`
}

func (c *geoImportCmd) Run(e *env) error {
	v4, err := os.Open(c.V4)
	if err != nil {
		return misuse{fmt.Errorf("%w; Debian's package tor-geoipdb has it", err)}
	}
	defer v4.Close()
	v6, err := os.Open(c.V6)
	if err != nil {
		return misuse{fmt.Errorf("%w; Debian's package tor-geoipdb has it", err)}
	}
	defer v6.Close()
	stats, err := geo.Import(c.Out, v4, v6, progressBar(e.stderr, "importing"))
	if err != nil {
		return misuse{fmt.Errorf("%s and %s: %w", c.V4, c.V6, err)}
	}
	dated := "undated"
	if !stats.Generated.IsZero() {
		dated = "dated " + stats.Generated.Format(time.DateOnly)
	}
	fmt.Fprintf(e.stdout, "%s: %s, %d countries, %s\n", c.Out, count(stats.Ranges-stats.Unknown, "range"), stats.Countries, dated)
	if stats.Unknown > 0 {
		fmt.Fprintf(e.stdout, "%s without a country left out\n", count(stats.Unknown, "range"))
	}
	return nil
}

// progressBar draws one line on a terminal, and nothing elsewhere.
func progressBar(w io.Writer, what string) func(done, total int) {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	last := -1
	return func(done, total int) {
		if total <= 0 || done*40/total == last && done < total {
			return
		}
		last = done * 40 / total
		fmt.Fprintf(w, "\r%s [%s%s] %3d%%", what, strings.Repeat("#", last), strings.Repeat(".", 40-last), done*100/total)
		if done >= total {
			fmt.Fprintln(w)
		}
	}
}

// places are where addresses are: what DNS steers by, and what it was made of.
type places struct {
	table     *geo.Table
	overrides []region.Override
	database  *geo.Database
}

func openPlaces(path string, overrides []region.Override) (*places, error) {
	db, err := geo.Open(path)
	if err != nil {
		return nil, err
	}
	table, err := db.Compile(overrides)
	return &places{table, overrides, db}, err
}

// locate is a [router.Locator].
func (p *places) locate(a netip.Addr) router.Located {
	at := router.Located{Override: geo.Overriding(p.overrides, a)}
	at.Place, at.Prefix = p.table.Lookup(a)
	if r := p.database.Record(a); r != nil {
		at.Database = r
	}
	return at
}

type geoLookupCmd struct {
	mapFlags
	JSON  bool         `help:"Print JSON."`
	Addrs []netip.Addr `arg:"" help:"Addresses to place."`
}

func (geoLookupCmd) Help() string {
	return `Prints where DNS takes an address to be, the override of the region map that says so, if
one does, and what the database itself says: of a wrong place it tells which of the two
is wrong. Exits 1 when an address has no known place.

Example:
  bailiwick geo lookup --geo country.mmdb 9.9.9.9 2620:fe::fe`
}

// looked is one address as it prints.
type looked struct {
	Address      netip.Addr  `json:"address"`
	Jurisdiction string      `json:"jurisdiction,omitempty"` // empty: unknown
	Prefix       string      `json:"prefix"`
	Lat          *float64    `json:"latitude,omitempty"`
	Lon          *float64    `json:"longitude,omitempty"`
	Override     string      `json:"override,omitempty"`
	Database     *geo.Record `json:"database,omitempty"`
}

func (c *geoLookupCmd) Run(e *env) error {
	m, err := readMap(c.Map)
	if err != nil {
		return err
	}
	overrides := m.Geo
	if c.Geo == "" {
		overrides = append(geo.BuiltIn(), overrides...)
	}
	p, err := openPlaces(c.Geo, overrides)
	if err != nil {
		return misuse{err}
	}
	unknown, all := false, []looked{}
	for _, a := range c.Addrs {
		at := p.locate(a)
		l := looked{Address: a, Jurisdiction: string(at.Place.Jurisdiction), Prefix: at.Prefix.String(), Database: p.database.Record(a)}
		if at.Place.Located {
			l.Lat, l.Lon = &at.Place.Point.Lat, &at.Place.Point.Lon
		}
		if at.Override.IsValid() {
			l.Override = at.Override.String()
		}
		unknown = unknown || l.Jurisdiction == ""
		all = append(all, l)
	}
	if c.JSON {
		err = printJSON(e.stdout, all)
	} else {
		err = printLooked(e.stdout, all)
	}
	if err == nil && unknown {
		return errFinding
	}
	return err
}

// printLooked has a line for each address, and below it what it comes from.
func printLooked(w io.Writer, all []looked) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, l := range all {
		fmt.Fprintf(t, "%s\t%s\t%s", l.Address, cmp.Or(l.Jurisdiction, "unknown"), l.Prefix)
		if l.Lat != nil {
			fmt.Fprintf(t, "\t%.2f, %.2f", *l.Lat, *l.Lon)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	i := 0
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
		sources(w, "  ", all[i].Override, all[i].Database)
		i++
	}
	return nil
}

// sources words what a place comes from, each line after indent.
func sources(w io.Writer, indent, override string, db *geo.Record) {
	if override != "" {
		fmt.Fprintf(w, "%soverride %s\n", indent, override)
	}
	if db != nil {
		wrap(w, indent+"database ", len(indent)+9, recorded(db))
	}
}

// recorded words a database's record: 9.9.9.0/24 is in US, registered in CH (GeoLite2-City
// of 2026-06-25). What it holds is for a terminal, and nobody here wrote it.
func recorded(r *geo.Record) string {
	var said []string
	add := func(before, what, after string) {
		if what != "" {
			said = append(said, before+what+after)
		}
	}
	add("is in ", r.Country, "")
	for _, s := range r.Subdivisions {
		add("", strings.TrimSpace(s.Name+" "+s.Code), "")
	}
	add("", r.City, "")
	if r.Lat != nil && r.Lon != nil {
		add("at ", fmt.Sprintf("%.2f %.2f", *r.Lat, *r.Lon), "")
	}
	if r.Accuracy > 0 {
		add("within ", strconv.Itoa(r.Accuracy), " km")
	}
	add("registered in ", r.Registered, "")
	add("representing ", strings.TrimSpace(r.Represented+" "+r.As), "")
	text := r.Network.String() + " " + strings.Join(said, ", ")
	switch {
	case r.Fault != "":
		text = "cannot be read here: " + r.Fault
	case said == nil:
		text = "has no record of " + r.Network.String()
	}
	text += fmt.Sprintf(" (%s of %s)", r.Type, r.Built.Format(time.DateOnly))
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, text)
}

package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"bailiwick/geodns/geo"
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

type geoLookupCmd struct {
	mapFlags
	Addrs []netip.Addr `arg:"" help:"Addresses to place."`
}

func (geoLookupCmd) Help() string {
	return "Exits 1 when an address has no known place.\n\nExample:\n  bailiwick geo lookup --geo country.mmdb 9.9.9.9 2620:fe::fe"
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
	t, err := geo.Load(c.Geo, overrides)
	if err != nil {
		return misuse{err}
	}
	unknown := false
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, a := range c.Addrs {
		place, prefix := t.Lookup(a)
		if place.Jurisdiction == "" {
			unknown = true
			fmt.Fprintf(w, "%s\tunknown\t%s\n", a, prefix)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f, %.2f\n", a, place.Jurisdiction, prefix, place.Point.Lat, place.Point.Lon)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if unknown {
		return errFinding
	}
	return nil
}

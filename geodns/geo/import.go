package geo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"bailiwick/residency"
)

// Limits on the text. The real files have 660,000 lines of at most 90 bytes.
const (
	maxLine   = 512
	maxRanges = 8 << 20
)

// Stats is what [Import] read.
type Stats struct {
	Ranges    int       // lines that name a range
	Unknown   int       // of these, left out: no country, or a tunnel's
	Countries int       // distinct
	Generated time.Time // by the text's own header; zero where it has none
}

// textRange is one line; country is empty for what is none.
type textRange struct {
	first, last netip.Addr
	country     residency.Jurisdiction
}

// Import writes an .mmdb country database to dst from the text of tor-geoipdb:
// lines "START,END,CC" in ascending order, numbers for IPv4 and addresses for IPv6;
// either reader may be nil. The database's build time is the date in the text's
// header, so the same text gives the same file. dst is replaced whole or not at
// all. progress, if not nil, is called now and then with ranges done of total.
func Import(dst string, v4, v6 io.Reader, progress func(done, total int)) (Stats, error) {
	var s Stats
	var all []textRange
	for _, in := range []struct {
		name string
		r    io.Reader
		addr func(string) (netip.Addr, error)
	}{{"IPv4", v4, number4}, {"IPv6", v6, address6}} {
		if in.r == nil {
			continue
		}
		part, generated, err := parseText(in.r, in.addr)
		if err != nil {
			return s, fmt.Errorf("%s text: %w: want the geoip and geoip6 files of tor-geoipdb", in.name, err)
		}
		all = append(all, part...)
		if s.Generated.Before(generated) {
			s.Generated = generated
		}
	}
	if len(all) == 0 {
		return s, errors.New("geo text: no range in it: want the geoip and geoip6 files of tor-geoipdb")
	}
	tree, err := plant(all, &s, progress)
	if err != nil {
		return s, fmt.Errorf("geo database %s: %w", dst, err)
	}
	return s, replace(dst, tree)
}

func plant(all []textRange, s *Stats, progress func(done, total int)) (*mmdbwriter.Tree, error) {
	built := s.Generated
	if built.IsZero() {
		built = time.Now()
	}
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType:            "Bailiwick-Country",
		Description:             map[string]string{"en": "countries, from the text of tor-geoipdb"},
		BuildEpoch:              built.Unix(),
		IncludeReservedNetworks: true, // what the text says of them, it says on purpose
		DisableIPv4Aliasing:     true, // 6to4 and Teredo addresses are not where their relay is
	})
	if err != nil {
		return nil, err
	}
	records := map[residency.Jurisdiction]mmdbtype.Map{}
	for i, r := range all {
		if progress != nil && i%(1<<14) == 0 {
			progress(i, len(all))
		}
		s.Ranges++
		if r.country == "" || slices.ContainsFunc(tunnels, func(p netip.Prefix) bool { return p.Contains(r.first) && p.Contains(r.last) }) {
			s.Unknown++
			continue
		}
		rec := records[r.country]
		if rec == nil {
			rec = mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(r.country)}}
			records[r.country] = rec
		}
		if err := tree.InsertRange(r.first.AsSlice(), r.last.AsSlice(), rec); err != nil {
			return nil, fmt.Errorf("%s to %s: %w", r.first, r.last, err)
		}
	}
	s.Countries = len(records)
	if progress != nil {
		progress(len(all), len(all))
	}
	return tree, nil
}

// replace writes beside dst and renames, so that a reader finds the old file or
// the new one, never half of one.
func replace(dst string, tree io.WriterTo) error {
	f, err := os.CreateTemp(filepath.Dir(dst), ".geo-*")
	if err != nil {
		return fmt.Errorf("geo database %s: %w", dst, err)
	}
	defer os.Remove(f.Name()) // nothing is there once it was renamed
	w := bufio.NewWriterSize(f, 1<<16)
	_, err = tree.WriteTo(w)
	err = errors.Join(err, w.Flush(), f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), dst)
	}
	if err != nil {
		return fmt.Errorf("geo database %s: %w", dst, err)
	}
	return nil
}

// parseText reads one file; addr reads an address as that file writes it.
func parseText(r io.Reader, addr func(string) (netip.Addr, error)) (all []textRange, generated time.Time, err error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, maxLine), maxLine)
	line := 0
	for sc.Scan() {
		line++
		text := strings.TrimSpace(sc.Text())
		if comment, ok := strings.CutPrefix(text, "#"); ok {
			if date, ok := strings.CutPrefix(strings.TrimSpace(comment), "Generated:"); ok && generated.IsZero() {
				generated, _ = time.Parse(time.RFC1123, strings.TrimSpace(date)) // a header is for people
			}
			continue
		}
		if text == "" {
			continue
		}
		t, err := parseLine(text, addr)
		if err != nil {
			return nil, generated, fmt.Errorf("line %d: %w", line, err)
		}
		if n := len(all); n > 0 && !all[n-1].last.Less(t.first) {
			return nil, generated, fmt.Errorf("line %d: %s: not after the range before it", line, t.first)
		}
		if len(all) == maxRanges {
			return nil, generated, fmt.Errorf("line %d: more than %d ranges", line, maxRanges)
		}
		all = append(all, t)
	}
	if err := sc.Err(); err != nil {
		return nil, generated, fmt.Errorf("line %d: %w", line+1, err)
	}
	return all, generated.UTC(), nil
}

func parseLine(text string, addr func(string) (netip.Addr, error)) (t textRange, err error) {
	first, rest, _ := strings.Cut(text, ",")
	last, code, ok := strings.Cut(rest, ",")
	if !ok || len(code) != 2 {
		return t, fmt.Errorf("%.80q: want START,END,CC", text)
	}
	if t.first, err = addr(first); err != nil {
		return t, err
	}
	if t.last, err = addr(last); err != nil {
		return t, err
	}
	if t.last.Less(t.first) {
		return t, fmt.Errorf("%.80q: ends before it starts", text)
	}
	t.country = country(code)
	return t, nil
}

func number4(s string) (netip.Addr, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%.40q: want an IPv4 address as a number", s)
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), nil
}

func address6(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%.60q: want an IPv6 address", s)
	}
	return a, nil
}

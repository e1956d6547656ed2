package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
)

const (
	zone     = "media.example"
	joinName = "join." + zone + "."
	torV4    = "/usr/share/tor/geoip"
	torV6    = "/usr/share/tor/geoip6"
	queries  = 10_000
	seed     = 7871
	// Of four queries three are IPv4. A resolver sends /24 and /56 (RFC 7871
	// section 11.1 for the former; what large resolvers do for the latter).
	ecs4, ecs6 = 24, 56
)

// mapDay is when the demonstration's papers hold.
var mapDay = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func importDB(dst string) (geo.Stats, error) {
	v4, err := os.Open(torV4)
	if err != nil {
		return geo.Stats{}, fmt.Errorf("%w: apt-get install tor-geoipdb", err)
	}
	defer v4.Close()
	v6, err := os.Open(torV6)
	if err != nil {
		return geo.Stats{}, fmt.Errorf("%w: apt-get install tor-geoipdb", err)
	}
	defer v6.Close()
	return geo.Import(dst, v4, v6, nil)
}

// wire is one query, its ID to be filled in.
func wire(network netip.Prefix, do bool) ([]byte, error) {
	q := new(dns.Msg).SetQuestion(joinName, dns.TypeA)
	q.Id, q.RecursionDesired = 0, false
	q.SetEdns0(1232, do)
	family, bytes := uint16(1), network.Addr().AsSlice()
	if network.Addr().Is6() {
		family = 2
	}
	raw := binary.BigEndian.AppendUint16(nil, family)
	raw = append(raw, byte(network.Bits()), 0)
	raw = append(raw, bytes[:(network.Bits()+7)/8]...)
	o := q.IsEdns0()
	o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0SUBNET, Data: raw})
	return q.Pack()
}

// starts are the first addresses of the text's ranges.
func starts(path string) (list []netip.Addr, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		first, _, ok := strings.Cut(in.Text(), ",")
		if !ok || strings.HasPrefix(first, "#") {
			continue
		}
		if n, err := strconv.ParseUint(first, 10, 32); err == nil {
			list = append(list, netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
		} else if a, err := netip.ParseAddr(first); err == nil && mappable(a) {
			list = append(list, a)
		}
	}
	return list, in.Err()
}

var ipv4InIPv6 = []netip.Prefix{netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16")}

// mappable is ordinary IPv6: gdnsd takes Teredo, 6to4 and the like for IPv4.
func mappable(a netip.Addr) bool {
	return netip.MustParsePrefix("2000::/3").Contains(a) &&
		!slices.ContainsFunc(ipv4InIPv6, func(p netip.Prefix) bool { return p.Contains(a) })
}

// drawSets draws the networks of ranges, each range as likely as another. homes are
// the countries that have an answer: the set served is of networks in one such
// country, so that every server has the same address to give.
func drawSets(t *geo.Table, homes map[residency.Jurisdiction]netip.Addr) (map[string][][]byte, error) {
	v4, err := starts(torV4)
	if err != nil {
		return nil, err
	}
	v6, err := starts(torV6)
	if err != nil {
		return nil, err
	}
	if len(v4) == 0 || len(v6) == 0 {
		return nil, errors.New("no ranges in " + torV4 + " and " + torV6)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	draw := func() netip.Prefix {
		from, bits := v4, ecs4
		if rng.IntN(4) == 0 {
			from, bits = v6, ecs6
		}
		return netip.PrefixFrom(from[rng.IntN(len(from))], bits).Masked()
	}
	sets := map[string][][]byte{}
	add := func(set string, network netip.Prefix, do bool) error {
		b, err := wire(network, do)
		sets[set] = append(sets[set], b)
		return err
	}
	for len(sets[served]) < queries {
		network := draw()
		if len(sets[everywhere]) < queries {
			if err := add(everywhere, network, false); err != nil {
				return nil, err
			}
		}
		place, prefix := t.Lookup(network.Addr())
		if prefix.Bits() > network.Bits() || !homes[place.Jurisdiction].IsValid() {
			continue
		}
		if err := errors.Join(add(served, network, false), add(withDO, network, true)); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// countries are those of the table.
func countries(t *geo.Table) (list []residency.Jurisdiction) {
	seen := map[residency.Jurisdiction]bool{"": true}
	walk(t, func(_ netip.Prefix, j residency.Jurisdiction) {
		if !seen[j] {
			seen[j] = true
			list = append(list, j)
		}
	})
	slices.Sort(list)
	return list
}

// walk calls f for the prefixes of the table in ascending order, each as coarse as
// it can be; j is empty for what is not known.
func walk(t *geo.Table, f func(p netip.Prefix, j residency.Jurisdiction)) {
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.MustParseAddr("2000::")} {
		for a.IsValid() && (a.Is4() || a.Less(netip.MustParseAddr("4000::"))) {
			place, p := t.Lookup(a)
			f(p, place.Jurisdiction)
			a = lastOf(p).Next()
		}
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// homesOf asks our server for the edge of each country that has one (CC.join.ZONE).
func homesOf(at netip.AddrPort, all []residency.Jurisdiction) (map[residency.Jurisdiction]netip.Addr, error) {
	homes := map[residency.Jurisdiction]netip.Addr{}
	for _, j := range all {
		q := new(dns.Msg).SetQuestion(strings.ToLower(string(j))+"."+joinName, dns.TypeA)
		m, err := dns.Exchange(q, at.String())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.Question[0].Name, err)
		}
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				homes[j], _ = netip.AddrFromSlice(a.A.To4())
			}
		}
	}
	if len(homes) == 0 {
		return nil, errors.New("no country has a lawful edge")
	}
	return homes, nil
}

// plan is what the peers are configured with: our server's own answers.
type plan struct {
	db       string
	regions  []region.ID
	prefixes []target
	homes    map[residency.Jurisdiction]netip.Addr
}

type target struct {
	prefix netip.Prefix
	region int
}

func newPlan(t *geo.Table, homes map[residency.Jurisdiction]netip.Addr) (plan, error) {
	p := plan{homes: homes}
	m, err := loadMap()
	if err != nil {
		return p, err
	}
	for _, r := range m.Regions {
		p.regions = append(p.regions, r.ID)
	}
	walk(t, func(prefix netip.Prefix, j residency.Jurisdiction) {
		a, ok := homes[j]
		if !ok || prefix.Addr().Is6() && !mappable(prefix.Addr()) {
			return
		}
		p.prefixes = append(p.prefixes, target{prefix, int(a.As4()[2])})
	})
	return p, nil
}

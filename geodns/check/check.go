// Package check asks the servers of a Bailiwick zone what resolvers would ask, and says
// what is not as it should be and what to do about it. An operator runs it before the
// parent zone delegates, and monitoring from then on.
//
// It is a DNS client. It knows nothing of flags, of the map's file, of how rows are
// printed, of the Store, and of the server's code: what it tells is seen on the wire.
// Of the house it takes the names of jurisdictions and the timing of signatures.
//
// Invariants:
//   - Queries only: nothing that is asked changes a server.
//   - What holds has its row too; a row that failed, or that proves nothing, says what to do.
//   - A server that does not answer over both UDP and TCP is asked nothing more.
package check

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bailiwick/residency"
)

// Zone is what a zone should be, and who is asked.
type Zone struct {
	Name    string           // in any case, with or without the final dot
	Servers []netip.AddrPort // of the zone
	Parents []netip.AddrPort // servers of the parent zone, for the delegation and its DS; may be none
	// NS are the name servers that there should be, and their addresses. Without
	// addresses any will do, but a name in the zone must have one.
	NS      map[string][]netip.Addr
	Served  []residency.Jurisdiction // each must have an edge
	Subnets []netip.Prefix           // client networks to ask for, best of different countries; each must have an edge
	Guessed bool                     // Subnets are examples, which a node need not place: no edge is a warning
	DoT     uint16                   // port of DNS over TLS; 0: not checked
	TLSName string                   // that the certificate should have; empty: the first name server's in the zone
	Roots   *x509.CertPool           // that it may descend from; nil: the system's
	Timeout time.Duration            // of one answer; more than 0
}

// Row is what one check found.
type Row struct {
	Server string `json:"server"` // address and port
	Check  string `json:"check"`  // its name, e.g. "rfc8906 8.2.4"; rows of several servers share it
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`       // what was seen, or what is wrong
	Do     string `json:"do,omitempty"` // what helps; where OK, too, it is a warning
}

// NameServers reads the names of a zone's servers and their addresses, as Zone.NS wants
// them, out of a zone file (RFC 1035 section 5); none where it has no NS records. file
// is its name in errors, which are the parser's.
func NameServers(zone, file string, r io.Reader) (map[string][]netip.Addr, error) {
	zone = dns.CanonicalName(zone)
	ns, addrs := map[string][]netip.Addr{}, map[string][]netip.Addr{}
	p := dns.NewZoneParser(r, zone, file)
	p.SetDefaultTTL(3600)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := dns.CanonicalName(rr.Header().Name)
		if rr, ok := rr.(*dns.NS); ok && name == zone {
			ns[dns.CanonicalName(rr.Ns)] = nil
		}
		if a := addressOf(rr); a.IsValid() {
			addrs[name] = append(addrs[name], a)
		}
	}
	for name := range ns {
		ns[name] = addrs[name]
	}
	return ns, p.Err()
}

// Run asks every server everything, one query after the other, then compares the
// servers with each other and with the parents. What fails is a row, never an error;
// once ctx ends, what is left fails, within z.Timeout. It changes nothing of z, and
// may be called by several goroutines.
func (z Zone) Run(ctx context.Context) []Row {
	r := &run{Zone: z, ctx: ctx, zone: dns.CanonicalName(z.Name), glue: map[string][]netip.Addr{}}
	for name, addrs := range z.NS {
		r.glue[dns.CanonicalName(name)] = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	}
	r.names = slices.Sorted(maps.Keys(r.glue))
	if r.TLSName == "" {
		r.TLSName = "ns1." + r.zone
		if i := slices.IndexFunc(r.names, func(name string) bool { return dns.IsSubDomain(r.zone, name) }); i >= 0 {
			r.TLSName = r.names[i]
		}
		r.TLSName = strings.TrimSuffix(r.TLSName, ".")
	}
	var nodes []*said
	for _, at := range z.Servers {
		n := r.node(at)
		if n == nil {
			continue
		}
		nodes = append(nodes, n)
		if z.DoT != 0 {
			r.overTLS(netip.AddrPortFrom(at.Addr(), z.DoT))
		}
	}
	r.agree(nodes)
	for _, at := range z.Parents {
		r.parent(at, nodes)
	}
	return r.rows
}

// run is what the checks of one Run share.
type run struct {
	Zone
	ctx   context.Context
	zone  string                  // Name with the final dot, in lower case
	names []string                // of NS, sorted
	glue  map[string][]netip.Addr // NS, sorted
	rows  []Row
}

// row keeps what a check found. do says what helps when it failed.
func (z *run) row(server, check, do string, detail string, err error) bool {
	c := Row{Server: server, Check: check, OK: err == nil, Detail: detail}
	if err != nil {
		c.Detail, c.Do = err.Error(), do
	}
	z.rows = append(z.rows, c)
	return c.OK
}

// count words a number of things: no keys, 1 key, 2 keys.
func count(n int, thing string) string {
	switch n {
	case 0:
		return "no " + thing + "s"
	case 1:
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

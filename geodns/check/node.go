package check

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// said is what one node answered, to be compared.
type said struct {
	server string
	serial uint32
	sets   map[string]string // what was asked → the records, in words
	keys   []*dns.DNSKEY
	cds    []*dns.CDS
	cookie string // client and server part, hex
}

// node asks one node everything; nil where it does not answer at all.
func (z *run) node(at netip.AddrPort) *said {
	n := &said{server: at.String(), sets: map[string]string{}}
	soa := func(network string) (string, error) {
		r, err := z.ask(network, at, query(z.zone, dns.TypeSOA))
		if err != nil {
			return "", err
		}
		if r.Rcode != dns.RcodeSuccess || !r.Authoritative || len(r.Answer) == 0 || r.Answer[0].Header().Rrtype != dns.TypeSOA {
			return "", fmt.Errorf("%s%s, authoritative %v: want the SOA of %s", dns.RcodeToString[r.Rcode], extended(r), r.Authoritative, z.zone)
		}
		n.serial = r.Answer[0].(*dns.SOA).Serial
		return fmt.Sprintf("serial %d", n.serial), nil
	}
	row := func(network, dead string) bool {
		text, err := soa(network)
		do := "another server answers here, or one of another zone: mind the address, and give the node and bailiwick dns check the same --map"
		if silent(err) {
			do = dead
		}
		return z.row(n.server, network, do, text, err)
	}
	udp := row("udp", fmt.Sprintf("start the node, and let UDP port %d through to it", at.Port()))
	tcp := row("tcp", fmt.Sprintf("start the node, and let TCP port %d through to it: resolvers come back over TCP for what is truncated (RFC 7766)", at.Port()))
	if !udp || !tcp {
		return nil
	}
	z.nameServers(at, n)
	z.steering(at, n)
	z.pinned(at, n)
	z.compliance(at, n)
	z.cookies(at, n)
	z.sizes(at, n)
	z.signed(at, n)
	return n
}

// giveFile helps where the zone file alone tells which name servers there should be.
const giveFile = "bailiwick dns check wants what a node without a zone file has: give it the nodes' --zone-file, whose NS records count"

// unfiled tells whether names that are served would be right, had the zone file been read:
// a node without one has ns1 alone.
func (z *run) unfiled(names []string) bool {
	own := []string{"ns1." + z.zone}
	return slices.Equal(z.names, own) && len(names) > 0 && !slices.Equal(names, own)
}

// nameServers compares NS and their addresses with what they should be.
func (z *run) nameServers(at netip.AddrPort, n *said) {
	do := "let the zone file, or --ns of every node, say what the parent delegates to"
	r, err := z.answered(at, query(z.zone, dns.TypeNS))
	var names []string
	if err == nil {
		for _, rr := range r.Answer {
			if ns, ok := rr.(*dns.NS); ok {
				names = append(names, dns.CanonicalName(ns.Ns))
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, z.names) {
			err = fmt.Errorf("%v: want %v", names, z.names)
		}
		if z.unfiled(names) {
			do = giveFile
		}
	}
	n.sets["NS"] = strings.Join(names, " ")
	z.row(n.server, "ns", do, n.sets["NS"], err)
	for _, name := range z.names {
		if !dns.IsSubDomain(z.zone, name) {
			continue
		}
		var addrs []netip.Addr
		var err error
		for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
			r, e := z.answered(at, query(name, t))
			if e != nil {
				err = e
				continue
			}
			for _, rr := range r.Answer {
				if a := addressOf(rr); a.IsValid() {
					addrs = append(addrs, a)
				}
			}
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		n.sets["addresses of "+name] = fmt.Sprint(addrs)
		switch want := z.glue[name]; {
		case err != nil:
		case len(addrs) == 0:
			err = errors.New("no address: nobody finds the name server")
		case len(want) > 0 && !slices.Equal(addrs, want):
			err = fmt.Errorf("%v: want %v", addrs, want)
		}
		z.row(n.server, "glue "+name, do, fmt.Sprint(addrs), err)
	}
}

// scoped is what a node answers to one client network.
type scoped struct {
	network netip.Prefix // that the answer is for
	answer  string
}

// steering asks join for clients of different countries.
func (z *run) steering(at netip.AddrPort, n *said) {
	const do = "bailiwick why and _why.join say how a client is steered; give every region an edge, and the node a geo database"
	const guessed = "steering is not checked: the node finds no edge for this example network. Name networks of real clients, of two countries: --subnet PREFIX, one flag each"
	var scopes []scoped
	for _, subnet := range z.Subnets {
		four, scope, err := z.steered(at, n, dns.TypeA, subnet)
		var six string
		if err == nil {
			scopes = append(scopes, scoped{scope, four})
			six, _, err = z.steered(at, n, dns.TypeAAAA, subnet)
		}
		nowhere := strings.HasPrefix(four, none) && strings.HasPrefix(six, none)
		switch {
		case err != nil:
		case four == none && six == none:
			err = errors.New("no address and no reason")
		case nowhere && !z.Guessed:
			err = errors.New("no edge for these clients: A " + four)
		}
		text := "A " + four + ", AAAA " + six
		if four == six {
			text = "A and AAAA " + four
		}
		z.row(n.server, "join "+subnet.String(), do, text, err)
		if err == nil && nowhere {
			z.rows[len(z.rows)-1].Do = guessed
		}
	}
	if len(scopes) < 2 {
		return
	}
	// A resolver that keeps one answer for a scope must not give it to the other network.
	var err error
	var text []string
	for i, a := range scopes {
		text = append(text, a.network.String())
		for _, b := range scopes[:i] {
			if a.answer != b.answer && a.network.Overlaps(b.network) {
				err = fmt.Errorf("scopes %s and %s overlap, and their answers differ", a.network, b.network)
			}
		}
	}
	z.row(n.server, "ecs-scope", "a cache would send one country's clients to another's edge: this server, or one in front of it, is not what it should be (RFC 7871 section 7.2.1)", strings.Join(text, " "), err)
}

// none is how an answer without records begins, in words; a reason may follow.
const none = "none"

// steered asks join for the clients of a network, and what network the answer is for.
func (z *run) steered(at netip.AddrPort, n *said, t uint16, subnet netip.Prefix) (answer string, scope netip.Prefix, err error) {
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(subnet.Bits()), Address: subnet.Masked().Addr().AsSlice()}
	if subnet.Addr().Is6() {
		e.Family = 2
	}
	r, err := z.answered(at, query("join."+z.zone, t, withOption(e)))
	if err != nil {
		return "", scope, err
	}
	if scope, err = scopeOf(r, e, subnet); err != nil {
		return "", scope, err
	}
	if answer = records(r.Answer); answer == "" {
		answer = none + extended(r)
	}
	n.sets["join "+dns.TypeToString[t]+" for "+subnet.String()] = answer
	return answer, scope, nil
}

// scopeOf is the network that an answer is for, by its ECS option.
func scopeOf(r *dns.Msg, asked *dns.EDNS0_SUBNET, subnet netip.Prefix) (netip.Prefix, error) {
	if o := r.IsEdns0(); o != nil {
		for _, e := range o.Option {
			e, ok := e.(*dns.EDNS0_SUBNET)
			if !ok {
				continue
			}
			a, _ := netip.AddrFromSlice(e.Address)
			if e.Family != asked.Family || e.SourceNetmask != asked.SourceNetmask || a.Unmap() != subnet.Masked().Addr() {
				return netip.Prefix{}, fmt.Errorf("ECS %v comes back as %v", asked, e)
			}
			if e.SourceScope == 0 {
				return netip.Prefix{}, errors.New("ECS scope 0: the answer is the same for the whole world")
			}
			return netip.PrefixFrom(a.Unmap(), int(e.SourceScope)).Masked(), nil
		}
	}
	return netip.Prefix{}, errors.New("ECS is not answered")
}

// pinned asks for every jurisdiction that the map serves.
func (z *run) pinned(at netip.AddrPort, n *said) {
	var without []string
	for _, j := range z.Served {
		name := strings.ToLower(string(j)) + ".join." + z.zone
		r, err := z.answered(at, query(name, dns.TypeA))
		switch {
		case err != nil:
			without = append(without, fmt.Sprintf("%s: %v", j, err))
			continue
		case len(r.Answer) == 0:
			without = append(without, string(j)+": none"+extended(r))
		}
		n.sets[name] = records(r.Answer)
	}
	var err error
	if len(without) > 0 {
		err = errors.New(strings.Join(without, "; "))
	}
	z.row(n.server, "served", "the map serves patients that no edge may take now: bailiwick region list, bailiwick why --country CC",
		count(len(z.Served), "jurisdiction")+" with an edge", err)
}

// cookies: a server's half is given, and counts when it is shown (RFC 7873).
func (z *run) cookies(at netip.AddrPort, n *said) {
	const client = "0123456789abcdef"
	err := func() error {
		r, err := z.answered(at, query(z.zone, dns.TypeSOA, withOption(&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: client})))
		if err != nil {
			return err
		}
		if n.cookie = cookieOf(r); len(n.cookie) <= len(client) || n.cookie[:len(client)] != client {
			return fmt.Errorf("cookie %q: want the client's and a server's", n.cookie)
		}
		return z.shows(at, n.cookie)
	}()
	z.row(n.server, "cookies", "cookies keep forged queries from using this server against others: is something in front of it dropping EDNS options?", "given and verified", err)
}

// shows asks with a cookie and no question, which only a valid one gets NOERROR for
// (RFC 7873 section 5.4).
func (z *run) shows(at netip.AddrPort, cookie string) error {
	q := query(z.zone, dns.TypeSOA, withOption(&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}))
	q.Question = nil
	r, err := z.ask("udp", at, q)
	if err == nil && r.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("the cookie is answered %s", dns.RcodeToString[r.Rcode])
	}
	return err
}

func cookieOf(r *dns.Msg) string {
	if o := r.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_COOKIE); ok {
				if _, err := hex.DecodeString(e.Cookie); err == nil {
					return e.Cookie
				}
			}
		}
	}
	return ""
}

// sizes: what does not fit is cut, with TC, and nothing is fragmented (RFC 9715).
func (z *run) sizes(at netip.AddrPort, n *said) {
	const most = 1232
	longest := 0
	err := func() error {
		for _, size := range []uint16{512, most, 4096} {
			for _, q := range []*dns.Msg{query(z.zone, dns.TypeDNSKEY, withDO), query(z.zone, dns.TypeNS, withDO), query("join."+z.zone, dns.TypeHTTPS, withDO), query("_why.join."+z.zone, dns.TypeTXT)} {
				q.IsEdns0().SetUDPSize(size)
				r, length, err := z.measured(at, q)
				if err != nil {
					return fmt.Errorf("%s %s: %w", q.Question[0].Name, dns.TypeToString[q.Question[0].Qtype], err)
				}
				longest = max(longest, length)
				if limit := min(most, int(size)); length > limit {
					return fmt.Errorf("%d octets for %s over UDP, for a client that takes %d: want at most %d", length, q.Question[0].Name, size, limit)
				}
				if o := r.IsEdns0(); o != nil && o.UDPSize() > most {
					return fmt.Errorf("the server takes UDP of %d octets: want at most %d", o.UDPSize(), most)
				}
				if r.Truncated {
					if full, err := z.ask("tcp", at, q); err != nil || full.Truncated || len(full.Answer) == 0 {
						return fmt.Errorf("%s is cut over UDP, and no answer over TCP: %v", q.Question[0].Name, err)
					}
				}
			}
		}
		return nil
	}()
	z.row(n.server, "sizes", "let no packet be larger than 1232 octets: fragments get lost, and forged", fmt.Sprintf("longest %d octets", longest), err)
}

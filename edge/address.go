package edge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// Address is where clients know an edge in one family, and where the machine has it. Behind
// a 1:1 NAT, which is the normal case in a cloud, these are two; the ports are the same.
type Address struct {
	Public netip.Addr // DNS answers it, ICE and TURN offer it
	Own    netip.Addr // bound; the zero value is the machine's towards Public
}

// String is as --public takes it.
func (a Address) String() string {
	if !a.Own.IsValid() || a.Own == a.Public {
		return a.Public.String()
	}
	return a.Public.String() + "/" + a.Own.String()
}

// addresses are those that the edge is announced with, IPv4 first, complete.
func (c *Config) addresses() ([]Address, error) {
	list := slices.Clone(c.Public)
	if len(list) == 0 {
		at := c.HTTP.Addr().Unmap()
		list = []Address{{Public: at, Own: at}}
	}
	slices.SortFunc(list, func(a, b Address) int { return a.Public.Compare(b.Public) })
	for i := range list {
		a := &list[i]
		switch {
		case a.Public.IsUnspecified():
			return nil, errors.New("no public address: name the one that clients reach")
		case i > 0 && a.Public.Is4() == list[i-1].Public.Is4():
			return nil, fmt.Errorf("public addresses %s and %s: one a family is announced", list[i-1].Public, a.Public)
		case !a.Own.IsValid():
			var err error
			if a.Own, err = own(a.Public); err != nil {
				return nil, fmt.Errorf("public address %s: %w", a.Public, err)
			}
		}
		if a.Own != a.Public {
			c.Log.Info("the public address is not this machine's: 1:1 NAT is assumed", "public", a.Public, "bound", a.Own)
		}
		if a.Public.IsPrivate() {
			c.Log.Warn("the public address is of a private network: who is not in it reaches no media; --public names another", "public", a.Public)
		}
	}
	for _, l := range []struct {
		of string
		at netip.AddrPort
	}{{"http", c.HTTP}, {"media", c.Media}, {"turn", c.Turn}, {"turns", c.Turns}} {
		ip := l.at.Addr().Unmap()
		if l.at.IsValid() && !ip.IsUnspecified() && (len(list) > 1 || ip.Is4() != list[0].Public.Is4()) {
			return nil, fmt.Errorf("%s at %s serves one family, and announced is %s: name no address, as in 0.0.0.0:%d", l.of, l.at, Words(list), l.at.Port())
		}
	}
	return list, nil
}

// own is the machine's address behind a public one: that itself where the machine has it,
// else the one that it would send from, which 1:1 NAT translates.
func own(public netip.Addr) (netip.Addr, error) {
	if has, err := has(public); has || err != nil {
		return public, err
	}
	const discard = 9
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(public, discard))) // sends nothing
	if err != nil {
		return netip.Addr{}, fmt.Errorf("not this machine's, and no address of it leads there: name the one behind the NAT, as %s/OWN: %w", public, err)
	}
	defer conn.Close()
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if !at.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("not this machine's, which would send from %s, and no NAT translates that: name the one behind the NAT, as %s/OWN", at, public)
	}
	return at, nil
}

// has tells whether the machine has an address: it can be bound, as all of 127.0.0.0/8 can,
// or is an interface's that cannot be bound yet, as IPv6 is for a second when a machine starts.
func has(a netip.Addr) (bool, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err == nil {
		return true, conn.Close()
	}
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return false, err
	}
	all, err := net.InterfaceAddrs()
	return slices.ContainsFunc(all, func(i net.Addr) bool {
		p, err := netip.ParsePrefix(i.String())
		return err == nil && p.Addr() == a
	}), err
}

// bound is where a listener is, for this address: at the machine's own, or at the one that
// was named for it. A datagram must leave from the address that it was sent to; a socket of
// every address leaves that to the routing table, which on a machine with several chooses
// wrongly.
func (a Address) bound(at netip.AddrPort) netip.AddrPort {
	if at.Addr().IsUnspecified() {
		return netip.AddrPortFrom(a.Own, at.Port())
	}
	return at
}

// Words lists addresses for people.
func Words(all []Address) string {
	s := make([]string, len(all))
	for i, a := range all {
		s[i] = a.String()
	}
	return strings.Join(s, " and ")
}

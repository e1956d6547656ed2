package main

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"bailiwick/edge"
)

// addressFlags are kong's readers of what is of netip, whose own errors say neither what was
// read nor what would do.
func addressFlags() kong.Option {
	return kong.OptionFunc(func(k *kong.Kong) error {
		for _, o := range []kong.Option{
			text(netip.ParseAddr, "an IP address, such as 192.0.2.1 or 2001:db8::1"),
			text(parsePublic, "an IP address, such as 192.0.2.1 or 2001:db8::1, or behind 1:1 NAT that and this machine's own, such as 192.0.2.1/10.0.0.5"),
			text(netip.ParseAddrPort, "an IP address and a port, such as 192.0.2.1:8080 or [2001:db8::1]:8080"),
			text(netip.ParsePrefix, "a network, such as 192.0.2.0/24 or 2001:db8::/32"),
			text(parseServer, "the IP address of a DNS server, with a port if it is not 53, such as 192.0.2.53 or [2001:db8::53]:5353"),
		} {
			if err := o.Apply(k); err != nil {
				return err
			}
		}
		return nil
	})
}

func text[T any](parse func(string) (T, error), want string) kong.Option {
	return kong.TypeMapper(reflect.TypeFor[T](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var s string
		if err := ctx.Scan.PopValueInto("address", &s); err != nil {
			return err
		}
		v, err := parse(s)
		if err != nil {
			return fmt.Errorf("%.64q: want %s", s, want)
		}
		target.Set(reflect.ValueOf(v))
		return nil
	}))
}

var errNotPublic = errors.New("an address that nobody can be reached at")

// parsePublic reads what clients know an edge by, with the machine's own behind a slash where
// that is another.
func parsePublic(s string) (a edge.Address, err error) {
	public, own, two := strings.Cut(s, "/")
	if a.Public, err = parseHost(public); err != nil || !two {
		return a, err
	}
	if a.Own, err = parseHost(own); err == nil && a.Own.Is4() != a.Public.Is4() {
		err = errNotPublic
	}
	return a, err
}

// parseHost reads the address of one machine, wherever it is asked from.
func parseHost(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err == nil && (a.Zone() != "" || a.Is4In6() || !a.IsGlobalUnicast() && !a.IsLoopback()) {
		err = errNotPublic
	}
	return a, err
}

// serverAddr is the address of a DNS server, with a port or without.
type serverAddr struct{ netip.AddrPort }

func parseServer(s string) (serverAddr, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return serverAddr{netip.AddrPortFrom(a, 53)}, nil
	}
	a, err := netip.ParseAddrPort(s)
	return serverAddr{a}, err
}

func addrPorts(list []serverAddr) (at []netip.AddrPort) {
	for _, a := range list {
		at = append(at, a.AddrPort)
	}
	return at
}

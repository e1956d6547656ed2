package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/miekg/dns"
)

// query asks for a record of the zone with EDNS; alter may change it.
func query(name string, qtype uint16, alter ...func(*dns.Msg)) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.RecursionDesired = false
	m.SetEdns0(1232, false)
	for _, f := range alter {
		f(m)
	}
	return m
}

func withOption(o dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) { m.IsEdns0().Option = append(m.IsEdns0().Option, o) }
}

func withDO(m *dns.Msg) { m.IsEdns0().SetDo() }

// ask sends a query and takes the answer, over UDP with a second try.
func (z *run) ask(network string, at netip.AddrPort, m *dns.Msg) (r *dns.Msg, err error) {
	c := &dns.Client{Net: network, Timeout: z.Timeout, UDPSize: dns.MaxMsgSize}
	for range 2 {
		if r, _, err = c.ExchangeContext(z.ctx, m, at.String()); err == nil || network != "udp" || z.ctx.Err() != nil {
			return r, err
		}
	}
	return nil, err
}

// silent tells an answer that never came from one that is wrong.
func silent(err error) bool {
	var lost net.Error // a timeout, a refused connection, no route
	return errors.As(err, &lost) || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled)
}

// answered is ask for an authoritative NOERROR, over TCP where it was cut.
func (z *run) answered(at netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
	r, err := z.ask("udp", at, m)
	if err == nil && r.Truncated {
		r, err = z.ask("tcp", at, m)
	}
	switch {
	case err != nil:
		return nil, err
	case r.Rcode != dns.RcodeSuccess:
		return nil, errors.New(dns.RcodeToString[r.Rcode] + extended(r))
	case !r.Authoritative:
		return nil, errors.New("the answer is not authoritative")
	}
	return r, nil
}

// measured asks over UDP and gives the answer's length too.
func (z *run) measured(at netip.AddrPort, q *dns.Msg) (*dns.Msg, int, error) {
	ctx, cancel := context.WithTimeout(z.ctx, z.Timeout)
	defer cancel()
	c, err := (&dns.Client{Net: "udp"}).DialContext(ctx, at.String())
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	c.UDPSize = dns.MaxMsgSize
	c.SetDeadline(time.Now().Add(z.Timeout))
	if err := c.WriteMsg(q); err != nil {
		return nil, 0, err
	}
	b, err := c.ReadMsgHeader(nil)
	if err != nil {
		return nil, 0, err
	}
	r := new(dns.Msg)
	return r, len(b), r.Unpack(b)
}

// extended is the text of an extended error, if there is one, without what a terminal
// would obey.
func extended(r *dns.Msg) string {
	if o := r.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_EDE); ok {
				text := strings.Map(func(c rune) rune {
					if !unicode.IsPrint(c) {
						return '?'
					}
					return c
				}, e.ExtraText)
				return fmt.Sprintf(" (EDE %d: %s)", e.InfoCode, text)
			}
		}
	}
	return ""
}

// records are a set in words, in one order, without TTL.
func records(rrs []dns.RR) string {
	var list []string
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			list = append(list, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func addressOf(rr dns.RR) (a netip.Addr) {
	switch rr := rr.(type) {
	case *dns.A:
		a, _ = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap()
}

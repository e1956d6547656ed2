package world

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"

	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

// Service is the name under which edges register.
const Service = "bailiwick-edge"

// Instance is an edge as it registers (docs/protocol.md, section 5).
func Instance(e *steer.Edge, reg region.ID, listen netip.AddrPort) store.Instance {
	meta := map[string]string{"region": string(reg), "host": e.Host,
		"media": e.Media.String(), "turn": e.Turn.String(),
		"seats": strconv.Itoa(e.Admits), "used": strconv.Itoa(e.Load.Consults)}
	if e.Addr4.IsValid() {
		meta["addr4"] = e.Addr4.String()
	}
	if e.Addr6.IsValid() {
		meta["addr6"] = e.Addr6.String()
	}
	if e.Turns.IsValid() {
		meta["turns"] = e.Turns.String()
	}
	if e.Load.Parked > 0 {
		meta["parked"] = strconv.Itoa(e.Load.Parked)
	}
	if e.Load.Egress > 0 {
		meta["egress"] = strconv.Itoa(e.Load.Egress)
	}
	if e.Load.Sheds > 0 {
		meta["sheds"] = strconv.Itoa(e.Load.Sheds)
	}
	if e.Load.Spent {
		meta["spent"] = "1"
	}
	return store.Instance{ID: string(e.ID), Service: Service, Addr: listen, Meta: meta}
}

// ParseInstance reads a registration back. What it returns came over the store:
// every field is checked.
func ParseInstance(in store.Instance) (region.ID, steer.Edge, error) {
	e := steer.Edge{ID: region.EdgeID(in.ID), Host: in.Meta["host"]}
	fail := func(field string, err error) (region.ID, steer.Edge, error) {
		return "", steer.Edge{}, fmt.Errorf("instance %s: meta %s: %w", in.ID, field, err)
	}
	if !e.ID.Valid() {
		return "", steer.Edge{}, fmt.Errorf("instance %.70q: want a DNS label as ID, such as de-fra-1", in.ID)
	}
	var err error
	for field, to := range map[string]*netip.Addr{"addr4": &e.Addr4, "addr6": &e.Addr6} {
		if s := in.Meta[field]; s != "" {
			if *to, err = netip.ParseAddr(s); err != nil {
				return fail(field, err)
			}
		}
	}
	// No record holds an address of the other family, and one that is mapped is neither.
	if e.Addr4.IsValid() && !e.Addr4.Is4() {
		return fail("addr4", fmt.Errorf("%s: want IPv4", e.Addr4))
	}
	if e.Addr6.IsValid() && (!e.Addr6.Is6() || e.Addr6.Is4In6() || e.Addr6.Zone() != "") {
		return fail("addr6", fmt.Errorf("%s: want IPv6 without a zone", e.Addr6))
	}
	for field, to := range map[string]*netip.AddrPort{"media": &e.Media, "turn": &e.Turn} {
		if *to, err = netip.ParseAddrPort(in.Meta[field]); err != nil {
			return fail(field, err)
		}
	}
	if s := in.Meta["turns"]; s != "" {
		if e.Turns, err = netip.ParseAddrPort(s); err != nil {
			return fail("turns", err)
		}
	}
	spent := 0
	for field, to := range map[string]*int{"seats": &e.Admits, "used": &e.Load.Consults, "parked": &e.Load.Parked,
		"egress": &e.Load.Egress, "sheds": &e.Load.Sheds, "spent": &spent} {
		s := in.Meta[field]
		if s == "" && field != "seats" && field != "used" { // nothing of it
			continue
		}
		if *to, err = strconv.Atoi(s); err != nil || *to < 0 || *to > math.MaxInt32 {
			return fail(field, fmt.Errorf("%q is not a count", s))
		}
	}
	e.Load.Spent = spent > 0
	if e.Host == "" || in.Meta["region"] == "" {
		return fail("host, region", fmt.Errorf("missing"))
	}
	return region.ID(in.Meta["region"]), e, nil
}

// Registered reads a registration, and what the store says of it.
func Registered(datacenter string, in store.Instance) (steer.Registered, error) {
	reg, e, err := ParseInstance(in)
	r := steer.Registered{Datacenter: datacenter, Region: reg, Edge: e, Lease: steer.Lapsed}
	switch in.Status {
	case store.Passing:
		r.Lease = steer.Held
	case store.Maintenance:
		r.Lease = steer.Maintenance
	}
	return r, err
}

// Applied is what the lease of a node says of its World, so that whoever changed a mode
// knows when every node decides by it: meta `applied`, and `applied-NAME` of a datacenter
// that has a name. It goes when the node goes.
func Applied(w *steer.World) map[string]string {
	meta := map[string]string{}
	for name, rev := range w.Applied {
		key := "applied"
		if name != "" {
			key += "-" + name
		}
		meta[key] = strconv.FormatUint(rev, 10)
	}
	return meta
}

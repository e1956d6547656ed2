package dnssec

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/miekg/dns"
)

// Signer signs RRsets with one key set. It is immutable and safe for concurrent use.
type Signer struct {
	zone       string
	p          Policy
	keys, data group
	// Apex are the RRsets that the set itself adds to the zone's apex, by type: DNSKEY,
	// CDS and CDNSKEY; the last two may be missing. Not to be changed.
	Apex map[uint16][]dns.RR
}

// group is the keys that sign the same RRsets. Its id changes when a signature would.
type group struct {
	keys []Key
	id   [sha256.Size]byte
}

// NewSigner refuses a policy or a set with which nothing could be signed; whatever
// else may be wrong with the set is [Set.Check]'s.
func NewSigner(s Set, p Policy) (*Signer, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if err := s.signs(); err != nil {
		return nil, err
	}
	r := &Signer{zone: s.Zone, p: p, keys: newGroup(s, p, Key.signsKeys), data: newGroup(s, p, Key.signsZone),
		Apex: map[uint16][]dns.RR{dns.TypeDNSKEY: s.DNSKEY(p)}}
	if cds := s.CDS(p); cds != nil {
		r.Apex[dns.TypeCDS], r.Apex[dns.TypeCDNSKEY] = cds, s.CDNSKEY(p)
	}
	return r, nil
}

func newGroup(s Set, p Policy, member func(Key) bool) (g group) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d\n", s.Zone, p.Validity, p.Refresh)
	for _, k := range s.Keys {
		if member(k) {
			g.keys = append(g.keys, k)
			fmt.Fprintf(h, "%s %d %x\n", k.Role, k.Algorithm, k.Public)
		}
	}
	h.Sum(g.id[:0])
	return g
}

// Check says whether signatures of the policy outlive the caches.
func (p Policy) Check() error {
	switch {
	case p.KeyTTL < time.Second || p.ZoneTTL < time.Second || p.Propagation < 0 || p.ParentTTL < 0 || p.ParentPropagation < 0:
		return errors.New("dnssec policy: want TTLs of a second or more and no negative time")
	case p.Refresh < p.longestStay():
		return fmt.Errorf("dnssec policy: refresh %s: signatures could expire in caches: want at least the longest TTL and the propagation, %s",
			p.Refresh, p.longestStay())
	case p.Validity < p.Refresh+skew:
		return fmt.Errorf("dnssec policy: validity %s: want at least the refresh and %s", p.Validity, skew)
	case p.Validity > 365*24*time.Hour:
		return fmt.Errorf("dnssec policy: validity %s: want at most a year", p.Validity)
	}
	return nil
}

// Sign returns the RRSIGs of an RRset, one for each key that signs it, and the time
// at which they must be replaced. Their owner is written as in the RRset.
//
// Time is cut into windows of Validity − Refresh; where they begin is a hash of the
// RRset, so that the renewals of a zone are spread over the whole window. A signature
// belongs to its window and not to the moment of the call. It is valid from an hour
// before the window until Refresh after it.
func (s *Signer) Sign(rrset []dns.RR, now time.Time) ([]dns.RR, time.Time, error) {
	b, err := s.canonical(rrset)
	if err != nil {
		return nil, time.Time{}, err
	}
	return s.sign(rrset, b, now)
}

func (s *Signer) sign(rrset []dns.RR, canonical []byte, now time.Time) ([]dns.RR, time.Time, error) {
	h := rrset[0].Header()
	w := s.window(sha256.Sum256(canonical), now)
	labels := dns.CountLabel(h.Name)
	if len(h.Name) > 1 && h.Name[:2] == "*." { // RFC 4034 section 3.1.3; "*a" is no wildcard
		labels--
	}
	var sigs []dns.RR
	for _, k := range s.group(h.Rrtype).keys {
		sig := &dns.RRSIG{
			Hdr:         dns.RR_Header{Name: h.Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: h.Ttl},
			TypeCovered: h.Rrtype, Algorithm: uint8(k.Algorithm), Labels: uint8(labels), OrigTtl: h.Ttl,
			// Both wrap in 2106, as they should (RFC 4034 section 3.1.5).
			Inception: uint32(w.start - int64(skew/time.Second)), Expiration: uint32(w.start + int64(s.p.Validity/time.Second)),
			KeyTag: k.Tag, SignerName: s.zone,
		}
		if err := k.sign(sig, canonical); err != nil {
			return nil, time.Time{}, fmt.Errorf("dnssec %s: sign %s %s with key %d: %w", s.zone, h.Name, dns.Type(h.Rrtype), k.Tag, err)
		}
		sigs = append(sigs, sig)
	}
	return sigs, w.renew(), nil
}

// Renew is when the signatures that Sign makes at that time must be replaced.
func (s *Signer) Renew(rrset []dns.RR, now time.Time) (time.Time, error) {
	b, err := s.canonical(rrset)
	if err != nil {
		return time.Time{}, err
	}
	return s.window(sha256.Sum256(b), now).renew(), nil
}

func (s *Signer) group(rrtype uint16) *group {
	switch rrtype {
	case dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY:
		return &s.keys
	}
	return &s.data
}

// window is in seconds since 1970.
type window struct{ start, length int64 }

func (w window) renew() time.Time { return time.Unix(w.start+w.length, 0).UTC() }

func (w window) holds(now time.Time) bool {
	return w.start <= now.Unix() && now.Unix() < w.start+w.length
}

func (s *Signer) window(hash [sha256.Size]byte, now time.Time) window {
	length := int64((s.p.Validity - s.p.Refresh) / time.Second)
	offset := int64(binary.BigEndian.Uint64(hash[:]) % uint64(length))
	into := (now.Unix() - offset) % length
	if into < 0 {
		into += length
	}
	return window{now.Unix() - into, length}
}

// sign fills in the signature (RFC 4034 section 3.1.8.1). It does not use miekg/dns's
// own RRSIG.Sign, which takes "*a.example" for a wildcard; a denial is made for any
// name that a stranger asks for.
func (k Key) sign(sig *dns.RRSIG, canonical []byte) error {
	wire := make([]byte, dns.Len(sig)+1)
	n, err := dns.PackRR(sig, wire, 0, nil, false)
	if err != nil {
		return err
	}
	_, off, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		return err
	}
	signed := append(wire[off+10:n:n], canonical...) // the RDATA without the signature
	var raw []byte
	switch k.Algorithm {
	case Ed25519:
		raw, err = k.private().signer.Sign(nil, signed, crypto.Hash(0))
	default:
		digest := sha256.Sum256(signed)
		var der []byte
		if der, err = k.private().signer.Sign(nil, digest[:], crypto.SHA256); err == nil {
			raw, err = fixed(der)
		}
	}
	if err != nil {
		return err
	}
	sig.Signature = base64.StdEncoding.EncodeToString(raw)
	return nil
}

// fixed is an ECDSA signature as DNSSEC has it: r and s of 32 bytes (RFC 6605 section 4).
func fixed(der []byte) ([]byte, error) {
	var point struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &point); err != nil || len(rest) > 0 {
		return nil, errors.New("no ECDSA signature")
	}
	raw := make([]byte, 64)
	point.R.FillBytes(raw[:32])
	point.S.FillBytes(raw[32:])
	return raw, nil
}

// canonical is the RRset as it is signed (RFC 4034 section 6): records without
// compression, names in lower case, in the order of their RDATA, without duplicates.
func (s *Signer) canonical(rrset []dns.RR) ([]byte, error) {
	if !dns.IsRRset(rrset) {
		return nil, fmt.Errorf("dnssec %s: not an RRset: want one or more records of one name, class and type", s.zone)
	}
	h := rrset[0].Header()
	if !dns.IsSubDomain(s.zone, h.Name) || h.Class != dns.ClassINET || h.Rrtype == dns.TypeRRSIG {
		return nil, fmt.Errorf("dnssec %s: %.80q %s is not for this zone to sign", s.zone, h.Name, dns.Type(h.Rrtype))
	}
	records := make([][]byte, len(rrset))
	rdata := 0
	for i, rr := range rrset {
		if rr.Header().Ttl != h.Ttl {
			return nil, fmt.Errorf("dnssec %s: %s %s: TTLs differ within the RRset (RFC 2181 section 5.2)", s.zone, h.Name, dns.Type(h.Rrtype))
		}
		var err error
		if records[i], rdata, err = canonicalRR(rr); err != nil {
			return nil, fmt.Errorf("dnssec %s: %s %s: %w", s.zone, h.Name, dns.Type(h.Rrtype), err)
		}
	}
	sortRDATA(records, rdata)
	var b []byte
	for i, r := range records {
		if i == 0 || !bytes.Equal(r, records[i-1]) {
			b = append(b, r...)
		}
	}
	return b, nil
}

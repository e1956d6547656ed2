// Package dnssec is all of a zone's DNSSEC that needs no listener: the keys and
// their rollover, the signatures, and the denial of what does not exist.
//
// It opens no socket, starts no goroutine and reads no clock: the caller gives the
// time. Files and the Store are touched only by [ReadFile], [Set.WriteFile] and
// [Step]. Only package geodns and the verbs that manage keys may call it.
//
// Invariants:
//   - A signature is a pure function of the key, the RRset and the time: Ed25519 is
//     deterministic by itself, ECDSA by RFC 6979. Nodes that share a key set answer
//     with the same bytes, and a restart changes none.
//   - Nothing here stops an answer. A key set that is late, early or waiting for its
//     parent still signs; [Set.Check] says what is wrong.
//   - A key that the parent's DS depends on is removed only after the DS of its
//     successor was seen there alone and the old DS has left every cache.
//   - Of two sets of a zone the one of the higher serial is the newer.
//   - No private key is printed, logged or encoded, except into the key file.
//
// The format of the key file is at [Parse].
package dnssec

import "time"

// Policy is the timing of keys and signatures; its names are those of RFC 7583
// section 3 where it has one. It must be the same on every node of a zone.
type Policy struct {
	// KeyTTL is of DNSKEY, CDS and CDNSKEY (TTLkey), whole seconds.
	KeyTTL time.Duration
	// ZoneTTL is the longest TTL of a signed RRset (TTLsig).
	ZoneTTL time.Duration
	// Propagation is how long it takes until every node answers from a new key set
	// (Dprp), with a margin for clocks that differ.
	Propagation time.Duration
	// ParentTTL is of the DS RRset (TTLds); an observed one counts if it is longer.
	ParentTTL time.Duration
	// ParentPropagation is the same as Propagation for the parent's servers (DprpP).
	ParentPropagation time.Duration
	// Lifetime of a CSK or KSK, after which its roll begins; 0: rolled by hand only.
	Lifetime time.Duration
	// ZoneLifetime of a ZSK; 0: rolled by hand only.
	ZoneLifetime time.Duration
	// Validity is from a signature's window to its expiration, Refresh the part of it
	// that is left when the next one takes over. Refresh is also how long a node may
	// be behind in time or unable to sign before an answer of it is bogus.
	Validity, Refresh time.Duration
}

// DefaultPolicy fits a zone with TTLs of at most an hour under a parent whose DS
// lives at most a day, as in .com, .de or .ca.
func DefaultPolicy() Policy {
	const day = 24 * time.Hour
	return Policy{
		KeyTTL: time.Hour, ZoneTTL: time.Hour, Propagation: time.Hour,
		ParentTTL: day, ParentPropagation: time.Hour,
		ZoneLifetime: 90 * day,
		Validity:     14 * day, Refresh: 5 * day,
	}
}

// Shortest is the longest that a roll takes of itself, beside what the parent takes: a
// lifetime below it would never end.
func (p Policy) Shortest() time.Duration {
	return 4*p.Propagation + 2*p.ZoneTTL + 2*p.KeyTTL + p.ParentPropagation + p.ParentTTL
}

// skew is how far before its window a signature begins to be valid: a validator, or
// a node, may be this far wrong in time.
const skew = time.Hour

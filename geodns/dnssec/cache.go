package dnssec

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Signatures remembers signatures by the RRset's bytes and the keys, least recently
// used out first: what did not change is not signed again. Use one for the answers
// that are built ahead and another one for denials, which strangers fill. Safe for
// concurrent use.
type Signatures struct {
	limit int

	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*list.Element
	recent *list.List // of *signed, the newest first
}

type signed struct {
	key  [sha256.Size]byte
	w    window
	sigs []dns.RR
	used time.Time // last
}

// NewSignatures remembers those of limit RRsets, each about half a kilobyte.
func NewSignatures(limit int) *Signatures {
	return &Signatures{limit: max(limit, 1), byHash: map[[sha256.Size]byte]*list.Element{}, recent: list.New()}
}

// Sign is [Signer.Sign]. The records are the caller's own. The bytes depend on the keys,
// the RRset and the window of now alone: which calls came before, from how many
// goroutines, or on which node, changes nothing.
func (c *Signatures) Sign(s *Signer, rrset []dns.RR, now time.Time) ([]dns.RR, time.Time, error) {
	b, err := s.canonical(rrset)
	if err != nil {
		return nil, time.Time{}, err
	}
	key := cacheKey(s, rrset, b)
	if e := c.get(key, now); e != nil {
		return owned(e.sigs, rrset[0].Header().Name), e.w.renew(), nil
	}
	// Two callers may sign the same at once: the bytes are the same.
	sigs, renew, err := s.sign(rrset, b, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	c.put(&signed{key, s.window(sha256.Sum256(b), now), owned(sigs, rrset[0].Header().Name), now})
	return sigs, renew, nil
}

// cacheKey is of the RRset in canonical form and of the keys that sign it.
func cacheKey(s *Signer, rrset []dns.RR, canonical []byte) [sha256.Size]byte {
	id := s.group(rrset[0].Header().Rrtype).id
	return sha256.Sum256(append(id[:], canonical...))
}

// owned copies records and writes their owner in the caller's letter case.
func owned(rrs []dns.RR, owner string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = owner
	}
	return out
}

func (c *Signatures) get(key [sha256.Size]byte, now time.Time) *signed {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byHash[key]
	if e == nil || !e.Value.(*signed).w.holds(now) {
		return nil
	}
	c.recent.MoveToFront(e)
	e.Value.(*signed).used = now
	return e.Value.(*signed)
}

func (c *Signatures) put(s *signed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byHash[s.key]; e != nil {
		e.Value = s
		c.recent.MoveToFront(e)
		return
	}
	c.byHash[s.key] = c.recent.PushFront(s)
	if c.recent.Len() > c.limit {
		delete(c.byHash, c.recent.Remove(c.recent.Back()).(*signed).key)
	}
}

// Len is how many RRsets are remembered.
func (c *Signatures) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}

package rtp

import "time"

const (
	// ringTime is how long a packet is kept: what a NACK asks for later comes too late to be
	// shown, over the longest path that a conversation bears.
	ringTime = 500 * time.Millisecond
	// A Ring begins with so many bytes, and grows by a quarter and so many at least, up to so many: 8
	// Mbit/s for ringTime. Doubling left a third of it unused.
	ringLeast, ringMost = 16 << 10, 512 << 10
	ringPackets         = 512
)

// Ring keeps the newest packets of one publisher's track for the NACKs of all its
// subscribers: for ringTime, with as much memory as that takes of what comes. Its zero value is
// ready.
type Ring struct {
	newest, oldest uint32 // names; oldest is newest+1 where there is none
	head           int    // where the next one is put
	arena          []byte
	first          time.Time // when it came
	slots          [ringPackets]slot
}

type slot struct {
	at, size int32
	came     time.Duration // after the first
}

// Put keeps a copy of the packet, which came at that time, and names it: no other that is in
// the ring has the same name, whatever numbers the publisher gives its packets. 0 is none.
func (r *Ring) Put(packet []byte, at time.Time) (n uint32) {
	if r.first.IsZero() {
		r.first = at
	}
	came := at.Sub(r.first)
	if r.newest == 0 || r.newest == 1<<32-1 { // the name after is taken, or none
		r.newest, r.oldest, r.head = 0, 1, 0
	}
	for !r.room(len(packet), came) {
		r.grow()
	}
	r.newest++
	*r.slot(r.newest) = slot{int32(r.head), int32(len(packet)), came}
	r.head += copy(r.arena[r.head:], packet)
	return r.newest
}

func (r *Ring) slot(n uint32) *slot { return &r.slots[n%ringPackets] }

// room makes the next bytes of the arena free. It reports false where it would rather have
// more: what is there is young.
func (r *Ring) room(size int, now time.Duration) bool {
	if r.newest-r.oldest+1 == ringPackets {
		r.oldest++
	}
	if r.head+size > len(r.arena) { // what is from here to the end is the oldest there is
		if !r.drop(r.head, len(r.arena), now) {
			return false
		}
		r.head = 0
	}
	return r.head+size <= len(r.arena) && r.drop(r.head, r.head+size, now)
}

// drop forgets what is between two places of the arena.
func (r *Ring) drop(from, to int, now time.Duration) bool {
	for ; r.oldest <= r.newest; r.oldest++ {
		s := r.slot(r.oldest)
		if at := int(s.at); at+int(s.size) <= from || at >= to {
			break
		}
		if now-s.came < ringTime && len(r.arena) < ringMost {
			return false
		}
	}
	return true
}

// grow makes the arena larger, and begins it with what is kept.
func (r *Ring) grow() {
	next := make([]byte, min(len(r.arena)+max(len(r.arena)/4, ringLeast), ringMost))
	head := 0
	for n := r.oldest; n <= r.newest; n++ {
		s := r.slot(n)
		size := copy(next[head:], r.arena[s.at:s.at+s.size])
		s.at = int32(head)
		head += size
	}
	r.arena, r.head = next, head
}

// Get appends the packet of that name to dst; ok is false when it is not here any more.
func (r *Ring) Get(n uint32, dst []byte) (packet []byte, ok bool) {
	if n == 0 || n < r.oldest || n > r.newest {
		return dst, false
	}
	s := r.slot(n)
	return append(dst, r.arena[s.at:s.at+s.size]...), true
}

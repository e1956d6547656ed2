package rtp

import (
	"sync"
	"time"
)

const (
	// ringTime is how long a packet is kept: what a NACK asks for later comes too late to be
	// shown, over the longest path that a conversation bears.
	ringTime = 500 * time.Millisecond
	// A Ring has as many chunks as ringTime takes, up to so many bytes: 8 Mbit/s.
	chunkSize = 8 << 10
	ringMost  = 512 << 10
	// RingPackets is how many a Ring keeps at most.
	RingPackets = 512
)

// Ring keeps the newest packets of one publisher's track for the NACKs of all its
// subscribers: for ringTime, with as much memory as that takes of what comes now. Its zero value
// is ready.
type Ring struct {
	newest, oldest uint32    // names; oldest is newest+1 where there is none
	tail, head     uint32    // chunks from tail to head-1 are in use, the last one up to end
	end            int       // within that one, in bytes
	first          time.Time // when the first packet came
	chunks         [ringChunks]struct {
		*chunk
		last instant // its newest packet
	}
	slots [RingPackets]slot
}

const ringChunks = ringMost / chunkSize

type chunk [chunkSize]byte

// chunks are those that no Ring needs now.
var chunks = sync.Pool{New: func() any { return new(chunk) }}

type slot struct {
	came     instant
	at, size uint16
	chunk    uint8 // modulo ringChunks
}

// instant is when a packet came, in microseconds after the first, modulo 71 minutes: what is
// kept so long is one chunk more than what is asked for.
type instant uint32

func (i instant) since(before instant) time.Duration {
	return time.Duration(i-before) * time.Microsecond
}

// Put keeps a copy of the packet, which came at that time, and names it: no other that is in
// the ring has the same name, whatever numbers the publisher gives its packets. 0 is none.
func (r *Ring) Put(packet []byte, at time.Time) (n uint32) {
	if r.first.IsZero() {
		r.first = at
	}
	came := instant(at.Sub(r.first) / time.Microsecond)
	if r.newest == 0 || r.newest == 1<<32-1 { // the name after is taken, or none
		r.newest, r.oldest = 0, 1
	}
	if r.newest-r.oldest+1 == RingPackets {
		r.oldest++
	}
	if r.head == r.tail || r.end+len(packet) > chunkSize {
		r.next(came)
	}
	r.newest++
	in := (r.head - 1) % ringChunks
	*r.slot(r.newest) = slot{came: came, at: uint16(r.end), size: uint16(len(packet)), chunk: uint8(in)}
	r.chunks[in].last = came
	r.end += copy(r.chunks[in].chunk[r.end:], packet)
	return r.newest
}

func (r *Ring) slot(n uint32) *slot { return &r.slots[n%RingPackets] }

// next begins a chunk: the oldest, where that is old or there are no more, and gives others that
// are old back.
func (r *Ring) next(now instant) {
	var next *chunk
	for r.tail != r.head {
		in := r.tail % ringChunks
		c := &r.chunks[in]
		if now.since(c.last) < ringTime && r.head-r.tail < ringChunks {
			break
		}
		for r.oldest <= r.newest && r.slot(r.oldest).chunk == uint8(in) {
			r.oldest++
		}
		if next == nil {
			next = c.chunk
		} else {
			chunks.Put(c.chunk)
		}
		c.chunk = nil
		r.tail++
	}
	if next == nil {
		next = chunks.Get().(*chunk)
	}
	r.chunks[r.head%ringChunks].chunk = next
	r.head++
	r.end = 0
}

// Get appends the packet of that name to dst; ok is false when it is not here any more.
func (r *Ring) Get(n uint32, dst []byte) (packet []byte, ok bool) {
	if n == 0 || n < r.oldest || n > r.newest {
		return dst, false
	}
	s := r.slot(n)
	return append(dst, r.chunks[s.chunk].chunk[s.at:s.at+s.size]...), true
}

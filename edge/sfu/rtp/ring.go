package rtp

import "sync"

const (
	// ringSize is how many packets can be asked for again: about two seconds of
	// video at 1.5 Mbit/s.
	ringSize = 512
	// MaxPacket bounds one RTP packet in bytes; nothing larger crosses an Ethernet.
	MaxPacket = 1500
)

// Ring keeps the newest packets of one publisher's track for all its subscribers'
// NACKs (RFC 4585). It is safe for concurrent use and allocates only while it fills.
type Ring struct {
	mu    sync.Mutex
	slots [ringSize]struct {
		used bool
		seq  uint16
		data []byte
	}
}

// Put stores a copy of one packet.
func (r *Ring) Put(seq uint16, packet []byte) {
	if len(packet) > MaxPacket {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[seq%ringSize]
	if s.data == nil {
		s.data = make([]byte, 0, MaxPacket)
	}
	s.used, s.seq, s.data = true, seq, append(s.data[:0], packet...)
}

// Get copies the packet into buf and gives its length, 0 when it is gone.
func (r *Ring) Get(seq uint16, buf []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[seq%ringSize]
	if !s.used || s.seq != seq {
		return 0
	}
	return copy(buf, s.data)
}

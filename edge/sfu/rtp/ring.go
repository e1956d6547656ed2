package rtp

const ringSize = 512 // packets: two seconds of video at 2.5 Mbit/s

// Ring keeps the newest packets of one publisher's track for the NACKs of all its
// subscribers.
type Ring struct {
	slots [ringSize]slot
}

type slot struct {
	used bool
	seq  uint16
	b    []byte
}

// Put keeps a copy of the packet.
func (r *Ring) Put(seq uint16, packet []byte) {
	s := &r.slots[seq%ringSize]
	s.used, s.seq, s.b = true, seq, append(s.b[:0], packet...)
}

// Get appends the packet to dst; ok is false when it is not here any more, or not
// yet.
func (r *Ring) Get(seq uint16, dst []byte) (packet []byte, ok bool) {
	s := &r.slots[seq%ringSize]
	if !s.used || s.seq != seq {
		return dst, false
	}
	return append(dst, s.b...), true
}

// Clear forgets every packet: the numbers to come mean others.
func (r *Ring) Clear() {
	for i := range r.slots {
		r.slots[i].used = false
	}
}

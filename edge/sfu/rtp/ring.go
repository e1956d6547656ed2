package rtp

const ringSize = 512 // packets: two seconds of video at 2.5 Mbit/s

// Ring keeps the newest packets of one publisher's track for the NACKs of all its
// subscribers.
type Ring struct {
	newest uint32
	slots  [ringSize]slot
}

type slot struct {
	n uint32 // 0: empty
	b []byte
}

// Put keeps a copy of the packet, and names it: no other that is in the ring has the same
// name, whatever numbers the publisher gives its packets. 0 is none.
func (r *Ring) Put(packet []byte) (n uint32) {
	r.newest = max(1, r.newest+1)
	s := &r.slots[r.newest%ringSize]
	s.n, s.b = r.newest, append(s.b[:0], packet...)
	return s.n
}

// Get appends the packet of that name to dst; ok is false when it is not here any more.
func (r *Ring) Get(n uint32, dst []byte) (packet []byte, ok bool) {
	s := &r.slots[n%ringSize]
	if n == 0 || s.n != n {
		return dst, false
	}
	return append(dst, s.b...), true
}

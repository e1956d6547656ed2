package rtp

import (
	"slices"
	"time"
)

const (
	reorder   = 20 * time.Millisecond  // a packet this late may only be out of order
	retry     = 100 * time.Millisecond // between two requests for one packet
	tries     = 5
	maxGap    = 128 // more missing at once is an outage: a keyframe mends it, not NACKs
	maxLosses = 256
)

// Missing says which packets to ask for again (RFC 4585 generic NACK). It has one
// user at a time.
type Missing struct {
	started bool
	max     uint16
	lost    []loss
}

type loss struct {
	seq   uint16
	since time.Time
	asked time.Time
	tries int
}

// Packet takes one arrival and reports whether so much is missing that only a
// keyframe helps.
func (m *Missing) Packet(seq uint16, at time.Time) (outage bool) {
	if !m.started {
		m.started, m.max = true, seq
		return false
	}
	d := int16(seq - m.max)
	switch {
	case d <= 0:
		m.lost = slices.DeleteFunc(m.lost, func(l loss) bool { return l.seq == seq })
		return false
	case d > maxGap || len(m.lost) > maxLosses:
		m.max, m.lost = seq, m.lost[:0]
		return true
	}
	for s := m.max + 1; s != seq; s++ {
		m.lost = append(m.lost, loss{seq: s, since: at})
	}
	m.max = seq
	return false
}

// Due appends the sequence numbers to ask for now to into.
func (m *Missing) Due(now time.Time, into []uint16) []uint16 {
	kept := m.lost[:0]
	for _, l := range m.lost {
		if l.tries >= tries {
			continue
		}
		if now.Sub(l.since) >= reorder && now.Sub(l.asked) >= retry {
			l.asked = now
			l.tries++
			into = append(into, l.seq)
		}
		kept = append(kept, l)
	}
	m.lost = kept
	return into
}

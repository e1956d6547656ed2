package rtp

import "time"

const (
	maxMissing = 128 // more at once is an outage, which a keyframe mends sooner
	maxTries   = 8
)

// Gaps finds what a source's packets left out and says when to ask for it
// (generic NACK, RFC 4585 section 6.2.1).
type Gaps struct {
	started bool
	newest  uint16
	epoch   time.Time
	list    [maxMissing]missing
	n       int
}

type missing struct {
	seq   uint16
	tries uint8
	next  time.Duration // after epoch
}

// Seen takes one packet that Receive called fresh. It reports true when so much is
// missing that only a keyframe helps; nothing of it will be asked for.
func (g *Gaps) Seen(seq uint16, at time.Time) (outage bool) {
	step := int(int16(seq - g.newest))
	switch {
	case !g.started:
		g.started, g.newest, g.epoch = true, seq, at
	case step <= 0:
		g.remove(seq)
	case g.n+step-1 > maxMissing:
		g.n, g.newest = 0, seq
		return true
	default:
		for s := g.newest + 1; s != seq; s++ {
			g.list[g.n] = missing{seq: s, next: at.Sub(g.epoch)}
			g.n++
		}
		g.newest = seq
	}
	return false
}

func (g *Gaps) remove(seq uint16) {
	for i := range g.n {
		if g.list[i].seq == seq {
			copy(g.list[i:g.n], g.list[i+1:g.n])
			g.n--
			return
		}
	}
}

// Due appends to dst the numbers to ask for now, in order. Each is asked for at
// once, then each rtt while it is missing; after the last try it is given up.
func (g *Gaps) Due(at time.Time, rtt time.Duration, dst []uint16) []uint16 {
	now, kept := at.Sub(g.epoch), g.list[:0]
	for _, m := range g.list[:g.n] {
		if now >= m.next {
			if m.tries == maxTries {
				continue
			}
			m.tries++
			m.next = now + rtt
			dst = append(dst, m.seq)
		}
		kept = append(kept, m)
	}
	g.n = len(kept)
	return dst
}

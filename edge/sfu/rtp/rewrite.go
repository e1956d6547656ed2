// Package rtp is the arithmetic of forwarding one RTP stream to one subscriber:
// continuous sequence numbers and timestamps, retransmission, and the statistics
// that receiver reports carry. It is pure: no socket, no clock, no goroutine.
package rtp

// Rewriter maps the sequence numbers and timestamps of one source after another
// onto one outgoing stream (RFC 3550 section 5.1), so that a subscriber never
// sees the publisher reconnect. Within a source the offsets are constant:
// reordered and lost packets stay so. It has one user at a time.
type Rewriter struct {
	source  uint32 // SSRC of the current source
	started bool
	seqOff  uint16
	tsOff   uint32
	lastSeq uint16 // newest outgoing
	lastTS  uint32
}

// Rewrite gives the outgoing numbers of one packet. gap is how far the timestamp
// moves on when the source changes, in clock units: one frame.
func (r *Rewriter) Rewrite(source uint32, seq uint16, ts, gap uint32) (uint16, uint32) {
	switch {
	case !r.started:
		r.started, r.source = true, source
		r.lastSeq, r.lastTS = seq, ts
	case source != r.source:
		r.source = source
		r.seqOff = r.lastSeq + 1 - seq
		r.tsOff = r.lastTS + gap - ts
	}
	outSeq, outTS := seq+r.seqOff, ts+r.tsOff
	if int16(outSeq-r.lastSeq) > 0 {
		r.lastSeq, r.lastTS = outSeq, outTS
	}
	return outSeq, outTS
}

// Source undoes the mapping of an outgoing sequence number: a subscriber's NACK
// in the publisher's terms.
func (r *Rewriter) Source(outSeq uint16) uint16 { return outSeq - r.seqOff }

// Timestamp maps a source timestamp of the current source: a sender report's.
func (r *Rewriter) Timestamp(ts uint32) uint32 { return ts + r.tsOff }

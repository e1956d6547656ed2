package sfu

import (
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/lane"
)

// maxResend bounds what one line sends again in a second, in packets: a client that
// asks for everything gets no more than it could have lost.
const maxResend = 500

// resend answers one NACK from the publisher's rings. What is not there was lost on
// the way in and has been asked for already, or is too old to help.
func (l *line) resend(b *lane.Batch, nack *rtcp.TransportLayerNack, at time.Time) {
	c := l.count
	for i := range nack.Nacks {
		nack.Nacks[i].Range(func(seq uint16) bool {
			c.nacksIn.Add(1)
			if l.resendOne(b, seq, at) {
				c.resent.Add(1)
				c.packetsOut.Add(1)
			}
			return true
		})
	}
}

func (l *line) resendOne(b *lane.Batch, seq uint16, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resent >= maxResend {
		return false
	}
	// A path that was found too poor for them has no room for them once more.
	if o, ok := l.rewrite.Source(seq); ok && l.kind != Audio && !l.layers.Wants(int(o.Layer)) {
		return false
	}
	l.resent++
	_, ok := l.repeat(b, seq, at)
	return ok
}

// repeat sends the packet again that was sent as seq, of so many bytes of payload: as it was, or
// in a repair packet where the client takes such.
func (l *line) repeat(b *lane.Batch, seq uint16, at time.Time) (n int, ok bool) {
	t := l.src.Load()
	if t == nil || l.kind == Audio {
		return 0, false
	}
	o, ok := l.rewrite.Source(seq)
	if !ok || !l.find(t, int(o.Layer), o.Packet) || !l.rewrite.Again(&l.parsed, seq, &l.header) {
		return 0, false
	}
	l.carryDependency(t, &l.parsed, o)
	l.carryCaptured(&l.parsed)
	payload := l.found.Write(l.parsed.Payload, o)
	if ssrc, ok := l.out.Repair(); ok { // RFC 4588 section 4
		l.again = append(append(l.again[:0], byte(seq>>8), byte(seq)), payload...)
		payload = l.again
		l.header.SSRC, l.header.SequenceNumber, l.header.PayloadType = ssrc, l.repairs, l.header.PayloadType+1
		l.repairs++
	}
	return len(payload), l.out.WriteRTP(b, &l.header, payload, at) == nil
}

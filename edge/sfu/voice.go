package sfu

import (
	"time"

	"bailiwick/edge/sfu/red"
	"bailiwick/edge/sfu/rtp"
	"bailiwick/edge/signal"
)

// What a path loses of its packets, from which on each packet of a voice brings the one before it
// once more, and the two before it; and until when, 0 to 1.
const (
	losesSome, losesMuch, losesNone = 0.03, 0.10, 0.01
)

const (
	// A connection that carries less than thin does not carry a voice as it comes, of 32 kbit/s and as
	// much in headers, and all that goes with it; from thick on it does, when it has for long.
	thin, thick = 80_000, 130_000
	long        = 10 * time.Second
	// stands is how long packets wait in a queue that what is sent makes.
	stands = 100 * time.Millisecond
	// thinVoice is what such a voice is asked to take: Opus is wideband speech with it still.
	thinVoice = 16_000
)

// voices are what is done for the voices that one connection carries. They are guarded by room.mu.
type voices struct {
	loss    float64   // of what is sent to the client, whatever its rate, 0 to 1
	crowded time.Time // when a queue last stood before it
	depth   int       // of what goes to it once more
	thin    bool      // its connection is too poor for them as they come
	slim    time.Time // when it last was nearly so
	voice   int       // that the client was told to stay within, bit/s

	hears, heard Way // by the last reports
}

// slimLocked says of the voices that the session hears whether they are too much for its connection.
func (x *Session) slimLocked(target int, now time.Time) {
	if target < thick {
		x.slim = now
	}
	x.thin = target < thin || x.thin && now.Sub(x.slim) < long
	for _, l := range x.neg.lines {
		l.thin = l.kind == Audio && l.on && x.thin
	}
}

// tellVoiceLocked tells the client what its voice may take: what its own connection does, and the
// poorest of those who hear it.
func (x *Session) tellVoiceLocked(now time.Time) {
	rate := 0
	if x.poor(now) {
		rate = thinVoice
	}
	for _, l := range x.pub.tracks[Audio].fanout() {
		if l.thin {
			rate = thinVoice
		}
	}
	if rate != x.voice && !x.stopped && x.who.media == x {
		x.voice = rate
		x.sink(signal.Voice{Type: signal.TypeVoice, Rate: rate})
	}
}

// doubleLocked has voices go more than once where the connection loses packets whatever is sent:
// not where a queue has stood lately, for then they are lost by what is sent.
func (x *Session) doubleLocked(now time.Time) {
	switch {
	case x.loss < losesNone || now.Sub(x.crowded) < long:
		x.depth = 0
	case x.loss >= losesMuch:
		x.depth = red.Depth
	case x.loss >= losesSome:
		x.depth = max(x.depth, 1)
	}
	for _, l := range x.neg.lines {
		if l.kind == Audio && l.on {
			l.mu.Lock()
			l.depth = x.depth
			l.mu.Unlock()
		}
	}
}

// double is the payload of a packet whose header is written, with what came before it where that
// is to go once more.
func (l *line) double(payload []byte) []byte {
	h := &l.header
	if !l.out.Doubles() {
		return payload
	}
	all := payload
	if l.depth > 0 {
		l.again = l.past.Wrap(l.again[:0], l.depth, ptOpus, h.SequenceNumber, h.Timestamp, payload)
		h.PayloadType, all = ptRED, l.again
	}
	l.past.Add(h.SequenceNumber, h.Timestamp, payload)
	return all
}

// undouble leaves of RED what is new; ok is false for what is none.
func undouble(p *rtp.Packet) (ok bool) {
	at, pt, ok := red.Last(p.Payload)
	if !ok || pt != ptOpus {
		return false
	}
	p.Payload, p.PayloadType = p.Payload[at:], ptOpus
	return true
}

package sfu

import "time"

const (
	// Data get this share of what a participant's connection carries, at the least so much,
	// in bit/s: nothing else holds them back for the media, which are in their way.
	dataShare = 2
	leastData = 64_000
)

// data takes one message of the participant's: whom it is for, by the length of the name and
// the name, empty for everybody in the room, and what it says. They get it with its sender's
// name there. What it says is theirs.
func (x *Session) data(l Label, message []byte) {
	to, says, ok := address(message)
	audience, from := x.audience(string(to))
	out := append(append([]byte{byte(len(from))}, from...), says...)
	if !ok || len(out) > MaxMessage {
		x.malformed()
		return
	}
	for _, y := range audience {
		if l == Reliable && !y.pace(len(out), x.done) {
			continue
		}
		if y.media.Send(l, out, x.done) == nil {
			x.sfu.count.messages.Add(1)
		} else {
			x.sfu.count.messagesLost.Add(1)
		}
	}
}

// address reads whom a message is for, or whom it is from.
func address(message []byte) (who, says []byte, ok bool) {
	if len(message) == 0 || len(message) < 1+int(message[0]) {
		return nil, nil, false
	}
	says = message[1:]
	return says[:message[0]], says[message[0]:], true
}

// audience are the connections that a message of the participant's goes to.
func (x *Session) audience(to string) (all []*Session, from string) {
	if x.room == nil {
		return nil, ""
	}
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if p := x.who; x.stopped || p.media != x || !p.up() || p.viewer {
		return nil, ""
	}
	for _, p := range x.room.seats {
		if p != x.who && p.up() && (to == "" || to == p.id) {
			all = append(all, p.media)
		}
	}
	return all, x.who.id
}

// pace waits until so many bytes more may go to the participant; it reports false where its
// connection ends before, or who sends has had enough.
func (x *Session) pace(size int, enough <-chan struct{}) bool {
	rate := max(int(x.rate.Load())/dataShare, leastData)
	now := time.Now()
	x.pacing.Lock()
	at := x.free
	if at.Before(now) {
		at = now
	}
	x.free = at.Add(time.Duration(size) * 8 * time.Second / time.Duration(rate))
	x.pacing.Unlock()
	if !at.After(now) {
		return true
	}
	select {
	case <-x.done:
		return false
	case <-enough:
		return false
	case <-time.After(at.Sub(now)):
		return true
	}
}

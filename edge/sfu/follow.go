package sfu

import (
	"slices"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	// lostAfter is when a silent connection counts as down. It is never given up: it
	// lives until its session closes, and goes on as soon as packets come again.
	lostAfter = 5 * time.Second
	keepalive = 2 * time.Second
	// unused is when a pair on which nothing comes is not the one that the participant uses.
	unused = 3 * time.Second
	// nominees are how many of its pairs are remembered.
	nominees = 8
)

// secured takes the keys when DTLS is up, and decides who carries the media. Like moved it is
// called while pion may hold any of its locks, and must ask it nothing.
func (t *pionTransport) secured() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.decided || t.closed {
		return
	}
	t.decided = true
	keys, err := t.handshake.Keys()
	if err == nil {
		t.peer, err = t.mux.lane.Peer(keys, t)
	}
	for _, o := range t.outlets {
		t.begin(o)
	}
	t.follow()
}

// begin gives an outlet to who carries the media.
func (t *pionTransport) begin(o *pionOutlet) {
	if t.peer != nil {
		o.peer.Store(t.peer)
	} else if !t.closed {
		o.plain.Store(true)
		t.readers.Go(func() { t.readControl(o.ssrc, o.read) })
	}
}

// moved is told where the participant is.
func (t *pionTransport) moved(pair *webrtc.ICECandidatePair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.mux.locate(pair.Remote.Address, pair.Remote.Port, pair.Remote.Protocol == webrtc.ICEProtocolTCP); ok {
		t.at = at
		t.nominate(at, time.Now())
		t.follow()
	}
}

// nominate takes that the participant has nominated its pair at that place.
func (t *pionTransport) nominate(at location, now time.Time) {
	t.checked = now
	t.nominated = slices.DeleteFunc(t.nominated, func(l location) bool { return l == at })
	if len(t.nominated) == nominees {
		t.nominated = t.nominated[1:]
	}
	t.nominated = append(t.nominated, at)
}

// back tells, of a check that came from a place, whether the participant has gone back there. Firefox
// nominates pairs one after the other as they answer, and goes on with the best of them (RFC 5245
// section 8.1.1.2); pion, as a lite agent, with the last, where then nothing ever comes. It is called under pion's
// locks.
func (t *pionTransport) back(from location, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from == t.at {
		t.checked = now
		return false
	}
	heard := t.peer != nil && now.Sub(t.peer.Heard()) < unused
	return !heard && now.Sub(t.checked) >= unused && slices.Contains(t.nominated, from)
}

// follow has the lane send where the participant is, once both are known. On a goroutine of its
// own, for it asks pion, and hears the participant's first packets.
func (t *pionTransport) follow() {
	if t.decided && !t.closed {
		t.readers.Go(t.tell)
	}
}

// tell has the lane follow the participant, and says whether media pass. It is called on a new
// goroutine each time: only what is now can be told.
func (t *pionTransport) tell() {
	t.telling.Lock()
	defer t.telling.Unlock()
	t.mu.Lock()
	decided, peer, at := t.decided, t.peer, t.at
	t.mu.Unlock()
	if peer != nil && at != t.placed {
		t.placed = at
		peer.Move(at.conn, at.at)
	}
	state := t.pc.ConnectionState()
	up := state == webrtc.PeerConnectionStateConnected
	// Of what comes pion sees the checks alone, and a path that loses some media loses two of
	// those on end: nobody is gone whose packets come.
	if peer != nil && state == webrtc.PeerConnectionStateDisconnected {
		up = time.Since(peer.Heard()) < lostAfter
		if !t.doubting {
			t.doubting = true
			t.spawn(t.doubt)
		}
	}
	t.handler.connected(up && decided && (peer == nil || t.placed != location{}))
}

// doubt looks again at a participant of whom pion hears nothing.
func (t *pionTransport) doubt() {
	select {
	case <-time.After(lostAfter):
		t.telling.Lock()
		t.doubting = false
		t.telling.Unlock()
		t.tell()
	case <-t.gone:
	}
}

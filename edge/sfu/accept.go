package sfu

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	pion "github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
)

// ErrNotLive is returned by Join of an accepted offer whose participant is not in the room.
var ErrNotLive = errors.New("whom to play is not in the room")

// Accepted is a client's offer that is answered, before it has a seat: one that publishes
// (WHIP), or one that plays (WHEP). Join or Close it.
type Accepted struct {
	sfu    *SFU
	x      *seatless
	media  *pionTransport
	answer string

	mu    sync.Mutex
	offer *offer // as it was last answered
}

// seatless is a session that is connecting before it has a seat: without one it hears nothing.
type seatless struct {
	*Session
	seated atomic.Bool
}

func (s *seatless) connected(up bool) {
	if s.seated.Load() {
		s.Session.connected(up)
	}
}

// Accept answers an offer. Its errors wrap ErrUnusable where the offer is at fault.
func (s *SFU) Accept(text string, plays bool) (*Accepted, error) {
	o, err := readOffer(text, plays)
	if err != nil {
		return nil, err
	}
	x := &seatless{Session: &Session{sfu: s, id: rand.Text(), done: make(chan struct{}), closed: make(chan struct{}), dirty: make(chan struct{}, 1), probing: make(chan struct{}, 1)}}
	x.pub = newPublisher(x.kick, &s.count)
	t, err := s.accept(x, x.pub.ssrc, o.passive)
	if err != nil {
		return nil, fmt.Errorf("media connection: %w", err)
	}
	x.media, x.pub.media = t, t
	x.neg = negotiator{media: t, count: &s.count}
	x.talk = &watcher{}
	a := &Accepted{sfu: s, x: x, media: t, offer: o}
	if a.answer, err = t.Accept(o, plays); err != nil {
		t.Close()
		return nil, err
	}
	for _, out := range t.outlets {
		l := &line{kind: out.kind}
		l.init(out, &s.count)
		x.neg.lines = append(x.neg.lines, l)
	}
	return a, nil
}

// Answer is the SDP that answers the offer.
func (a *Accepted) Answer() string { return a.answer }

// Close ends a connection that got no seat.
func (a *Accepted) Close() { a.media.Close() }

// Join seats the connection, as [SFU.Join] does. A viewer plays the participant of: empty, the
// only other one. ErrNotLive: there is none such. After an error it is still to be closed.
func (a *Accepted) Join(roomID string, seat Seat, of string, sink Sink) (*Session, error) {
	x := a.x.Session
	x.sink = sink
	w := &watcher{of: of}
	x.talk = w
	if seat.Viewer && of == "" {
		if w.of = a.sfu.onlyOther(roomID, seat.Participant); w.of == "" {
			return nil, ErrNotLive
		}
	} else if seat.Viewer && !a.sfu.seated(roomID, of) {
		return nil, ErrNotLive
	}
	if err := a.sfu.seat(roomID, seat, "", x); err != nil {
		return nil, err
	}
	a.x.seated.Store(true)
	if !seat.Viewer {
		x.State(signal.State{Mic: slices.Contains(a.offer.kinds, Audio), Camera: slices.Contains(a.offer.kinds, Video)})
	}
	return x, nil
}

// Restart answers a client's new ICE credentials with the edge's, as an SDP fragment.
func (a *Accepted) Restart(ufrag, pwd string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offer.restarted(ufrag, pwd)
	answer, err := a.media.reply(a.offer)
	if err != nil {
		return "", err
	}
	return fragment(answer)
}

// onlyOther is the one whom a viewer can mean who names nobody.
func (s *SFU) onlyOther(roomID, but string) (only string) {
	for _, id := range s.publishers(roomID) {
		if id == but {
			continue
		}
		if only != "" {
			return ""
		}
		only = id
	}
	return only
}

func (s *SFU) seated(roomID, id string) bool { return slices.Contains(s.publishers(roomID), id) }

// publishers are the participants of a room who may be heard.
func (s *SFU) publishers(roomID string) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[roomID]
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.seats {
		if !p.viewer {
			all = append(all, p.id)
		}
	}
	return all
}

// negotiation is how a session comes to its m-lines.
type negotiation interface {
	// offer is called when something may have changed.
	offer(x *Session) error
	answer(x *Session, a signal.Answer) error
}

// watcher is the negotiation of an offer that was accepted: its m-lines are what they are, and
// carry the participant of, whoever's connection that is now.
type watcher struct{ of string }

func (w *watcher) offer(x *Session) error {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	var of *participant
	for _, p := range x.room.seats {
		if p.id == w.of && !p.viewer {
			of = p
		}
	}
	changed := false
	for _, l := range x.neg.lines {
		changed = changed || l.who != of
		l.who, l.ready, l.on = of, of != nil, l.on && of != nil
	}
	if changed && !x.stopped {
		x.room.refreshLocked()
	}
	return nil
}

func (w *watcher) answer(*Session, signal.Answer) error {
	return errors.New("nothing was offered")
}

// Lost tells whether media passed and do no more, for the time being.
func (x *Session) Lost() bool {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	return x.came && !x.up
}

// Up tells whether media can pass.
func (x *Session) Up() bool {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	return x.up
}

// accept makes a connection that answers. We are DTLS server, whose keys the lane can have,
// unless the client insists.
func (m *mux) accept(h handler, ssrc uint32, passive bool) (*pionTransport, error) {
	settings := m.settings
	if !passive {
		settings.SetAnsweringDTLSRole(webrtc.DTLSRoleServer)
	}
	t, err := m.open(h, ssrc, settings, false)
	if err != nil {
		return nil, err
	}
	for i := range t.channels { // nobody opens them
		t.channels[i] = &channel{}
	}
	return t, nil
}

// Accept answers an offer; t.outlets are then the m-lines of one that plays.
func (t *pionTransport) Accept(o *offer, plays bool) (string, error) {
	t.names = o.layers
	t.layered.Store(len(o.layers) > 0)
	for _, k := range o.kinds {
		if !plays {
			break
		}
		out := &pionOutlet{kind: k, stream: "edge", path: t.path}
		tr, err := t.pc.AddTransceiverFromTrack(out, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return "", err
		}
		encoding := tr.Sender().GetParameters().Encodings[0]
		out.ssrc, out.repair, out.read = uint32(encoding.SSRC), uint32(encoding.RTX.SSRC), tr.Sender().Read
		t.outlets = append(t.outlets, out)
	}
	answer, err := t.reply(o)
	if err != nil {
		return "", err
	}
	if t.numbers, err = readNumbers(answer); err != nil {
		return "", err
	}
	for _, out := range t.outlets {
		out.numbers = t.numbers
	}
	return answer, nil
}

// reply answers an offer, the first one or one with other ICE credentials.
func (t *pionTransport) reply(o *offer) (string, error) {
	text, err := o.text()
	if err != nil {
		return "", err
	}
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: text}); err != nil {
		return "", unusable("sdp: %w", err)
	}
	answer, err := t.pc.CreateAnswer(nil)
	if err != nil {
		return "", unusable("sdp: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(t.pc)
	if err := t.pc.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered // asks nobody: the mux's sockets are the only candidates
	d := t.pc.LocalDescription()
	if d == nil {
		return "", webrtc.ErrConnectionClosed
	}
	return oneCandidate(d.SDP), nil
}

// theirs makes of a header with our numbers one with the client's, in scratch of the outlet's;
// nil where the client does not take what is in the packet.
func (o *pionOutlet) theirs(h *pion.Header) *pion.Header {
	n := &o.numbers.out
	to := n.Types[h.PayloadType]
	if to == 0 {
		return nil
	}
	list := o.header.Extensions[:0]
	o.header = *h
	o.header.PayloadType, o.header.Extension, o.header.ExtensionProfile, o.header.Extensions = to, false, 0, list
	for i := range extensions {
		if id := n.Extensions[extensions[i].id]; id != 0 {
			if payload := h.GetExtension(extensions[i].id); payload != nil {
				o.header.SetExtension(id, payload)
			}
		}
	}
	return &o.header
}

// Package sfu forwards media between the two to six participants of a consult.
//
// It knows rooms, participants and tracks. It does not know tokens, placements or
// the law, and it opens no socket but its mux's, UDP and TCP: whoever calls Join has
// judged that this participant may be here. Media is decrypted hop by hop and never
// decoded; what the participants encrypt end to end stays so, and is all that passes there. Their
// data are handed on as they are.
//
// A [Session] is who is there and over what; its publisher is what it sends, and its
// negotiator what it receives. A room's mutex guards who is in it and how they are;
// refreshLocked derives from that who hears whom, and allocateLocked which layers of video. Each
// session is one goroutine that negotiates and reports. The packet path takes neither: a lane's
// worker walks an immutable list of lines, each with a short mutex of its own. Lock order: SFU.mu,
// negotiator.mu, room.mu, line.mu, track.mu; none is held while a transport is negotiating, except
// the negotiator's, which is there for that.
//
// The connection itself is behind [transport]; pion.go is the only implementation, with what it
// offers in codecs.go and mlines.go, and carries media by the lane (follow.go, incoming.go) or, where
// that cannot be, by pion (plain.go). RTCP is written here and
// nowhere else.
package sfu

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/signal"
)

var (
	// ErrRoomFull is returned by Join when every seat of the room is taken.
	ErrRoomFull = errors.New("room is full")
	// ErrClosed is returned by Join after Close.
	ErrClosed = errors.New("sfu is closed")
	// ErrBadAnswer is wrapped by Answer's errors: the client broke the protocol.
	ErrBadAnswer = errors.New("bad answer")
)

// Config is what an SFU needs.
type Config struct {
	// Sockets are the mux's, at most one an address family.
	Sockets []Socket
	// MaxParticipants of a room; 0 means 6.
	MaxParticipants int
	Log             *slog.Logger
}

// Socket is where media come in, in one address family, by UDP and by TCP.
type Socket struct {
	// Bound is one interface's address, never unspecified: a datagram must leave from the
	// address that it was sent to. Port 0 picks one.
	Bound netip.AddrPort
	// Public is what offers say instead of Bound's address, where a 1:1 NAT is between;
	// the zero value is that address.
	Public netip.Addr
}

// Offered is where participants send media to reach the socket.
func (s Socket) Offered() netip.AddrPort { return netip.AddrPortFrom(s.Public, s.Bound.Port()) }

// SFU is safe for concurrent use.
type SFU struct {
	cfg     Config
	log     *slog.Logger
	connect func(h handler, ssrc uint32, sealed bool) (transport, error)
	accept  func(h handler, ssrc uint32, passive bool) (*pionTransport, error)
	lane    *lane.Lane
	unmux   func() error
	count   counters

	mu       sync.Mutex
	rooms    map[string]*room
	closed   bool
	sessions sync.WaitGroup
}

type counters struct {
	packetsIn, bytesIn, packetsOut, bytesOut  atomic.Uint64
	malformed, duplicates, excess             atomic.Uint64
	nacksIn, nacksOut, resent, keyframesAsked atomic.Uint64
	padded                                    atomic.Uint64
	reportsOut, offers, connected, badAnswers atomic.Uint64
	messages, messagesLost                    atomic.Uint64
	inClear                                   atomic.Uint64
}

// Stats are counters since Listen. Bytes are RTP payloads.
type Stats struct {
	PacketsIn, BytesIn, PacketsOut, BytesOut uint64
	Malformed, Duplicates                    uint64 // packets in that were dropped
	Excess                                   uint64 // packets in that were more than a voice has, dropped
	NACKsIn, NACKsOut                        uint64 // sequence numbers asked for by subscribers, of publishers
	Retransmitted                            uint64 // packets out in answer to NACKs, within PacketsOut
	Padding                                  uint64 // packets out to see what a path carries, within PacketsOut
	KeyframeRequests                         uint64 // PLIs to publishers
	ReportsOut                               uint64 // compound RTCP packets with reports
	Offers, BadAnswers                       uint64
	Messages, MessagesLost                   uint64 // out on data channels, and not got out
	InClear                                  uint64 // packets that were not encrypted where all is to be, and went no further
	Connected                                uint64 // times a transport came up
	Unauthentic                              uint64 // packets from a participant's address that failed SRTP's check, or were replayed
	Sent                                     uint64 // bytes on the wire, RTCP and handshakes too
	Streams                                  int    // TCP connections open now
	StreamsRefused                           uint64 // and closed at once, for their source has its share
	Blocked                                  uint64 // packets that pion was kept from sending under keys of ours; not 0 is a fault of this program
}

// Seat is one place in a room.
type Seat struct {
	Participant string
	Role        string
	// Parked: the transport comes up, nothing is sent or heard until Unpark.
	Parked bool
	// Viewer: it hears and is not heard, and costs the others no m-lines.
	Viewer bool
	// Layers: its client takes signal.Layers.
	Layers bool
	// Sealed: what it sends must be encrypted end to end, under the KIDs that its client's State
	// names. InClear is called at the first packet that is not; it must not block.
	Sealed  bool
	InClear func()
}

// Sink takes the messages for one client in order: signal.Offer, signal.Peers,
// signal.Layers, signal.Voice, signal.Screen, signal.Speaker, signal.Quality, signal.Ended. It is called under locks: it must not block or call
// the SFU.
type Sink func(msg any)

// Listen opens the mux.
func Listen(cfg Config) (*SFU, error) {
	if cfg.MaxParticipants == 0 {
		cfg.MaxParticipants = 6
	}
	m, err := newMux(cfg.Sockets)
	if err != nil {
		return nil, err
	}
	cfg.Sockets = m.sockets
	return &SFU{cfg: cfg, log: cfg.Log, connect: m.connect, accept: m.accept, lane: m.lane, unmux: m.Close, rooms: map[string]*room{}}, nil
}

// Sockets are the mux's as they are bound and offered: the candidates of every offer.
func (s *SFU) Sockets() []Socket { return s.cfg.Sockets }

// Join seats a participant and starts to negotiate; sink gets the first offer soon
// after. Where the seat is held, session decides: the holder's own ID resumes
// silently, and the earlier connection carries media until the new one is up;
// anything else takes over at once and the holder is told "replaced". The caller
// closes every Session, also after Ended.
func (s *SFU) Join(roomID string, seat Seat, session string, sink Sink) (*Session, error) {
	x := &Session{sfu: s, id: rand.Text(), sink: sink, asks: every,
		done: make(chan struct{}), closed: make(chan struct{}), dirty: make(chan struct{}, 1), probing: make(chan struct{}, 1)}
	x.pub = newPublisher(x.kick, &s.count)
	if seat.Sealed {
		x.pub.seal(seat.InClear)
	}
	media, err := s.connect(x, x.pub.ssrc, seat.Sealed)
	if err != nil {
		return nil, fmt.Errorf("room %s: media connection: %w", roomID, err)
	}
	x.media, x.pub.media = media, media
	x.neg = negotiator{media: media, count: &s.count}
	x.talk = &x.neg
	if err := s.seat(roomID, seat, session, x); err != nil {
		media.Close()
		return nil, err
	}
	return x, nil
}

func (s *SFU) seat(roomID string, seat Seat, session string, x *Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	r := s.rooms[roomID]
	if r == nil {
		r = &room{id: roomID}
	}
	if err := r.join(seat, session, x, s.cfg.MaxParticipants); err != nil {
		return err
	}
	s.rooms[roomID] = r
	s.sessions.Go(x.run)
	return nil
}

// Holds tells whether the participant's seat is that session's: who gives it resumes.
func (s *SFU) Holds(roomID, participant, session string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[roomID]
	return r != nil && session != "" && r.holds(participant, session)
}

// leave frees the session's seat unless a newer session has it, and forgets a room
// that nobody is in.
func (s *SFU) leave(x *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := x.room; r.leave(x) && s.rooms[r.id] == r {
		delete(s.rooms, r.id)
	}
}

// End tells everybody in the room that it ended, and why, and closes their
// connections.
func (s *SFU) End(roomID string, why signal.Ended) {
	s.mu.Lock()
	r := s.rooms[roomID]
	delete(s.rooms, roomID)
	s.mu.Unlock()
	if r != nil {
		r.end(&why)
	}
}

// RoomStats is a snapshot of one room. Packets and Bytes are what it forwarded.
type RoomStats struct {
	ID             string
	Participants   int // seats taken, parked ones included
	Connected      int // with media, parked ones not
	Audio, Video   int // tracks published
	Packets, Bytes uint64
}

// Rooms lists the rooms, ordered by ID.
func (s *SFU) Rooms() []RoomStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]RoomStats, 0, len(s.rooms))
	for _, r := range s.rooms {
		list = append(list, r.snapshot())
	}
	slices.SortFunc(list, func(a, b RoomStats) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Stats reads the counters.
func (s *SFU) Stats() Stats {
	c := &s.count
	st := Stats{
		PacketsIn: c.packetsIn.Load(), BytesIn: c.bytesIn.Load(), PacketsOut: c.packetsOut.Load(), BytesOut: c.bytesOut.Load(),
		Malformed: c.malformed.Load(), Duplicates: c.duplicates.Load(), Excess: c.excess.Load(), NACKsIn: c.nacksIn.Load(), NACKsOut: c.nacksOut.Load(),
		Retransmitted: c.resent.Load(), Padding: c.padded.Load(), KeyframeRequests: c.keyframesAsked.Load(), ReportsOut: c.reportsOut.Load(),
		Offers: c.offers.Load(), BadAnswers: c.badAnswers.Load(), Connected: c.connected.Load(),
		Messages: c.messages.Load(), MessagesLost: c.messagesLost.Load(), InClear: c.inClear.Load(),
	}
	if s.lane != nil {
		st.Unauthentic, st.Blocked, st.Sent = s.lane.Failed(), s.lane.Blocked(), s.lane.Sent()
		st.Streams, st.StreamsRefused = s.lane.Streams()
	}
	return st
}

// lend gives a batch to who writes and is no worker.
func (s *SFU) lend(do func(*lane.Batch)) {
	if s.lane == nil { // a test's
		do(nil)
		return
	}
	s.lane.Lend(do)
}

// Close closes every connection without a word, waits for them, and closes the mux.
func (s *SFU) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, r := range s.rooms {
		r.end(nil)
	}
	clear(s.rooms)
	s.mu.Unlock()
	s.sessions.Wait()
	return s.unmux()
}

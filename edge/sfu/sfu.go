// Package sfu forwards media between the two to six participants of a consult.
//
// It knows rooms, seats and tracks; it does not know tokens, placements, law or
// sockets other than its own UDP mux. One process-wide mux carries every
// participant. Media is forwarded as it came, never decoded. The connection to a
// participant sits behind [transport], so that another media path can take its
// place; pion.go is the first.
//
// A room's mutex guards its seats and negotiation. The packet path takes no room
// lock and no task hop: a track's reader walks an immutable list of subscribers.
package sfu

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

var (
	// ErrRoomFull is returned by Join when every seat of the room is taken.
	ErrRoomFull = errors.New("room is full")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("sfu is closed")
)

// Config is what an SFU needs.
type Config struct {
	Addr            netip.AddrPort // UDP; port 0 picks one
	MaxParticipants int            // of a room; 0 means 6
	Log             *slog.Logger
}

// SFU is safe for concurrent use.
type SFU struct {
	cfg     Config
	engine  *engine
	addr    netip.AddrPort
	stats   counters
	closing sync.WaitGroup // connections that close outside any lock

	mu     sync.Mutex
	rooms  map[string]*room
	closed bool
}

type counters struct {
	packetsIn, packetsOut, bytesOut, nacks, retransmitted, keyframes atomic.Uint64
}

// Stats are monotonic counters.
type Stats struct {
	PacketsIn, PacketsOut, BytesOut uint64
	NACKs, Retransmitted            uint64 // received from subscribers; answered
	KeyframeRequests                uint64 // sent to publishers
}

// Listen opens the mux.
func Listen(cfg Config) (*SFU, error) {
	if cfg.MaxParticipants == 0 {
		cfg.MaxParticipants = 6
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(cfg.Addr))
	if err != nil {
		return nil, fmt.Errorf("media: %w", err)
	}
	e, err := newEngine(conn, cfg.Log)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("media: %w", err)
	}
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &SFU{cfg: cfg, engine: e, addr: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), rooms: map[string]*room{}}, nil
}

// Addr is the mux's address: the only one of this SFU that media touches.
func (s *SFU) Addr() netip.AddrPort { return s.addr }

// Stats reads the counters.
func (s *SFU) Stats() Stats {
	c := &s.stats
	return Stats{c.packetsIn.Load(), c.packetsOut.Load(), c.bytesOut.Load(), c.nacks.Load(), c.retransmitted.Load(), c.keyframes.Load()}
}

// Seat is one place in a room.
type Seat struct {
	Participant string
	Role        string
	Parked      bool // in the lobby: the transport comes up, nothing is sent or heard
}

// Sink takes the messages for one client: signal.Offer, signal.Peers, signal.Ended.
// It is called under the room's lock and must not block or call back.
type Sink func(msg any)

// Join seats a participant and starts to negotiate. The session names the holder
// of a seat: the same one resumes silently (its earlier connection closes when the
// new one is up), another one takes the seat over and the earlier is told so.
func (s *SFU) Join(roomID string, seat Seat, session string, sink Sink) (*Session, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	r := s.rooms[roomID]
	if r == nil {
		r = &room{id: roomID, sfu: s, seats: map[string]*participant{}}
		s.rooms[roomID] = r
	}
	// Taken before the SFU's lock is let go, so that the room cannot be dropped as
	// empty in between.
	r.mu.Lock()
	s.mu.Unlock()
	defer r.mu.Unlock()
	x, err := r.joinLocked(seat, session, sink)
	if err != nil {
		r.dropIfEmptyLocked()
	}
	return x, err
}

// Room is a snapshot: an ID and counts.
type Room struct {
	ID           string
	Participants int
	Connected    int
	Tracks       int // published
}

// Rooms lists the rooms, ordered by ID.
func (s *SFU) Rooms() []Room {
	s.mu.Lock()
	rooms := make([]*room, 0, len(s.rooms))
	for _, r := range s.rooms {
		rooms = append(rooms, r)
	}
	s.mu.Unlock()
	var list []Room
	for _, r := range rooms {
		r.mu.Lock()
		if len(r.seats) > 0 {
			list = append(list, r.snapshotLocked())
		}
		r.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Room) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// End tells everybody in the room why it ends and closes their connections.
func (s *SFU) End(roomID, reason string) {
	s.mu.Lock()
	r := s.rooms[roomID]
	s.mu.Unlock()
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(reason)
}

// Close closes every connection and the mux.
func (s *SFU) Close() error {
	s.mu.Lock()
	s.closed = true
	rooms := make([]*room, 0, len(s.rooms))
	for _, r := range s.rooms {
		rooms = append(rooms, r)
	}
	s.mu.Unlock()
	for _, r := range rooms {
		r.mu.Lock()
		r.closeLocked()
		r.mu.Unlock()
	}
	s.closing.Wait()
	return s.engine.Close()
}

// forget drops an empty room; the room's lock is not held.
func (s *SFU) forget(r *room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seats) == 0 && s.rooms[r.id] == r {
		delete(s.rooms, r.id)
	}
}

func newSessionID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

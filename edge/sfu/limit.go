package sfu

import (
	"bailiwick/edge/sfu/allot"
	"bailiwick/edge/sfu/ladder"
)

// ceilings are what each step leaves of downlink, in bit/s. At audio nothing is forwarded, and
// what a sender still sends is for nobody.
var ceilings = [ladder.Steps]int{ladder.Full: downlink, ladder.Spatial: downlink / 3, ladder.Temporal: downlink * 3 / 5,
	ladder.Both: downlink / 5, ladder.Audio: 30_000}

// Limit says what of its video a room is left with, until it is said again or the room is empty.
func (s *SFU) Limit(roomID string, step ladder.Step) {
	s.change(roomID, func(r *room) bool {
		changed := r.step != step
		r.step = step
		return changed
	})
}

// Profile says what a room's video is looked at for, until it is said again or the room is empty.
func (s *SFU) Profile(roomID string, profile allot.Profile) {
	s.change(roomID, func(r *room) bool {
		changed := r.profile != profile
		r.profile = profile
		return changed
	})
}

func (s *SFU) change(roomID string, change func(*room) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[roomID]
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if change(r) {
		r.refreshLocked()
	}
}

package sfu

import (
	"math"
	"slices"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/mos"
	"bailiwick/edge/signal"
)

// Network is how one participant's connection does, as far as the edge sees it.
type Network struct {
	Participant string
	RTT         time.Duration // to the participant and back; 0: not known
	Rate        int           // that is carried towards it, bit/s; 0: not known
	Down, Up    Way           // towards the participant, and from it
	// MOS is the opinion that people have of what is heard over this way alone, 1 to 4.5 by ITU-T
	// G.107: what the speaker's own way takes of it is not in it. 0: not known.
	MOS float64
	// Played is what the participant's own client last said of how it hears and sees the others.
	Played []signal.Played
}

// Way is what became of the voices one way, by the last report on them (RFC 3550 section 6.4.1).
type Way struct {
	Lost   float64 // share of packets, before anything is mended, 0 to 1
	Jitter time.Duration
}

// buffered is what a listener's player holds back at least, beside twice the jitter.
const buffered = 40 * time.Millisecond

func wayOf(r *rtcp.ReceptionReport) Way {
	return Way{float64(r.FractionLost) / 256, time.Duration(r.Jitter) * time.Second / time.Duration(clockRate[Audio])}
}

// Networks lists those of a room's participants who have media, in the order of their joining.
func (s *SFU) Networks(roomID string) (all []Network) {
	s.mu.Lock()
	r := s.rooms[roomID]
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.seats {
		if p.media.up {
			all = append(all, p.media.networkLocked())
		}
	}
	return slices.Clip(all)
}

func (x *Session) networkLocked() Network {
	n := Network{Participant: x.who.id, RTT: time.Duration(x.pub.rtt.Load()), Rate: int(x.rate.Load()), Down: x.hears, Up: x.heard,
		Played: x.who.played}
	if n.RTT > 0 {
		left := math.Pow(x.hears.Lost, float64(1+x.depth)) // of what goes more than once
		n.MOS = mos.Estimate(n.RTT/2+buffered+2*n.Down.Jitter, left)
	}
	return n
}

// Played takes what the client says of how it hears and sees the others, and gives what of it is
// of others in the room, each once.
func (x *Session) Played(said []signal.Played) (taken []signal.Played) {
	x.seated(func(p *participant) {
		for _, other := range x.room.seats {
			i := slices.IndexFunc(said, func(s signal.Played) bool { return s.Participant == other.id })
			if i >= 0 && other != p {
				taken = append(taken, said[i])
			}
		}
		p.played = taken
	})
	return taken
}

package rtp

import "time"

// Stats follows one received stream for its receiver reports (RFC 3550,
// appendices A.3 and A.8). It has one user at a time.
type Stats struct {
	ClockRate uint32 // Hz

	started      bool
	base, max    uint16
	cycles       uint32
	received     uint32
	expectedPrev uint32
	receivedPrev uint32
	transit      uint32
	jitter       float64 // clock units

	lastSR   uint32 // middle 32 bits of the NTP time
	srAt     time.Time
	haveAnSR bool
}

// Packet counts one arrival.
func (s *Stats) Packet(seq uint16, ts uint32, at time.Time) {
	arrival := uint32(uint64(at.UnixNano()) / 1000 * uint64(s.ClockRate) / 1_000_000)
	transit := arrival - ts
	if !s.started {
		s.started, s.base, s.max, s.transit = true, seq, seq, transit
	}
	s.received++
	if d := int16(seq - s.max); d > 0 {
		if seq < s.max {
			s.cycles += 1 << 16
		}
		s.max = seq
	}
	d := int32(transit - s.transit)
	s.transit = transit
	if d < 0 {
		d = -d
	}
	s.jitter += (float64(d) - s.jitter) / 16
}

// SenderReport remembers the newest one: its NTP time and when it came.
func (s *Stats) SenderReport(ntp uint64, at time.Time) {
	s.lastSR, s.srAt, s.haveAnSR = uint32(ntp>>16), at, true
}

// Report is a reception report block (RFC 3550, section 6.4.1).
type Report struct {
	FractionLost     uint8  // of 256, since the last report
	TotalLost        uint32 // 24 bits
	HighestSeq       uint32 // extended
	Jitter           uint32 // clock units
	LastSenderReport uint32
	Delay            uint32 // since it, in 1/65536 s
}

// Report makes the next report; ok is false before the first packet.
func (s *Stats) Report(now time.Time) (r Report, ok bool) {
	if !s.started {
		return r, false
	}
	r.HighestSeq = s.cycles + uint32(s.max)
	expected := r.HighestSeq - uint32(s.base) + 1
	if expected > s.received {
		r.TotalLost = min(expected-s.received, 1<<23-1)
	}
	want, got := expected-s.expectedPrev, s.received-s.receivedPrev
	s.expectedPrev, s.receivedPrev = expected, s.received
	if want > got && want > 0 {
		r.FractionLost = uint8(min((want-got)<<8/want, 255))
	}
	r.Jitter = uint32(s.jitter)
	if s.haveAnSR {
		r.LastSenderReport = s.lastSR
		r.Delay = uint32(now.Sub(s.srAt).Seconds() * 65536)
	}
	return r, true
}

package sfu

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/bwe"
)

const (
	// An estimate begins with what carries audio and a small video, and stays between what
	// audio needs and what no consult sends, in bit/s.
	startRate = 300_000
	leastRate = 30_000
	mostRate  = 10_000_000
	// overhead is what a packet has beside RTP, in bytes: IPv4, UDP, and SRTP's tag.
	overhead = 20 + 8 + 16
	// feedbackEvery is how often a sender is told what arrived. Browsers' estimators are
	// made for 50 to 250 ms.
	feedbackEvery = 100 * time.Millisecond
)

// path is what one connection carries, both ways: it numbers all that goes out, takes what
// the participant says of that, and says the same of what comes in
// (draft-holmer-rmcat-transport-wide-cc-extensions-01). It is safe for concurrent use.
type path struct {
	ssrc uint32 // of its feedback

	out  sync.Mutex
	seq  uint16
	rate *bwe.Estimator

	in       sync.Mutex
	arrivals bwe.Arrivals
	told     time.Time
	reports  []*rtcp.TransportLayerCC // scratch
}

func newPath(ssrc uint32) *path {
	return &path{ssrc: ssrc, rate: bwe.NewEstimator(startRate, leastRate, mostRate)}
}

// number puts the next number into ext, for a packet of so many bytes of RTP.
func (p *path) number(ext *[2]byte, size int, at time.Time) {
	p.out.Lock()
	defer p.out.Unlock()
	binary.BigEndian.PutUint16(ext[:], p.seq)
	p.rate.Sent(p.seq, size+overhead, at)
	p.seq++
}

// isFeedback tells whether an RTCP packet is for feedback.
func isFeedback(packet []byte) bool { return packet[1] == 205 && packet[0]&0x1f == 15 }

// feedback is the participant's on what was sent. It returns what the connection carries now.
func (p *path) feedback(report []byte, at time.Time) carriage {
	p.out.Lock()
	defer p.out.Unlock()
	p.rate.Feedback(report, at)
	return carriage{p.rate.Target(), p.rate.Inherent(), p.rate.Queue(), p.rate.Trip()}
}

// padding is bwe.Estimator's.
func (p *path) padding(want int, now time.Time) int {
	p.out.Lock()
	defer p.out.Unlock()
	return p.rate.Padding(want, now)
}

// arrived takes one number that came, with a packet of the stream ssrc, and returns what the
// sender is to be told now, if it is time.
func (p *path) arrived(ext []byte, ssrc uint32, at time.Time) []rtcp.Packet {
	p.in.Lock()
	defer p.in.Unlock()
	p.arrivals.Arrived(binary.BigEndian.Uint16(ext), at)
	if at.Sub(p.told) < feedbackEvery {
		return nil
	}
	p.told = at
	p.reports = p.arrivals.Feedback(p.ssrc, ssrc, p.reports[:0])
	var all []rtcp.Packet
	for _, r := range p.reports { // which the next call makes anew
		if raw, err := r.Marshal(); err == nil {
			all = append(all, (*rtcp.RawPacket)(&raw))
		}
	}
	return all
}

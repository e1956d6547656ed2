package sfu

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	house "bailiwick/edge/sfu/rtp"
)

const (
	// keyframeEvery bounds keyframe requests: a keyframe is ten frames' worth of bits.
	keyframeEvery = 500 * time.Millisecond
	// reportEvery is also a sign of life: pages take 1.5 s without a byte for a lost
	// connection, and somebody alone in a room gets nothing else.
	reportEvery = 500 * time.Millisecond
)

// published is one track of one participant, forwarded to its subscribers. RTP
// runs on the transport's reader alone.
type published struct {
	session *Session
	kind    Kind
	ssrc    uint32
	codec   string
	frame   uint32 // timestamp units of one frame
	ring    *house.Ring
	subs    atomic.Pointer[[]*subscription] // replaced whole, under the room's lock

	mu       sync.Mutex // sender reports come from another goroutine than packets
	stats    house.Stats
	missing  house.Missing
	due      []uint16
	reported time.Time

	keyframe atomic.Int64 // when one was asked for last, in Unix nanoseconds
}

// subscription is one participant's m-line while it carries one other's track.
type subscription struct {
	out     out
	session *Session
	mu      sync.Mutex // NACKs come from another goroutine than packets
	from    *published
	rewrite house.Rewriter
	header  rtp.Header // scratch
	sent    uint32
	octets  uint32
}

func (p *published) RTP(h *rtp.Header, packet, payload []byte, at time.Time) {
	c := &p.session.room.sfu.stats
	c.packetsIn.Add(1)
	if len(payload) == 0 {
		return // padding to probe bandwidth: nobody needs it
	}
	p.account(h, packet, at)
	if subs := p.subs.Load(); subs != nil {
		for _, s := range *subs {
			s.forward(p, h, payload, c)
		}
	}
}

// account keeps the publisher's statistics and sends it what it should know.
func (p *published) account(h *rtp.Header, packet []byte, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Packet(h.SequenceNumber, h.Timestamp, at)
	if p.kind == Video {
		p.ring.Put(h.SequenceNumber, packet)
		if p.missing.Packet(h.SequenceNumber, at) {
			p.askKeyframe(at)
		}
		if p.due = p.missing.Due(at, p.due[:0]); len(p.due) > 0 {
			p.session.transport.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: p.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(p.due)}})
		}
	}
	if at.Sub(p.reported) >= reportEvery {
		p.reported = at
		p.report(at)
	}
}

// report sends the publisher its receiver report.
func (p *published) report(at time.Time) {
	r, ok := p.stats.Report(at)
	if !ok {
		return
	}
	p.session.transport.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: p.ssrc,
		FractionLost: r.FractionLost, TotalLost: r.TotalLost, LastSequenceNumber: r.HighestSeq, Jitter: r.Jitter,
		LastSenderReport: r.LastSenderReport, Delay: r.Delay}}}})
}

// forward sends one packet on; header extensions are hop by hop and stay behind.
func (s *subscription) forward(p *published, h *rtp.Header, payload []byte, c *counters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from != p {
		return // it was given another track while this packet was on its way
	}
	s.header = rtp.Header{Version: 2, Marker: h.Marker}
	s.header.SequenceNumber, s.header.Timestamp = s.rewrite.Rewrite(p.ssrc, h.SequenceNumber, h.Timestamp, p.frame)
	if s.out.Write(p.codec, &s.header, payload) == nil {
		s.sent++
		s.octets += uint32(len(payload))
		c.packetsOut.Add(1)
		c.bytesOut.Add(uint64(len(payload)))
	}
}

// SenderReport relays the publisher's clock to each subscriber in that
// subscriber's timestamps, so that lips stay with voices.
func (p *published) SenderReport(sr *rtcp.SenderReport, at time.Time) {
	p.mu.Lock()
	p.stats.SenderReport(sr.NTPTime, at)
	p.mu.Unlock()
	subs := p.subs.Load()
	if subs == nil {
		return
	}
	for _, s := range *subs {
		s.mu.Lock()
		ssrc := s.out.SSRC()
		report := &rtcp.SenderReport{SSRC: ssrc, NTPTime: sr.NTPTime, RTPTime: s.rewrite.Timestamp(sr.RTPTime), PacketCount: s.sent, OctetCount: s.octets}
		ok := s.from == p && ssrc != 0 && s.sent > 0
		s.mu.Unlock()
		if ok {
			s.session.transport.WriteRTCP([]rtcp.Packet{report})
		}
	}
}

// Ended: the connection it came on has closed.
func (p *published) Ended() {
	p.session.room.mu.Lock()
	defer p.session.room.mu.Unlock()
	p.session.room.unpublishLocked(p)
}

// askKeyframe asks the publisher for one, not more often than is useful.
func (p *published) askKeyframe(at time.Time) {
	last := p.keyframe.Load()
	if at.UnixNano()-last < int64(keyframeEvery) || !p.keyframe.CompareAndSwap(last, at.UnixNano()) {
		return
	}
	p.session.room.sfu.stats.keyframes.Add(1)
	p.session.transport.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: p.ssrc}})
}

// feedback answers what a subscriber says of one m-line.
func (s *subscription) feedback(packets []rtcp.Packet) {
	s.mu.Lock()
	p := s.from
	s.mu.Unlock()
	if p == nil || p.kind != Video {
		return
	}
	for _, packet := range packets {
		switch m := packet.(type) {
		case *rtcp.TransportLayerNack:
			for _, pair := range m.Nacks {
				pair.Range(func(seq uint16) bool { s.resend(p, seq); return true })
			}
		case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
			p.askKeyframe(time.Now())
		}
	}
}

// resend answers one NACK from the publisher's ring, or asks the publisher for a
// keyframe when the packet is gone.
func (s *subscription) resend(p *published, seq uint16) {
	c := &p.session.room.sfu.stats
	c.nacks.Add(1)
	var buf [house.MaxPacket]byte
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from != p {
		return
	}
	n := p.ring.Get(s.rewrite.Source(seq), buf[:])
	var h rtp.Header
	size, err := h.Unmarshal(buf[:n])
	if err != nil {
		return
	}
	out := rtp.Header{Version: 2, Marker: h.Marker, SequenceNumber: seq, Timestamp: s.rewrite.Timestamp(h.Timestamp)}
	if s.out.Write(p.codec, &out, buf[size:n]) == nil {
		c.retransmitted.Add(1)
	}
}

package sfu

import (
	"sync"
	"sync/atomic"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/red"
	"bailiwick/edge/sfu/rtp"
)

// kept are the numbers that a line remembers, in packets: of video, which is sent again from a
// Ring, as many as that keeps; of audio, which never is, as much as a packet may be late.
var kept = [...]int{Audio: 64, Video: rtp.RingPackets, Screen: rtp.RingPackets}

// line is one m-line towards a subscriber: one participant's audio, video or screen. With
// nobody it is idle, waiting to be used again.
type line struct {
	kind Kind
	who  *participant // whom it carries

	// Guarded by room.mu.
	ready   bool      // answered
	on      bool      // it is to carry something
	fresh   bool      // and has just begun to
	at      place     // up to which layer of a video
	thin    bool      // a voice that is too much for the connection
	over    time.Time // since when it carries a layer larger than the one that it is to
	share   int       // what that may take where it has no layers, in bit/s; 0: this line has no say
	quality           // what it shows

	out   outlet
	count *counters
	src   atomic.Pointer[track]

	mu         sync.Mutex // the publisher's reader against NACKs, probes and reports
	rewrite    rtp.Rewriter
	layers     layer.Switch // video only
	header     pion.Header  // scratch
	codec      uint8        // payload type of the newest
	level      [1]byte      // its audio level extension
	captured   [16]byte     // and its capture time
	dependency [255]byte    // and its dependency descriptor
	past       *red.History // audio only
	depth      int          // of what goes once more with each packet
	resent     int          // since the last report
	repairs    uint16       // number of the next repair packet
	buf        []byte       // scratch of what is had from a ring
	found      layer.Packet // the same
	parsed     rtp.Packet
	again      []byte // and of a repair packet's payload
	reportID   uint32 // of the last sender report, as reception reports name it
	reported   time.Time
}

func (l *line) init(out outlet, count *counters) {
	l.out, l.count = out, count
	l.rewrite = rtp.NewRewriter(out.SSRC(), clockRate[l.kind], uint16(random32()), kept[l.kind])
	l.layers = layer.NewSwitch(&l.rewrite)
	l.codec = ptVP8
	l.repairs = uint16(random32()) & 0x7fff // as the Rewriter's first number
	if l.kind == Audio {
		l.past = new(red.History)
	}
}

// begin starts or resumes the line with a track; the caller holds room.mu. Video that follows a pause is held back until a
// keyframe begins: nothing before it can be decoded.
func (l *line) begin(t *track) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.src.Swap(t)
	switch {
	case l.kind != Audio:
		l.layers.Forget()
		l.at, l.fresh = place{0, temporals - 1}, true
		l.layers.Want(l.at.spatial, l.at.temporal)
	case was == t:
		l.rewrite.Hold()
	default:
		l.rewrite.Forget()
	}
}

// hear sends one packet of audio on.
func (l *line) hear(b *lane.Batch, p *rtp.Packet, at time.Time) (sent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if level := p.Extension(extAudioLevel); len(level) == 1 {
		l.level[0] = level[0]
		l.header.SetExtension(extAudioLevel, l.level[:])
	} else {
		l.header.DelExtension(extAudioLevel)
	}
	l.carryCaptured(p)
	return l.rewrite.Forward(p, rtp.Origin{}, at, &l.header) && l.out.WriteRTP(b, &l.header, l.double(p.Payload), at) == nil
}

// show decides on one packet of video, and sends it and what became due by it. lacks is the
// layer of which a keyframe is needed; -1 is none.
func (l *line) show(b *lane.Batch, p *layer.Packet, at time.Time) (packets, bytes uint64, lacks int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.src.Load()
	if t == nil {
		return 0, 0, -1
	}
	count := func(n int, sent bool) {
		if sent {
			packets, bytes = packets+1, bytes+uint64(n)
		}
	}
	count(l.send(b, t, p, at))
	for of, n, due := l.layers.Due(); due; of, n, due = l.layers.Due() {
		if l.find(t, of, n) {
			count(l.send(b, t, &l.found, at))
		}
	}
	of, ok := l.layers.Needs()
	if !ok {
		of = -1
	}
	return packets, bytes, of
}

// send has the layers' switch decide on one packet; n are the bytes of payload that it sends.
func (l *line) send(b *lane.Batch, t *track, p *layer.Packet, at time.Time) (n int, sent bool) {
	o, ok := l.layers.Packet(p, &t.clocks, at, &l.header)
	if !ok {
		return 0, false
	}
	l.codec = p.RTP.PayloadType
	l.carryDependency(t, p.RTP, o)
	l.carryCaptured(p.RTP)
	payload := p.Write(p.RTP.Payload, o)
	return len(payload), l.out.WriteRTP(b, &l.header, payload, at) == nil
}

// find takes the packet that is n in a layer's ring into l.found.
func (l *line) find(t *track, of int, n uint32) (ok bool) {
	if l.buf, ok = t.copyOf(of, n, l.buf[:0]); !ok {
		return false
	}
	var err error
	if l.parsed, err = rtp.Parse(l.buf); err != nil {
		return false
	}
	l.found = layer.Packet{Layer: of, RTP: &l.parsed, Descriptor: t.describe(&l.parsed, of, false), N: n}
	return true
}

// carryCaptured has the header say what the packet does of its capture time.
func (l *line) carryCaptured(p *rtp.Packet) {
	if when := p.Extension(extCaptureTime); len(when) == 8 || len(when) == 16 {
		l.header.SetExtension(extCaptureTime, l.captured[:copy(l.captured[:], when)])
	} else {
		l.header.DelExtension(extCaptureTime)
	}
}

package sfu

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

// maxResend bounds what one line sends again in a second, in packets: a client that
// asks for everything gets no more than it could have lost.
const maxResend = 500

// kept are the numbers that a line remembers, in packets: four seconds of video at 2.5 Mbit/s,
// and of audio, which is never sent again, as much as a packet may be late.
var kept = [...]int{Audio: 64, Video: 1024}

// line is one m-line towards a subscriber: one participant's audio or video. With
// nobody it is idle, waiting to be used again.
type line struct {
	kind  Kind
	who   *participant // whom it carries
	ready bool         // answered; guarded by room.mu

	out   outlet
	count *counters
	src   atomic.Pointer[track]

	mu       sync.Mutex // the publisher's reader against NACKs and reports
	rewrite  rtp.Rewriter
	header   pion.Header // scratch
	level    [1]byte     // its audio level extension
	blank    bool        // video shows nothing until a keyframe comes
	resent   int         // since the last report
	repairs  uint16      // number of the next repair packet
	buf      []byte      // scratch of resend
	again    []byte      // and of a repair packet's payload
	reportID uint32      // of the last sender report, as reception reports name it
	reported time.Time
}

func (l *line) init(out outlet, count *counters) {
	l.out, l.count = out, count
	l.rewrite = rtp.NewRewriter(out.SSRC(), clockRate[l.kind], uint16(random32()), kept[l.kind])
	l.repairs = uint16(random32()) & 0x7fff // as the Rewriter's first number
}

// begin starts or resumes the line with a track.
func (l *line) begin(t *track) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.src.Swap(t) == t {
		l.rewrite.Hold()
	} else {
		l.rewrite.Forget()
	}
	l.blank = l.kind == Video
}

// forward sends one packet on, which is n in its track's ring. Video that follows a pause is held back until a
// keyframe begins: nothing before it can be decoded.
func (l *line) forward(b *lane.Batch, p *rtp.Packet, n uint32, at time.Time) (sent, wantsKeyframe bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blank {
		if !keyframe(p) {
			return false, true
		}
		l.blank = false
	}
	if l.kind == Audio {
		if level := p.Extension(extAudioLevel); len(level) == 1 {
			l.level[0] = level[0]
			l.header.SetExtension(extAudioLevel, l.level[:])
		} else {
			l.header.DelExtension(extAudioLevel)
		}
	}
	if !l.rewrite.Forward(p, rtp.Origin{Packet: n}, at, &l.header) {
		return false, false
	}
	return l.out.WriteRTP(b, &l.header, p.Payload, at) == nil, false
}

func keyframe(p *rtp.Packet) bool {
	if p.PayloadType == ptH264 {
		return rtp.H264Keyframe(p.Payload)
	}
	return rtp.VP8Keyframe(p.Payload)
}

// resend answers one NACK from the publisher's ring. What is not there was lost on
// the way in and has been asked for already, or is too old to help.
func (l *line) resend(b *lane.Batch, nack *rtcp.TransportLayerNack, at time.Time) {
	c := l.count
	for i := range nack.Nacks {
		nack.Nacks[i].Range(func(seq uint16) bool {
			c.nacksIn.Add(1)
			if l.resendOne(b, seq, at) {
				c.resent.Add(1)
				c.packetsOut.Add(1)
			}
			return true
		})
	}
}

func (l *line) resendOne(b *lane.Batch, seq uint16, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.src.Load()
	if t == nil || t.ring == nil {
		return false
	}
	o, ok := l.rewrite.Source(seq)
	if !ok || l.resent >= maxResend {
		return false
	}
	if l.buf, ok = t.copyOf(o.Packet, l.buf[:0]); !ok {
		return false
	}
	p, err := rtp.Parse(l.buf)
	if err != nil || !l.rewrite.Again(&p, seq, &l.header) {
		return false
	}
	l.resent++
	payload := p.Payload
	if ssrc, ok := l.out.Repair(); ok { // RFC 4588 section 4
		l.again = append(append(l.again[:0], byte(seq>>8), byte(seq)), payload...)
		payload = l.again
		l.header.SSRC, l.header.SequenceNumber, l.header.PayloadType = ssrc, l.repairs, l.header.PayloadType+1
		l.repairs++
	}
	return l.out.WriteRTP(b, &l.header, payload, at) == nil
}

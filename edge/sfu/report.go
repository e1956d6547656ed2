package sfu

import (
	"cmp"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/lane"
)

const reportEvery = time.Second

// report sends the session one compound packet (RFC 3550 section 6.1): sender
// reports of what it receives, reception reports of what it sends.
func (x *Session) report(now time.Time) {
	var packets []rtcp.Packet
	var names rtcp.SourceDescription
	x.room.mu.Lock()
	x.allocateLocked(now)
	if x.pass(now) {
		x.pub.forgive(false)
	}
	x.demandLocked(now)
	x.tellVoiceLocked(now)
	x.room.listenLocked(now)
	if x.who.media == x {
		x.who.session.tellQualityLocked(x.room.seats, now)
	}
	for _, l := range x.neg.lines {
		if !l.ready {
			continue
		}
		if sr := l.senderReport(now); sr != nil {
			packets = append(packets, sr)
			names.Chunks = append(names.Chunks, cname(sr.SSRC, l.who.id))
		}
	}
	x.room.mu.Unlock()
	var reports []rtcp.ReceptionReport
	var heard Way
	for _, t := range x.pub.tracks {
		t.mu.Lock()
		for _, e := range t.layers {
			if e == nil {
				continue
			}
			if r, ok := e.rx.Report(now); ok {
				reports = append(reports, r)
				if t.kind == Audio {
					heard = wayOf(&r)
				}
			}
		}
		t.mu.Unlock()
	}
	x.room.mu.Lock()
	x.heard = heard
	x.room.mu.Unlock()
	if len(reports) > 0 {
		packets = append(packets, &rtcp.ReceiverReport{SSRC: x.pub.ssrc, Reports: reports})
		names.Chunks = append(names.Chunks, cname(x.pub.ssrc, "edge"))
	}
	if len(packets) == 0 {
		return
	}
	for _, k := range []Kind{Video, Screen} {
		x.pub.tracks[k].obey(int(x.pub.tracks[k].ceiling.Load()), now)
	}
	defer x.bound(true)
	if x.media.WriteRTCP(append(packets, &names)) == nil {
		x.sfu.count.reportsOut.Add(1)
	}
}

func cname(ssrc uint32, name string) rtcp.SourceDescriptionChunk {
	return rtcp.SourceDescriptionChunk{Source: ssrc, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: name}}}
}

// bound tells the publisher how much to send at most, in bit/s (draft-alvestrand-rmcat-remb-03): of
// a video without simulcast what who receive it can take, and of any what a flooded path carries.
// Each time, or where it has become less. What its path carries otherwise it finds out by itself, from what
// path tells it. With it goes what a screen may take.
func (x *Session) bound(each bool) {
	x.room.mu.Lock()
	x.tellScreenLocked(each)
	t := x.pub.tracks[Video]
	most := t.ceilingLocked()
	if most > 0 && x.who.state.Screen { // whose sender takes the bound for all that it sends
		most += x.pub.tracks[Screen].ceilingLocked()
	}
	if x.brake.rate > 0 {
		most = min(cmp.Or(most, x.brake.rate), x.brake.rate)
	}
	x.room.mu.Unlock()
	ssrc, live := t.ssrc(0)
	was := t.ceiling.Load()
	if most == 0 && was == 0 || !live || !each && (most == 0 || was > 0 && int64(most) >= was) {
		return
	}
	t.ceiling.Store(int64(most))
	most = cmp.Or(most, mostRate) // or the last word would hold
	x.media.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: x.pub.ssrc, Bitrate: float32(most), SSRCs: []uint32{ssrc}}})
}

// senderReport maps the publisher's clock into the line's timestamps, which keeps
// its audio and video in step; nil while there is nothing to say.
func (l *line) senderReport(now time.Time) *rtcp.SenderReport {
	t := l.src.Load()
	if t == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resent = 0
	of := 0
	if l.kind != Audio {
		of = l.layers.Current()
	}
	if of < 0 {
		return nil
	}
	source, ntp, ts, ok := t.clock(of, now)
	if !ok {
		return nil
	}
	if ts, ok = l.rewrite.Timestamp(source, ts); !ok {
		return nil
	}
	sr := &rtcp.SenderReport{SSRC: l.out.SSRC(), NTPTime: ntp, RTPTime: ts}
	if sr.PacketCount, sr.OctetCount = l.rewrite.Sent(); sr.PacketCount == 0 {
		return nil
	}
	l.reportID, l.reported = uint32(ntp>>16), now
	return sr
}

// control takes one RTCP packet from the client.
func (x *Session) control(b *lane.Batch, p rtcp.Packet, at time.Time) {
	switch p := p.(type) {
	case *rtcp.SenderReport:
		for _, t := range x.pub.tracks {
			t.senderReport(p.SSRC, p.NTPTime, p.RTPTime, at)
		}
		x.received(p.Reports, at)
	case *rtcp.ReceiverReport:
		x.received(p.Reports, at)
	case *rtcp.TransportLayerNack:
		if l := x.lineOf(p.MediaSSRC); l != nil {
			l.resend(b, p, at)
		}
	case *rtcp.PictureLossIndication:
		x.wantsKeyframe(p.MediaSSRC)
	case *rtcp.FullIntraRequest:
		for _, e := range p.FIR {
			x.wantsKeyframe(e.SSRC)
		}
	}
}

func (x *Session) wantsKeyframe(ssrc uint32) {
	if l := x.lineOf(ssrc); l != nil && l.kind != Audio {
		l.mu.Lock()
		of := l.layers.Current()
		l.mu.Unlock()
		if t := l.src.Load(); t != nil && of >= 0 { // or else it waits for one anyway
			t.wantKeyframe(of)
		}
	}
}

func (x *Session) lineOf(ssrc uint32) *line {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	for _, l := range x.neg.lines {
		if l.ready && l.out.SSRC() == ssrc {
			return l
		}
	}
	return nil
}

// received takes the client's reception reports, for the round trip (RFC 3550
// section 6.4.1, figure 2).
func (x *Session) received(reports []rtcp.ReceptionReport, at time.Time) {
	for _, r := range reports {
		l := x.lineOf(r.SSRC)
		if l == nil || r.LastSenderReport == 0 {
			continue
		}
		if l.kind == Audio {
			x.room.mu.Lock()
			x.hears = wayOf(&r)
			x.room.mu.Unlock()
		}
		l.mu.Lock()
		known, sent := r.LastSenderReport == l.reportID, l.reported
		l.mu.Unlock()
		rtt := at.Sub(sent) - time.Duration(r.Delay)*time.Second/65536
		if known && rtt > 0 {
			x.pub.rtt.Store(int64(rtt))
		}
	}
}

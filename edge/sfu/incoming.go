package sfu

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

// RTP is the lane's.
func (t *pionTransport) RTP(b *lane.Batch, raw []byte, at time.Time) {
	t.ours(raw)
	p := &t.packet
	var err error
	*p, err = rtp.Parse(raw)
	kind, repair, ok := carried(p.PayloadType)
	if err != nil || !ok {
		t.handler.malformed()
		return
	}
	in, bound := t.inlets[p.SSRC]
	if !bound { // the lane bounds how many there are
		var src source
		if src, bound = t.source(p, kind, repair); bound {
			in = t.handler.stream(src)
			t.inlets[p.SSRC] = in
		}
	}
	t.arrived(p, at)
	if in != nil {
		in.packet(b, p, raw, at)
	}
}

// ours gives a packet our numbers, in place.
func (t *pionTransport) ours(raw []byte) {
	if t.numbers != nil {
		t.numbers.in.Renumber(raw)
	}
}

// source tells what a new stream is by its first packet. It reports false where that does not
// say of which layer it is: names come with packets until one is known to have arrived.
func (t *pionTransport) source(p *rtp.Packet, kind Kind, repair bool) (s source, ok bool) {
	s = source{SSRC: p.SSRC, Kind: kind, Repair: repair}
	name := uint8(extRID)
	if repair {
		name = extRepairedRID
	}
	if kind == Audio {
		return s, true
	}
	if t.isScreen(p) {
		s.Kind = Screen
		return s, true
	}
	rid := p.Extension(name)
	if rid == nil {
		return s, !t.layered.Load()
	}
	s.Layer, s.Named = t.layerOf(rid), true
	return s, true
}

func (t *pionTransport) layerOf(rid []byte) int {
	if t.names != nil {
		return layerOf(t.names, rid)
	}
	return layerOf(rids[:], rid)
}

// arrived tells the participant what came, from time to time.
func (t *pionTransport) arrived(p *rtp.Packet, at time.Time) {
	ext := p.Extension(extWide)
	if len(ext) != 2 {
		return
	}
	if reports := t.path.arrived(ext, p.SSRC, at); len(reports) > 0 {
		t.WriteRTCP(reports)
	}
}

// RTCP is the lane's.
func (t *pionTransport) RTCP(b *lane.Batch, compound []byte, at time.Time) {
	t.hear(b, compound, 0, at)
}

// hear takes a compound packet apart. Of what pion read it takes what is about one SSRC first.
func (t *pionTransport) hear(b *lane.Batch, compound []byte, about uint32, at time.Time) {
	for len(compound) >= 4 {
		n := 4 * (1 + int(binary.BigEndian.Uint16(compound[2:])))
		if n > len(compound) {
			return
		}
		one := compound[:n]
		compound = compound[n:]
		if isFeedback(one) {
			if about == 0 || n >= 12 && binary.BigEndian.Uint32(one[8:]) == about {
				t.handler.carries(b, t.path.feedback(one, at), at)
			}
			continue
		}
		packets, err := rtcp.Unmarshal(one)
		if err != nil {
			continue // unknown or broken
		}
		for _, p := range packets {
			if of := p.DestinationSSRC(); about == 0 || len(of) > 0 && of[0] == about {
				t.handler.control(b, p, at)
			}
		}
	}
}

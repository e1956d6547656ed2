package sfu

import (
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"bailiwick/edge/signal"
)

// TestClocksJump: whatever a publisher's clocks do, voice and picture go on at once, in numbers
// that no subscriber takes for a loss (lies checks them). A source's own numbers never go back by
// less than a replay window: SRTP does not let them.
func TestClocksJump(t *testing.T) {
	hour := uint32(3600 * 90_000 & 0xffffffff)
	for _, tt := range []struct {
		name string
		jump func(f *lies)
	}{
		{"none", func(f *lies) {}},
		{"timestamps an hour ahead", func(f *lies) { f.ts += hour }},
		{"timestamps an hour back", func(f *lies) { f.ts -= hour }},
		{"timestamps to the other end", func(f *lies) { f.ts += 1 << 31 }},
		{"timestamps five seconds back", func(f *lies) { f.ts -= 5 * 90_000 }},
		{"timestamps about to wrap", func(f *lies) { f.ts = ^(3000*uint32(f.n) + 30_000) }},
		{"numbers begin anew", func(f *lies) {
			f.voice += 20_000
			f.seqs[1], f.seqs[2] = f.seqs[1]+40_000, f.seqs[2]-20_000
			f.keys[1], f.keys[2] = true, true // as an encoder does that begins anew
		}},
		{"numbers and timestamps begin anew", func(f *lies) {
			f.voice, f.ts = f.voice-20_000, -(3000 * uint32(f.n))
			f.seqs[1], f.seqs[2] = 40_000, 50_000
			f.keys[1], f.keys[2] = true, true
		}},
		{"its wall clock an hour ahead", func(f *lies) { f.report(1<<63 + 3600<<32) }},
		{"its wall clock an hour back", func(f *lies) { f.report(1<<63 - 3600<<32) }},
		{"its wall clock at nought", func(f *lies) { f.report(0) }},
		{"its wall clock at the end of time", func(f *lies) { f.report(1<<64 - 1) }},
		{"its layers' wall clocks apart", func(f *lies) {
			f.report(1 << 63)
			f.reportOf(1, 1<<63+30<<32)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := tellLies(t, true)
				defer f.s.Close()
				tick := func() {
					f.frame(1, "l", 0, 600)
					f.frame(2, "m", 0, 2050)
				}
				play := func(seconds, poor int) {
					t.Helper()
					frames, voices := f.frames, f.voices
					f.run(seconds, poor, tick)
					if f.voices-voices < 30*seconds-1 || f.frames-frames < 30*seconds-8 {
						t.Errorf("%d packets of voice and %d frames in %d s", f.voices-voices, f.frames-frames, seconds)
					}
				}
				f.report(1 << 63)
				f.run(5, 2_000_000, tick)
				tt.jump(f)
				play(3, 2_000_000)
				was := len(f.poor.media.(*quiet).wrote)
				play(3, 300_000) // to another layer
				q := f.poor.media.(*quiet)
				var ts uint32
				for i, p := range q.wrote[was:] {
					if p.PayloadType != ptVP8 {
						continue
					}
					if d := int32(p.Timestamp - ts); ts != 0 && (d < 0 || d > 90_000/2) {
						t.Errorf("packet %d: timestamp %d after %d", i, p.Timestamp, ts)
					}
					ts = p.Timestamp
				}
				for _, p := range q.was(0) {
					if sr, ok := p.(*rtcp.SenderReport); ok && sr.PacketCount == 0 {
						t.Errorf("%+v", sr)
					}
				}
			})
		})
	}
}

// report is the sender reports of all, at one instant of its wall clock.
func (f *lies) report(ntp uint64) {
	for _, ssrc := range []uint32{1, 2, 99} {
		f.reportOf(ssrc, ntp)
	}
}

func (f *lies) reportOf(ssrc uint32, ntp uint64) {
	rate := uint32(3000)
	if ssrc == 99 {
		rate = 1600
	}
	f.from.handler.(*Session).control(nil, &rtcp.SenderReport{SSRC: ssrc, NTPTime: ntp, RTPTime: f.ts + rate*uint32(f.n)}, time.Now())
}

// TestAbsurdCaptureTime goes on as it is where it is one at all: it is the clients' matter.
func TestAbsurdCaptureTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		all := sessions(t, s, 2)
		all[0].Answer(signal.Answer{SDP: answerTo(pair), Seq: 2}) // with 1's m-lines
		from, to := &pionTransport{handler: all[0], path: newPath(1), inlets: map[uint32]inlet{}}, all[1].media.(*quiet)
		to.keeps = true
		end := binary.BigEndian.AppendUint64(nil, 1<<64-1)
		for i, row := range []struct{ ext, want []byte }{
			{make([]byte, 8), make([]byte, 8)},
			{end, end},
			{append(slices.Clone(end), end...), append(slices.Clone(end), end...)},
			{end[:7], nil},
			{append(slices.Clone(end), 1), nil},
			{[]byte{1}, nil},
			{end, end},
		} {
			for _, k := range kinds[:Screen] {
				h := pion.Header{Version: 2, Marker: true, PayloadType: [...]uint8{ptOpus, ptVP8}[k], SSRC: uint32(k + 1), SequenceNumber: uint16(i), Timestamp: uint32(3000 * i)}
				h.SetExtension(extCaptureTime, row.ext)
				raw, err := (&pion.Packet{Header: h, Payload: vp8(i == 0, "x")}).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				before := len(to.wrote)
				from.RTP(nil, raw, time.Now())
				if len(to.wrote) != before+1 {
					t.Fatalf("%s with a capture time of %d bytes: %d packets went on", k, len(row.ext), len(to.wrote)-before)
				}
				if got := to.wrote[before].GetExtension(extCaptureTime); !slices.Equal(got, row.want) {
					t.Errorf("%s: capture time %x of %x", k, got, row.ext)
				}
			}
		}
	})
}

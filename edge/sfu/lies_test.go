package sfu

import (
	"cmp"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/signal"
)

// lies is a room of quiet transports in which the first sends what a test says it does, at 30
// frames a second, to two: one whose connection carries anything, and one whose connection carries
// poor, in bit/s. Time is synctest's.
type lies struct {
	t      *testing.T
	s      *SFU
	from   *pionTransport
	pub    *quiet
	rich   *Session
	poor   *Session
	seqs   map[uint32]uint16
	keys   map[uint32]bool // asked for
	wealth int             // that the rich one's connection carries
	bound  int             // bit/s that it is told to stay within; 0: none
	seen   int
	n      int               // frame
	ts     uint32            // that its timestamps are ahead
	voice  uint16            // and the numbers of its voice
	wide   map[uint32]uint16 // its layers, where that is not 640

	took   []int // bytes on the wire that the poor one got, each second
	frames int   // of video that began there
	voices int
	second int
	wrote  int
	last   map[uint32]pion.Packet // for continuity
}

func tellLies(t *testing.T, layers bool) *lies {
	s := quietly()
	all := sessions(t, s, 3)
	f := &lies{t: t, s: s, rich: all[1], poor: all[2], pub: all[0].media.(*quiet), wealth: 10_000_000, seqs: map[uint32]uint16{}, keys: map[uint32]bool{}, last: map[uint32]pion.Packet{}}
	f.poor.media.(*quiet).keeps = true
	f.from = &pionTransport{handler: all[0], path: newPath(1), inlets: map[uint32]inlet{}}
	f.from.layered.Store(layers)
	return f
}

// frame sends one of so many bytes, under a name and an SSRC, in packets; keyframes where they are
// asked for.
func (f *lies) frame(ssrc uint32, rid string, temporal uint8, size int) {
	key := f.n == 0 || f.keys[ssrc]
	f.keys[ssrc] = false
	f.send(ssrc, rid, temporal, size, key)
}

func (f *lies) send(ssrc uint32, rid string, temporal uint8, size int, key bool) {
	f.t.Helper()
	for first := true; size > 0; first = false {
		b := []byte{0x80, 0xe0, 0x80 | byte(f.n>>8)&0x7f, byte(f.n), byte(f.n), temporal << 6, 1}
		if first {
			b[0] = 0x90
			if key {
				b = append(b[:6], 0, 0, 0, 0x9d, 0x01, 0x2a)
				b = binary.LittleEndian.AppendUint16(b, cmp.Or(f.wide[ssrc], 640))
				b = binary.LittleEndian.AppendUint16(b, cmp.Or(f.wide[ssrc], 640)*9/16)
			}
		}
		n := min(size, 1150)
		size -= n
		h := pion.Header{Version: 2, Marker: size == 0, PayloadType: ptVP8, SSRC: ssrc, SequenceNumber: f.seqs[ssrc], Timestamp: f.ts + 3000*uint32(f.n)}
		f.seqs[ssrc]++
		if rid != "" {
			h.SetExtension(extRID, []byte(rid))
		}
		f.packet(h, append(b, make([]byte, max(0, n-len(b)))...))
	}
}

func (f *lies) packet(h pion.Header, payload []byte) {
	raw, err := (&pion.Packet{Header: h, Payload: payload}).Marshal()
	if err != nil {
		f.t.Fatal(err)
	}
	f.from.RTP(nil, raw, time.Now())
}

// run plays for so many seconds.
func (f *lies) run(seconds, poor int, tick func()) {
	for range 30 * seconds {
		time.Sleep(time.Second / 30) // of synctest's clock: a frame
		synctest.Wait()
		was := f.pub.was(f.seen)
		f.seen += len(was)
		for _, p := range was {
			switch p := p.(type) {
			case *rtcp.PictureLossIndication:
				f.keys[p.MediaSSRC] = true
			case *rtcp.ReceiverEstimatedMaximumBitrate:
				f.bound = int(p.Bitrate)
			}
		}
		tick()
		f.packet(pion.Header{Version: 2, PayloadType: ptOpus, SSRC: 99, SequenceNumber: f.voice + uint16(f.n), Timestamp: f.ts + 1600*uint32(f.n)}, make([]byte, 80))
		f.n++
		if f.n%3 == 0 {
			f.rich.carries(nil, carriage{rate: f.wealth}, time.Now())
			f.poor.carries(nil, carriage{rate: poor}, time.Now())
		}
		f.take()
	}
}

// take counts what the poor one got, and checks its numbers.
func (f *lies) take() {
	q := f.poor.media.(*quiet)
	for _, p := range q.wrote[f.wrote:] {
		if last, some := f.last[p.SSRC]; some && p.SequenceNumber != last.SequenceNumber+1 {
			f.t.Errorf("number %d after %d", p.SequenceNumber, last.SequenceNumber)
		}
		f.last[p.SSRC] = p
		f.second += p.Header.MarshalSize() + len(p.Payload) + overhead
		if p.PayloadType == ptOpus {
			f.voices++
		} else if p.Payload[0]&0x10 != 0 {
			f.frames++
		}
	}
	f.wrote = len(q.wrote)
	if f.n%30 == 0 {
		f.took, f.second = append(f.took, f.second), 0
	}
}

// rate is the most in any five seconds on end from one on, in bit/s.
func (f *lies) rate(from int) (most int) {
	for i := from; i+5 <= len(f.took); i++ {
		sum := 0
		for _, n := range f.took[i : i+5] {
			sum += 8 * n
		}
		most = max(most, sum/5)
	}
	return most
}

// TestLiesAboutLayers: whatever a publisher calls its layers, and whether it listens or not, a
// subscriber is sent what its connection carries, by what really comes.
func TestLiesAboutLayers(t *testing.T) {
	const small, middle, large = 600, 2050, 8300 // 150 kbit/s, 500 and 2,000
	for _, tt := range []struct {
		name   string
		layers bool
		poor   int // bit/s
		tick   func(f *lies)
		shown  bool // to the poor one at the end
	}{
		{"the truth", true, 300_000, func(f *lies) {
			f.frame(1, "l", 0, small)
			f.frame(2, "m", 0, middle)
			f.frame(3, "h", 0, large)
		}, true},
		{"names swapped", true, 300_000, func(f *lies) {
			f.frame(1, "l", 0, large)
			f.frame(2, "m", 0, middle)
			f.frame(3, "h", 0, small)
		}, true},
		{"names swapped, and what is small begins nowhere", true, 300_000, func(f *lies) {
			f.frame(1, "l", 0, large)
			f.send(3, "h", 0, small, false)
		}, false},
		{"names swapped, and what is small comes and goes", true, 300_000, func(f *lies) {
			f.frame(1, "l", 0, large)
			if f.n/45%2 == 0 {
				f.frame(3, "h", 0, small)
			}
		}, true},
		{"what is small begins nowhere", true, 300_000, func(f *lies) {
			f.frame(3, "h", 0, large)
			if f.n > 90 {
				f.send(1, "l", 0, small, false)
			}
		}, false},
		{"all of one size", true, 300_000, func(f *lies) {
			for i, rid := range rids {
				f.frame(uint32(1+i), rid, 0, middle)
			}
		}, false},
		{"all of one size, which fits", true, 1_000_000, func(f *lies) {
			for i, rid := range rids {
				f.frame(uint32(1+i), rid, 0, middle)
			}
		}, true},
		{"a name that was not offered", true, 300_000, func(f *lies) {
			f.frame(1, "l", 0, small)
			f.frame(2, "xxl", 0, large)
		}, true},
		{"one name for two streams", true, 300_000, func(f *lies) {
			f.frame(1, "l", 0, middle)
			f.frame(2, "l", 0, middle)
		}, false},
		{"the highest at one frame a second", true, 300_000, func(f *lies) {
			f.frame(1, "l", 0, small)
			if f.n%30 == 0 {
				f.frame(3, "h", 0, 60_000)
			}
		}, true},
		{"no lowest temporal layer", true, 300_000, func(f *lies) { f.frame(1, "l", 2, large) }, false},
		{"bursts, and silence longer than is measured over", true, 300_000, func(f *lies) {
			if f.n%93 < 27 {
				f.frame(1, "l", 0, large)
			}
		}, false},
		{"one stream that does not listen", false, 300_000, func(f *lies) { f.frame(1, "", 0, large) }, false},
		{"one stream that does not listen, and fits", false, 3_000_000, func(f *lies) { f.frame(1, "", 0, large) }, true},
		{"one stream that listens", false, 300_000, func(f *lies) {
			size := large
			if f.bound > 0 {
				size = min(size, f.bound/8/30)
			}
			f.frame(1, "", 0, size)
		}, true},
		{"no simulcast negotiated, and names all the same", false, 300_000, func(f *lies) {
			f.frame(1, "l", 0, large)
			f.frame(2, "m", 0, large)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := tellLies(t, tt.layers)
				defer f.s.Close()
				f.run(30, tt.poor, func() { tt.tick(f) })
				if most := f.rate(8); most > tt.poor*21/20 {
					t.Errorf("%d kbit/s to one whose connection carries %d; by the second, kbit/s: %v", most/1000, tt.poor/1000, kilobits(f.took))
				}
				frames, voices := f.frames, f.voices
				f.run(5, tt.poor, func() { tt.tick(f) })
				if f.voices-voices != 150 {
					t.Errorf("%d packets of voice in five seconds, want all 150", f.voices-voices)
				}
				if got := f.frames - frames; got > 30 != tt.shown {
					t.Errorf("%d frames in the last five seconds, want the video shown: %t; by the second, kbit/s: %v", got, tt.shown, kilobits(f.took))
				}
			})
		})
	}
}

func kilobits(took []int) (all []int) {
	for _, n := range took {
		all = append(all, 8*n/1000)
	}
	return all
}

// TestDeafIsForgiven: one that was slow to listen is shown again once it has.
func TestDeafIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tellLies(t, false)
		defer f.s.Close()
		f.run(15, 300_000, func() { f.frame(1, "", 0, 8300) })
		track := f.from.handler.(*Session).pub.tracks[Video]
		if track.bends() {
			t.Fatal("what does not listen counts as if it did")
		}
		frames := f.frames
		f.run(15, 300_000, func() { f.frame(1, "", 0, f.bound/8/30) })
		if !track.bends() || f.frames-frames < 150 {
			t.Errorf("it listens: %t; %d frames in 15 s, told to stay within %d", track.bends(), f.frames-frames, f.bound)
		}
	})
}

// TestAbsurdDependencies: dependency descriptors of any bytes, in a consult that is encrypted, stop
// neither the voice nor what follows them.
func TestAbsurdDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		all := sessionsAs(t, s, Seat{Sealed: true}, 2)
		all[0].Answer(signal.Answer{SDP: answerTo(pair), Seq: 2}) // with 1's m-lines
		from, to := &pionTransport{handler: all[0], path: newPath(1), inlets: map[uint32]inlet{}}, all[1].media.(*quiet)
		to.keeps = true
		all[0].State(signal.State{Mic: true, Camera: true, ReceiveVideo: true, KID: tagged})
		seqs := map[uint32]uint16{}
		send := func(pt uint8, ssrc uint32, ext, payload []byte) (sent int) {
			seqs[ssrc]++
			h := pion.Header{Version: 2, PayloadType: pt, SSRC: ssrc, SequenceNumber: seqs[ssrc], Timestamp: uint32(seqs[ssrc]) * 3000, Marker: true}
			if len(ext) > 0 {
				h.Extension, h.ExtensionProfile = true, pion.ExtensionProfileTwoByte
				h.SetExtension(extDependency, ext)
			}
			raw, err := (&pion.Packet{Header: h, Payload: payload}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			before := len(to.wrote)
			from.RTP(nil, raw, time.Now())
			return len(to.wrote) - before
		}
		picture := append([]byte{0x10}, frameOf(tagged, "picture")...)
		for _, fill := range []byte{0x00, 0x55, 0xaa, 0xff} {
			for _, n := range []int{1, 2, 3, 4, 16, 64, 255} {
				ext := slices.Repeat([]byte{fill}, n)
				for _, head := range []byte{0x00, 0x40, 0x80, 0xc0, 0xff} {
					ext[0] = head
					send(ptVP8, 22, ext, picture)
					if n > 3 { // with a structure
						ext[3] = 0x80
						send(ptVP8, 22, ext, picture)
					}
				}
			}
			if send(ptOpus, 11, nil, frameOf(tagged, "sound")) != 1 {
				t.Fatal("the voice does not go on")
			}
		}
		sent := map[uint16][]byte{}
		for _, p := range to.wrote {
			if p.PayloadType != ptVP8 {
				continue
			}
			if was, twice := sent[p.SequenceNumber]; twice && string(was) != string(p.Payload) {
				t.Errorf("number %d twice", p.SequenceNumber)
			}
			sent[p.SequenceNumber] = p.Payload
		}
		if send(ptVP8, 22, structure, picture) != 1 || send(ptVP8, 22, []byte{0xc2, 0, 2}, picture) != 1 {
			t.Error("a keyframe with a good descriptor does not mend it")
		}
	})
}

// TestView: who shows a video small is sent no more of it than that takes, and what is left of a poor
// connection goes to what is shown large.
func TestView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tellLies(t, true)
		defer f.s.Close()
		f.wide = map[uint32]uint16{1: 320, 2: 640, 3: 1280}
		film := func() {
			f.frame(1, "l", 0, 600)
			f.frame(2, "m", 0, 2050)
			f.frame(3, "h", 0, 8300)
		}
		from := f.from.handler.(*Session).who.id
		for _, tt := range []struct {
			name        string
			videos      []signal.Viewed
			least, most int // bit/s
		}{
			{"nothing is said", nil, 1_900_000, 2_600_000},
			{"small", []signal.Viewed{{Participant: from, Width: 300}}, 150_000, 250_000},
			{"middling", []signal.Viewed{{Participant: from, Width: 400}}, 450_000, 650_000},
			{"their screen is small, which they do not share", []signal.Viewed{{Participant: from, Screen: true, Width: 100}}, 1_900_000, 2_600_000},
			{"out of sight", []signal.Viewed{{Participant: from, Width: 0}}, 150_000, 250_000},
			{"large", []signal.Viewed{{Participant: from, Width: 4000}}, 1_900_000, 2_600_000},
		} {
			f.poor.View(signal.View{Videos: tt.videos})
			f.run(12, 10_000_000, film)
			if got := f.rate(len(f.took) - 5); got < tt.least || got > tt.most {
				t.Errorf("%s: %d bit/s, want %d to %d", tt.name, got, tt.least, tt.most)
			}
		}
	})
}

// TestLiesAboutVoices: megabits of a voice are what Opus has at most; a second that a path held back
// is heard whole, and so is the loudest that there is.
func TestLiesAboutVoices(t *testing.T) {
	for _, tt := range []struct {
		name           string
		packets, bytes int // each 20 ms
		late           int // of them come at once at the end
		whole          bool
	}{
		{"a voice", 1, 80, 0, true},
		{"music", 1, 1275, 0, true},
		{"a second behind", 1, 320, 50, true},
		{"three megabits", 6, 1250, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := quietly()
				defer s.Close()
				all := sessions(t, s, 2)
				to := all[1].media.(*quiet)
				to.keeps = true
				from := &pionTransport{handler: all[0], path: newPath(1), inlets: map[uint32]inlet{}}
				const ticks = 1000
				for n := range uint16(ticks * tt.packets) {
					if int(n)%tt.packets == 0 && int(n) < (ticks-tt.late)*tt.packets {
						time.Sleep(20 * time.Millisecond)
					}
					h := pion.Header{Version: 2, PayloadType: ptOpus, SSRC: 99, SequenceNumber: n, Timestamp: 960 * uint32(int(n)/tt.packets)}
					raw, err := (&pion.Packet{Header: h, Payload: make([]byte, tt.bytes)}).Marshal()
					if err != nil {
						t.Fatal(err)
					}
					from.RTP(nil, raw, time.Now())
				}
				most := int(voiceMost/8*20 + voiceBurst) // of twenty seconds
				sent, got := ticks*tt.packets*tt.bytes, 0
				for _, p := range to.wrote {
					got += len(p.Payload)
				}
				if tt.whole && got != sent || !tt.whole && (got > most || got < most*9/10) {
					t.Errorf("%d bytes of %d are heard, at most %d may be", got, sent, most)
				}
				if lost := s.Stats().Excess; (lost == 0) != tt.whole {
					t.Errorf("%d packets were too much", lost)
				}
			})
		})
	}
}

// TestBurstsAreMeasured, and a layer that pauses in the middle of a second is what it was.
func TestBurstsAreMeasured(t *testing.T) {
	var f flow
	now := time.Unix(1000, 0)
	add := func(size int) { f.add(&layer.Descriptor{}, uint32(now.UnixMilli()), size, now) }
	for range 100 {
		add(1000)
		now = now.Add(5 * time.Millisecond)
	}
	now = now.Add(3 * time.Second)
	if add(1000); f.rate[0] != 800_000 {
		t.Errorf("a burst of 100 kB counts as %d bit/s", f.rate[0])
	}
	for range 600 {
		add(1000)
		now = now.Add(5 * time.Millisecond)
	}
	was := f.rate[0]
	now = now.Add(3 * time.Second)
	if add(1000); f.rate[0] < was || was < 1_000_000 {
		t.Errorf("%d bit/s before a pause, %d after it", was, f.rate[0])
	}
}

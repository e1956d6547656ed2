package sfu

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/signal"
)

func TestLoudness(t *testing.T) {
	var l loudness
	if got := l.take(); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
	for _, level := range [][]byte{nil, {}, {0x80 | 27}, {47}, {1, 2}} {
		l.add(level)
	}
	if got := l.take(); got != 90 {
		t.Errorf("the mean of 100 and 80 is %d", got)
	}
	for range 1_000_000 {
		l.add([]byte{0xff})
	}
	l.add([]byte{0})
	if got := l.take(); got != 0 {
		t.Errorf("of a million packets of silence and a loud one: %d", got)
	}
}

// Everybody is told who speaks, once; who is parked, says that its microphone is off, or only watches
// is nobody.
func TestWhoSpeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		all := sessions(t, s, 2)
		room := all[0].room
		told := make([][]string, len(all))
		room.mu.Lock()
		for i, x := range all {
			x.sink = func(m any) {
				if m, ok := m.(signal.Speaker); ok {
					told[i] = append(told[i], m.Participant)
				}
			}
		}
		room.mu.Unlock()
		on, off := signal.State{Mic: true, ReceiveVideo: true}, signal.State{ReceiveVideo: true}
		from := &pionTransport{handler: all[0], path: newPath(1), inlets: map[uint32]inlet{}}
		seq := uint16(0)
		say := func(d time.Duration, level byte) {
			for range d / (20 * time.Millisecond) {
				time.Sleep(20 * time.Millisecond)
				synctest.Wait()
				seq++
				p := pion.Packet{Header: pion.Header{Version: 2, PayloadType: ptOpus, SSRC: 1, SequenceNumber: seq}, Payload: []byte("x")}
				p.SetExtension(extAudioLevel, []byte{level})
				raw, _ := p.Marshal()
				from.RTP(nil, raw, time.Now())
				if seq%5 == 0 {
					all[1].carries(nil, carriage{rate: 1_000_000}, time.Now())
				}
			}
		}
		want := func(what string, list ...string) {
			t.Helper()
			synctest.Wait()
			room.mu.Lock()
			defer room.mu.Unlock()
			for i := range told {
				if !slices.Equal(told[i], list) {
					t.Errorf("%s: %d was told %q, want %q", what, i, told[i], list)
				}
			}
		}
		say(3*time.Second, 100)
		want("noise")
		say(1500*time.Millisecond, 30)
		want("a voice", "0")
		say(3*time.Second, 100)
		want("silence", "0", "")
		all[0].State(off)
		say(3*time.Second, 30)
		want("a voice that is said to be off", "0", "")
		all[0].State(on)
		say(3*time.Second, 30)
		want("and is on", "0", "", "0")
		all[0].Leave()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		room.mu.Lock()
		if !slices.Equal(told[1], []string{"0", "", "0", ""}) {
			t.Errorf("after it left: %q", told[1])
		}
		room.mu.Unlock()
	})
}

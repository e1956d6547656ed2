package sfu

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/signal"
)

// stack is lies with the truth: three spatial layers of three temporal ones each in one stream, of
// 150, 500 and 1,500 kbit/s.
type stack struct {
	*lies
	pt     uint8
	up     int  // spatial layers that it sends
	bare   bool // without what describes them
	number uint16
	ids    [layer.Layers][temporals]byte // of templates

	told    []string // to its sender
	viewer  layer.Dependencies
	highest int // of the last second, to the poor one; -1: no video
	read    int
	ended   time.Time     // the newest picture
	gap     time.Duration // the longest between two
}

var stackBytes = [layer.Layers]int{600, 1450, 4150}

// stacked3 is Chromium's structure of L3T3, of AV1.
var stacked3, _ = hex.DecodeString("c1003980081485214eafffaaaa863cf0430c10c302afc0aaa0063c00430010c002a000a80006000040001d954926e082b04a0941b820ac1282503157f974000ca864330e222222eca8655304224230eca87753013f00b3027f016704ff02cf")

func newStack(t *testing.T, pt uint8) *stack {
	k := &stack{lies: tellLies(t, false), pt: pt, up: layer.Layers}
	var d layer.Dependencies
	d.Describe(1, stacked3)
	for id := range uint8(15) {
		if of, _ := d.Describe(2, []byte{id, 0, 0}); !of.Fresh {
			k.ids[of.Spatial][of.Temporal] = id
		}
	}
	first := k.from.handler.(*Session)
	first.room.mu.Lock()
	defer first.room.mu.Unlock()
	first.obeys = true
	first.sink = func(m any) {
		if m, ok := m.(signal.Layers); ok {
			k.told, k.up, k.keys[1] = append(k.told, fmt.Sprint(m.Video)), len(m.Video), true
		}
	}
	return k
}

// picture sends one.
func (k *stack) picture() {
	key := k.n == 0 || k.keys[1]
	k.keys[1] = false
	temporal := [...]uint8{0, 2, 1, 2}[k.n%4]
	if key {
		temporal = 0
	}
	for s := range k.up {
		k.number++
		for size, first := stackBytes[s], true; size > 0; first = false {
			n := min(size, 1150)
			size -= n
			h := pion.Header{Version: 2, Marker: size == 0 && s == k.up-1, PayloadType: k.pt, SSRC: 1, SequenceNumber: k.seqs[1], Timestamp: 3000 * uint32(k.n)}
			k.seqs[1]++
			b := []byte{0x10}
			if k.pt == ptVP9 {
				b = k.vp9(s, temporal, key, first, size == 0)
			} else if !k.bare {
				h.SetExtension(extDependency, k.dependency(s, temporal, key, first, size == 0))
			} else if key && s == 0 && first {
				b[0] |= 0x08
			}
			k.packet(h, append(b, make([]byte, max(0, n-len(b)))...))
		}
	}
	k.look()
}

func (k *stack) vp9(s int, temporal uint8, key, first, last bool) []byte {
	b := []byte{0xa0, 0x80 | byte(k.n>>8)&0x7f, byte(k.n), temporal<<5 | 0x10 | byte(s)<<1 | byte(min(s, 1)), byte(k.n / 4)}
	if !key {
		b[0] |= 0x40
	}
	if first {
		b[0] |= 0x08
	}
	if last {
		b[0] |= 0x04
	}
	if key && first && s == 0 {
		b[0] |= 0x02
		b = append(b, byte(k.up-1)<<5|0x10)
		for s := range k.up {
			b = binary.BigEndian.AppendUint16(b, uint16(320<<s))
			b = binary.BigEndian.AppendUint16(b, uint16(180<<s))
		}
	}
	return b
}

func (k *stack) dependency(s int, temporal uint8, key, first, last bool) []byte {
	b := []byte{k.ids[s][temporal], 0, 0}
	if key && s == 0 && first {
		b = append([]byte(nil), stacked3...)
	}
	b[0] &= 0x3f
	if first {
		b[0] |= 0x80
	}
	if last {
		b[0] |= 0x40
	}
	binary.BigEndian.PutUint16(b[1:], k.number)
	return b
}

// look sees which layers come to the poor one, each second.
func (k *stack) look() {
	q := k.poor.media.(*quiet)
	if k.n%30 == 0 {
		k.highest = -1
	}
	for _, p := range q.wrote[k.read:] {
		if p.PayloadType != k.pt || len(p.Payload) == 0 {
			continue
		}
		if k.pt == ptVP9 {
			k.highest = max(k.highest, int(p.Payload[3]>>1&7))
		} else if of, ok := k.viewer.Describe(p.SequenceNumber, p.GetExtension(extDependency)); ok && !of.Keyframe {
			k.highest = max(k.highest, int(of.Spatial))
		}
		if p.Marker {
			if !k.ended.IsZero() {
				k.gap = max(k.gap, time.Since(k.ended))
			}
			k.ended = time.Now()
		}
	}
	k.read = len(q.wrote)
}

// plays for so many seconds, to one whose connection carries poor.
func (k *stack) plays(seconds, poor int) {
	k.gap = 0
	k.run(seconds, poor, k.picture)
}

// TestStack: layers of one stream are layers: each subscriber has the one that its connection
// carries, who watches none has its sender told, and one that stops them all is one stream.
func TestStack(t *testing.T) {
	for name, pt := range map[string]uint8{"VP9": ptVP9, "AV1": ptAV1} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testStack(t, pt) }) })
	}
}

func testStack(t *testing.T, pt uint8) {
	k := newStack(t, pt)
	defer k.s.Close()
	track := k.from.handler.(*Session).pub.tracks[Video]
	for _, step := range []struct {
		seconds, poor, want int
	}{{5, 10_000_000, 2}, {3, 400_000, 0}, {8, 1_000_000, 1}, {3, 400_000, 0}, {15, 10_000_000, 2}, {3, 1_000_000, 1}, {15, 10_000_000, 2}} {
		before := len(k.took)
		k.plays(step.seconds, step.poor)
		if k.highest != step.want || k.gap > 200*time.Millisecond {
			t.Errorf("%d kbit/s: up to layer %d, want %d; %v between two pictures", step.poor/1000, k.highest, step.want, k.gap)
		}
		if took := 8 * k.took[len(k.took)-1]; took > step.poor {
			t.Errorf("%d kbit/s: it takes %v", step.poor/1000, kilobits(k.took[before:]))
		}
	}
	if k.bound > 0 && k.bound < mostRate {
		t.Errorf("held to %d bit/s, though each has a layer that suits", k.bound)
	}
	track.mu.Lock()
	w, h := track.sizeLocked(1)
	track.mu.Unlock()
	if w != 640 || h != 360 {
		t.Errorf("the middle one is %d×%d", w, h)
	}

	k.plays(3, 70_000)
	if k.highest != -1 {
		t.Errorf("layer %d at 70 kbit/s, want none", k.highest)
	}
	k.plays(10, 10_000_000)
	if len(k.told) > 0 {
		t.Errorf("told %v while the highest is watched", k.told)
	}

	// Both on the lowest: what stands on it is paused, and comes again with all that it needs.
	k.wealth = 400_000
	k.plays(15, 400_000)
	if k.up != 1 || k.highest != 0 || track.bends() {
		t.Fatalf("told %v, and shown layer %d; one stream to be held: %t", k.told, k.highest, track.bends())
	}
	k.wealth = 10_000_000
	k.plays(15, 10_000_000)
	if k.up != 3 || k.highest != 2 {
		t.Errorf("told %v, and shown layer %d again", k.told, k.highest)
	}

	// It stops them, or what describes them, and says nothing.
	frames := len(k.poor.media.(*quiet).wrote)
	k.bare, k.keys[1] = true, true
	if pt == ptVP9 {
		k.up = 1
	}
	k.plays(6, 10_000_000)
	if !track.bends() || len(k.poor.media.(*quiet).wrote) < frames+6*30 {
		t.Errorf("bends %t, %d packets in six seconds", track.bends(), len(k.poor.media.(*quiet).wrote)-frames)
	}
	if st := k.s.Stats(); st.Malformed > 0 {
		t.Errorf("%+v", st)
	}
}

// TestStackOfLies: whatever one says of layers in its stream, who receives little gets no more than
// that, and every word of the voice.
func TestStackOfLies(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) (b []byte) {
		for range n {
			b = append(b, byte(rnd.Uint32()))
		}
		return b
	}
	for name, tick := range map[string]func(k *stack){
		"every layer number there is": func(k *stack) {
			k.one(ptVP9, nil, []byte{0xec, 0x80 | byte(k.n>>8)&0x7f, byte(k.n), byte(k.n * 37), 0})
		},
		"all is the lowest, and large": func(k *stack) { k.one(ptVP9, nil, []byte{0xac, 0x80, byte(k.n), 0, 0}) },
		"the lowest never comes":       func(k *stack) { k.one(ptVP9, nil, []byte{0xac, 0x80, byte(k.n), 4, 0}) },
		"descriptors of noise":         func(k *stack) { k.one(ptAV1, noise(1+rnd.IntN(60)), []byte{0x18}) },
		"a structure each time, cut": func(k *stack) {
			k.one(ptAV1, stacked3[:4+rnd.IntN(len(stacked3)-4)], []byte{0x18})
		},
		"two structures in turn": func(k *stack) {
			k.one(ptAV1, [][]byte{stacked3, structure}[k.n%2], []byte{0x18})
		},
		"frames of the highest without a structure": func(k *stack) { k.one(ptAV1, []byte{0xce, byte(k.n >> 8), byte(k.n)}, []byte{0x10}) },
		"a codec each frame": func(k *stack) {
			k.one([]uint8{ptVP8, ptVP9, ptAV1, ptH264}[k.n%4], nil, []byte{0x90, 0x80, 0x92, 0x67, 0})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const poor = 300_000
				k := newStack(t, ptVP9)
				defer k.s.Close()
				k.run(30, poor, func() { tick(k) })
				if most := k.rate(8); most > poor*21/20 {
					t.Errorf("%d kbit/s to one whose connection carries %d; by the second, kbit/s: %v", most/1000, poor/1000, kilobits(k.took))
				}
				voices := k.voices
				k.run(5, poor, func() { tick(k) })
				if k.voices-voices != 150 {
					t.Errorf("%d packets of voice in five seconds, want all 150", k.voices-voices)
				}
				// The truth mends it.
				k.up, k.pt = layer.Layers, ptVP9
				k.keys[1] = true
				k.wealth = 10_000_000
				k.plays(30, 10_000_000)
				if k.highest != 2 {
					t.Errorf("up to layer %d once it tells the truth", k.highest)
				}
			})
		})
	}
}

// one sends a frame of 8,300 bytes, 2 Mbit/s, each packet of which begins so.
func (k *stack) one(pt uint8, ext, begins []byte) {
	for size := 8300; size > 0; size -= 1150 {
		h := pion.Header{Version: 2, Marker: size <= 1150, PayloadType: pt, SSRC: 1, SequenceNumber: k.seqs[1], Timestamp: 3000 * uint32(k.n)}
		k.seqs[1]++
		if len(ext) > 0 {
			h.SetExtension(extDependency, ext)
		}
		k.packet(h, append(append([]byte(nil), begins...), make([]byte, min(size, 1150))...))
	}
}

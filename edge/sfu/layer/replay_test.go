package layer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/rtp"
)

// dependency is the extension's number in the recorded traces, which TestRecord of edge/sfu makes.
const dependency = 7

// recorded is a packet of a trace of Chromium's.
type recorded struct {
	raw   []byte // without most of its payload
	frame *encoded
}

// encoded is a frame, as the dependency descriptor has it, by which a decoder goes.
type encoded struct {
	number            uint16
	ts                uint32
	key               bool
	spatial, temporal int
	refs              []*encoded
	packets           int
	picture           int // counted from 0

	went int // of its packets
}

// record reads a trace. What is known of the frames is read from their dependency descriptors here and
// anew, with every reference, whatever it is that the Switch reads.
func record(t *testing.T, name string) (all []recorded) {
	t.Helper()
	b, err := os.ReadFile("testdata/traces/" + name)
	if err != nil {
		t.Fatal(err)
	}
	frames := map[uint16]*encoded{}
	var s Dependencies
	var fdiffs [64][]uint16
	picture, ts := -1, uint32(0)
	for len(b) > 0 {
		raw := b[3 : 3+int(b[2])]
		b = b[3+len(raw):]
		p, err := rtp.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		ext := p.Extension(dependency)
		d, ok := s.Describe(p.Seq, ext)
		if !ok || len(ext) < 3 {
			t.Fatalf("packet %d: no dependency descriptor: %x", p.Seq, ext)
		}
		if len(ext) > 3 && ext[3]&0x80 != 0 {
			fdiffs = references(t, ext)
		}
		if !s.known {
			continue // before the first keyframe
		}
		if picture < 0 || p.Timestamp != ts {
			picture, ts = picture+1, p.Timestamp
		}
		f := frames[d.Picture]
		if f == nil {
			f = &encoded{number: d.Picture, ts: ts, key: d.Keyframe, spatial: int(d.Spatial), temporal: int(d.Temporal), picture: picture}
			for _, by := range own(&s, ext, fdiffs[(ext[0]-s.offset)&63]) {
				if of := frames[d.Picture-by]; of != nil {
					f.refs = append(f.refs, of)
				} else if len(frames) > 3*64 {
					t.Fatalf("frame %d refers to %d, which there is not", d.Picture, d.Picture-by)
				}
			}
			frames[d.Picture] = f
		}
		f.packets++
		all = append(all, recorded{raw, f})
	}
	return all
}

// references are those of each template of a structure.
func references(t *testing.T, ext []byte) (all [64][]uint16) {
	var s Dependencies
	r := reader{b: ext}
	r.bits(24 + 5)
	if !s.read(&r) { // to know how many there are
		t.Fatalf("structure %x", ext)
	}
	r = reader{b: ext}
	r.bits(24 + 5 + 6 + 5 + 2*s.count + 2*s.count*s.targets)
	for i := range s.count {
		for r.flag() {
			all[i] = append(all[i], uint16(r.bits(4))+1)
		}
	}
	return all
}

// own are a frame's own references where it has such, or else its template's.
func own(s *Dependencies, ext []byte, template []uint16) (all []uint16) {
	if len(ext) == 3 || ext[3]&0x10 == 0 {
		return template
	}
	r := reader{b: ext}
	r.bits(24 + 5)
	if ext[3]&0x80 != 0 {
		new(Dependencies).read(&r)
	}
	if ext[3]&0x40 != 0 {
		r.bits(s.targets)
	}
	if ext[3]&0x20 != 0 {
		r.dtis(s.targets)
	}
	for size := r.bits(2); size > 0; size = r.bits(2) {
		all = append(all, uint16(r.bits(int(4*size)))+1)
	}
	return all
}

// replay is a subscriber of a trace.
type player struct {
	t      *testing.T
	what   string
	codec  Codec
	out    rtp.Rewriter
	sw     Switch
	deps   Dependencies
	skew   Skew
	sent   map[uint16]sentPacket
	newest uint16
}

type sentPacket struct {
	of      *encoded
	ts      uint32
	marker  bool
	empty   bool
	picture uint16 // as it goes out
	bits    uint8
}

func newReplay(t *testing.T, all []recorded, codec Codec) *player {
	r := &player{t: t, codec: codec, out: rtp.NewRewriter(9, 90000, 1, 1024), sent: map[uint16]sentPacket{}}
	r.sw = NewSwitch(&r.out)
	r.skew.found = skewed(all)
	for _, p := range all {
		p.frame.went = 0
	}
	return r
}

// skewed tells it of a trace: who publishes has shown it before anybody is moved, or else decoders
// ask for a keyframe, once.
func skewed(all []recorded) bool {
	for n := range all[1:] {
		if a, b := all[n].frame, all[n+1].frame; a.picture == b.picture && a.temporal != b.temporal {
			return true
		}
	}
	return false
}

// take hands the switch packet n of the trace.
func (r *player) take(all []recorded, n int) {
	raw := slices.Clone(all[n].raw)
	p, err := rtp.Parse(raw)
	if err != nil {
		r.t.Fatal(err)
	}
	in := Packet{RTP: &p, N: uint32(n + 1), Descriptor: Describe(r.codec, &p)}
	ext := p.Extension(dependency)
	if r.codec == AV1 {
		var ok bool
		if in.Descriptor, ok = r.deps.Describe(p.Seq, ext); !ok {
			r.t.Fatalf("%s: packet %d: %x", r.what, n, ext)
		}
	}
	r.skew.Level(&in.Descriptor, p.Timestamp)
	var h pion.Header
	at := start.Add(time.Duration(all[n].frame.picture) * 50 * time.Millisecond)
	o, ok := r.sw.Packet(&in, nil, at, &h)
	if ok {
		got := sentPacket{of: all[n].frame, ts: h.Timestamp, marker: h.Marker, empty: o.Empty, bits: in.Bits}
		if written := in.Write(p.Payload, o); o.Empty {
			got.of = nil
		} else if r.codec == AV1 {
			WriteDependency(ext, o)
			got.picture = binary.BigEndian.Uint16(ext[1:])
		} else {
			p.Payload = written
			d := Describe(r.codec, &p)
			got.picture = d.Picture
		}
		if _, twice := r.sent[h.SequenceNumber]; twice {
			r.t.Fatalf("%s: number %d is spent twice", r.what, h.SequenceNumber)
		}
		r.sent[h.SequenceNumber] = got
		if len(r.sent) == 1 || int16(h.SequenceNumber-r.newest) > 0 {
			r.newest = h.SequenceNumber
		}
		if !o.Empty {
			all[n].frame.went++
		}
	}
	for _, _, due := r.sw.Due(); due; _, _, due = r.sw.Due() {
		r.t.Fatalf("%s: packets of one stream are due", r.what)
	}
}

// check looks at all that went on, as its decoder does. whole says that nothing was lost.
func (r *player) check(whole bool) {
	var last sentPacket
	first, decoded := true, map[*encoded]bool{}
	oldest := r.newest
	for seq := range r.sent {
		if int16(seq-oldest) < 0 {
			oldest = seq
		}
	}
	for seq := oldest; seq != r.newest+1; seq++ {
		got, ok := r.sent[seq]
		if !ok {
			if whole {
				r.t.Fatalf("%s: no number %d", r.what, seq)
			}
			continue
		}
		if got.of == nil {
			continue
		}
		f := got.of
		if f.went != f.packets && whole {
			r.t.Fatalf("%s: %d of %d packets of frame %d", r.what, f.went, f.packets, f.number)
		}
		for _, ref := range f.refs {
			if ref.went == 0 && !f.key {
				r.t.Fatalf("%s: frame %d (%d.%d) without %d (%d.%d), which it refers to", r.what, f.number, f.spatial, f.temporal, ref.number, ref.spatial, ref.temporal)
			}
		}
		decoded[f] = true
		if first {
			if !f.key {
				r.t.Fatalf("%s: it begins with frame %d, which is no keyframe", r.what, f.number)
			}
		} else {
			same := f.picture == last.of.picture
			if same != (got.ts == last.ts) || int32(got.ts-last.ts) < 0 || f.picture < last.of.picture {
				r.t.Fatalf("%s: frame %d at %d, after %d at %d", r.what, f.number, got.ts, last.of.number, last.ts)
			}
			if whole && same == last.marker {
				r.t.Fatalf("%s: the last packet of frame %d before frame %d has the marker: %t", r.what, last.of.number, f.number, last.marker)
			}
			in := uint16(f.picture - last.of.picture)
			if r.codec == AV1 {
				in = f.number - last.of.number
			}
			if by := (got.picture - last.picture) & (1<<got.bits - 1); by != in {
				r.t.Fatalf("%s: picture %d after %d, want a step of %d", r.what, got.picture, last.picture, in)
			}
		}
		first, last = false, got
	}
	if first {
		r.t.Fatalf("%s: nothing went on", r.what)
	}
}

// recordings are what TestRecord of edge/sfu made, of two seconds of a keyframe each.
var recordings = map[string]struct {
	codec             Codec
	spatial, temporal int
}{"vp9-l3t3.trace": {VP9, 3, 3}, "av1-l3t3.trace": {AV1, 3, 3}, "av1-l2t2-key-shift.trace": {AV1, 2, 2}}

// TestRecordings plays what Chromium sent of stacked layers to subscribers that are moved from each
// place to each other, at many pictures.
func TestRecordings(t *testing.T) {
	for name, of := range recordings {
		all := record(t, name)
		pictures := all[len(all)-1].frame.picture
		tallest, longest := 0, 0
		for _, p := range all {
			tallest, longest = max(tallest, p.frame.spatial), max(longest, p.frame.temporal)
		}
		if tallest != of.spatial-1 || longest != of.temporal-1 {
			t.Fatalf("%s: layers up to %d.%d", name, tallest, longest)
		}
		moves := 0
		for from := range of.spatial * of.temporal {
			for to := -1; to < of.spatial*of.temporal; to++ {
				for at := 3; at < pictures; at += 7 {
					r := newReplay(t, all, of.codec)
					r.what = fmt.Sprintf("%s, from %d.%d to %d.%d at picture %d", name, from/of.temporal, from%of.temporal, to/of.temporal, to%of.temporal, at)
					r.sw.Want(from/of.temporal, from%of.temporal)
					for n := range all {
						if f := all[n].frame; f.picture == at && all[n-1].frame.picture < at {
							if to < 0 {
								r.sw.Want(-1, 0)
							} else {
								r.sw.Want(to/of.temporal, to%of.temporal)
							}
						}
						r.take(all, n)
					}
					r.check(true)
					r.obeys(all, at, to, of.temporal)
					moves++
				}
			}
		}
		t.Logf("%s: %d packets, %d pictures, %d moves", name, len(all), pictures+1, moves)
	}
}

// obeys: after the picture at which it is moved a subscriber gets no more than it wants, and from the
// next keyframe on all of it.
func (r *player) obeys(all []recorded, at, to, temporals int) {
	since := false
	for _, p := range all {
		f := p.frame
		if f.picture < at {
			continue
		}
		since = since || f.key
		wants := to >= 0 && f.spatial <= to/temporals && (f.temporal <= to%temporals || r.skew.found)
		if f.went > 0 && !wants {
			r.t.Fatalf("%s: frame %d (%d.%d, picture %d) goes on", r.what, f.number, f.spatial, f.temporal, f.picture)
		}
		if since && wants && f.went == 0 {
			r.t.Fatalf("%s: frame %d (%d.%d, picture %d) does not go on after a keyframe", r.what, f.number, f.spatial, f.temporal, f.picture)
		}
	}
}

// TestRecordingsOverLoss has packets of them come late, which were lost and asked for, structures too,
// while the subscriber is moved all the time.
func TestRecordingsOverLoss(t *testing.T) {
	for name, of := range recordings {
		all := record(t, name)
		for seed := range uint64(200) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			r := newReplay(t, all, of.codec)
			r.what = fmt.Sprintf("%s, seed %d", name, seed)
			r.sw.Want(of.spatial-1, of.temporal-1)
			due := map[int][]int{}
			for n := range len(all) + 40 {
				if n > 0 && rnd.IntN(40) == 0 {
					r.sw.Want(rnd.IntN(of.spatial), rnd.IntN(of.temporal))
				}
				for _, late := range due[n] {
					r.take(all, late)
				}
				switch {
				case n >= len(all):
				case n > 0 && rnd.IntN(25) == 0:
					again := n + 1 + rnd.IntN(30)
					due[again] = append(due[again], n)
				default:
					r.take(all, n)
				}
			}
			r.check(false)
		}
	}
}

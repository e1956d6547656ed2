package red

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// block is what a receiver takes of a RED payload (RFC 2198 section 3), written apart from Wrap.
type block struct {
	pt     uint8
	before uint32 // timestamp, back from the packet's
	data   string
}

func unwrap(t *testing.T, b []byte) (blocks []block) {
	t.Helper()
	var sizes []int
	for len(b) > 0 && b[0]&0x80 != 0 {
		v := uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		blocks = append(blocks, block{b[0] & 0x7f, v >> 10, ""})
		sizes = append(sizes, int(v&0x3ff))
		b = b[4:]
	}
	blocks = append(blocks, block{pt: b[0]})
	b = b[1:]
	for i, n := range sizes {
		blocks[i].data, b = string(b[:n]), b[n:]
	}
	blocks[len(blocks)-1].data = string(b)
	return blocks
}

func TestWrap(t *testing.T) {
	type in struct {
		seq     uint16
		ts      uint32
		payload string
	}
	long := string(bytes.Repeat([]byte("m"), longest+1))
	for _, c := range []struct {
		name   string
		before []in
		depth  int
		is     in
		want   []block
	}{
		{"nothing before", nil, 2, in{5, 960, "now"}, []block{{111, 0, "now"}}},
		{"one", []in{{4, 0, "a"}}, 2, in{5, 960, "now"}, []block{{111, 960, "a"}, {111, 0, "now"}}},
		{"two, oldest first", []in{{3, 0, "a"}, {4, 960, "bb"}}, 2, in{5, 1920, "now"}, []block{{111, 1920, "a"}, {111, 960, "bb"}, {111, 0, "now"}}},
		{"of three the last two", []in{{2, 0, "z"}, {3, 960, "a"}, {4, 1920, "b"}}, 2, in{5, 2880, "now"}, []block{{111, 1920, "a"}, {111, 960, "b"}, {111, 0, "now"}}},
		{"no deeper than asked", []in{{3, 0, "a"}, {4, 960, "b"}}, 1, in{5, 1920, "now"}, []block{{111, 960, "b"}, {111, 0, "now"}}},
		{"off", []in{{4, 0, "a"}}, 0, in{5, 960, "now"}, []block{{111, 0, "now"}}},
		{"not over what is missing", []in{{3, 0, "a"}}, 2, in{5, 1920, "now"}, []block{{111, 0, "now"}}},
		{"numbers and timestamps go round", []in{{65535, 1<<32 - 960, "a"}}, 2, in{0, 0, "now"}, []block{{111, 960, "a"}, {111, 0, "now"}}},
		{"a pause of DTX is too long", []in{{4, 0, "a"}}, 2, in{5, 19200, "now"}, []block{{111, 0, "now"}}},
		{"too long", []in{{4, 0, long}}, 2, in{5, 960, "now"}, []block{{111, 0, "now"}}},
		{"empty", []in{{4, 0, ""}}, 2, in{5, 960, "now"}, []block{{111, 0, "now"}}},
	} {
		var h History
		for _, p := range c.before {
			h.Add(p.seq, p.ts, []byte(p.payload))
		}
		b := h.Wrap([]byte("head"), c.depth, 111, c.is.seq, c.is.ts, []byte(c.is.payload))
		if got := unwrap(t, b[4:]); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if at, pt, ok := Last(b[4:]); !ok || pt != 111 || string(b[4+at:]) != c.is.payload {
			t.Errorf("%s: the last at %d, %d, %t", c.name, at, pt, ok)
		}
	}
}

func FuzzLast(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{111, 'a'})
	f.Add([]byte{0x80 | 111, 0, 0, 1, 111, 'a', 'b'})
	f.Add([]byte{0x80 | 111, 0, 3, 255, 111, 'a', 'b'})
	f.Add([]byte{0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		at, pt, ok := Last(b)
		if ok && (at < 1 || at > len(b) || pt > 127) {
			t.Errorf("%x: the last at %d, type %d", b, at, pt)
		}
		if !ok {
			return
		}
		if got := unwrap(t, b); got[len(got)-1].data != string(b[at:]) {
			t.Errorf("%x: the last is %q by Last", b, b[at:])
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	var h History
	buf, payload := make([]byte, 0, 2000), make([]byte, 80)
	seq := uint16(0)
	if n := testing.AllocsPerRun(100, func() {
		buf = h.Wrap(buf[:0], Depth, 111, seq, uint32(seq)*960, payload)
		h.Add(seq, uint32(seq)*960, payload)
		seq++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if want := 3*len(payload) + 2*headSize + lastSize; len(buf) != want {
		t.Errorf("%s", fmt.Sprint(len(buf), " bytes, want ", want))
	}
}

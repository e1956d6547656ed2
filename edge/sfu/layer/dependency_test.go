package layer

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"bailiwick/edge/sfu/rtp"
)

// writer writes bits.
type writer struct {
	b []byte
	n int
}

func (w *writer) put(v, n int) {
	for n--; n >= 0; n-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>n&1) << (7 - w.n%8)
		w.n++
	}
}

func (w *writer) ns(v, n int) {
	bits := 0
	for x := n; x > 0; x >>= 1 {
		bits++
	}
	if m := 1<<bits - n; v < m {
		w.put(v, bits-1)
	} else {
		w.put(v+m, bits)
	}
}

// row is one of the tables of A.6.
type row struct {
	s, t   int
	fdiffs []int
	chains []int
	dtis   string
}

// structure writes a template_dependency_structure; protected is decode_target_protected_by.
func (w *writer) structure(offset int, rows []row, protected []int, sizes [][2]int) {
	w.put(offset, 6)
	w.put(len(rows[0].dtis)-1, 5)
	for i, r := range rows {
		switch {
		case i+1 == len(rows):
			w.put(3, 2)
		case rows[i+1].s > r.s:
			w.put(2, 2)
		case rows[i+1].t > r.t:
			w.put(1, 2)
		default:
			w.put(0, 2)
		}
	}
	for _, r := range rows {
		for _, c := range r.dtis {
			w.put(strings.IndexRune("-DSR", c), 2)
		}
	}
	for _, r := range rows {
		for _, d := range r.fdiffs {
			w.put(1, 1)
			w.put(d-1, 4)
		}
		w.put(0, 1)
	}
	chains := len(rows[0].chains)
	w.ns(chains, len(rows[0].dtis)+1)
	if chains > 0 {
		for _, c := range protected {
			w.ns(c, chains)
		}
		for _, r := range rows {
			for _, c := range r.chains {
				w.put(c, 4)
			}
		}
	}
	w.put(min(1, len(sizes)), 1)
	for _, size := range sizes {
		w.put(size[0]-1, 16)
		w.put(size[1]-1, 16)
	}
}

// l1t3 is A.6.1's table, l3t3 is A.6.3's.
var (
	l1t3 = []row{
		{0, 0, nil, []int{0}, "SSS"},
		{0, 0, []int{4}, []int{4}, "SSS"},
		{0, 1, []int{2}, []int{2}, "SD-"},
		{0, 2, []int{1}, []int{1}, "D--"},
		{0, 2, []int{1}, []int{3}, "D--"},
	}
	l3t3 = []row{
		{0, 0, nil, []int{0, 0, 0}, "SSSSSSSSS"},
		{0, 0, []int{12}, []int{12, 11, 10}, "RRRRRRSSS"},
		{0, 1, []int{6}, []int{6, 5, 4}, "RR-RR-SD-"},
		{0, 2, []int{3}, []int{3, 2, 1}, "R--R--D--"},
		{0, 2, []int{3}, []int{9, 8, 7}, "R--R--D--"},
		{1, 0, []int{1}, []int{1, 1, 1}, "SSSSSS---"},
		{1, 0, []int{12, 1}, []int{1, 1, 1}, "RRRSSS---"},
		{1, 1, []int{6, 1}, []int{7, 6, 5}, "RR-SD----"},
		{1, 2, []int{3, 1}, []int{4, 3, 2}, "R--D-----"},
		{1, 2, []int{3, 1}, []int{10, 9, 8}, "R--D-----"},
		{2, 0, []int{1}, []int{2, 1, 1}, "SSS------"},
		{2, 0, []int{12, 1}, []int{2, 1, 1}, "SSS------"},
		{2, 1, []int{6, 1}, []int{8, 7, 6}, "SD-------"},
		{2, 2, []int{3, 1}, []int{5, 4, 3}, "D--------"},
		{2, 2, []int{3, 1}, []int{11, 10, 9}, "D--------"},
	}
	protected3 = []int{2, 2, 2, 1, 1, 1, 0, 0, 0}
	sizes3     = [][2]int{{320, 180}, {640, 360}, {1280, 720}}
)

// keyDescriptor is the first packet's of a keyframe that brings a structure.
func keyDescriptor(offset, number int, rows []row, protected []int, sizes [][2]int) []byte {
	var w writer
	w.put(2, 2) // the start
	w.put(offset, 6)
	w.put(number, 16)
	w.put(0x10, 5) // the structure is present
	w.structure(offset, rows, protected, sizes)
	return w.b
}

func TestDependencies(t *testing.T) {
	for _, table := range []struct {
		name      string
		rows      []row
		protected []int
		sizes     [][2]int
		up, fresh string // by template
	}{
		{"L1T3", l1t3, []int{0, 0, 0}, nil, "yyyyy", "ynnnn"},
		{"L3T3", l3t3, protected3, sizes3, "yyyyyyyyyyyyyyy", "ynnnnynnnnynnnn"},
	} {
		const offset = 60 // so that IDs wrap
		var s Dependencies
		if d, ok := s.Describe(1, []byte{0xc0 | offset, 0x12, 0x34}); !ok || d.Picture != 0x1234 || !d.Start || !d.End || d.Keyframe || d.span != 0 {
			t.Errorf("%s, before the structure: %+v %t", table.name, d, ok)
		}
		d, ok := s.Describe(2, keyDescriptor(offset, 7, table.rows, table.protected, table.sizes))
		if !ok || !d.Keyframe || d.Picture != 7 || d.Bits != 16 || !d.Fixed || !d.Fresh || !d.Up {
			t.Fatalf("%s: %+v %t", table.name, d, ok)
		}
		if n := len(table.sizes); n > 0 && (int(d.Width) != table.sizes[n-1][0] || int(d.Height) != table.sizes[n-1][1]) {
			t.Errorf("%s: %d×%d", table.name, d.Width, d.Height)
		}
		for i, r := range table.rows {
			d, ok := s.Describe(3, []byte{byte(offset+i) & 63, 0, 8})
			if !ok || int(d.Spatial) != r.s || int(d.Temporal) != r.t || d.Start || d.End || d.Keyframe {
				t.Errorf("%s, template %d: %+v %t", table.name, i+1, d, ok)
			}
			if d.Fresh != (table.fresh[i] == 'y') || d.Up != (table.up[i] == 'y') {
				t.Errorf("%s, template %d: fresh %t, up %t", table.name, i+1, d.Fresh, d.Up)
			}
			if d.Base != byte(offset+len(table.rows)-1) || int(d.span) != len(table.rows)-1 {
				t.Errorf("%s, template %d: IDs %d below %d", table.name, i+1, d.span, d.Base)
			}
		}
		if d, ok := s.Describe(3, []byte{byte(offset+len(table.rows)) & 63, 0, 8}); !ok || d.span != 0 || d.Spatial != 0 || d.Temporal != 0 {
			t.Errorf("%s, a template that there is not: %+v %t", table.name, d, ok)
		}
	}
}

func TestDependenciesOfOneFrame(t *testing.T) {
	var s Dependencies
	s.Describe(2, keyDescriptor(0, 7, l1t3, []int{0, 0, 0}, nil))
	var w writer
	w.put(2, 8)
	w.put(9, 16)
	w.put(0x0f, 5) // active decode targets, and all of its own
	w.put(3, 3)
	w.put(0b11_01_00, 6) // R, D, -
	w.put(3, 2)          // two references, of 12 bits and of 4
	w.put(299, 12)
	w.put(1, 2)
	w.put(1, 4)
	w.put(0, 2)
	w.put(2, 8) // a chain
	d, ok := s.Describe(3, w.b)
	if !ok || d.Temporal != 1 || d.Up || d.Fresh {
		t.Errorf("%+v %t", d, ok)
	}
	for n := range w.b {
		if d, ok := s.Describe(3, w.b[:n]); ok && n != 3 {
			t.Errorf("cut to %d bytes: %+v", n, d)
		}
	}
	was := s
	whole := keyDescriptor(9, 7, l3t3, protected3, sizes3)
	for n := range whole {
		if d, ok := s.Describe(4, whole[:n]); ok && n != 3 {
			t.Errorf("structure cut to %d bytes: %+v", n, d)
		}
	}
	if s != was {
		t.Error("a structure that was cut short is kept")
	}
	for name, rows := range map[string][]row{
		"a fifth spatial layer":  {{0, 0, nil, nil, "S"}, {1, 0, nil, nil, "S"}, {2, 0, nil, nil, "S"}, {3, 0, nil, nil, "S"}, {4, 0, nil, nil, "S"}},
		"too many templates":     make65(),
		"a ninth temporal layer": {{0, 0, nil, nil, "S"}, {0, 1, nil, nil, "S"}, {0, 2, nil, nil, "S"}, {0, 3, nil, nil, "S"}, {0, 4, nil, nil, "S"}, {0, 5, nil, nil, "S"}, {0, 6, nil, nil, "S"}, {0, 7, nil, nil, "S"}, {0, 8, nil, nil, "S"}},
	} {
		if d, ok := s.Describe(2, keyDescriptor(0, 7, rows, nil, nil)); ok {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestDependenciesThatComeLate: a structure that was lost, and had again, holds from then on; one that
// is older than the present one describes its own packet alone, as often as numbers have gone
// round.
func TestDependenciesThatComeLate(t *testing.T) {
	var s Dependencies
	tops := func(seq uint16, ext []byte) int {
		d, _ := s.Describe(seq, ext)
		return int(d.span) + 1
	}
	young, old, other := keyDescriptor(9, 7, l3t3, protected3, sizes3), keyDescriptor(0, 7, l1t3, []int{0, 0, 0}, nil), []byte{9, 0, 8}
	for i, step := range []struct {
		seq  int
		ext  []byte
		want int // templates
	}{
		{100, other, 1}, {90, old, 5}, {101, []byte{0, 0, 8}, 5}, {95, young, 15}, {102, other, 15},
		{90, old, 5}, {103, other, 15}, {95, young, 15}, {104, other, 15},
	} {
		if got := tops(uint16(step.seq), step.ext); got != step.want {
			t.Errorf("step %d: of %d templates, want %d", i, got, step.want)
		}
	}
	for seq := 104; seq < 1<<17; seq += 100 {
		tops(uint16(seq), other)
	}
	if tops(1<<17&0xffff, old); tops(1<<17&0xffff+1, []byte{0, 0, 8}) != 5 {
		t.Error("a young structure is taken for an old one")
	}
	if tops(40_000, young); tops(40_001, other) != 15 {
		t.Error("that of a source that began anew is taken for an old one")
	}
}

// TestDependenciesOfChromium: structures as Chromium writes them.
func TestDependenciesOfChromium(t *testing.T) {
	for _, row := range []struct {
		name, structure string
		width, height   uint16
		temporal        []uint8 // by template
	}{
		{"VP8", "c000018002044eaaaf2860414d34538a0940404fc02cc0", 320, 180, []uint8{0, 0, 0, 1, 1, 2, 2}},
		{"H.264, L1T3", "80006e800214eaa860414d1410208426", 0, 0, []uint8{0, 0, 1, 2, 2}},
	} {
		ext, err := hex.DecodeString(row.structure)
		if err != nil {
			t.Fatal(err)
		}
		var s Dependencies
		if d, ok := s.Describe(1, ext); !ok || !d.Keyframe || d.Width != row.width || d.Height != row.height {
			t.Errorf("%s: %+v %t", row.name, d, ok)
		}
		var temporal []uint8
		for i := range s.count {
			d, _ := s.Describe(2, []byte{s.offset + uint8(i), 0, 1})
			temporal = append(temporal, d.Temporal)
		}
		if !slices.Equal(temporal, row.temporal) {
			t.Errorf("%s: temporal layers %d, want %d", row.name, temporal, row.temporal)
		}
	}
}

func make65() (rows []row) {
	for range 65 {
		rows = append(rows, row{0, 0, nil, nil, "S"})
	}
	return rows
}

func TestWriteDependency(t *testing.T) {
	for _, offset := range []int{0, 5, 45, 63} {
		ext := keyDescriptor(offset, 7, l1t3, []int{0, 0, 0}, nil)
		var want, s Dependencies
		want.Describe(1, ext)
		WriteDependency(ext, rtp.Origin{Picture: 0xfedc, Base: 201})
		d, ok := s.Describe(1, ext)
		if !ok || d.Picture != 0xfedc || int(s.offset) != (offset+201)&63 || !d.Keyframe || d.span != 4 {
			t.Errorf("offset %d: %+v %t, offset %d", offset, d, ok, s.offset)
		}
		if want.offset = s.offset; s != want {
			t.Errorf("offset %d: more was changed than the offset", offset)
		}
	}
	short := []byte{0xc1, 0}
	WriteDependency(short, rtp.Origin{Picture: 1})
	if !bytes.Equal(short, []byte{0xc1, 0}) {
		t.Errorf("written into what is none: %x", short)
	}
}

// FuzzDependencies: what is written is read again.
func FuzzDependencies(f *testing.F) {
	f.Add([]byte{0xc1, 0, 1}, []byte{0xc1, 0, 2})
	f.Add(keyDescriptor(60, 7, l1t3, []int{0, 0, 0}, nil), []byte{2, 0, 2})
	f.Add(keyDescriptor(9, 7, l3t3, protected3, sizes3), []byte{12, 0, 2})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var s, viewer Dependencies
		for i, ext := range [][]byte{a, b} {
			want, ok := s.Describe(uint16(i), ext)
			ext = bytes.Clone(ext)
			WriteDependency(ext, rtp.Origin{Picture: 0x1234, Base: 0x56})
			got, again := viewer.Describe(uint16(i), ext)
			if ok != again {
				t.Fatalf("%x: ok %t, then %t", ext, ok, again)
			}
			if !ok {
				continue
			}
			want.Picture = 0x1234
			if want.span > 0 && (got.Base-want.Base-0x56)&63 != 0 {
				t.Errorf("%x: IDs up to %d, were up to %d", ext, got.Base, want.Base)
			}
			want.Base, got.Base = 0, 0
			if got != want {
				t.Errorf("%x: %+v, want %+v", ext, got, want)
			}
			if want.Spatial > 3 || want.Temporal > 7 {
				t.Errorf("%x: %+v", ext, want)
			}
		}
	})
}

// dependency describes a packet of a trace: with its own references each, and a structure that
// is another one for each simulcast layer.
func (x *trace) dependency(f *picture, i, n int) []byte {
	var rows []row
	for s := range x.height {
		for t := range 3 {
			r := row{s: s, t: t, dtis: strings.Repeat("R", 3*x.height)}
			dtis := []byte(r.dtis)
			for k := range dtis { // target 3s+t
				if k/3 < s || k%3 < t {
					dtis[k] = '-'
				}
			}
			r.dtis = string(dtis)
			rows = append(rows, r)
		}
	}
	offset := 20 * f.layer
	var w writer
	w.put(0, 2)
	if i == 0 {
		w.b[0] |= 0x80
	}
	if i == n-1 {
		w.b[0] |= 0x40
	}
	w.put((offset+3*f.spatial+f.temporal)&63, 6)
	w.put(int(f.number), 16)
	structure := f.key && i == 0
	flags := 0x06 // dtis, fdiffs
	if structure {
		flags |= 0x10
	}
	w.put(flags, 5)
	if structure {
		w.structure(offset, rows, nil, nil)
	}
	for k := range 3 * x.height {
		switch {
		case k/3 < f.spatial || k%3 < f.temporal:
			w.put(0, 2)
		case k/3 == f.spatial && (f.fresh || f.up && k%3 > f.temporal):
			w.put(2, 2)
		default:
			w.put(3, 2)
		}
	}
	for _, r := range f.refs {
		w.put(3, 2)
		w.put(int(f.number-r.number)-1, 12)
	}
	w.put(0, 2)
	return w.b
}

package sframe

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// encode is section 4.3, the other way.
func encode(kid, ctr uint64) []byte {
	b := []byte{0}
	field := func(v uint64) byte {
		if v < 8 {
			return byte(v)
		}
		var all [8]byte
		binary.BigEndian.PutUint64(all[:], v)
		i := 0
		for all[i] == 0 {
			i++
		}
		b = append(b, all[i:]...)
		return 8 | byte(7-i)
	}
	k := field(kid)
	b[0] = k<<4 | field(ctr)
	return b
}

// Rows of RFC 9605 appendix C.1.
var vectors = []struct {
	kid, ctr uint64
	encoded  string
}{
	{0, 0, "00"}, {0, 255, "08ff"}, {0, 65536, "0a010000"}, {1, 1, "11"}, {1, 256, "190100"}, {255, 0, "80ff"}, {255, 255, "88ffff"},
	{256, 1, "910100"}, {65535, 65535, "99ffffffff"}, {65536, 281474976710656, "ae01000001000000000000"},
	{16777215, 4294967295, "abffffffffffffff"}, {16777216, 255, "b801000000ff"},
	{4294967295, 18446744073709551615, "bfffffffffffffffffffffffff"}, {4294967296, 72057594037927936, "cf01000000000100000000000000"},
}

func TestParse(t *testing.T) {
	for _, v := range vectors {
		b, err := hex.DecodeString(v.encoded)
		if err != nil {
			t.Fatal(err)
		}
		want := Header{v.kid, v.ctr, len(b)}
		if h, ok := Parse(append(b, 0xab)); !ok || h != want {
			t.Errorf("%s: got %+v, %v; want %+v", v.encoded, h, ok, want)
		}
		if got := hex.EncodeToString(encode(v.kid, v.ctr)); got != v.encoded {
			t.Errorf("the test encodes %d, %d as %s, not %s", v.kid, v.ctr, got, v.encoded)
		}
		for n := range b {
			if h, ok := Parse(b[:n]); ok {
				t.Errorf("%s, cut at %d: got %+v", v.encoded, n, h)
			}
		}
	}
}

func TestGuard(t *testing.T) {
	const tag = 0x010203
	good, other := encode(tag<<8|7, 300), encode((tag+1)<<8|7, 300)
	type step struct {
		starts bool
		b      []byte
		want   bool
	}
	for _, tt := range []struct {
		name  string
		tag   uint32
		steps []step
	}{
		{"encrypted", tag, []step{{true, good, true}, {false, []byte{1}, true}, {true, good, true}}},
		{"before the first frame", tag, []step{{false, good, false}, {true, good, true}}},
		{"in the clear", tag, []step{{true, []byte{0x78, 1, 2, 3, 4, 5}, false}, {false, good, false}, {true, good, true}}},
		{"in the clear later", tag, []step{{true, good, true}, {true, []byte{0xb0}, false}, {false, []byte{1}, false}}},
		{"under another's KIDs", tag, []step{{true, other, false}}},
		{"a KID of five octets", tag, []step{{true, encode(1<<32|tag<<8, 0), false}}},
		{"whose KIDs are not known", 0, []step{{true, good, false}, {true, encode(0, 0), false}, {true, encode(255, 0), false}}},
		{"nothing", tag, []step{{true, nil, true}, {false, []byte{1}, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var g Guard
			for i, s := range tt.steps {
				if got := g.Pass(tt.tag, s.starts, s.b); got != s.want {
					t.Errorf("step %d: got %v", i, got)
				}
			}
		})
	}
	var g Guard
	if n := testing.AllocsPerRun(100, func() { g.Pass(tag, true, good) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		b, _ := hex.DecodeString(v.encoded)
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add([]byte{0x88, 0x00, 0x00}) // more octets than it needs
	f.Add([]byte{0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := Parse(b)
		if !ok {
			if h != (Header{}) {
				t.Errorf("%x: %+v, which is none", b, h)
			}
			return
		}
		if h.Size < 1 || h.Size > len(b) || h.Size > 17 {
			t.Fatalf("%x: %d octets", b, h.Size)
		}
		again, ok := Parse(append(encode(h.KID, h.CTR), b[h.Size:]...))
		if !ok || again.KID != h.KID || again.CTR != h.CTR || again.Size > h.Size {
			t.Errorf("%x: %+v, and encoded anew %+v", b, h, again)
		}
		var g Guard
		if g.Pass(uint32(h.KID>>8), true, b) != (h.KID>>8 != 0 && h.KID>>8 <= 1<<32-1) {
			t.Errorf("%x: %+v passes not as its tag says", b, h)
		}
	})
}

package rtp

import (
	"bytes"
	"testing"

	pion "github.com/pion/rtp"
)

// turned has each number x as y and the other way round.
func turned(pairs ...uint8) *Numbers {
	n := new(Numbers)
	for i := range n.Types {
		n.Types[i] = uint8(i)
	}
	for i := range n.Extensions {
		n.Extensions[i] = uint8(i)
	}
	for i := 0; i < len(pairs); i += 2 {
		x, y := pairs[i], pairs[i+1]
		n.Extensions[x], n.Extensions[y] = y, x
		n.Types[x], n.Types[y] = y, x
	}
	return n
}

func TestRenumber(t *testing.T) {
	for name, row := range map[string]struct {
		profile uint16
		long    int
	}{"one byte": {pion.ExtensionProfileOneByte, 16}, "two bytes": {pion.ExtensionProfileTwoByte, 40}} {
		h := pion.Header{Version: 2, PayloadType: 96, SequenceNumber: 7, SSRC: 9, Extension: true, ExtensionProfile: row.profile, CSRC: []uint32{1, 2}}
		for id, payload := range map[uint8][]byte{3: {3}, 5: bytes.Repeat([]byte{5}, row.long), 8: {8, 8}} {
			if err := h.SetExtension(id, payload); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := (&pion.Packet{Header: h, Payload: []byte("payload")}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		was := bytes.Clone(raw)
		n := turned(3, 8, 96, 111, 5, 1)
		n.Renumber(raw)
		p, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if p.PayloadType != 111 || string(p.Payload) != "payload" || len(p.Extension(3)) != 2 || len(p.Extension(8)) != 1 || len(p.Extension(1)) != row.long || p.Extension(5) != nil {
			t.Errorf("%s: %+v: %x", name, p, raw)
		}
		if n.Renumber(raw); !bytes.Equal(raw, was) {
			t.Errorf("%s: there and back: %x, was %x", name, raw, was)
		}
		if a := testing.AllocsPerRun(100, func() { n.Renumber(raw) }); a != 0 {
			t.Errorf("%s: %v allocations", name, a)
		}
	}
}

// FuzzRenumber: what a packet carries is the same, whatever its numbers.
func FuzzRenumber(f *testing.F) {
	f.Add([]byte("\x90\x60\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\xbe\xde\x00\x01\x10\x0a\x20\x0bpayload"))
	f.Add([]byte("\x90\x60\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x10\x00\x00\x01\x01\x02ab"))
	n := turned(1, 2, 96, 97)
	f.Fuzz(func(t *testing.T, b []byte) {
		before, err := Parse(b)
		var one, payload []byte
		if err == nil {
			one, payload = bytes.Clone(before.Extension(1)), bytes.Clone(before.Payload)
		}
		n.Renumber(b)
		after, again := Parse(b)
		if (err == nil) != (again == nil) {
			t.Fatalf("%v before, %v after", err, again)
		}
		if err == nil && (!bytes.Equal(after.Payload, payload) || !bytes.Equal(after.Extension(2), one) || n.Types[before.PayloadType] != after.PayloadType) {
			t.Fatalf("%+v before, %+v after", before, after)
		}
	})
}

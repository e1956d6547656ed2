package siphash

import "testing"

// TestVectors has the vectors of the algorithm's authors: the key is 00..0f, the
// message 00, 01, ….
func TestVectors(t *testing.T) {
	var key [16]byte
	var msg []byte
	for i := range key {
		key[i] = byte(i)
	}
	for i, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		msg = msg[:0]
		for k := range i {
			msg = append(msg, byte(k))
		}
		if got := Sum64(&key, msg); got != want {
			t.Errorf("%d octets: got %x, want %x", i, got, want)
		}
	}
}

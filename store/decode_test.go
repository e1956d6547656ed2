package store

import (
	"reflect"
	"testing"
)

// What decode accepts, encode writes back to the same state.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"rev":0,"entries":[]}`))
	f.Add([]byte(`{"format":1,"rev":7,"entries":[{"key":"a/b","rev":7,"value":"aGVsbG8="},{"key":"b","rev":2,"value":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rev, entries, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(rev, entries)
		if err != nil {
			t.Fatalf("encode of what was decoded: %v", err)
		}
		rev2, entries2, err := decode(again)
		if err != nil || rev2 != rev || !reflect.DeepEqual(entries2, entries) {
			t.Errorf("got %d %+v, %v, want %d %+v", rev2, entries2, err, rev, entries)
		}
	})
}

package sfu

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bailiwick/edge/sfu/rtp"
)

// TestRecord writes what Chromium sends of stacked layers to where BAILIWICK_RECORD says, for package
// layer's testdata: of each packet its length, how much of it is kept, and so much, which is the header
// and what may be a payload descriptor. A keyframe is asked for now and then.
func TestRecord(t *testing.T) {
	dir := os.Getenv("BAILIWICK_RECORD")
	if dir == "" {
		t.Skip("BAILIWICK_RECORD names no directory")
	}
	const payload = 24
	for name, query := range map[string]string{"vp9-l3t3.trace": "&codec=VP9&mode=L3T3",
		"av1-l3t3.trace": "&codec=AV1&mode=L3T3", "av1-l2t2-key-shift.trace": "&codec=AV1&mode=L2T2_KEY_SHIFT&down=2"} {
		s := listen(t)
		srv := serveBrowsers(t, s)
		browser := chromium(t)
		a, b := open(t, browser, srv.URL, "a", query), open(t, browser, srv.URL, "b", "&mute")
		b.until("shown all of it", func(r browserReport) bool { return r.Received["a"]["video"].Width >= 640 })
		track, _ := shown(s)
		var all []byte
		var packet []byte
		n := uint32(1)
		for was, ok := false, false; ok || !was; n++ { // up to the newest
			was = was || ok
			packet, ok = track.copyOf(0, n, packet[:0])
		}
		n--
		for i := range 45 {
			time.Sleep(100 * time.Millisecond) // a ring keeps half a second
			if i%12 == 3 {
				track.wantKeyframe(0)
			}
			for {
				var ok bool
				if packet, ok = track.copyOf(0, n, packet[:0]); !ok {
					break
				}
				n++
				p, err := rtp.Parse(packet)
				if err != nil {
					t.Fatal(err)
				}
				keep := len(packet) - len(p.Payload) + min(len(p.Payload), payload)
				all = append(binary.BigEndian.AppendUint16(all, uint16(len(packet))), byte(keep))
				all = append(all, packet[:keep]...)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), all, 0o644); err != nil {
			t.Fatal(err)
		}
		a.do("ws.close()")
	}
}

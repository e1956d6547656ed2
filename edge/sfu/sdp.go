package sfu

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/pion/sdp/v3"
)

// maxSDP bounds an answer in bytes; one with six participants is about 12 kB.
const maxSDP = 64 << 10

// checkAnswer refuses an answer that is not one to an offer with these m-lines
// (RFC 9429 section 5.11): the transport's parser takes far more than that.
func checkAnswer(text string, mlines []Kind) error {
	if len(text) > maxSDP {
		return fmt.Errorf("sdp: %d bytes, limit %d", len(text), maxSDP)
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return fmt.Errorf("sdp: %w", err)
	}
	if len(d.MediaDescriptions) != len(mlines) {
		return fmt.Errorf("sdp: %d m-lines, the offer has %d", len(d.MediaDescriptions), len(mlines))
	}
	for i, m := range d.MediaDescriptions {
		if m.MediaName.Media != mlines[i].String() {
			return fmt.Errorf("sdp: m-line %d: %.16q, the offer has %s", i, m.MediaName.Media, mlines[i])
		}
		if mid, _ := m.Attribute(sdp.AttrKeyMID); mid != strconv.Itoa(i) {
			return fmt.Errorf("sdp: m-line %d: mid %.16q, the offer has %d", i, mid, i)
		}
		if setup, ok := attribute(&d, m, sdp.AttrKeyConnectionSetup); ok && setup != "active" && setup != "passive" {
			return fmt.Errorf("sdp: m-line %d: setup %.16q in an answer", i, setup)
		}
	}
	first := d.MediaDescriptions[0]
	for _, key := range []string{"ice-ufrag", "ice-pwd", "fingerprint"} {
		if v, _ := attribute(&d, first, key); v == "" {
			return errors.New("sdp: no " + key)
		}
	}
	return nil
}

// attribute looks in the m-line, then in the session.
func attribute(d *sdp.SessionDescription, m *sdp.MediaDescription, key string) (string, bool) {
	if v, ok := m.Attribute(key); ok {
		return v, true
	}
	return d.Attribute(key)
}

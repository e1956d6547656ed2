package sfu

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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

// videoLine is the m-line on which a participant sends video.
const videoLine = 1

// offerLayers has an offer take simulcast on videoLine (RFC 8853). pion, which says nothing of
// it to begin with, says later what the answer did.
func offerLayers(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if isLayers(line) {
			continue
		}
		b.WriteString(line)
		if strings.TrimRight(line, "\r\n") == "a=mid:"+strconv.Itoa(videoLine) {
			for _, rid := range rids {
				b.WriteString("a=rid:" + rid + " recv\r\n")
			}
			b.WriteString("a=simulcast:recv " + strings.Join(rids[:], ";") + "\r\n")
		}
	}
	return b.String()
}

// answeredLayers takes from an answer what it says of layers, but for those of ours that it
// sends: with none of these it is a single stream.
func answeredLayers(text string) (plain string, layers bool) {
	var b strings.Builder
	var of []string
	for line := range strings.Lines(text) {
		if !isLayers(line) {
			b.WriteString(line)
			continue
		}
		f := strings.Fields(line)
		rid := strings.TrimPrefix(f[0], "a=rid:")
		if len(f) > 1 && f[1] == "send" && layerOf([]byte(rid)) >= 0 && !slices.Contains(of, rid) {
			of = append(of, rid)
			b.WriteString("a=rid:" + rid + " send\r\n")
		}
	}
	return b.String(), len(of) > 0
}

func isLayers(line string) bool {
	return strings.HasPrefix(line, "a=rid:") || strings.HasPrefix(line, "a=simulcast:")
}

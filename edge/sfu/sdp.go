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
func checkAnswer(text string, mlines []string) error {
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
		if m.MediaName.Media != mlines[i] {
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

// oneCandidate drops the candidates of component 2: RTCP is multiplexed.
func oneCandidate(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(line, "a=candidate:") && f[1] != "1" {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

// dataLine is the m-line of data.
const dataLine = 2

// dataThird makes data the third m-line of a first offer, as every later one takes over from
// the answer to it. pion has data last then, and by a MID that an outlet may have.
func dataThird(offer string) string {
	const data = "m=application"
	head, lines := sections(offer)
	was := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, data) })
	if was <= dataLine {
		return offer
	}
	third := lines[was]
	lines = slices.Insert(slices.Delete(lines, was, was+1), dataLine, third)
	var b strings.Builder
	group := "a=group:BUNDLE"
	for i := range lines {
		group += " " + strconv.Itoa(i)
	}
	for line := range strings.Lines(head) {
		if strings.HasPrefix(line, "a=group:BUNDLE") {
			line = group + "\r\n"
		}
		b.WriteString(line)
	}
	for i, l := range lines {
		for line := range strings.Lines(l) {
			if strings.HasPrefix(line, "a=mid:") {
				line = "a=mid:" + strconv.Itoa(i) + "\r\n"
			}
			b.WriteString(line)
		}
	}
	return b.String()
}

// sections takes an SDP apart: what is of the session, and its m-lines.
func sections(text string) (head string, lines []string) {
	const begin = "\nm="
	for {
		i := strings.Index(text[min(1, len(text)):], begin)
		if i < 0 {
			break
		}
		i += 1 + len("\n")
		if head == "" {
			head = text[:i]
		} else {
			lines = append(lines, text[:i])
		}
		text = text[i:]
	}
	return head, append(lines, text)
}

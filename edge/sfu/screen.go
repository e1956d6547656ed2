package sfu

import (
	"strconv"
	"strings"

	"bailiwick/edge/sfu/rtp"
	"bailiwick/edge/signal"
)

// screenLine is the m-line on which a participant sends the screen that it shares, in one stream.
const screenLine = 3

var screenMID = strconv.Itoa(screenLine)

// maxScreens bounds the streams that an answer may name: a screen, and its repair.
const maxScreens = 4

// answeredScreen reads in an answer which streams will come of a screen, as far as it says (RFC
// 5576); nil where none will.
func answeredScreen(answer string) *[]uint32 {
	_, lines := sections(answer)
	if len(lines) <= screenLine {
		return nil
	}
	of := []uint32{}
	for line := range strings.Lines(lines[screenLine]) {
		line = strings.TrimSpace(line)
		if line == "a=inactive" || line == "a=recvonly" || strings.HasPrefix(line, "m=video 0 ") {
			return nil
		}
		ssrc, named := strings.CutPrefix(line, "a=ssrc:")
		ssrc, _, _ = strings.Cut(ssrc, " ")
		n, err := strconv.ParseUint(ssrc, 10, 32)
		if named && err == nil && len(of) < maxScreens && (len(of) == 0 || of[len(of)-1] != uint32(n)) {
			of = append(of, uint32(n))
		}
	}
	return &of
}

// isScreen tells whether a stream of video is that of a screen, by its first packet: by the m-line
// that it names (RFC 8843 section 9.2), or else by the answer.
func (t *pionTransport) isScreen(p *rtp.Packet) bool {
	of := t.screens.Load()
	if of == nil {
		return false
	}
	if mid := p.Extension(extMID); mid != nil {
		return string(mid) == screenMID
	}
	for _, ssrc := range *of {
		if ssrc == p.SSRC {
			return true
		}
	}
	return false
}

// parts are how much of what is left for videos without layers the line gets, beside others.
func (l *line) parts() int {
	if l.kind == Screen {
		return large
	}
	return 1
}

// claim is what a screen takes before any face is upgraded, in bit/s: what comes of it, or where its
// sender is held back all that it could.
func (l *line) claim(most int) int {
	rate := l.src.Load().rate()
	if l.share > 0 && rate > l.share*4/5 {
		return most
	}
	return rate
}

// tellScreenLocked tells the client what its screen may take, as far as that has changed: each time,
// or where it has become less.
func (x *Session) tellScreenLocked(each bool) {
	t := x.pub.tracks[Screen]
	if !x.who.state.Screen || x.stopped || x.who.media != x {
		t.ceiling.Store(0)
		return
	}
	most, told := int64(t.ceilingLocked()), t.ceiling.Load()
	if told > 0 && most >= told*9/10 && (!each || most <= told*11/10) {
		return
	}
	t.ceiling.Store(most)
	x.sink(signal.Screen{Type: signal.TypeScreen, Rate: int(most)})
}

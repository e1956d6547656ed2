package sfu

import (
	"maps"
	"slices"

	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/signal"
)

// quality is how one participant's video reaches another. The zero value is all of it.
type quality struct {
	video signal.Video
	cause signal.Cause
}

// qualityLocked is that of p's video as q receives it: what takes most of it away, and of two that
// take as much what comes first here.
func (r *room) qualityLocked(p, q *participant) quality {
	switch {
	case !q.state.ReceiveVideo, p.stated && !p.state.Camera:
		return quality{signal.VideoOff, signal.CauseChosen}
	case r.step == ladder.Audio:
		return quality{signal.VideoOff, signal.CauseEdge}
	}
	if l := lineTo(q.media.neg.lines, p, Video); l != nil && p.media.pub.tracks[Video].published() {
		// A sender from whom nothing comes may have only begun: that is not told as a weak connection.
		switch shown, cause := l.quality(); {
		case shown == videoOff && (cause == causeOwn || cause == causeEdge):
			return quality{signal.VideoOff, signal.Cause(cause.String())}
		case shown == videoLow && cause == causeOwn, shown == videoLow && cause == causePeer:
			return quality{signal.VideoReduced, signal.Cause(cause.String())}
		}
	}
	if r.step != ladder.Full {
		return quality{signal.VideoReduced, signal.CauseEdge}
	}
	return quality{}
}

// tellQualityLocked tells the client what has changed of the others' video since it was last told.
func (x *Session) tellQualityLocked(seats []*participant) {
	if x.who.parked {
		return
	}
	for _, p := range seats {
		if p == x.who || p.viewer || p.parked {
			continue
		}
		is := x.room.qualityLocked(p, x.who)
		if is == x.quality[p] {
			continue
		}
		if x.quality == nil {
			x.quality = map[*participant]quality{}
		}
		x.quality[p] = is
		m := signal.Quality{Type: signal.TypeQuality, Participant: p.id, Video: is.video, Cause: is.cause}
		if is == (quality{}) {
			m.Video = signal.VideoFull
		}
		x.sink(m)
	}
	maps.DeleteFunc(x.quality, func(p *participant, _ quality) bool { return !slices.Contains(seats, p) })
}

package sfu

import (
	"maps"
	"slices"
	"time"

	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/signal"
)

// lasting is how long a video must have been worse, or better again, before its receiver is told;
// but what the edge or one of the two does is told at once, and so is that it stops or comes back.
const lasting = 5 * time.Second

// quality is how one participant's video reaches another. The zero value is all of it.
type quality struct {
	video signal.Video
	cause signal.Cause
}

// told is what a client was told of one video, and what that has come to since.
type told struct {
	is, next quality
	since    time.Time
}

// due says whether it is time to tell of next.
func (t *told) due(now time.Time) bool {
	stops := (t.is.video == signal.VideoOff) != (t.next.video == signal.VideoOff)
	waits := t.next.cause == signal.CausePeer || !stops && t.next.cause != signal.CauseEdge && t.is.cause != signal.CauseEdge
	return t.is != t.next && (!waits || now.Sub(t.since) >= lasting)
}

// judgeLocked notes what the line shows once it is moved to a place, as number i of the
// allocation.
func (l *line) judgeLocked(a *allocation, i int, to place) {
	v, c := &a.videos[i], &a.offers[i]
	v.Current = a.given[i]
	switch {
	case len(c.layers) == 0 && c.capped:
		l.quality = quality{signal.VideoOff, signal.CauseEdge}
	case len(c.layers) == 0:
		l.quality = quality{signal.VideoOff, signal.CausePeer}
	case to.spatial < 0:
		l.quality = quality{signal.VideoOff, signal.CauseOwn}
	case l.share > 0 && l.share < plainVideo || a.Want(0, a.videos[i:i+1]) > 0:
		l.quality = quality{signal.VideoReduced, signal.CauseOwn}
	case c.capped:
		l.quality = quality{signal.VideoReduced, signal.CauseEdge}
	case c.lacks:
		l.quality = quality{signal.VideoReduced, signal.CausePeer}
	default:
		l.quality = quality{}
	}
}

// qualityLocked is that of p's video as q receives it; to itself it is as it is sent.
func (r *room) qualityLocked(p, q *participant) quality {
	switch l := lineTo(q.media.neg.lines, p, Video); {
	case p == q && p.media.rests && p.media.obeys && p.state.Camera:
		return quality{signal.VideoOff, signal.CauseOwn}
	case p == q:
		return quality{}
	case !q.state.ReceiveVideo, p.stated && !p.state.Camera:
		return quality{signal.VideoOff, signal.CauseChosen}
	case r.step == ladder.Audio:
		return quality{signal.VideoOff, signal.CauseEdge}
	case l != nil && l.on && p.stated && l.quality != (quality{}):
		return l.quality
	case r.step != ladder.Full:
		return quality{signal.VideoReduced, signal.CauseEdge}
	}
	return quality{}
}

// tellQualityLocked tells the client what has changed of the others' video since it was last told, and
// whether its own rests by its own connection.
func (x *Session) tellQualityLocked(seats []*participant, now time.Time) {
	if x.who.parked {
		return
	}
	for _, p := range seats {
		if p.viewer || p.parked {
			continue
		}
		t := x.videos[p]
		if is := x.room.qualityLocked(p, x.who); is != t.next {
			t.next, t.since = is, now
		}
		due := t.due(now)
		if due {
			t.is = t.next
		} else if t.is.cause == signal.CauseChosen && t.next.cause == signal.CausePeer { // it is on, and on its way
			t.is, due = quality{}, true
		}
		if due {
			m := signal.Quality{Type: signal.TypeQuality, Participant: p.id, Video: t.is.video, Cause: t.is.cause}
			if t.is == (quality{}) {
				m.Video = signal.VideoFull
			}
			x.sink(m)
		}
		if x.videos == nil {
			x.videos = map[*participant]told{}
		}
		x.videos[p] = t
	}
	maps.DeleteFunc(x.videos, func(p *participant, _ told) bool { return !slices.Contains(seats, p) })
}

package sfu

// shown is what a subscriber has of a video.
type shown uint8

const (
	videoOff shown = iota
	videoLow
	videoFull
)

func (s shown) String() string { return [...]string{"off", "low", "full"}[s] }

// cause is why a subscriber has less of a video than all.
type cause uint8

const (
	causeNone   cause = iota
	causeOwn          // its connection carries no more
	causePeer         // who is shown sends no more
	causeEdge         // the room's step leaves no more
	causeChosen       // it wants none, or is not to have it
)

func (c cause) String() string { return [...]string{"", "own", "peer", "edge", "chosen"}[c] }

// quality is what the line shows now, and why it is not more. The caller holds room.mu.
func (l *line) quality() (shown, cause) { return l.shown, l.cause }

// judgeLocked notes what the line shows once it is moved to a place, as number i of the
// allocation.
func (l *line) judgeLocked(a *allocation, i int, to place) {
	v, c := &a.videos[i], &a.offers[i]
	v.Current = a.given[i]
	switch l.shown, l.cause = videoLow, causeOwn; {
	case len(c.layers) == 0 && c.capped:
		l.shown, l.cause = videoOff, causeEdge
	case len(c.layers) == 0:
		l.shown, l.cause = videoOff, causePeer
	case to.spatial < 0:
		l.shown = videoOff
	case l.share > 0 && l.share < plainVideo || a.Want(0, a.videos[i:i+1]) > 0:
	case c.capped:
		l.cause = causeEdge
	case c.lacks:
		l.cause = causePeer
	default:
		l.shown, l.cause = videoFull, causeNone
	}
}

package edge

import (
	"slices"
	"time"

	"bailiwick/consult/router"
)

// maxLines of a consult's timeline are kept, the last ones.
const maxLines = 50

// line adds to the timeline of a consult, which whoever asks this edge for the consult sees. It is
// safe for concurrent use.
func (rm *runner) line(at time.Time, what, is, reason string) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.timeline = append(rm.timeline, router.Line{At: at.UTC().Truncate(time.Millisecond), What: what, Is: is, Reason: reason})
	rm.timeline = rm.timeline[max(0, len(rm.timeline)-maxLines):]
}

// lines are those that are kept, oldest first.
func (rm *runner) lines() []router.Line {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return slices.Clone(rm.timeline)
}

package sfu

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	"bailiwick/edge/signal"
)

// published are the m-lines that every offer begins with.
var published = [...]string{"audio", "video", "application", "video"}

// firstLine is the m-line of lines[0].
const firstLine = len(published)

// negotiator keeps a connection's m-lines towards its client what the room wants them to be:
// it offers, and takes the answers.
type negotiator struct {
	media transport
	count *counters

	mu      sync.Mutex // held while the transport negotiates
	seq     int        // of the last offer
	waiting bool       // for its answer
	mlines  []string   // that it had

	lines []*line // of m-lines 4 and on; guarded by room.mu, and changed under mu too
}

// offer sends an offer when there is something new and the last one is answered.
func (n *negotiator) offer(x *Session) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting {
		return nil // Answer kicks again
	}
	x.room.mu.Lock()
	next, changed := plan(n.lines, x.room.seats, x.who)
	stopped := x.stopped
	x.room.mu.Unlock()
	if stopped || !changed && n.seq > 0 {
		return nil
	}
	if err := n.apply(next); err != nil {
		return err
	}
	sdp, err := n.media.Offer()
	if err != nil {
		return err
	}
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	n.lines = next
	if x.stopped {
		return nil
	}
	n.seq++
	n.waiting = true
	n.mlines = append(n.mlines[:0], published[:]...)
	m := signal.Offer{Type: signal.TypeOffer, SDP: sdp, Seq: n.seq, Tracks: []signal.Track{}}
	for i, l := range next {
		n.mlines = append(n.mlines, l.kind.section())
		if l.who != nil {
			m.Tracks = append(m.Tracks, signal.Track{MID: strconv.Itoa(firstLine + i), Participant: l.who.id, Kind: l.kind.String()})
		}
	}
	n.count.offers.Add(1)
	x.sink(m)
	return nil
}

// plan lists the lines as they should be: those of leavers without anybody, one for each kind
// of the media of everybody else who sends any, in an idle m-line where there is one. A screen has
// lines while it is shared.
func plan(lines []*line, seats []*participant, self *participant) (next []*line, changed bool) {
	next = slices.Clone(lines)
	for i, l := range next {
		if l.who != nil && (!l.who.sends(l.kind) || !slices.Contains(seats, l.who)) {
			next[i] = &line{kind: l.kind}
			changed = true
		}
	}
	for _, p := range seats {
		for _, k := range kinds {
			if p == self || !p.sends(k) || slices.ContainsFunc(next, func(l *line) bool { return l.who == p && l.kind == k }) {
				continue
			}
			i := slices.IndexFunc(next, func(l *line) bool { return l.who == nil && l.kind == k })
			if i < 0 {
				i = len(next)
				next = append(next, nil)
			}
			next[i] = &line{kind: k, who: p}
			changed = true
		}
	}
	return next, changed
}

// apply makes the transport's m-lines what the plan says. A new *line is a change.
func (n *negotiator) apply(next []*line) error {
	for i, l := range next {
		var was *line
		if i < len(n.lines) {
			was = n.lines[i]
		}
		if l == was {
			continue
		}
		if was != nil && was.who != nil {
			if err := n.media.Shut(firstLine + i); err != nil {
				return fmt.Errorf("m-line %d: shut: %w", firstLine+i, err)
			}
		}
		if l.who == nil {
			continue
		}
		out, err := n.media.Open(firstLine+i, l.kind, l.who.id)
		if err != nil {
			return fmt.Errorf("m-line %d: open: %w", firstLine+i, err)
		}
		l.init(out, n.count)
	}
	return nil
}

func (n *negotiator) answer(x *Session, a signal.Answer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-x.done:
		return nil // replaced or ended: it will hear so
	default:
	}
	if !n.waiting || a.Seq != n.seq {
		return fmt.Errorf("seq %d: no such offer is open", a.Seq)
	}
	if err := checkAnswer(a.SDP, n.mlines); err != nil {
		return err
	}
	if err := n.media.Answer(a.SDP); err != nil {
		select {
		case <-x.done:
			return nil
		default:
		}
		return err
	}
	n.waiting = false
	x.update(func() {
		for _, l := range n.lines {
			l.ready = l.who != nil
		}
	})
	return nil
}

// lineTo is the negotiated line that carries p's media of kind k.
func lineTo(lines []*line, p *participant, k Kind) *line {
	for _, l := range lines {
		if l.who == p && l.kind == k && l.ready {
			return l
		}
	}
	return nil
}

package edge

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/edge/sfu"
	"bailiwick/edge/sfu/ladder"
	"bailiwick/steer"
)

const (
	// measureEvery is how often the edge looks at what it sends, and at its machine.
	measureEvery = time.Second
	// spoken is what one more consult takes as audio, in bit/s on the wire: what moves is bound by
	// that alone.
	spoken = 100_000
	// coarse is by how many percent of the budget what is sent must have changed before others are
	// told: each tenth more or less is a new World to every node.
	coarse = 5
	// smooth is over how many measurements CPU is averaged: a thousand joins at once are no load
	// that lasts, and no step would relieve it.
	smooth = 3
)

// pressure is what an edge sends and its machine bears, and what its consults lose for it: the
// ladder's hands. It is safe for concurrent use.
type pressure struct {
	edge  *Edge
	gauge func() (cpu, memory float64) // shares of what there is, 0 to 1

	mu     sync.Mutex
	ladder *ladder.Ladder
	held   map[consult.ID]*held // the consults that are a load
	last   time.Time            // the last measurement
	sent   uint64               // bytes, by then
	load   ladder.Load
	report ladder.Report
	egress int // percent of the budget, as others were told
	steps  map[taken]uint64

	consults []ladder.Consult // scratch
}

// taken is a step that a consult took.
type taken struct {
	ladder.Reason
	ladder.Step
	ladder.Priority
}

// held is one consult as the ladder has it.
type held struct {
	ladder.Consult
	room *runner
	rates
}

func newPressure(e *Edge) *pressure {
	return &pressure{edge: e, gauge: newGauge().read, ladder: ladder.New(rand.Uint64()), held: map[consult.ID]*held{}, steps: map[taken]uint64{}}
}

// run measures until ctx ends.
func (p *pressure) run(ctx context.Context) error {
	t := time.NewTicker(measureEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			p.tick(time.Now())
		}
	}
}

// begin takes a consult for a load, and limits it as the ladder does those of its kind.
func (p *pressure) begin(rm *runner, t *consult.Terms, profile consult.Profile, in entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &held{Consult: ladder.Consult{ID: string(rm.id), Priority: ladder.PriorityOf(string(t.Priority)), Profile: allotted(profile)}, room: rm, rates: newRates()}
	if h.Step = p.ladder.Step(&h.Consult); in == voice {
		h.Step = ladder.Audio
	}
	h.Rates = h.foresee(h.Step)
	p.held[rm.id] = h
	if h.Step != ladder.Full {
		rm.line(time.Now(), "video", h.Step.String(), "entered")
	}
	p.edge.sfu.Limit(h.ID, h.Step)
}

// limit says again what a consult is left with, to a room that was just made.
func (p *pressure) limit(id consult.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.held[id]; h != nil {
		p.edge.sfu.Limit(h.ID, h.Step)
	}
}

func (p *pressure) profile(id consult.ID, profile consult.Profile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.held[id]; h != nil {
		h.Profile = allotted(profile)
	}
}

func (p *pressure) end(id consult.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, id)
}

// step is what a consult is left with; "" of one that is no load.
func (p *pressure) step(id consult.ID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.held[id]; h != nil {
		return h.Step.String()
	}
	return ""
}

// takes tells whether new consults of a priority have no better place elsewhere.
func (p *pressure) takes(rank steer.Priority) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(rank-steer.Education) >= int(p.report.Here)
}

// tick measures, and has the consults take their steps.
//
// What the relay sends to clients is in what the SFU sends: a relay has no other peer, and what
// passes between the two is inside the machine.
func (p *pressure) tick(now time.Time) {
	sent, rooms := p.edge.sfu.Stats().Sent, p.edge.sfu.Rooms()
	p.mu.Lock()
	defer p.mu.Unlock()
	cpu, memory := p.gauge()
	since := now.Sub(p.last)
	first := p.last.IsZero()
	p.last, p.sent, sent = now, sent, sent-p.sent
	if first || since <= 0 {
		return
	}
	p.load = ladder.Load{Egress: rate(sent, since), Budget: p.budget(), CPU: p.load.CPU + (cpu-p.load.CPU)/smooth, Memory: memory}
	for i := range rooms {
		if h := p.held[consult.ID(rooms[i].ID)]; h != nil {
			h.measure(&rooms[i], h.Step, now, since)
		}
	}
	p.consults = p.consults[:0]
	for _, h := range p.held {
		h.Rates = h.foresee(h.Step)
		p.consults = append(p.consults, h.Consult)
	}
	was := p.report.Rung
	p.report = p.ladder.Tick(now, p.load, p.consults)
	for _, c := range p.report.Changes {
		h := p.held[consult.ID(c.ID)]
		h.Step, h.since = c.To, now
		p.steps[taken{c.Reason, c.To, h.Priority}]++
		p.edge.sfu.Limit(c.ID, c.To)
		h.room.line(now, "video", c.To.String(), c.Reason.String())
		h.room.degraded(now, c.To.String(), c.Reason.String())
	}
	switch is := p.report.Rung; {
	case was == 0 && is > 0:
		p.edge.cfg.Log.Warn("the edge sheds load: consults lose quality, the least clinical first", "reason", p.report.Over.String(), "consults", len(p.held),
			"egress_mbps", p.load.Egress/1e6, "budget_mbps", p.load.Budget/1e6, "cpu", p.load.CPU, "memory", p.load.Memory)
	case was > 0 && is == 0:
		p.edge.cfg.Log.Info("the edge sheds no load any more", "consults", len(p.held))
	}
	if share := p.share(); share-p.egress >= coarse || p.egress-share >= coarse || share == 0 {
		p.egress = share
	}
}

// budget is what the edge may send by the map in force, in bit/s; 0: no bound.
func (p *pressure) budget() int {
	w := p.edge.cfg.World.Current()
	if i := w.RegionIndex(p.edge.cfg.Region); i >= 0 {
		return w.Regions[i].Capacity.Budget()
	}
	return 0
}

// share is what is sent, in percent of the budget.
func (p *pressure) share() int {
	if p.load.Budget == 0 {
		return 0
	}
	return 100 * p.load.Egress / p.load.Budget
}

// tell puts into a load what others are to know.
func (p *pressure) tell(l *steer.Load) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.Egress, l.Sheds = p.egress, int(p.report.Here)
	l.Spent = p.report.Spent && p.report.Over == ladder.Egress || p.load.Budget > 0 && len(p.held)*spoken >= p.load.Budget
}

// counts are the consults by step and priority, the steps that were taken, and the load.
func (p *pressure) counts() (now map[taken]int, ever map[taken]uint64, load ladder.Load, rung int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, ever = map[taken]int{}, map[taken]uint64{}
	for _, h := range p.held {
		now[taken{Step: h.Step, Priority: h.Priority}]++
	}
	for k, n := range p.steps {
		ever[k] = n
	}
	return now, ever, p.load, p.report.Rung
}

// rate is bytes over a time in bit/s.
func rate(bytes uint64, over time.Duration) int {
	return int(float64(bytes) * 8 / over.Seconds())
}

// rates is what a consult sends, and so what it would send at the other steps.
type rates struct {
	pairs          int     // of people who see each other
	video          float64 // what its video takes, of the plan's
	sends          int     // bit/s, measured
	since          time.Time
	packets, bytes uint64
	measured       bool
}

func newRates() rates { return rates{pairs: 1, video: 1} }

// plan is that of two people, in bit/s on the wire: 1.5 Mbit/s each way, and Opus (acceptance G2).
var plan = [ladder.Steps]int{ladder.Full: 3_000_000, ladder.Spatial: 1_000_000, ladder.Temporal: 1_800_000, ladder.Both: 600_000, ladder.Audio: 80_000}

const (
	// around is what a packet of a room has beside its payload: RTP with its extensions, SRTP's
	// tag, UDP and IPv4.
	around = 12 + 8 + 16 + 8 + 20
	// settled is how long after a step a consult's rate says something of it.
	settled = 3 * time.Second
)

// measure takes what a room has forwarded by now.
func (r *rates) measure(s *sfu.RoomStats, step ladder.Step, now time.Time, over time.Duration) {
	packets, bytes, known := s.Packets-r.packets, s.Bytes-r.bytes, r.measured && s.Packets >= r.packets
	r.packets, r.bytes, r.measured = s.Packets, s.Bytes, true
	r.pairs = max(1, s.Participants*(s.Participants-1)/2)
	if !known { // a room that was just made
		return
	}
	r.sends = rate(bytes+packets*around, over)
	if step != ladder.Audio && now.Sub(r.since) >= settled {
		r.video = max(0, float64(r.sends-r.pairs*plan[ladder.Audio])/float64(r.pairs*(plan[step]-plan[ladder.Audio])))
	}
}

// foresee is what the consult sends at each step: as measured where it is, and elsewhere by the
// plan, with its own share of the plan's video.
func (r *rates) foresee(step ladder.Step) (all [ladder.Steps]int) {
	for s, bits := range plan {
		all[s] = r.pairs * (plan[ladder.Audio] + int(r.video*float64(bits-plan[ladder.Audio])))
	}
	if r.measured {
		all[step] = r.sends
	}
	return all
}

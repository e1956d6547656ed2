package ladder

import "bailiwick/edge/sfu/allot"

// Priority is how clinical a consult is: the lower is shed first. Its names are those of package
// consult, in that order.
type Priority uint8

const (
	Education Priority = iota
	FollowUp
	Routine
	Urgent
	Emergency
)

var priorities = [...]string{"education", "follow-up", "routine", "urgent", "emergency"}

func (p Priority) String() string { return priorities[p] }

// PriorityOf reads a name; an unknown one is routine, as that of a consult without any.
func PriorityOf(name string) Priority {
	for i, n := range priorities {
		if n == name {
			return Priority(i)
		}
	}
	return Routine
}

// Step is what of its video a consult is left with.
type Step uint8

const (
	Full     Step = iota
	Spatial       // resolution is capped
	Temporal      // frame rate is capped
	Both          // resolution and frame rate are
	Audio         // no video
	Steps         // how many there are
)

var steps = [Steps]string{"full", "spatial", "temporal", "both", "audio"}

// String is the step's name in metrics and on a consult's timeline.
func (s Step) String() string { return steps[s] }

// loss is one that a consult can suffer, in the terms of the order below.
type loss uint8

const (
	first  loss = iota // cap of what the profile can best do without
	second             // cap of both
	video              // the voice remains
	speech             // video that is somebody's speech: sign language, lips
	losses
)

// walks are the ways down of each profile. Sign language is not read below 20 frames a second, so
// that consult has no cap of frame rate; detail is looked at, and loses frame rate before
// resolution.
var walks = [...][]struct {
	loss loss
	to   Step
}{
	allot.Face:   {{first, Spatial}, {second, Both}, {video, Audio}},
	allot.Detail: {{first, Temporal}, {second, Both}, {video, Audio}},
	allot.Sign:   {{first, Spatial}, {speech, Audio}},
}

// order is that of all losses, the package's law. One is suffered when all before it have been.
var order = [...]struct {
	Priority
	loss
}{
	{Education, first}, {Education, second}, {Education, video},
	{FollowUp, first}, {Routine, first}, {FollowUp, second}, {Routine, second}, {FollowUp, video}, {Routine, video},
	{Urgent, first}, {Urgent, second}, {Urgent, video},
	{Emergency, first}, {Emergency, second},
	{Education, speech}, {FollowUp, speech}, {Routine, speech}, {Urgent, speech},
	{Emergency, video}, {Emergency, speech},
}

// Rungs is how many the order has; Report.Rung counts them from 1.
const Rungs = len(order)

// rungs is the order by what is lost.
var rungs = func() (r [len(priorities)][losses]uint8) {
	for i, o := range order {
		r[o.Priority][o.loss] = uint8(i + 1)
	}
	return r
}()

// A place is one in the order: the rung, within it sign language last, and then the consult's lot,
// which no tenant can choose and which is the same at each step.
type place uint64

const (
	top      place = 0 // nothing is lost
	bottom   place = 1<<64 - 1
	rungBits       = 56
	signBit        = 1 << (rungBits - 1)
)

func (p place) rung() int { return int(p >> rungBits) }

func (c *Consult) place(l loss, lot uint64) place {
	p := place(rungs[c.Priority][l])<<rungBits | place(lot)&(signBit-1)
	if c.Profile == allot.Sign {
		p |= signBit
	}
	return p
}

// at is the consult's step when the node is at p.
func (c *Consult) at(p place, lot uint64) Step {
	s := Full
	for _, w := range walks[c.Profile] {
		if c.place(w.loss, lot) > p {
			break
		}
		s = w.to
	}
	return s
}

// lot is FNV-1a over the seed and the id, stirred as in splitmix64 so that ids which differ at
// their end alone are apart in the upper bits too.
func lot(seed uint64, id string) uint64 {
	h := uint64(14695981039346656037) ^ seed
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

package sfu

import "time"

const (
	// A queue stands before us, and is full, where a voice comes so much later than the fastest of
	// late and so much of what is sent is lost, in packets and as a part. Of one that has no end a
	// browser's own estimator hears enough; and a voice that is only late can be a busy machine's.
	late      = 80 * time.Millisecond
	lostLeast = 2
	lostPart  = 0.1
	// standing is how long that must last, of what comes: who was held up sends the rest at once.
	standing = 120 * time.Millisecond
	// stretched is when it is no queue any more, but a path that has become longer.
	stretched = 2 * time.Second
	// The fastest is that of one to two times this.
	fastest = 5 * time.Second
	// A voice that has paused for so long says nothing of what was meanwhile.
	paused = 300 * time.Millisecond
	// reset is a difference that no queue makes, but a clock that was set.
	reset = 3 * time.Second
)

// uplink watches the path of who sends, by the voice, which is sent as its timestamps say whatever
// becomes of it. A browser needs seconds to see that its path has become much slower, and drowns
// its own voice until then; here it shows with the first packets. It is the transport's worker's.
type uplink struct {
	ssrc  uint32
	seq   uint16        // of the newest packet
	ts    uint32        // and its timestamp
	said  time.Duration // by that, since the first
	first time.Time     // when that came
	came  time.Time     // and the newest

	began    time.Time // of the newer half of late
	now, was time.Duration

	grew  time.Time // when a queue began to stand; zero: none does
	since time.Time // from when on is counted, of everything:
	bytes int       // on the wire, since it stands
	got   int       // packets
	span  int       // of their numbers
	wide  uint16    // the newest of those
}

// arrived takes what came, of the voice or not, with its transport-wide number.
func (u *uplink) arrived(wide uint16, bytes int) {
	if u.got == 0 {
		u.wide = wide - 1
	}
	if step := int16(wide - u.wide); step > 0 {
		u.wide, u.span = wide, u.span+int(step)
	}
	u.got++
	u.bytes += bytes + overhead
}

// hear takes one packet of the voice. It returns what the path carries, in bit/s, where a queue has
// stood for a while, and else 0.
func (u *uplink) hear(ssrc uint32, seq uint16, ts uint32, at time.Time) (rate int) {
	step, gap := int16(seq-u.seq), at.Sub(u.came)
	if u.first.IsZero() || ssrc != u.ssrc {
		u.begin(ssrc, seq, ts, at)
		return 0
	}
	if step <= 0 { // it was asked for again
		return 0
	}
	u.said += time.Duration(int32(ts-u.ts)) * time.Second / time.Duration(clockRate[Audio])
	u.seq, u.ts, u.came = seq, ts, at
	by := at.Sub(u.first) - u.said
	if d := by - min(u.now, u.was); d > reset || d < -reset {
		u.begin(ssrc, seq, ts, at)
		return 0
	}
	if at.Sub(u.began) > fastest {
		u.began, u.was, u.now = at, u.now, by
	}
	u.now = min(u.now, by)
	if by -= min(u.now, u.was); by < late || step == 1 && gap > paused {
		u.grew = time.Time{}
		return 0
	}
	if u.grew.IsZero() {
		u.grew, u.bytes = at, 0
		u.count(at)
		return 0
	}
	over, lost := at.Sub(u.since), u.span-u.got
	switch {
	case over < standing:
		return 0
	case at.Sub(u.grew) > stretched:
		u.begin(ssrc, seq, ts, at)
		return 0
	case lost >= lostLeast && float64(lost) >= lostPart*float64(u.span):
		rate = max(1, int(float64(8*u.bytes)/at.Sub(u.grew).Seconds()))
	}
	u.count(at)
	return rate
}

// crowded says whether the newest of the voice came late: what is asked for again then comes later
// still, and makes all of it later.
func (u *uplink) crowded(at time.Time) bool { return !u.grew.IsZero() && at.Sub(u.came) < paused }

func (u *uplink) begin(ssrc uint32, seq uint16, ts uint32, at time.Time) {
	*u = uplink{ssrc: ssrc, seq: seq, ts: ts, first: at, came: at, began: at}
}

func (u *uplink) count(at time.Time) { u.since, u.got, u.span = at, 0, 0 }

const (
	// A publisher whose path is flooded is told to stay within so much of what that carries, for so long.
	braked   = 0.85
	brakeFor = 2 * time.Second
	// filmed is what a path must carry for video beside a voice, in bit/s. With less it rests, until
	// it is tried again, with its lowest layer first: longer each time that this did not last.
	filmed             = 90_000
	restFor, restMost  = 8 * time.Second, 32 * time.Second
	trialFor, provenIn = 3 * time.Second, 10 * time.Second
)

// brake is what is done about a publisher's path. It is guarded by room.mu.
type brake struct {
	rate  int       // bit/s, 0: it is let go
	until time.Time // it holds
	rests bool      // the video does
	next  time.Time // until then
	rest  time.Duration
	tried time.Time
}

// flood takes that the path carries rate, in bit/s.
func (b *brake) flood(rate int, now time.Time) {
	again := b.rate > 0
	b.rate, b.until = max(int(braked*float64(rate)), leastRate), now.Add(brakeFor)
	if rate >= filmed || b.rests || !again { // the first is of a few packets
		return
	}
	if now.Sub(b.tried) < provenIn {
		b.rest = min(2*b.rest, restMost)
	} else {
		b.rest = restFor
	}
	b.rests, b.next = true, now.Add(b.rest)
}

// pass lets go what has been held long enough, and says whether video was.
func (b *brake) pass(now time.Time) (again bool) {
	if b.rate > 0 && !now.Before(b.until) {
		b.rate = 0
	}
	if b.rests && !now.Before(b.next) {
		b.rests, b.tried, again = false, now, true
	}
	return again
}

// lets is which layers of the video may be sent.
func (b *brake) lets(now time.Time) mask {
	switch {
	case b.rests:
		return 0
	case now.Sub(b.tried) < trialFor:
		return 1
	}
	return every
}

// poor says whether a voice as it comes is too much for the path, as far as is known.
func (b *brake) poor(now time.Time) bool {
	return b.rests || b.rate > 0 && b.rate < thin || now.Sub(b.tried) < provenIn
}

// slow has the publisher's path not be flooded any longer, where it is.
func (x *Session) slow(now time.Time) {
	rate := x.pub.flooded.Swap(0)
	if rate == 0 {
		return
	}
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	x.flood(int(rate), now)
	x.pub.forgive(x.rests)
	x.demandLocked(now)
	x.tellVoiceLocked(now)
	if x.who.media == x {
		x.who.session.tellQualityLocked(x.room.seats, now)
	}
}

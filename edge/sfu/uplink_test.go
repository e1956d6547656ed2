package sfu

import (
	"math/rand/v2"
	"testing"
	"time"
)

// mouth sends a voice and a video through one queue, as a browser does that knows nothing of it.
type mouth struct {
	rnd    *rand.Rand
	u      uplink
	at     time.Time // of the sender
	free   time.Time // when the queue is empty
	last   time.Time // arrival
	seq    uint16
	wide   uint16
	ts     uint32
	owed   int             // bytes of video
	floods []time.Duration // when it was told
	found  []int           // and what
}

// speak sends for so long: a voice of 50 packets a second and video of so many bit/s, through a
// queue of 0.3 s at a rate. Of all that part is lost besides.
func (m *mouth) speak(d time.Duration, rate, video int, loss float64, jitter time.Duration) {
	for end := m.at.Add(d); m.at.Before(end); m.at = m.at.Add(20 * time.Millisecond) {
		for m.owed += video / 50 / 8; m.owed >= 1200; m.owed -= 1200 {
			m.packet(1200, rate, loss, jitter, false)
		}
		m.packet(80, rate, loss, jitter, true)
		m.seq, m.ts = m.seq+1, m.ts+960
	}
}

func (m *mouth) packet(size, rate int, loss float64, jitter time.Duration, voice bool) {
	if m.free.Before(m.at) {
		m.free = m.at
	}
	m.wide++
	took := time.Duration((size+overhead)*8) * time.Second / time.Duration(rate)
	if m.free.Add(took).Sub(m.at) > 300*time.Millisecond {
		return
	}
	m.free = m.free.Add(took)
	if m.rnd.Float64() < loss {
		return
	}
	at := m.free.Add(20 * time.Millisecond)
	if jitter > 0 {
		at = at.Add(time.Duration(m.rnd.Int64N(int64(jitter))))
	}
	if at.Before(m.last) {
		at = m.last
	}
	m.last = at
	m.u.arrived(m.wide, size)
	if !voice {
		return
	}
	if rate := m.u.hear(7, m.seq, m.ts, at); rate > 0 {
		m.floods, m.found = append(m.floods, at.Sub(epoch)), append(m.found, rate)
	}
}

var epoch = time.Unix(1000, 0)

func newMouth() *mouth {
	return &mouth{rnd: rand.New(rand.NewPCG(1, 9)), at: epoch, seq: 65_500, ts: 1<<32 - 96_000}
}

// TestFloodedUplink: a path that becomes much slower than what is sent is seen within half a second,
// and about what it carries.
func TestFloodedUplink(t *testing.T) {
	for _, rate := range []int{60_000, 150_000, 300_000} {
		m := newMouth()
		m.speak(20*time.Second, 20_000_000, 1_800_000, 0, 5*time.Millisecond)
		if len(m.floods) > 0 {
			t.Errorf("a good path is flooded at %v", m.floods)
		}
		m.speak(time.Second, rate, 1_800_000, 0, 5*time.Millisecond)
		if !m.u.crowded(m.last) {
			t.Errorf("%d bit/s: not crowded", rate)
		}
		if len(m.floods) == 0 || m.floods[0] > 20*time.Second+600*time.Millisecond {
			t.Fatalf("%d bit/s: told at %v", rate, m.floods)
		}
		if got := m.found[0]; got < rate*3/5 || got > rate*13/10 {
			t.Errorf("%d bit/s: %d found", rate, got)
		}
	}
}

// TestNoFlood: what is not a queue that is full.
func TestNoFlood(t *testing.T) {
	for name, play := range map[string]func(*mouth){
		"Wi-Fi":                  func(m *mouth) { m.speak(time.Minute, 20_000_000, 1_800_000, 0.02, 60*time.Millisecond) },
		"15 % loss":              func(m *mouth) { m.speak(time.Minute, 20_000_000, 1_800_000, 0.15, 20*time.Millisecond) },
		"its own pace":           func(m *mouth) { m.speak(time.Minute, 300_000, 150_000, 0, 0) },
		"a busy machine's voice": func(m *mouth) { m.ts -= 9600; m.speak(10*time.Second, 20_000_000, 1_800_000, 0, 0) },
		"held up": func(m *mouth) {
			m.free = m.at.Add(280 * time.Millisecond) // all of it comes at once then
			m.speak(10*time.Second, 20_000_000, 500_000, 0, 0)
		},
		"silence":     func(m *mouth) { m.at = m.at.Add(20 * time.Second); m.speak(time.Second, 20_000_000, 0, 0, 0) },
		"its clock":   func(m *mouth) { m.ts += 1 << 31; m.speak(time.Second, 20_000_000, 0, 0.15, 0) },
		"its numbers": func(m *mouth) { m.seq += 20_000; m.speak(time.Second, 20_000_000, 0, 0.15, 0) },
	} {
		m := newMouth()
		m.speak(20*time.Second, 20_000_000, 1_800_000, 0, 5*time.Millisecond)
		if play(m); len(m.floods) > 0 {
			t.Errorf("%s: flooded at %v", name, m.floods)
		}
		m.speak(11*time.Second, 20_000_000, 0, 0, 0) // until it counts as the path's length
		if m.u.crowded(m.last) {
			t.Errorf("%s: still crowded", name)
		}
	}
}

// TestLongerPath: one that has become longer, and loses some, counts as flooded no longer than
// it takes to tell.
func TestLongerPath(t *testing.T) {
	m := newMouth()
	m.speak(20*time.Second, 20_000_000, 500_000, 0.15, 0)
	m.ts -= 9600 // 0.2 s
	m.speak(20*time.Second, 20_000_000, 500_000, 0.15, 0)
	if n := len(m.floods); n > 0 && m.floods[n-1] > 20*time.Second+stretched+time.Second {
		t.Errorf("flooded until %v", m.floods[n-1])
	}
}

// TestBrake: video rests where a path does not carry it, is tried again with its lowest layer, and
// rests longer each time that this did not last.
func TestBrake(t *testing.T) {
	var b brake
	at := func(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }
	expect := func(s float64, rate int, lets mask, poor bool) {
		t.Helper()
		if b.pass(at(s)); b.rate != rate || b.lets(at(s)) != lets || b.poor(at(s)) != poor {
			t.Errorf("after %v s: %d bit/s, layers %b, poor %t; want %d, %b, %t", s, b.rate, b.lets(at(s)), b.poor(at(s)), rate, lets, poor)
		}
	}
	expect(0, 0, every, false)
	b.flood(400_000, at(1))
	expect(1, 340_000, every, false)
	expect(3.1, 0, every, false)
	b.flood(60_000, at(9.9))
	expect(9.9, 51_000, every, true)
	b.flood(60_000, at(10))
	expect(10, 51_000, 0, true)
	b.flood(50_000, at(11))
	expect(11, 42_500, 0, true)
	expect(13.1, 0, 0, true)
	expect(18.1, 0, 1, true)
	b.flood(70_000, at(18.9))
	b.flood(70_000, at(19))
	expect(34.9, 0, 0, true) // 16 s
	expect(35.1, 0, 1, true)
	expect(38.2, 0, every, true)
	expect(45.2, 0, every, false)
	b.flood(70_000, at(49.9))
	b.flood(70_000, at(50))
	expect(57.9, 0, 0, true)
	expect(58.1, 0, 1, true)
}

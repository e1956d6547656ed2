package bwe

import "time"

const (
	slice  = 20 * time.Millisecond
	slices = 32

	long  = 500 * time.Millisecond // a rate to grow by
	short = 200 * time.Millisecond // a rate to fall by, which must not remember what was before
	brief = 100 * time.Millisecond // the same, where it is flooded
)

// meter measures a rate over the last half second of one clock.
type meter struct {
	started       bool
	first, newest time.Duration
	head          int64 // number of the newest slice
	bytes         [slices]int32
	packets       [slices]int32
}

func (m *meter) add(at time.Duration, size int) {
	n := int64(at / slice)
	if !m.started || n >= m.head+slices || n <= m.head-50*slices { // silence, or a jump of the clock
		*m = meter{started: true, first: at, newest: at, head: n}
	}
	if n <= m.head-slices {
		return
	}
	for ; m.head < n; m.head++ {
		m.bytes[(m.head+1)&(slices-1)], m.packets[(m.head+1)&(slices-1)] = 0, 0
	}
	m.bytes[n&(slices-1)] += int32(size)
	m.packets[n&(slices-1)]++
	m.newest = max(m.newest, at)
}

// rate is in bit/s over the time up to the newest packet, and of how many packets.
func (m *meter) rate(over time.Duration) (rate float64, packets int) {
	if !m.started {
		return 0, 0
	}
	k := int64(over / slice)
	bytes := 0
	for n := m.head; n > m.head-k; n-- {
		bytes += int(m.bytes[n&(slices-1)])
		packets += int(m.packets[n&(slices-1)])
	}
	from := max(m.first, time.Duration(m.head-k+1)*slice)
	return float64(bytes*8) / max(m.newest-from, slice).Seconds(), packets
}

// recent is the rate over the short time if that has packets enough to tell.
func (m *meter) recent() float64 {
	if rate, n := m.rate(short); n >= 8 {
		return rate
	}
	rate, _ := m.rate(long)
	return rate
}

// extreme is the largest value of the last 5 to 10 seconds.
type extreme struct {
	began    time.Duration
	now, was float64
	some     bool
}

func (x *extreme) add(at time.Duration, v float64) {
	if d := at - x.began; !x.some || d > 10*time.Second || d < 0 {
		*x = extreme{began: at, now: v, was: v, some: true}
	} else if d > 5*time.Second {
		x.began, x.was, x.now = at, x.now, v
	}
	x.now = max(x.now, v)
}

func (x *extreme) value() float64 { return max(x.now, x.was) }

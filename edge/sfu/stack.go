package sfu

import (
	"time"

	"bailiwick/edge/sfu/layer"
)

// A layer is what a subscriber can be switched to, whether it has a stream of its own (simulcast) or
// is stacked with those below it in one (SVC). Rings, gaps and clocks are of streams; what
// somebody is given, and what that takes, is of layers (ADR 25).

// weighLocked counts a packet of a stream with the layer that it is of.
func (t *track) weighLocked(d *layer.Descriptor, of int, ts uint32, size int, at time.Time) {
	if s := min(int(d.Spatial), layer.Layers-1); !t.layered.Load() && s > 0 || t.stacked.Load() {
		t.layered.Store(true)
		t.stacked.Store(true)
		of = s
	}
	t.flows[of].add(d, ts, size, at)
	if t.stacked.Load() && t.flatLocked(at) {
		t.flows[1], t.flows[2] = flow{}, flow{}
		t.stacked.Store(false)
		t.layered.Store(false)
	}
}

// flatLocked tells whether a stack has become a stream without layers, though they are asked for.
func (t *track) flatLocked(now time.Time) bool {
	for of := 1; of < layer.Layers; of++ {
		if t.flows[of].comes(now) {
			return false
		}
	}
	return t.asks.has(1) && now.Sub(t.since[1]) > patient
}

// takesLocked is what up to a place takes, in bit/s.
func (t *track) takesLocked(to place) (rate int) {
	if t.stacked.Load() {
		for of := range to.spatial {
			rate += t.flows[of].upTo(to.temporal)
		}
	}
	return rate + t.flows[to.spatial].upTo(to.temporal)
}

// sizeLocked is a layer's, in pixels, as far as that is known. A stack's keyframes tell the size of the
// highest that comes with them; each is twice the one below it.
func (t *track) sizeLocked(of int) (width, height int) {
	f, up := &t.flows[of], 0
	if t.stacked.Load() {
		f, up = &t.flows[0], of
	}
	if f.width == 0 { // as a camera's are
		return 320 << of, 180 << of
	}
	return f.width >> f.tallest << up, f.height >> f.tallest << up
}

// streamOf is the one that a layer comes with.
func (t *track) streamOf(layer int) int {
	if t.stacked.Load() {
		return 0
	}
	return layer
}

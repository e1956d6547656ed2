package layer

// Clocks relates the timestamps of one publisher's layers: each has an offset of its own, and
// all tell the same wall clock in their sender reports (RFC 3550 section 6.4.1).
type Clocks struct {
	Rate    uint32 // Hz
	reports [Layers]report
}

type report struct {
	known bool
	ntp   uint64
	ts    uint32
}

// Report takes a sender report of a layer.
func (c *Clocks) Report(layer int, ntp uint64, ts uint32) {
	c.reports[layer] = report{true, ntp, ts}
}

// Forget is for a layer that another source has taken over.
func (c *Clocks) Forget(layer int) { c.reports[layer] = report{} }

// Ahead tells how far a layer's timestamps are ahead of another's at the same instant.
func (c *Clocks) Ahead(of, layer int) (ticks uint32, ok bool) {
	if c == nil || of < 0 {
		return 0, false
	}
	a, b := c.reports[of], c.reports[layer]
	apart := int64(b.ntp-a.ntp) >> 16 // 1/65536 s
	if !a.known || !b.known || apart > 60<<16 || apart < -60<<16 {
		return 0, false // of a layer that was off for long: its next one comes soon
	}
	return b.ts - a.ts - uint32(apart*int64(c.Rate)>>16), true
}

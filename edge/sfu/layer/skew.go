package layer

// Skew finds streams of which the frames of one picture are of different temporal layers, as in
// L2T2_KEY_SHIFT. What of such a picture goes on cannot be told when it begins: they are had with
// all their temporal layers, or not at all. Once one was found so it stays.
type Skew struct {
	found, any bool
	ts         uint32
	temporal   uint8
}

// Level has a packet's frame be of the lowest temporal layer, if the stream is skewed.
func (s *Skew) Level(d *Descriptor, ts uint32) {
	if d.Fixed && s.any && ts == s.ts && d.Temporal != s.temporal {
		s.found = true
	}
	s.any, s.ts, s.temporal = d.Fixed, ts, d.Temporal
	if s.found {
		d.Temporal, d.Up = 0, false
	}
}

package rtp

// seen remembers which of the last window sequence numbers came. Its newest number
// is the caller's: add is given the distance to it.
type seen struct {
	bits [window / 64]uint64
}

func (s *seen) reset() { *s = seen{} }

// add marks seq, which is ahead of newest by step (or behind it, step <= 0), and
// reports whether it is new. The caller has made sure that -window < step.
func (s *seen) add(newest, seq uint16, step int) bool {
	if step >= window {
		s.reset()
	} else {
		for n := newest + 1; step > 1; n, step = n+1, step-1 { // the skipped ones
			s.bits[n%window/64] &^= 1 << (n % 64)
		}
		if step == 1 {
			s.bits[seq%window/64] &^= 1 << (seq % 64)
		}
	}
	word, bit := &s.bits[seq%window/64], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

package sfu

import "time"

// Opus has 510 kbit/s at most (RFC 6716 section 2.1.1). A second of that comes at once where a path
// stood still.
const (
	voiceMost  = 510_000         // bit/s
	voiceBurst = voiceMost / 8.0 // bytes
)

// bound is how much more of a voice is taken: what calls itself one goes to everybody, before any
// video, whatever it takes.
type bound struct {
	spent float64 // bytes of the burst
	at    time.Time
}

// take reports false for a packet that is too much.
func (b *bound) take(bytes int, at time.Time) bool {
	b.spent = max(0, b.spent-at.Sub(b.at).Seconds()*voiceMost/8)
	b.at = at
	if b.spent+float64(bytes) > voiceBurst {
		return false
	}
	b.spent += float64(bytes)
	return true
}

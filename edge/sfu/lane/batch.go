package lane

import (
	"cmp"
	"slices"

	"bailiwick/datagram"
)

// depth is how many datagrams wait at most: three packets of a frame to forty.
const depth = 128

// Batch gathers datagrams for all of a lane's addresses, and sends them together: ordered by
// where they go, for the system carries a run to one destination as one message. It is for
// one goroutine.
type Batch struct {
	lane    *Lane
	writers []writer // of the lane's addresses
	n       int
	queued  [depth]queued
	bufs    [depth][datagram.MaxOut]byte
}

type queued struct {
	to   *destination
	ssrc uint32
	b    []byte
}

// Batch makes one for a goroutine that is none of the lane's workers. Call Flush.
func (l *Lane) Batch() *Batch { return l.batch(0) }

func (l *Lane) batch(worker int) *Batch {
	b := &Batch{lane: l}
	for _, c := range l.conns {
		b.writers = append(b.writers, c.out.writer(worker))
	}
	return b
}

// Lend gives a batch to a goroutine that seldom needs one, and flushes it.
func (l *Lane) Lend(do func(*Batch)) {
	b, _ := l.batches.Get().(*Batch)
	if b == nil {
		b = l.Batch()
	}
	do(b)
	b.Flush()
	l.batches.Put(b)
}

// next is memory for the datagram that is put next.
func (b *Batch) next() []byte {
	if b.n == depth {
		b.Flush()
	}
	return b.bufs[b.n][:0]
}

// put queues one in next's memory.
func (b *Batch) put(packet []byte, ssrc uint32, to *destination) {
	b.queued[b.n] = queued{to, ssrc, packet}
	b.n++
}

// Flush sends what was put in. Packets of one stream stay in their order.
func (b *Batch) Flush() {
	if b.n == 0 {
		return
	}
	all := b.queued[:b.n]
	slices.SortStableFunc(all, func(x, y queued) int {
		if c := cmp.Compare(x.to.id, y.to.id); c != 0 {
			return c
		}
		return cmp.Compare(x.ssrc, y.ssrc)
	})
	sent := uint64(0)
	for _, q := range all {
		sent += wire(len(q.b), q.to.at.Addr())
		b.writers[q.to.conn].Append(q.b, q.to.at)
	}
	b.lane.sent.Add(sent)
	for _, w := range b.writers {
		w.Flush()
	}
	b.n = 0
}

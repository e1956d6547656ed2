// Package bwe estimates how much one connection can carry, from transport-wide sequence
// numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01). Arrivals is the receiver's
// side, which reports when each packet came; Estimator is the sender's, which concludes a
// bitrate from such reports.
//
// It opens nothing, reads no clock and starts no goroutine: times are arguments. Nothing here
// is safe for concurrent use; one owner, or one short lock, calls it. Once warm, nothing
// allocates. What a peer reports is not trusted: it can only make its own estimate wrong,
// within the limits that the owner set.
package bwe

import (
	"time"

	"github.com/pion/rtcp"
)

const (
	tick    = 250 * time.Microsecond // of a receive delta, section 3.1.5
	refTick = 256                    // ticks of a reference time: 64 ms, section 3.1

	// behind is how far a number may lie behind the newest to be a late packet. Further away
	// it is a sender that jumped ahead.
	behind = 4096
	// kept bounds what waits for the next report: 10,000 packets a second at 100 ms. What comes
	// beyond is not kept, and so reported as lost, which is what its sender has to hear.
	kept = 1024
	// farthest is how many numbers one report covers, less than the 8,191 of a run. Across a wider gap a report begins
	// anew, and does not name what it skipped: nobody sends that much between two reports.
	farthest = 1 << 11
	// reported is how many packets one report names as received: with two octets of delta and
	// two bits of status each, 1,150 octets.
	reported = 500
	// most is how many reports one call makes, so that a sender that jumps about does not make
	// us keep the memory for more. What they cannot name waits for the next call.
	most = 8
)

// Arrivals remembers when the packets of one connection came. Its zero value is ready.
type Arrivals struct {
	started bool
	epoch   time.Time
	newest  int64 // extended
	next    int64 // extended; what lies before was reported
	list    []arrival
	count   uint8
	reports []*report
}

type arrival struct {
	seq   int64 // extended
	ticks int64 // since the epoch
}

// Arrived takes the packet seq, which came at. A duplicate, and one whose number was reported
// already, as received or lost, is ignored.
func (a *Arrivals) Arrived(seq uint16, at time.Time) {
	if !a.started {
		a.started, a.epoch = true, at
		a.newest, a.next = int64(seq), int64(seq)
	}
	n := a.newest
	if back := uint16(n) - seq; back < behind {
		n -= int64(back)
	} else {
		n += int64(seq - uint16(n))
		a.newest = n
	}
	if n < a.next || len(a.list) == kept {
		return
	}
	i := len(a.list)
	for i > 0 && a.list[i-1].seq > n {
		i--
	}
	if i > 0 && a.list[i-1].seq == n {
		return
	}
	// Rounded down, for before the epoch too: clocks jump.
	since := at.Sub(a.epoch)
	t := int64(since / tick)
	if since%tick < 0 {
		t--
	}
	a.list = append(a.list, arrival{})
	copy(a.list[i+1:], a.list[i:])
	a.list[i] = arrival{n, t}
}

// Feedback appends to dst what came since the last call, which is best 50 to 100 ms ago:
// nothing when nothing came, several packets when one cannot express it. What it appends is
// its own memory, to be marshalled before the next call.
func (a *Arrivals) Feedback(sender, media uint32, dst []*rtcp.TransportLayerCC) []*rtcp.TransportLayerCC {
	rest := a.list
	for n := 0; n < most && len(rest) > 0; n++ {
		if n == len(a.reports) {
			a.reports = append(a.reports, &report{})
		}
		r := a.reports[n]
		if rest[0].seq-a.next >= farthest {
			a.next = rest[0].seq
		}
		took := r.fill(a.next, rest)
		a.next = rest[took-1].seq + 1
		rest = rest[took:]
		r.cc.SenderSSRC, r.cc.MediaSSRC, r.cc.FbPktCount = sender, media, a.count
		a.count++
		dst = append(dst, &r.cc)
	}
	a.list = a.list[:copy(a.list, rest)]
	return dst
}

// report is one packet of feedback, with the memory that it points into.
type report struct {
	cc      rtcp.TransportLayerCC
	symbols []uint16
	deltas  []rtcp.RecvDelta
	runs    []rtcp.RunLengthChunk
	vectors []rtcp.StatusVectorChunk
}

// fill makes the report of the numbers from base, and says how many of the list it took.
func (r *report) fill(base int64, list []arrival) (took int) {
	r.symbols, r.deltas = r.symbols[:0], r.deltas[:0]
	ref := list[0].ticks >> 8 // rounds down
	was, n := ref*refTick, base
	for _, p := range list {
		d := p.ticks - was
		if p.seq-base >= farthest || d != int64(int16(d)) || took == reported {
			break
		}
		for ; n < p.seq; n++ {
			r.symbols = append(r.symbols, rtcp.TypeTCCPacketNotReceived)
		}
		symbol := rtcp.TypeTCCPacketReceivedSmallDelta
		if d < 0 || d > 255 {
			symbol = rtcp.TypeTCCPacketReceivedLargeDelta
		}
		r.symbols = append(r.symbols, symbol)
		r.deltas = append(r.deltas, rtcp.RecvDelta{Type: symbol, Delta: d * rtcp.TypeTCCDeltaScaleFactor})
		was = p.ticks
		n++
		took++
	}
	r.cc.BaseSequenceNumber, r.cc.PacketStatusCount = uint16(base), uint16(len(r.symbols))
	r.cc.ReferenceTime = uint32(ref) & 0xffffff
	r.chunk()
	r.cc.RecvDeltas = r.cc.RecvDeltas[:0]
	for i := range r.deltas {
		r.cc.RecvDeltas = append(r.cc.RecvDeltas, &r.deltas[i])
	}
	octets := 20 + 2*len(r.cc.PacketChunks) + len(r.deltas)
	for i := range r.deltas {
		if r.deltas[i].Type == rtcp.TypeTCCPacketReceivedLargeDelta {
			octets++
		}
	}
	r.cc.Header = rtcp.Header{Padding: octets%4 != 0, Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback,
		Length: uint16((octets+3)/4 - 1)}
	return took
}

// chunk writes the symbols as chunks (sections 3.1.2 to 3.1.4), each the kind that takes most.
func (r *report) chunk() {
	r.runs, r.vectors = r.runs[:0], r.vectors[:0]
	// A chunk is pointed to, so what is appended to must not move.
	r.runs = reserve(r.runs, len(r.symbols)/7+1)
	r.vectors = reserve(r.vectors, len(r.symbols)/7+1)
	r.cc.PacketChunks = r.cc.PacketChunks[:0]
	for s := r.symbols; len(s) > 0; {
		run := 1
		for run < len(s) && s[run] == s[0] {
			run++
		}
		bits, take := uint16(rtcp.TypeTCCSymbolSizeOneBit), min(14, len(s))
		for _, symbol := range s[:take] {
			if symbol == rtcp.TypeTCCPacketReceivedLargeDelta {
				bits, take = rtcp.TypeTCCSymbolSizeTwoBit, min(7, len(s))
				break
			}
		}
		if run >= take {
			r.runs = append(r.runs, rtcp.RunLengthChunk{Type: rtcp.TypeTCCRunLengthChunk, PacketStatusSymbol: s[0], RunLength: uint16(run)})
			r.cc.PacketChunks = append(r.cc.PacketChunks, &r.runs[len(r.runs)-1])
			s = s[run:]
			continue
		}
		r.vectors = append(r.vectors, rtcp.StatusVectorChunk{Type: rtcp.TypeTCCStatusVectorChunk, SymbolSize: bits, SymbolList: s[:take:take]})
		r.cc.PacketChunks = append(r.cc.PacketChunks, &r.vectors[len(r.vectors)-1])
		s = s[take:]
	}
}

func reserve[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, 0, n)
	}
	return s
}

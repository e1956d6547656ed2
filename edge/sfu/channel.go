package sfu

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	// leastMessage is what room for a message begins with.
	leastMessage = 1 << 10
	// MaxMessage is the longest message of a data channel in bytes, either way.
	MaxMessage = 16 << 10
	// What waits to be sent on a channel, in bytes, before the next reliable message waits
	// for it to drain, and before an unreliable one is lost.
	reliablyWaits, unreliablyWaits = 256 << 10, 32 << 10
	// undrained is when who takes nothing is given up: its connection is as good as lost.
	undrained = 10 * time.Second
	// unread is what of a participant's data is kept before it is read, in bytes.
	unread = 256 << 10
)

var errFull = errors.New("data channel: too much waits to be sent")

// channel is one data channel of a connection.
type channel struct {
	dc      *webrtc.DataChannel
	raw     atomic.Pointer[io.ReadWriteCloser] // nil: it is not open
	drained chan struct{}                      // has room again, for one of those who wait
}

func (c *channel) low() {
	select {
	case c.drained <- struct{}{}:
	default:
	}
}

// data makes the channels, by their numbers: who does not open them too is sent nothing that
// it would notice.
func (t *pionTransport) data() error {
	for _, l := range labels {
		id, negotiated, ordered, once := uint16(l), true, l == Reliable, uint16(0)
		init := &webrtc.DataChannelInit{ID: &id, Negotiated: &negotiated, Ordered: &ordered}
		if l == Unreliable {
			init.MaxRetransmits = &once
		}
		dc, err := t.pc.CreateDataChannel(l.String(), init)
		if err != nil {
			return err
		}
		c := &channel{dc: dc, drained: make(chan struct{}, 1)}
		t.channels[l] = c
		dc.SetBufferedAmountLowThreshold(reliablyWaits / 2)
		dc.OnBufferedAmountLow(c.low)
		dc.OnOpen(func() {
			raw, err := dc.Detach()
			if err != nil {
				return
			}
			var rw io.ReadWriteCloser = raw
			c.raw.Store(&rw)
			t.spawn(func() { t.readData(l, rw) })
		})
	}
	return nil
}

func (t *pionTransport) readData(l Label, from io.Reader) {
	buf := make([]byte, leastMessage)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, io.ErrShortBuffer) && len(buf) < MaxMessage {
			buf = make([]byte, 2*len(buf)) // what did not fit waits
			continue
		}
		if err != nil {
			return // the channel is closed, or who sends breaks what the SDP says
		}
		t.handler.data(l, buf[:n])
	}
}

func (t *pionTransport) Send(l Label, message []byte, enough <-chan struct{}) error {
	c := t.channels[l]
	raw := c.raw.Load()
	if raw == nil {
		return net.ErrClosed
	}
	if l == Unreliable && c.dc.BufferedAmount() > unreliablyWaits {
		return errFull
	}
	for c.dc.BufferedAmount() > reliablyWaits {
		select {
		case <-c.drained:
		case <-t.gone:
			return net.ErrClosed
		case <-enough:
			return errFull
		case <-time.After(undrained):
			return errFull
		}
	}
	_, err := (*raw).Write(message)
	if c.dc.BufferedAmount() <= reliablyWaits/2 {
		c.low()
	}
	return err
}

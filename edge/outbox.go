package edge

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/coder/websocket"

	"bailiwick/edge/signal"
)

// outbox carries messages to one client in order. put never blocks: the SFU and
// the mover call it under their own locks.
type outbox struct {
	conn  *websocket.Conn
	queue chan any
	held  chan struct{} // closed once the welcome may go
	first any
	stop  context.CancelFunc
	moved atomic.Bool // the client was told to join elsewhere
	over  atomic.Bool // the client was told that it has nothing to come back for
}

func newOutbox(conn *websocket.Conn, stop context.CancelFunc) *outbox {
	return &outbox{conn: conn, queue: make(chan any, outboxSize), held: make(chan struct{}), stop: stop}
}

// put queues one message; a client too far behind is disconnected instead.
func (o *outbox) put(m any) {
	select {
	case o.queue <- m:
	default:
		o.stop()
	}
}

// release lets the queue go, after welcome.
func (o *outbox) release(welcome any) {
	o.first = welcome
	close(o.held)
}

// run writes until ctx ends or a terminal message was written.
func (o *outbox) run(ctx context.Context) {
	defer o.stop()
	<-o.held
	if !o.write(ctx, o.first) {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-o.queue:
			if !o.write(ctx, m) {
				return
			}
			switch m := m.(type) {
			case signal.Ended:
				o.over.Store(true)
				o.conn.Close(websocket.StatusNormalClosure, "")
				return
			case signal.Refused:
				o.over.Store(true)
				o.conn.Close(websocket.StatusPolicyViolation, m.Code)
				return
			}
		}
	}
}

func (o *outbox) write(ctx context.Context, m any) bool {
	b, err := json.Marshal(m)
	return err == nil && o.conn.Write(ctx, websocket.MessageText, b) == nil
}

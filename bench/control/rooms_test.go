package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"bailiwick/edge/signal"
)

// makers make rooms side by side.
const makers = 6

// rooms are consults with one socket each, whose clients do what a page does but media: say
// hello, listen, and go where they are told.
type rooms struct {
	t       *testing.T
	ctx     context.Context
	reading sync.WaitGroup

	mu      sync.Mutex
	seated  int
	told    []time.Time // each move
	arrived []time.Time // each seat that a move led to
	lost    []string    // what else ended a socket
}

func newRooms(t *testing.T) *rooms {
	ctx, cancel := context.WithCancel(context.Background())
	r := &rooms{t: t, ctx: ctx}
	t.Cleanup(func() { cancel(); r.reading.Wait() })
	return r
}

// message is what of an edge's message a client needs.
type message struct {
	Type, URL, Token, Code, Reason string
}

// join says hello and waits for the welcome.
func (r *rooms) join(url, token string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(r.ctx, 30*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(signal.MaxMessage)
	if err = write(ctx, conn, map[string]any{"type": signal.TypeHello, "token": token, "features": signal.Features}); err == nil {
		var m message
		if m, err = read(ctx, conn); err == nil && m.Type != string(signal.TypeWelcome) {
			err = fmt.Errorf("hello was answered by %s %s", m.Type, m.Code)
		}
	}
	if err != nil {
		conn.CloseNow()
		return nil, err
	}
	return conn, nil
}

func read(ctx context.Context, conn *websocket.Conn) (m message, err error) {
	_, frame, err := conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(frame, &m)
	}
	return m, err
}

func write(ctx context.Context, conn *websocket.Conn, m any) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageText, b)
}

// make fills an edge up to n rooms.
func (r *rooms) make(m *machines, edge string, n int) (posts times, failed []string) {
	r.mu.Lock()
	missing := n - r.seated
	r.mu.Unlock()
	var mu sync.Mutex
	todo := make(chan struct{})
	var making sync.WaitGroup
	for range makers {
		making.Go(func() {
			for range todo {
				c, took, err := m.post(edge)
				if err == nil && c.Placement.Edge != edge {
					err = fmt.Errorf("placed on %s", c.Placement.Edge)
				}
				var conn *websocket.Conn
				if err == nil {
					conn, err = r.join("ws"+strings.TrimPrefix(m.edges[edge], "http")+"/v1/join", c.Participants[0].Token)
				}
				mu.Lock()
				if posts = append(posts, took); err != nil {
					failed = append(failed, err.Error())
				}
				mu.Unlock()
				if err == nil {
					r.mu.Lock()
					r.seated++
					r.mu.Unlock()
					r.reading.Go(func() { r.follow(conn) })
				}
			}
		})
	}
	for range missing {
		todo <- struct{}{}
	}
	close(todo)
	making.Wait()
	return posts, failed
}

// follow reads until the socket ends. Who is told to move joins there, then leaves here.
func (r *rooms) follow(conn *websocket.Conn) {
	defer func() { conn.CloseNow() }()
	for {
		m, err := read(r.ctx, conn)
		switch {
		case r.ctx.Err() != nil:
			return
		case err != nil:
			r.ended(err.Error())
			return
		case m.Type == string(signal.TypeRefused), m.Type == string(signal.TypeEnded):
			r.ended(m.Type + " " + m.Code + m.Reason)
			return
		case m.Type != string(signal.TypeMove):
			continue
		}
		r.mu.Lock()
		r.told = append(r.told, time.Now())
		r.mu.Unlock()
		next, err := r.join(m.URL, m.Token)
		if err != nil {
			r.mu.Lock()
			r.lost = append(r.lost, "moved: "+err.Error())
			r.mu.Unlock()
			continue // the seat here goes on
		}
		r.mu.Lock()
		r.arrived = append(r.arrived, time.Now())
		r.mu.Unlock()
		write(r.ctx, conn, map[string]any{"type": signal.TypeLeave})
		conn.CloseNow()
		conn = next
	}
}

func (r *rooms) ended(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seated--
	r.lost = append(r.lost, why)
}

// moved is what moves brought so far, from an instant on.
func (r *rooms) moved(from time.Time) (told, arrived times) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.told {
		told = append(told, at.Sub(from))
	}
	for _, at := range r.arrived {
		arrived = append(arrived, at.Sub(from))
	}
	return told, arrived
}

func (r *rooms) seats() (seated int, lost []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seated, slices.Clone(r.lost)
}

// curve words how many came in each second.
func (t times) curve() string {
	counts := make([]int, int(t.at(1)/time.Second)+1)
	for _, at := range t {
		counts[max(0, int(at/time.Second))]++
	}
	return strings.Trim(fmt.Sprint(counts), "[]")
}

package sfu

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/pion/webrtc/v4"

	edge "bailiwick/edge/sfu"
	"bailiwick/edge/signal"
)

const maxRoom = 64 // the product's rooms are of six; one publisher to 40 needs more

// serveOwn is package edge/sfu as a process, with the least of signalling: a WebSocket is a
// seat, offers come and answers go.
func serveOwn(at netip.AddrPort) error {
	s, err := edge.Listen(edge.Config{Sockets: []edge.Socket{{Bound: netip.AddrPortFrom(at.Addr(), 0)}}, MaxParticipants: maxRoom,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return serve(at, func(ws *websocket.Conn, r *http.Request) error {
		out := make(chan signal.Offer, 16)
		x, err := s.Join(r.FormValue("room"), edge.Seat{Participant: r.FormValue("name"), Role: "patient", Viewer: r.Form.Has("viewer")}, "", func(m any) {
			if o, ok := m.(signal.Offer); ok {
				out <- o // one at a time: the next waits for the answer
			}
		})
		if err != nil {
			return err
		}
		defer x.Close()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case o := <-out:
					wsjson.Write(ctx, ws, o)
				}
			}
		}()
		for {
			var a signal.Answer
			if err := wsjson.Read(ctx, ws, &a); err != nil {
				return nil // it left
			}
			if err := x.Answer(a); err != nil {
				return err
			}
		}
	})
}

// serve gives each WebSocket at /join to a function, and says at /allocated how many objects
// the process has.
func serve(at netip.AddrPort, join func(*websocket.Conn, *http.Request) error) error {
	http.HandleFunc("/join", func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		ws.SetReadLimit(-1)
		defer ws.CloseNow()
		if err := join(ws, r); err != nil {
			fmt.Fprintln(os.Stderr, r.FormValue("name")+":", err)
		}
	})
	http.HandleFunc("/allocated", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprint(w, m.Mallocs)
	})
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	return http.Serve(l, nil)
}

// dial opens a client's signalling, which ends with the client.
func (c *client) dial(url string, protocols ...string) (*websocket.Conn, error) {
	ws, _, err := websocket.Dial(c.ctx, url, &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	c.hangup(func() { ws.CloseNow() })
	return ws, nil
}

func (c *client) query() string {
	q := "room=" + strconv.Itoa(c.room) + "&name=" + c.name
	if !c.publishes {
		q += "&viewer"
	}
	return q
}

func joinOwn(at netip.AddrPort, c *client) error {
	pc, err := c.connect()
	if err != nil {
		return err
	}
	ws, err := c.dial("ws://" + at.String() + "/join?" + c.query())
	if err != nil {
		return err
	}
	if err := answerOwn(c, pc, ws, c.publishes); err != nil {
		return err
	}
	c.running.Go(func() {
		for c.ctx.Err() == nil {
			if err := answerOwn(c, pc, ws, false); err != nil {
				c.fail(err)
				return
			}
		}
	})
	return nil
}

// answerOwn waits for an offer and answers it.
func answerOwn(c *client, pc *webrtc.PeerConnection, ws *websocket.Conn, publish bool) error {
	var o signal.Offer
	if err := wsjson.Read(c.ctx, ws, &o); err != nil {
		return err
	}
	if err := pc.SetRemoteDescription(remote(webrtc.SDPTypeOffer, o.SDP)); err != nil {
		return err
	}
	if publish {
		if err := c.publish(pc, false); err != nil {
			return err
		}
	}
	text, err := c.answer(pc)
	if err != nil {
		return err
	}
	return wsjson.Write(c.ctx, ws, signal.Answer{SDP: text, Seq: o.Seq})
}

package edge

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/sfu"
	"bailiwick/edge/signal"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/turn"
)

const (
	helloTimeout = 10 * time.Second
	pingEvery    = 10 * time.Second
	silence      = 25 * time.Second
	// resumeGrace is how long a seat and its media outlive a lost WebSocket: a
	// signalling hiccup is nothing that a patient should hear.
	resumeGrace = 15 * time.Second
	// outboxSize is how many messages a slow client may be behind before it is
	// closed; it then reconnects and gets the whole state anew.
	outboxSize = 64
)

// join serves one participant's WebSocket from hello to leave.
func (e *Edge) join(w http.ResponseWriter, q *http.Request) {
	conn, err := websocket.Accept(w, q, &websocket.AcceptOptions{
		Subprotocols: []string{signal.Subprotocol},
		// A call that moved joins from the page of the edge it came from. No cookie
		// is read here and the token is in the first message, so no page can join
		// with somebody else's seat.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(signal.MaxMessage)
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()

	hello, bad := readHello(ctx, conn)
	var token consult.Token
	if bad == nil {
		token, bad = e.admit(hello.Token)
	}
	if bad != nil {
		refuse(ctx, conn, bad)
		return
	}
	out := newOutbox(conn, cancel)
	room, session, bad := e.seat(&token, hello, out)
	if bad != nil {
		refuse(ctx, conn, bad)
		return
	}
	out.release(e.welcome(&token, session.ID()))
	var writing sync.WaitGroup
	writing.Go(func() { out.run(ctx) })
	writing.Go(func() { keepAlive(ctx, conn, cancel) })
	left, bad := e.listenTo(ctx, conn, session, out)
	if bad != nil {
		refuse(ctx, conn, bad)
	}
	cancel()
	writing.Wait()
	if left || bad != nil || out.over.Load() {
		e.rooms.leaveSeat(room, token.Participant, session)
		return
	}
	time.AfterFunc(resumeGrace, func() { e.rooms.leaveSeat(room, token.Participant, session) })
}

func readHello(ctx context.Context, conn *websocket.Conn) (*signal.Hello, *problem.Document) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	_, frame, err := conn.Read(ctx)
	if err != nil {
		return nil, problem.New("bad_request", "no hello within 10 s")
	}
	m, err := signal.Decode(frame)
	if err != nil {
		return nil, problem.New("bad_request", err.Error())
	}
	if m.Type != signal.TypeHello {
		return nil, problem.New("bad_request", "the first message must be hello")
	}
	return m.Hello, nil
}

// admit judges the token: signature, time, edge, and the law for this hop.
func (e *Edge) admit(jwt string) (consult.Token, *problem.Document) {
	w := e.cfg.World.Current()
	token, err := consult.Verify(jwt, time.Now(), func(kid string) ed25519.PublicKey {
		if kid == e.router.Signer.KID {
			return e.router.Signer.Public()
		}
		return w.Keys[kid].Public
	})
	switch {
	case errors.Is(err, consult.ErrTokenExpired):
		return token, problem.New("token_expired", err.Error())
	case err != nil:
		return token, problem.New("token_invalid", err.Error())
	case !token.Names(e.cfg.ID):
		return token, problem.New("wrong_edge", "this is "+string(e.cfg.ID)+", the token is for "+string(token.Edge))
	}
	i := w.RegionIndex(e.cfg.Region)
	if i < 0 {
		return token, problem.New("internal", "region "+string(e.cfg.Region)+" is not in the map")
	}
	if v := steer.Permits(w, &w.Regions[i], token.Placement().Client(w.Map)); !v.Permitted() {
		return token, problem.Unlawful(w, v)
	}
	return token, nil
}

// seat opens the room where needed and takes the participant's place in it.
func (e *Edge) seat(token *consult.Token, hello *signal.Hello, out *outbox) (*room, *sfu.Session, *problem.Document) {
	room, ok := e.rooms.open(token)
	if !ok {
		return nil, nil, problem.New("region_full", "this edge is at its admission limit")
	}
	session, err := e.sfu.Join(string(token.Consult), sfu.Seat{Participant: string(token.Participant), Role: string(token.Role),
		Parked: hello.Park}, hello.Session, out.put)
	if err != nil {
		e.rooms.closeIfEmpty(room)
		if errors.Is(err, sfu.ErrRoomFull) {
			return nil, nil, problem.New("room_full", "a consult takes at most 6 participants")
		}
		p := problem.New("internal", "")
		e.cfg.Log.Error("join failed", "consult", token.Consult, "err", err, "problem", p.ID)
		return nil, nil, p
	}
	e.rooms.takeSeat(room, token, session, out)
	return room, session, nil
}

func (e *Edge) welcome(t *consult.Token, session string) signal.Welcome {
	w := e.cfg.World.Current()
	user, pass := turn.Credentials(e.secret, string(t.Participant), t.Expires)
	addr := e.self.Turn.String()
	urls := []string{"turn:" + addr + "?transport=udp", "turn:" + addr + "?transport=tcp"}
	if e.self.Turns.IsValid() {
		urls = append(urls, turnsURLs(e.cfg.Host, e.self.Turns.Port())...)
	}
	m := signal.Welcome{Type: signal.TypeWelcome, Participant: string(t.Participant), Session: session, Consult: string(t.Consult),
		Epoch: t.Epoch, Place: place(w, e.cfg.Region), Standby: []signal.Standby{},
		ICEServers: []signal.ICEServer{{URLs: urls, Username: user, Credential: pass}}}
	for _, id := range t.Standby {
		if _, s := w.Edge(id); s != nil && id != e.cfg.ID {
			m.Standby = append(m.Standby, signal.Standby{Edge: string(id), URL: router.WebSocketURL(s.Host)})
		}
	}
	if t.Edge != e.cfg.ID { // a standby took the call: the way back is the primary
		if _, s := w.Edge(t.Edge); s != nil {
			m.Standby = append(m.Standby, signal.Standby{Edge: string(t.Edge), URL: router.WebSocketURL(s.Host)})
		}
	}
	return m
}

// listenTo reads the client until it leaves, the socket ends or it breaks the
// protocol; only the last is a problem. Who was told to move and closes the socket has
// left: the media are there. A socket that was cut says nothing.
func (e *Edge) listenTo(ctx context.Context, conn *websocket.Conn, s *sfu.Session, out *outbox) (left bool, bad *problem.Document) {
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return out.moved.Load() && websocket.CloseStatus(err) != -1, nil
		}
		m, err := signal.Decode(frame)
		if err != nil {
			return false, problem.New("bad_request", err.Error())
		}
		switch m.Type {
		case signal.TypeAnswer:
			if err := s.Answer(*m.Answer); err != nil {
				return false, problem.New("bad_request", "answer: "+err.Error())
			}
		case signal.TypeState:
			s.State(*m.State)
		case signal.TypeUnpark:
			s.Unpark()
		case signal.TypeLeave:
			return true, nil
		default:
			return false, problem.New("bad_request", "hello comes once")
		}
	}
}

// keepAlive pings and gives up on a client that is silent: a phone that lost its
// network says nothing at all.
func keepAlive(ctx context.Context, conn *websocket.Conn, cancel context.CancelFunc) {
	defer cancel()
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		ping, done := context.WithTimeout(ctx, silence-pingEvery)
		err := conn.Ping(ping)
		done()
		if err != nil {
			return
		}
	}
}

func refuse(ctx context.Context, conn *websocket.Conn, p *problem.Document) {
	b, _ := json.Marshal(signal.Refused{Type: signal.TypeRefused, Code: p.Code, Title: p.Title, Detail: p.Detail,
		Jurisdiction: p.Jurisdiction, Citation: p.Citation, ID: p.ID})
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn.Write(ctx, websocket.MessageText, b)
	conn.Close(websocket.StatusPolicyViolation, p.Code)
}

// place words a region for people.
func place(w *steer.World, id region.ID) signal.Place {
	p := signal.Place{Region: string(id)}
	if i := w.RegionIndex(id); i >= 0 {
		p.City, p.Country = w.Regions[i].City, string(w.Regions[i].Place.Jurisdiction.Country())
	}
	return p
}

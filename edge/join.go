package edge

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/sfu"
	"bailiwick/edge/signal"
	"bailiwick/failover"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/turn"
)

const (
	helloTimeout = 10 * time.Second
	pingEvery    = 10 * time.Second
	silence      = 25 * time.Second
	// outboxSize is how many messages a slow client may be behind before it is
	// closed; it then reconnects and gets the whole state anew.
	outboxSize = 64
	// statsPause is the least between two of a client's reports; one that comes sooner is not read.
	statsPause = 5 * time.Second
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
	if bad == nil && token.E2EE && !slices.Contains(hello.Features, "e2ee") {
		bad = problem.New(problem.NotEncrypted, "this client does not say that it encrypts: no feature e2ee in its hello")
	}
	if bad != nil {
		e.refuse(ctx, conn, &token, bad)
		return
	}
	j := &joining{seat: failover.Seat(seats.Add(1)), token: token, hello: hello, out: newOutbox(conn, cancel), answer: make(chan answer, 1), take: e.sfu.Join}
	a, ok := e.rooms.join(ctx, j)
	switch {
	case !ok:
		e.refuse(ctx, conn, &token, problem.New(residency.RegionDraining, "this edge is closing"))
		return
	case a.refused != nil:
		e.refuse(ctx, conn, &token, a.refused)
		return
	case a.move != nil:
		say(ctx, conn, a.move)
		conn.Close(websocket.StatusNormalClosure, "")
		return
	}
	out := j.out
	out.release(a.welcome)
	var writing sync.WaitGroup
	writing.Go(func() { out.run(ctx) })
	writing.Go(func() { keepAlive(ctx, conn, cancel) })
	left, bad := e.listenTo(ctx, conn, a.room, j, a.session)
	if bad != nil {
		e.refuse(ctx, conn, &token, bad)
	}
	cancel()
	writing.Wait()
	if left || bad != nil || out.over.Load() {
		a.room.put(failover.Left{Seat: j.seat})
		return
	}
	a.room.put(failover.Lost{Seat: j.seat})
}

func readHello(ctx context.Context, conn *websocket.Conn) (*signal.Hello, *problem.Document) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	_, frame, err := conn.Read(ctx)
	if err != nil {
		return nil, problem.New(problem.BadRequest, "no hello within 10 s")
	}
	m, err := signal.Decode(frame)
	if err != nil {
		return nil, problem.New(problem.BadRequest, err.Error())
	}
	if m.Type != signal.TypeHello {
		return nil, problem.New(problem.BadRequest, "the first message must be hello")
	}
	return m.Hello, nil
}

// admit judges the token: signature, time, edge, and whether its consult has ended. The
// law for this hop is the room's to judge.
func (e *Edge) admit(jwt string) (consult.Token, *problem.Document) {
	w := e.cfg.World.Current()
	token, err := consult.Verify(jwt, time.Now(), func(kid string) ed25519.PublicKey {
		if kid == e.router.Signer.KID {
			return e.router.Signer.Public()
		}
		return w.Keys[kid].Public
	})
	var early *consult.TokenEarly
	switch {
	case errors.As(err, &early):
		return token, problem.Early(err, early.From, early.Clock)
	case errors.Is(err, consult.ErrTokenExpired):
		return token, problem.New(problem.TokenExpired, err.Error())
	case errors.Is(err, consult.ErrKeyUnknown) && !e.heardAll(w):
		// The link may well be good: a page that is told so tries again.
		return token, problem.New(problem.StoreUnavailable, "this edge has not heard yet of the key that signed the token: try again")
	case err != nil:
		return token, problem.New(problem.TokenInvalid, err.Error())
	case !token.Names(e.cfg.ID):
		return token, problem.New(problem.WrongEdge, "this is "+string(e.cfg.ID)+", the token is for "+string(token.Edge))
	}
	if e.rooms.ended(token.Consult) {
		return token, refusal(w, residency.Verdict{Code: failover.ConsultEnded})
	}
	return token, nil
}

// heardAll tells whether this edge has the word of every store, as it is now.
func (e *Edge) heardAll(w *steer.World) bool {
	select {
	case <-e.cfg.World.Synced():
		return w.StoreUp
	default:
		return false
	}
}

// welcome is for a participant of a consult whose terms are t: every edge of theirs but
// this one is a way out of here, with a token that is good there.
func (e *Edge) welcome(w *steer.World, t *consult.Terms, who *consult.Token, session string, now time.Time) signal.Welcome {
	// They are good for as long as the token may be taken.
	user, pass := turn.Credentials(e.secret, string(who.Participant), who.Expires.Add(consult.Skew))
	var urls []string
	for _, r := range e.turns {
		urls = append(urls, "turn:"+r.at().String()+"?transport=udp", "turn:"+r.at().String()+"?transport=tcp")
	}
	if e.self.Turns.IsValid() {
		urls = append(urls, turnsURLs(e.cfg.Host, e.self.Turns.Port())...)
	}
	m := signal.Welcome{Type: signal.TypeWelcome, Participant: string(who.Participant), Session: session, Consult: string(t.Consult),
		Epoch: t.Epoch, Place: place(w, e.cfg.Region), Standby: []signal.Standby{}, Features: signal.Features, Profile: string(t.Profile.Name()),
		ICEServers: []signal.ICEServer{{URLs: urls, Username: user, Credential: pass}}}
	there := *who
	there.Terms = *t
	token, err := e.router.Signer.Sign(&there, now)
	if err != nil {
		e.cfg.Log.Error("standby token not signed", "consult", t.Consult, "err", err)
		return m
	}
	for _, id := range append(slices.Clone(t.Standby), t.Edge) {
		if _, s := w.Edge(id); s != nil && id != e.cfg.ID {
			m.Standby = append(m.Standby, signal.Standby{Edge: string(id), URL: router.WebSocketURL(s.Host), Token: token})
		}
	}
	return m
}

// listenTo reads the client until it leaves, the socket ends or it breaks the
// protocol; only the last is a problem. Who was told to move and closes the socket has
// left: the media are there. A socket that was cut says nothing.
func (e *Edge) listenTo(ctx context.Context, conn *websocket.Conn, rm *runner, j *joining, s *sfu.Session) (left bool, bad *problem.Document) {
	var counted time.Time
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return j.out.moved.Load() && websocket.CloseStatus(err) != -1, nil
		}
		m, err := signal.Decode(frame)
		if err != nil {
			return false, problem.New(problem.BadRequest, err.Error())
		}
		switch m.Type {
		case signal.TypeAnswer:
			if err := s.Answer(*m.Answer); err != nil {
				return false, problem.New(problem.BadRequest, "answer: "+err.Error())
			}
		case signal.TypeState:
			s.State(*m.State)
		case signal.TypeView:
			s.View(*m.View)
		case signal.TypeProfile:
			rm.put(choice{j.seat, consult.Profile(m.Profile.Profile)})
		case signal.TypeStats:
			if now := time.Now(); now.Sub(counted) >= statsPause {
				counted = now
				e.clients.add(s.Played(m.Stats.Participants))
			}
		case signal.TypeUnpark:
			s.Unpark()
			rm.put(failover.Unparked{Seat: j.seat})
		case signal.TypeLeave:
			return true, nil
		case signal.TypeHello:
			return false, problem.New(problem.BadRequest, "hello comes once")
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

// refuse tells the client, and the log by the id that the client was given: of the token
// what it names of the consult, and nothing of the person.
func (e *Edge) refuse(ctx context.Context, conn *websocket.Conn, token *consult.Token, p *problem.Document) {
	e.refused(token, p)
	say(ctx, conn, refusedBy(p))
	conn.Close(websocket.StatusPolicyViolation, p.Code)
}

func refusedBy(p *problem.Document) signal.Refused {
	return signal.Refused{Type: signal.TypeRefused, Code: p.Code, Title: p.Title, Detail: p.Detail,
		Jurisdiction: p.Jurisdiction, Citation: p.Citation, ID: p.ID, ValidFrom: p.ValidFrom, Clock: p.Clock}
}

func (e *Edge) refused(token *consult.Token, p *problem.Document) {
	e.refusals.add(p.Code)
	e.cfg.Log.Info("join refused", "code", p.Code, "problem", p.ID, "consult", token.Consult, "jurisdictions", token.Jurisdictions, "epoch", token.Epoch, "detail", p.Detail)
}

// say writes one message to who has no outbox.
func say(ctx context.Context, conn *websocket.Conn, m any) {
	b, err := json.Marshal(m)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn.Write(ctx, websocket.MessageText, b)
}

// place words a region for people.
func place(w *steer.World, id region.ID) signal.Place {
	p := signal.Place{Region: string(id)}
	if i := w.RegionIndex(id); i >= 0 {
		p.City, p.Country = w.Regions[i].City, string(w.Regions[i].Place.Jurisdiction.Country())
	}
	return p
}

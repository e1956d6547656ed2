package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/access"
	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/signal"
	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
	"bailiwick/tools/logtest"
)

const patience = time.Minute

// fixture is two edges and their world in this process, on a memory store.
type fixture struct {
	t     *testing.T
	m     *region.Map
	st    *store.Memory
	world *world.Writer
	edges map[region.ID]*Edge
	stop  map[region.ID]context.CancelFunc
	log   *logtest.Buffer
	http  *http.Client // trusts the edges and finds them by name
}

func start(t *testing.T, seats int, regions ...region.ID) *fixture {
	t.Helper()
	return startWith(t, seats, func(*Config) {}, regions...)
}

func startWith(t *testing.T, seats int, change func(*Config), regions ...region.ID) *fixture {
	t.Helper()
	text, err := os.ReadFile("../regions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := region.Parse("regions.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, st: store.NewMemory(), edges: map[region.ID]*Edge{}, stop: map[region.ID]context.CancelFunc{}, log: new(logtest.Buffer), http: http.DefaultClient}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.m = m
	f.world, err = world.New(world.Config{Map: m, Law: residency.Shipped(), Stores: store.Set{"": f.st}, Health: health.Production().Scale(250 * time.Millisecond), ParseKey: router.ParseKey, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if t.Failed() {
			t.Log(f.log.String())
		}
	})
	running.Go(func() { f.world.Run(ctx) })
	any := netip.MustParseAddrPort("127.0.0.1:0")
	metrics := prometheus.NewRegistry()
	for _, id := range regions {
		cfg := Config{ID: region.EdgeID(id + "-1"), Region: id, HTTP: any, Media: any, Turn: any, Admits: seats, Linger: time.Second, World: f.world,
			Stores: store.Set{"": f.st}, Keys: access.Of(map[string]access.Principal{"dev": access.Everything("dev"), "watch": {Name: "w", Roles: []access.Role{access.Viewer}}}), Log: log, Metrics: metrics}
		change(&cfg)
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		e.pressure.gauge = func() (cpu, memory float64) { return 0, 0 } // the tests' own load is no pressure
		ectx, stop := context.WithCancel(ctx)
		f.edges[id], f.stop[id] = e, stop
		running.Go(func() {
			if err := e.Run(ectx); err != nil {
				t.Errorf("edge %s: %v", id, err)
			}
		})
	}
	f.until("every edge and key is in the world", func(w *steer.World) bool {
		n := 0
		for _, r := range w.Regions {
			n += len(r.Edges)
		}
		return n == len(regions) && len(w.Keys) == len(regions)
	})
	return f
}

// until waits for a world that fits.
func (f *fixture) until(what string, fits func(*steer.World) bool) {
	f.t.Helper()
	changed, cancel := f.world.Subscribe()
	defer cancel()
	deadline := time.After(patience)
	for !fits(f.world.Current()) {
		select {
		case <-changed:
		case <-deadline:
			f.t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

type minted struct {
	ID           string
	Placement    struct{ Region, Edge string }
	Participants []struct{ ID, Token string }
}

func (f *fixture) consult(at region.ID) minted {
	f.t.Helper()
	var c minted
	if code := f.call(at, "POST", "/v1/consults", `{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`, "dev", &c); code != 201 {
		f.t.Fatalf("POST /v1/consults: %d", code)
	}
	return c
}

func (f *fixture) call(at region.ID, method, path, body, key string, out any) int {
	f.t.Helper()
	q, err := http.NewRequest(method, f.edges[at].Self().Host+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+key)
	r, err := f.http.Do(q)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && out != nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		f.t.Fatalf("%s %s: %v in %q", method, path, err, b)
	}
	return r.StatusCode
}

// socket is one client's WebSocket.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

func (f *fixture) dial(at region.ID) *socket {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, router.WebSocketURL(f.edges[at].Self().Host), &websocket.DialOptions{HTTPClient: f.http, Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		f.t.Fatal(err)
	}
	conn.SetReadLimit(signal.MaxMessage)
	f.t.Cleanup(func() { conn.CloseNow() })
	if conn.Subprotocol() != signal.Subprotocol {
		f.t.Errorf("subprotocol %q", conn.Subprotocol())
	}
	return &socket{f.t, conn}
}

func (s *socket) send(text string) {
	s.t.Helper()
	if err := s.conn.Write(s.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *socket) hello(token, session string) {
	s.t.Helper()
	s.send(fmt.Sprintf(`{"type":"hello","token":%q,"session":%q}`, token, session))
}

// message is any message of the edge.
type message struct {
	Type, Code, Reason, Session, URL, Token, Jurisdiction, Detail string
	Epoch                                                         int
	Citation                                                      []string
	ICEServers                                                    []signal.ICEServer `json:"ice_servers"`
	Standby                                                       []signal.Standby
	Features                                                      []string
	Profile, By, Refused, Participant, Video, Cause               string
	Place                                                         signal.Place
	ValidFrom                                                     *time.Time `json:"valid_from"`
	Clock                                                         *time.Time
	EndsAt                                                        *time.Time `json:"ends_at"`
	Seconds                                                       int
}

// any is the next message.
func (s *socket) any() message {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	_, b, err := s.conn.Read(ctx)
	if err != nil {
		s.t.Fatalf("waiting for a message: %v", err)
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		s.t.Fatalf("%v in %q", err, b)
	}
	return m
}

// last waits for the end.
func (s *socket) last() message {
	s.t.Helper()
	for {
		if m := s.any(); m.Type == string(signal.TypeEnded) || m.Type == string(signal.TypeRefused) {
			return m
		}
	}
}

// next waits for a message of the type, skipping others.
func (s *socket) next(kind signal.Type) message {
	s.t.Helper()
	for {
		m := s.any()
		if m.Type == string(kind) {
			return m
		}
		if m.Type == "refused" || m.Type == "ended" {
			s.t.Fatalf("waiting for %s: got %+v", kind, m)
		}
	}
}

func TestJoin(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-fra")
	if c.Placement.Region != "de-ber" {
		t.Fatalf("placed on %s", c.Placement.Region)
	}
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	w := s.next(signal.TypeWelcome)
	if w.Session == "" || w.Epoch != 1 || w.Place.City != "Berlin" || len(w.Standby) != 1 || w.Standby[0].Edge != "de-fra-1" {
		t.Errorf("welcome %+v", w)
	}
	if len(w.ICEServers) != 1 || w.ICEServers[0].Credential == "" || !strings.Contains(w.ICEServers[0].Username, c.Participants[0].ID) {
		t.Errorf("ICE servers %+v", w.ICEServers)
	}
	s.next(signal.TypeOffer)
	if strings.Contains(f.log.String(), c.Participants[0].Token) || strings.Contains(f.log.String(), c.Participants[0].ID) {
		t.Error("the log holds a token or a participant")
	}
	s.send(`{"type":"leave"}`)
	if _, _, err := s.conn.Read(t.Context()); websocket.CloseStatus(err) == -1 && !errors.Is(err, io.EOF) {
		t.Logf("after leave: %v", err)
	}
}

func TestJoinRefuses(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra", "fr-par")
	c := f.consult("de-ber")
	good := c.Participants[0].Token
	parts := strings.Split(good, ".")
	stranger, err := router.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	sign := func(s *router.Signer, change func(*consult.Token)) string {
		tok := consult.Token{Terms: consult.Terms{Consult: "c", Jurisdictions: []residency.Jurisdiction{"DE"}, Edge: "de-ber-1", Epoch: 1, Tenant: "default"}, Participant: "p", Role: "patient", Expires: now.Add(time.Hour)}
		change(&tok)
		jwt, err := s.Sign(&tok, now)
		if err != nil {
			t.Fatal(err)
		}
		return jwt
	}
	ours := f.edges["de-ber"].router.Signer
	hello := func(token string) string { return fmt.Sprintf(`{"type":"hello","token":%q}`, token) }
	tests := []struct {
		name  string
		at    region.ID
		first string
		code  string
	}{
		{"an edge that the token does not name", "fr-par", hello(good), "wrong_edge"},
		{"a forged signature", "de-ber", hello(parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2]))), "token_invalid"},
		{"signed by nobody's key", "de-ber", hello(sign(stranger, func(*consult.Token) {})), "token_invalid"},
		{"expired", "de-ber", hello(sign(ours, func(k *consult.Token) { k.Expires = now.Add(-time.Hour) })), "token_expired"},
		{"a jurisdiction that may not be here", "de-ber", hello(sign(ours, func(k *consult.Token) { k.Jurisdictions = []residency.Jurisdiction{"AE"} })), "home_only"},
		{"a jurisdiction without law", "de-ber", hello(sign(ours, func(k *consult.Token) { k.Jurisdictions = []residency.Jurisdiction{"ZZ"} })), "policy_missing"},
		{"a tenant that the map does not have", "de-ber", hello(sign(ours, func(k *consult.Token) { k.Tenant = "clinc" })), "policy_missing"},
		{"a tag of another law", "de-ber", hello(sign(ours, func(k *consult.Token) { k.Tags = []string{"mhr"} })), "policy_missing"},
		{"a province that is none", "de-ber", hello(sign(ours, func(k *consult.Token) { k.Jurisdictions = []residency.Jurisdiction{"CA-PQ"} })), "policy_missing"},
		{"a country whose law differs by province", "de-ber", hello(sign(ours, func(k *consult.Token) { k.Jurisdictions = []residency.Jurisdiction{"CA"} })), "subdivision_needed"},
		{"token twice in the hello", "de-ber", strings.Replace(hello(good), "{", `{"token":"x",`, 1), "bad_request"},
		{"not json", "de-ber", "hello", "bad_request"},
		{"another message first", "de-ber", `{"type":"leave"}`, "bad_request"},
		{"an unknown type", "de-ber", `{"type":"sudo"}`, "bad_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := f.dial(tt.at)
			s.send(tt.first)
			m := s.next(signal.TypeRefused)
			if m.Code != tt.code {
				t.Errorf("refused %+v, want %s", m, tt.code)
			}
			if tt.code == "home_only" && (m.Jurisdiction != "AE" || len(m.Citation) == 0) {
				t.Errorf("refused %+v names no law", m)
			}
		})
	}
	s := f.dial("de-ber")
	s.conn.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte("x"), signal.MaxMessage+1))
	if _, _, err := s.conn.Read(t.Context()); err == nil {
		t.Error("a message beyond the limit was not the end")
	}
	ok := f.dial("de-ber")
	ok.hello(good, "")
	ok.next(signal.TypeWelcome) // none of it hurt anybody else
}

// An edge whose clock differs by minutes from the one that signed takes the token, and gives
// TURN credentials that are good now; beyond that it says what the two clocks say.
func TestJoinAcrossClocks(t *testing.T) {
	f := start(t, 10, "de-ber")
	e, c := f.edges["de-ber"], f.consult("de-ber")
	now := time.Now()
	token, bad := e.admit(c.Participants[0].Token)
	if bad != nil {
		t.Fatalf("%+v", bad)
	}
	join := func(signed time.Time, expires time.Duration) *socket {
		t.Helper()
		token.Expires = now.Add(expires)
		jwt, err := e.router.Signer.Sign(&token, signed)
		if err != nil {
			t.Fatal(err)
		}
		s := f.dial("de-ber")
		s.hello(jwt, "")
		return s
	}
	for _, ahead := range []time.Duration{-4 * time.Minute, 61 * time.Second, 4 * time.Minute} {
		join(now.Add(ahead), time.Hour).next(signal.TypeWelcome)
	}
	w := join(now, -4*time.Minute).next(signal.TypeWelcome)
	until, _, _ := strings.Cut(w.ICEServers[0].Username, ":")
	if at, err := strconv.ParseInt(until, 10, 64); err != nil || at <= now.Unix() {
		t.Errorf("TURN credentials of %s, %v: want them good at %d", until, err, now.Unix())
	}
	m := join(now.Add(6*time.Minute), time.Hour).next(signal.TypeRefused)
	if m.Code != "token_early" || m.ValidFrom == nil || m.Clock == nil || m.ValidFrom.Sub(*m.Clock) < 5*time.Minute {
		t.Errorf("refused %+v", m)
	}
}

func TestProtocolBreachAfterWelcome(t *testing.T) {
	f := start(t, 10, "de-ber")
	c := f.consult("de-ber")
	for name, text := range map[string]string{"a second hello": `{"type":"hello","token":"x"}`, "an answer that is no SDP": `{"type":"answer","sdp":"x","seq":1}`} {
		s := f.dial("de-ber")
		s.hello(c.Participants[0].Token, "")
		s.next(signal.TypeOffer)
		s.send(text)
		if m := s.next(signal.TypeRefused); m.Code != "bad_request" {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestSeatTakenOverAndResumed(t *testing.T) {
	f := start(t, 10, "de-ber")
	token := f.consult("de-ber").Participants[0].Token
	first := f.dial("de-ber")
	first.hello(token, "")
	first.next(signal.TypeWelcome)
	second := f.dial("de-ber")
	second.hello(token, "")
	session := second.next(signal.TypeWelcome).Session
	if m := first.next(signal.TypeEnded); m.Reason != "replaced" {
		t.Errorf("ended %+v", m)
	}
	second.conn.CloseNow() // the network went
	third := f.dial("de-ber")
	third.hello(token, session)
	if got := third.next(signal.TypeWelcome).Session; got != session {
		t.Errorf("session %q, want %q resumed", got, session)
	}
	if n := f.edges["de-ber"].Rooms()[0].Participants; n != 1 {
		t.Errorf("%d participants, want 1", n)
	}
}

func TestFullEdgeTakesNoOtherConsult(t *testing.T) {
	f := start(t, 1, "de-ber")
	a, b := f.consult("de-ber"), f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(a.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	other := f.dial("de-ber")
	other.hello(b.Participants[0].Token, "")
	if m := other.next(signal.TypeRefused); m.Code != "region_full" {
		t.Errorf("refused %+v", m)
	}
	same := f.dial("de-ber")
	same.hello(a.Participants[1].Token, "")
	same.next(signal.TypeWelcome) // the second seat of a consult that is here
}

func TestDrainMovesWithATokenForTheNewEdge(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	if err := world.SetMode(t.Context(), f.st, "de-ber", steer.ModeRecord{Mode: "draining"}); err != nil {
		t.Fatal(err)
	}
	m := s.next(signal.TypeMove)
	if m.Reason != "region_draining" || m.Epoch != 2 || m.Place.Region != "de-fra" || m.URL != router.WebSocketURL(f.edges["de-fra"].Self().Host) {
		t.Fatalf("move %+v", m)
	}
	there := f.dial("de-fra")
	there.hello(m.Token, "")
	if w := there.next(signal.TypeWelcome); w.Epoch != 2 {
		t.Errorf("welcome %+v", w)
	}
	// The other link was minted before the move: its holder is sent on.
	late := f.dial("de-ber")
	late.hello(c.Participants[1].Token, "")
	if m := late.next(signal.TypeMove); m.Place.Region != "de-fra" || m.Epoch != 2 {
		t.Errorf("late joiner: %+v", m)
	}
}

func TestNoLawfulNeighbourLeavesTheCallAlone(t *testing.T) {
	f := start(t, 10, "de-ber", "us-iad")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	if err := world.SetMode(t.Context(), f.st, "de-ber", steer.ModeRecord{Mode: "down"}); err != nil {
		t.Fatal(err)
	}
	f.until("de-ber is down", func(w *steer.World) bool { return w.Regions[w.RegionIndex("de-ber")].Mode == steer.Down })
	// What comes next is the end that the backend asks for, not a move to the US.
	if code := f.call("de-ber", "DELETE", "/v1/consults/"+c.ID, "", "dev", nil); code != 204 {
		t.Fatalf("DELETE: %d", code)
	}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, b, err := s.conn.Read(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(`"type":"move"`)) {
			t.Fatalf("moved: %s", b)
		}
		if bytes.Contains(b, []byte(`"type":"ended"`)) {
			return
		}
	}
}

func TestStoppingEdgeMovesItsRooms(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	f.stop["de-ber"]()
	if m := s.next(signal.TypeMove); m.Place.Region != "de-fra" {
		t.Errorf("move %+v", m)
	}
}

// A standby that took a call over, since its primary was gone from the world,
// becomes the call's edge by CAS.
func TestStandbyTakesOver(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-fra")
	f.stop["de-ber"]()
	f.until("de-ber-1 is gone", func(w *steer.World) bool { _, e := w.Edge("de-ber-1"); return e == nil })
	s := f.dial("de-fra")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	placed := make(chan consult.Placement, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f.st.Watch(ctx, consult.ID(c.ID).Key(), func(snap store.Snapshot) {
		if p, err := consult.ParsePlacement(snap.Entries[0].Value); err == nil && p.Epoch == 2 {
			placed <- p
			cancel()
		}
	}, func(error) {})
	select {
	case p := <-placed:
		if p.Edge != "de-fra-1" {
			t.Errorf("placement %+v", p)
		}
	default:
		t.Fatal("the standby did not write its placement")
	}
}

func TestBusyPortIsNamed(t *testing.T) {
	f := start(t, 10, "de-ber")
	at := f.edges["de-ber"].cfg.HTTP
	_, err := New(Config{ID: "de-ber-2", Region: "de-ber", HTTP: at, World: f.world, Stores: store.Set{"": f.st}, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !ErrPortInUse(err) || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("error %v does not name %s", err, at)
	}
}

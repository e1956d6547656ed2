package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"

	"bailiwick/consult/router"
	"bailiwick/edge/signal"
	"bailiwick/region"
	"bailiwick/tools/piontest"
)

// arrival is one of those who come on the hour. Its goroutine fails no test: it says why.
type arrival struct {
	code string // of its refusal
	late bool   // it was refused for a hello that the machine was too busy to pass in time
	err  error
}

// arrive joins and takes what it is told until leave is closed. settled is called once: with the
// first offer, the refusal or the error. With pc it answers, and so connects.
func (f *fixture) arrive(at region.ID, token string, pc *webrtc.PeerConnection, leave <-chan struct{}, settled func()) (a arrival) {
	once := sync.OnceFunc(settled)
	defer once()
	a.late = true
	for end := time.Now().Add(3 * patience); a.late && time.Now().Before(end); {
		a = f.attempt(at, token, pc, leave, once)
	}
	return a
}

func (f *fixture) attempt(at region.ID, token string, pc *webrtc.PeerConnection, leave <-chan struct{}, once func()) arrival {
	ctx, cancel := context.WithTimeout(f.t.Context(), 3*patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, router.WebSocketURL(f.edges[at].Self().Host), &websocket.DialOptions{HTTPClient: f.http, Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		return arrival{err: err}
	}
	defer conn.CloseNow()
	conn.SetReadLimit(signal.MaxMessage)
	write := func(m any) error {
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		return conn.Write(ctx, websocket.MessageText, b)
	}
	if err := write(map[string]any{"type": "hello", "token": token}); err != nil {
		return arrival{err: err}
	}
	var leaving atomic.Bool
	stop := context.AfterFunc(ctx, func() { conn.CloseNow() })
	defer stop()
	go func() {
		select {
		case <-leave:
			leaving.Store(true)
			write(map[string]any{"type": "leave"})
		case <-ctx.Done():
		}
	}()
	welcome := false
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			if leaving.Load() {
				err = nil
			}
			return arrival{err: err}
		}
		var m struct {
			Type, Code, Detail, SDP string
			Seq                     int
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return arrival{err: err}
		}
		switch signal.Type(m.Type) {
		case signal.TypeWelcome:
			welcome = true
		case signal.TypeRefused:
			return arrival{code: m.Code, late: m.Detail == "no hello within 10 s"}
		case signal.TypeOffer:
			if !welcome {
				return arrival{err: fmt.Errorf("an offer before the welcome")}
			}
			if pc != nil {
				sdp, err := answerTo(pc, m.SDP)
				if err == nil {
					err = write(map[string]any{"type": "answer", "sdp": sdp, "seq": m.Seq})
				}
				if err != nil && !leaving.Load() {
					return arrival{err: err}
				}
			}
			once()
		}
	}
}

func answerTo(pc *webrtc.PeerConnection, offer string) (string, error) {
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	a, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(a); err != nil {
		return "", err
	}
	<-gathered
	return pc.LocalDescription().SDP, nil
}

func peerConnection(t *testing.T) *webrtc.PeerConnection {
	t.Helper()
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(piontest.Loopback())).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

// TestOnTheHour: a thousand people join five hundred consults at once, an edge of four hundred.
// Each gets a seat and an offer or is refused with the reason, both of a consult the same; who
// answers is connected; and when all have left nothing of them is. A machine too busy to pass a hello
// on within its ten seconds refuses it, and the client comes again.
func TestOnTheHour(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand clients")
	}
	const consults, seats, connects = 500, 400, 4
	f := start(t, seats, "de-ber")
	e := f.edges["de-ber"]
	var ids []string
	var links [][]string
	for range consults {
		c := f.consult("de-ber")
		ids = append(ids, c.ID)
		links = append(links, []string{c.Participants[0].Token, c.Participants[1].Token})
	}
	f.http.CloseIdleConnections()
	// Somebody was there before, so that whatever is made once is.
	leave := make(chan struct{})
	var early, settled sync.WaitGroup
	early.Add(1)
	go f.arrive("de-ber", links[0][0], nil, leave, early.Done)
	early.Wait()
	close(leave)
	f.empty("de-ber")
	goroutines, heap := runtime.NumGoroutine(), reachable()

	leave = make(chan struct{})
	var all sync.WaitGroup
	got := make([][2]arrival, consults)
	var pcs []*webrtc.PeerConnection
	began := time.Now()
	for i, tokens := range links {
		for j, token := range tokens {
			var pc *webrtc.PeerConnection
			if i < connects {
				pc = peerConnection(t)
				pcs = append(pcs, pc)
			}
			settled.Add(1)
			all.Go(func() { got[i][j] = f.arrive("de-ber", token, pc, leave, settled.Done) })
		}
	}
	settled.Wait()
	t.Logf("%d joins in %v", 2*consults, time.Since(began).Round(time.Millisecond))
	here := map[string]bool{}
	for _, r := range e.sfu.Rooms() {
		here[r.ID] = true
		if r.Participants != 2 {
			t.Errorf("a room of %d", r.Participants)
		}
	}
	if n, _ := e.rooms.count(); n != seats || len(here) != seats {
		t.Errorf("%d consults count and %d have a room, want %d", n, len(here), seats)
	}
	want, up := 0, 0
	for _, id := range ids[:connects] {
		if here[id] {
			want += 2
		}
	}
	// Of a handshake what is lost is sent again after ever longer.
	for end := time.Now().Add(3 * patience); want > 0; time.Sleep(10 * time.Millisecond) {
		up = 0
		for _, r := range e.sfu.Rooms() {
			up += r.Connected
		}
		if up == want {
			break
		}
		if time.Now().After(end) {
			t.Errorf("%d are connected, want the %d who answered", up, want)
			break
		}
	}
	t.Logf("%d of them connected %v after", up, time.Since(began).Round(time.Millisecond))
	close(leave)
	all.Wait()
	for _, pc := range pcs {
		pc.GracefulClose()
	}
	refused := 0
	for i, of := range got {
		for _, a := range of {
			if a.err != nil || a.code != "" && a.code != "region_full" || a.code != of[0].code {
				t.Errorf("consult %d: %+v", i, of)
			}
			if a.code != "" {
				refused++
			}
		}
	}
	if refused != 2*(consults-seats) {
		t.Errorf("%d are refused, want %d", refused, 2*(consults-seats))
	}
	f.empty("de-ber")
	f.http.CloseIdleConnections()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), goroutines, buf[:runtime.Stack(buf, true)])
		}
	}
	grown := int64(reachable()) - int64(heap)
	t.Logf("%d kB more than before", grown/1000)
	if grown > 20_000_000 {
		t.Errorf("%d kB more after they left", grown/1000)
	}
}

// reachable is the heap that is reachable.
func reachable() uint64 {
	runtime.GC()
	runtime.GC() // what the first found to be finalized, and pools' second half
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

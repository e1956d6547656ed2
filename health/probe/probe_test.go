package probe

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"

	"bailiwick/tools/nettest"
)

func TestReady(t *testing.T) {
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" || r.Method != http.MethodGet {
				t.Errorf("asked %s %s, want GET /readyz", r.Method, r.URL.Path)
			}
			w.WriteHeader(status)
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    Result
	}{
		{"ready", answer(200), Result{OK: true}},
		{"not ready", answer(503), Result{Reason: NotReady}},
		{"redirect is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, Result{Reason: NotReady}},
		{"connection broken off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "ok")
			panic(http.ErrAbortHandler)
		}, Result{Reason: Unreachable}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.handler)
			defer s.Close()
			for _, base := range []string{s.URL, s.URL + "/"} {
				got := Ready(t.Context(), HTTP{URL: base})
				if got.OK != tt.want.OK || got.Reason != tt.want.Reason {
					t.Errorf("Ready(%s): got %+v, want %+v", base, got, tt.want)
				}
				if got.OK && got.RTT <= 0 {
					t.Errorf("Ready(%s): RTT %s, want more than 0", base, got.RTT)
				}
			}
		})
	}
}

func TestReadyOpensAConnectionEachTime(t *testing.T) {
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	for range 3 {
		if got := Ready(t.Context(), HTTP{URL: s.URL}); !got.OK {
			t.Fatalf("got %+v", got)
		}
	}
	if got := opened.Load(); got != 3 {
		t.Errorf("three probes opened %d connections, want 3", got)
	}
}

func TestReadyFails(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.TLS = &tls.Config{}
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()

	tests := []struct {
		name, url string
		want      Reason
	}{
		{"nothing listens", "http://" + nettest.Closed(t).String(), Refused},
		{"nobody answers", "http://" + silent.Addr().String(), TimedOut},
		{"certificate of nobody we trust", untrusted.URL, TLS},
		{"https asked of plain http", "https://" + plain.Listener.Addr().String(), TLS},
		{"no url", "http://[::1", Malformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Ready(t.Context(), HTTP{URL: tt.url}); got.OK || got.Reason != tt.want {
				t.Errorf("Ready(%s): got %+v, want reason %q", tt.url, got, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := Ready(ctx, HTTP{URL: plain.URL}); got.Reason != Canceled {
		t.Errorf("canceled: got %+v, want reason %q", got, Canceled)
	}
}

// responder answers each datagram with what reply makes of it, nil for nothing.
func responder(t *testing.T, addr string, reply func(n int, request *stun.Message, from *net.UDPAddr) [][]byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for n := 1; ; n++ {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			m := &stun.Message{Raw: append([]byte{}, buf[:size]...)}
			if err := m.Decode(); err != nil {
				t.Errorf("request: %v", err)
			}
			for _, b := range reply(n, m, from.(*net.UDPAddr)) {
				conn.WriteTo(b, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func success(m *stun.Message, from *net.UDPAddr) []byte {
	return stun.MustBuild(m, stun.BindingSuccess, &stun.XORMappedAddress{IP: from.IP, Port: from.Port}, stun.Fingerprint).Raw
}

func TestSTUN(t *testing.T) {
	one := func(f func(m *stun.Message, from *net.UDPAddr) []byte) func(int, *stun.Message, *net.UDPAddr) [][]byte {
		return func(_ int, m *stun.Message, from *net.UDPAddr) [][]byte { return [][]byte{f(m, from)} }
	}
	tests := []struct {
		name, addr string
		reply      func(n int, m *stun.Message, from *net.UDPAddr) [][]byte
		want       Result
	}{
		{"answer", "127.0.0.1:0", one(success), Result{OK: true}},
		{"answer over IPv6", "[::1]:0", one(success), Result{OK: true}},
		{"first two lost", "127.0.0.1:0", func(n int, m *stun.Message, from *net.UDPAddr) [][]byte {
			if n < 3 {
				return nil
			}
			return [][]byte{success(m, from)}
		}, Result{OK: true}},
		{"noise before the answer", "127.0.0.1:0", func(_ int, m *stun.Message, from *net.UDPAddr) [][]byte {
			foreign := stun.MustBuild(stun.TransactionID, stun.BindingSuccess, &stun.XORMappedAddress{IP: from.IP, Port: 1})
			denial := stun.MustBuild(stun.TransactionID, stun.BindingError, stun.CodeBadRequest)
			return [][]byte{{}, []byte("noise"), denial.Raw, foreign.Raw, success(m, from)}
		}, Result{OK: true}},
		{"error response", "127.0.0.1:0", one(func(m *stun.Message, _ *net.UDPAddr) []byte {
			return stun.MustBuild(m, stun.BindingError, stun.CodeServerError).Raw
		}), Result{Reason: Malformed}},
		{"no mapped address", "127.0.0.1:0", one(func(m *stun.Message, _ *net.UDPAddr) []byte {
			return stun.MustBuild(m, stun.BindingSuccess).Raw
		}), Result{Reason: Malformed}},
		{"broken fingerprint", "127.0.0.1:0", one(func(m *stun.Message, from *net.UDPAddr) []byte {
			b := success(m, from)
			b[len(b)-1] ^= 1
			return b
		}), Result{Reason: Malformed}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := responder(t, tt.addr, tt.reply)
			got := STUN(t.Context(), addr)
			if got.OK != tt.want.OK || got.Reason != tt.want.Reason {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if got.OK && got.RTT <= 0 {
				t.Errorf("RTT %s, want more than 0", got.RTT)
			}
		})
	}
}

// TestSTUNOfATURNServer asks the kind of server that edges run.
func TestSTUNOfATURNServer(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := pion.NewServer(pion.ServerConfig{Realm: "media.example", PacketConnConfigs: []pion.PacketConnConfig{{PacketConn: conn}}})
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if got := STUN(t.Context(), addr); !got.OK {
		t.Errorf("got %+v, want OK", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := STUN(t.Context(), addr); got.Reason != Refused {
		t.Errorf("after Close: got %+v, want reason %q", got, Refused)
	}
}

func TestSTUNFails(t *testing.T) {
	var asked atomic.Int32
	silent := responder(t, "127.0.0.1:0", func(int, *stun.Message, *net.UDPAddr) [][]byte { asked.Add(1); return nil })

	tests := []struct {
		name string
		addr netip.AddrPort
		want Reason
	}{
		{"nothing listens", nettest.Closed(t), Refused},
		{"nobody answers", silent, TimedOut},
		{"no address", netip.AddrPort{}, Malformed},
		{"no port", netip.MustParseAddrPort("127.0.0.1:0"), Malformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := STUN(t.Context(), tt.addr); got.OK || got.Reason != tt.want {
				t.Errorf("got %+v, want reason %q", got, tt.want)
			}
		})
	}
	if got := asked.Load(); got < 2 {
		t.Errorf("a silent responder was asked %d times, want a retransmission", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if got := STUN(ctx, silent); got.Reason != Canceled || got.RTT != 0 {
		t.Errorf("canceled: got %+v, want reason %q", got, Canceled)
	}
}

func FuzzBinding(f *testing.F) {
	id := [stun.TransactionIDSize]byte{1, 2, 3}
	request := &stun.Message{TransactionID: id}
	f.Add(success(request, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4}))
	f.Add(success(request, &net.UDPAddr{IP: net.IPv6loopback, Port: 4}))
	f.Add(stun.MustBuild(request, stun.BindingError, stun.CodeBadRequest).Raw)
	f.Add(success(&stun.Message{TransactionID: [stun.TransactionIDSize]byte{3, 2, 1}}, &net.UDPAddr{IP: net.IPv6loopback, Port: 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkBinding(b, id) == nil && (len(b) < 32 || [12]byte(b[8:20]) != id) {
			t.Errorf("took %x for an answer", b)
		}
	})
}

package edge

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// sink is a log that several goroutines write.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// TestStrangersLeaveNoAddress: net/http's own words on a client that speaks nonsense would
// carry its address and whatever it sent.
func TestStrangersLeaveNoAddress(t *testing.T) {
	s := startTLS(t)
	var standard sink
	before := log.Writer()
	log.SetOutput(&standard)
	defer log.SetOutput(before)
	conn, err := tls.Dial("tcp", s.at(), &tls.Config{RootCAs: s.roots, ServerName: "de-ber-1.edge.media.example", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "NONSENSE NONSENSE NONSENSE NONSENSE\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, conn) // until the server gave up, and has said why
	if got := standard.String(); got != "" {
		t.Errorf("logged %q", got)
	}
}

// TestPanicsAreLogged: with what panicked, and without who asked.
func TestPanicsAreLogged(t *testing.T) {
	var got sink
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the handler's own words") }))
	srv.Config.ErrorLog = faults(slog.New(slog.NewTextHandler(&got, nil)))
	srv.Start()
	_, err := srv.Client().Get(srv.URL)
	srv.Close()
	if err == nil {
		t.Error("a panic was answered")
	}
	if s := got.String(); !strings.Contains(s, "the handler's own words") || strings.Contains(s, "127.0.0.1:") {
		t.Errorf("logged %q", s)
	}
}

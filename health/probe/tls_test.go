package probe

import (
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// An edge is asked at its own address and must prove its name, though no resolver
// knows it.
func TestReadyOverTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, _, _ := net.SplitHostPort(r.Host); name != "example.com" {
			t.Errorf("asked for host %s", r.Host)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS() // of example.com and *.example.com
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	at := netip.MustParseAddrPort(s.Listener.Addr().String())
	_, port, _ := net.SplitHostPort(at.String())
	for _, tt := range []struct {
		name string
		h    HTTP
		want Reason // empty: ready
	}{
		{"the edge's name at its address", HTTP{URL: "https://example.com:" + port, At: at.Addr(), Roots: roots}, ""},
		{"another name", HTTP{URL: "https://edge.test:" + port, At: at.Addr(), Roots: roots}, TLS},
		{"the system's roots", HTTP{URL: "https://example.com:" + port, At: at.Addr()}, TLS},
		{"another address", HTTP{URL: "https://example.com:" + port, At: netip.MustParseAddr("127.0.0.9"), Roots: roots}, Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Ready(t.Context(), tt.h); got.Reason != tt.want || got.OK != (tt.want == "") {
				t.Errorf("got %+v, want reason %q", got, tt.want)
			}
		})
	}
}

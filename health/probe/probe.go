// Package probe asks edges whether they serve: readiness over HTTP, and a STUN
// Binding over UDP, the path that media takes. [Loop] does both for a changing set
// of edges and hands what it saw to whoever damps it (package health).
//
// It judges nothing: one lost packet is one failed observation. Functions are safe
// for concurrent use.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pion/stun/v4"
)

// Timeout is what one probe may take at most; a nearer deadline of its context
// rules.
const Timeout = 2 * time.Second

// Result is what one probe saw.
type Result struct {
	OK     bool
	RTT    time.Duration // until the answer; zero when there was none
	Reason Reason        // empty when OK
}

// Reason is why a probe failed. The set is closed.
type Reason string

const (
	Refused     Reason = "refused"     // nothing listens there
	TimedOut    Reason = "timeout"     // no answer in time
	Unreachable Reason = "unreachable" // no way there, or the connection broke
	TLS         Reason = "tls"         // no certificate to trust
	NotReady    Reason = "not ready"   // it answers, with another status than 200
	Malformed   Reason = "malformed"   // the answer, or the address to ask, is no such thing
	Canceled    Reason = "canceled"    // by the caller: says nothing about the edge
)

// HTTP is an HTTP listener to ask.
type HTTP struct {
	URL string // its base
	// At is where to connect in place of what the URL's host resolves to, with the
	// port of the URL; invalid: resolve it. The certificate is verified for the URL's
	// host all the same. A DNS node must not need its own answer to judge an edge.
	At    netip.Addr
	Roots *x509.CertPool // trusted for https; nil: the system's
}

// client opens a connection for one probe, because an established one says little
// about the listener, and follows no redirect: readiness is this edge's own.
func (h *HTTP) client() *http.Client {
	t := &http.Transport{
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 16 << 10,
		TLSClientConfig:        &tls.Config{RootCAs: h.Roots},
	}
	if h.At.IsValid() {
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(h.At.String(), port))
		}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Ready asks base URL/readyz; ready is status 200.
func Ready(ctx context.Context, h HTTP) Result {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(h.URL, "/")+"/readyz", nil)
	if err != nil {
		return Result{Reason: Malformed}
	}
	sent := time.Now()
	resp, err := h.client().Do(req)
	if err != nil {
		return Result{Reason: reason(ctx, err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Result{RTT: time.Since(sent), Reason: NotReady}
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<10); err != nil && !errors.Is(err, io.EOF) {
		return Result{Reason: reason(ctx, err)} // it began to answer and stopped
	}
	return Result{OK: true, RTT: time.Since(sent)}
}

// firstRTO is the wait before the first retransmission; it doubles. RFC 8489 6.2.1
// begins at 500 ms and sends seven times; a probe has [Timeout] and sends four.
const firstRTO = 200 * time.Millisecond

// maxResponse bounds what is read of an answer: a Binding response is under 100 bytes.
const maxResponse = 1500

// STUN sends a Binding request over UDP (RFC 8489) and waits for its answer. RTT
// counts from the first transmission.
func STUN(ctx context.Context, addr netip.AddrPort) Result {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if !addr.IsValid() || addr.Port() == 0 {
		return Result{Reason: Malformed}
	}
	// A connected socket hears from that address alone, and hears ICMP.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return Result{Reason: reason(ctx, err)}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()

	request, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	if err != nil {
		return Result{Reason: Malformed}
	}
	sent := time.Now()
	for rto := firstRTO; ; rto *= 2 {
		if _, err := conn.Write(request.Raw); err != nil {
			return Result{Reason: reason(ctx, err)}
		}
		conn.SetReadDeadline(time.Now().Add(rto))
		if ctx.Err() != nil { // the deadline above may have undone AfterFunc's
			return Result{Reason: reason(ctx, ctx.Err())}
		}
		err := awaitBinding(conn, request.TransactionID)
		switch {
		case err == nil:
			return Result{OK: true, RTT: time.Since(sent)}
		case errors.Is(err, errNotBinding):
			return Result{RTT: time.Since(sent), Reason: Malformed}
		case !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil:
			return Result{Reason: reason(ctx, err)}
		}
	}
}

var errNotBinding = errors.New("answer is not a Binding success response")

// awaitBinding reads until the transaction is answered; what belongs to no
// transaction of ours is skipped.
func awaitBinding(conn net.Conn, id [stun.TransactionIDSize]byte) error {
	buf := make([]byte, maxResponse)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if err := checkBinding(buf[:n], id); !errors.Is(err, errForeign) {
			return err
		}
	}
}

var errForeign = errors.New("not of this transaction")

// checkBinding tells whether b answers the transaction with a mapped address.
func checkBinding(b []byte, id [stun.TransactionIDSize]byte) error {
	m := &stun.Message{Raw: b}
	if err := m.Decode(); err != nil || m.TransactionID != id {
		return errForeign
	}
	var mapped stun.XORMappedAddress
	if m.Type != stun.BindingSuccess || mapped.GetFrom(m) != nil {
		return errNotBinding
	}
	if m.Contains(stun.AttrFingerprint) && stun.Fingerprint.Check(m) != nil {
		return errNotBinding
	}
	return nil
}

// reason sorts an error into the closed set.
func reason(ctx context.Context, err error) Reason {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Canceled
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &alert), errors.Is(err, http.ErrSchemeMismatch):
		return TLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return TimedOut
	}
	return Unreachable
}

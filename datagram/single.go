//go:build !(linux && (amd64 || arm64))

package datagram

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// control is nil: one socket serves the address.
var control func(network, address string, c syscall.RawConn) error

// Socket is one UDP socket: for one Reader, and any number of Writers and calls of WriteTo
// at a time.
type Socket struct {
	conn    *net.UDPConn
	local   netip.AddrPort
	pktinfo bool // answers must name their source address
}

func newSocket(c *net.UDPConn, pktinfo, _ bool) (*Socket, error) {
	if pktinfo {
		if err := tellDestination(c); err != nil {
			return nil, err
		}
	}
	return &Socket{c, localAddr(c), pktinfo}, nil
}

// LocalAddr is where the socket listens.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// SetBuffers asks the system for so much room for what waits to be read, and to be sent;
// it may give less.
func (s *Socket) SetBuffers(bytes int) {
	_ = s.conn.SetReadBuffer(bytes)
	_ = s.conn.SetWriteBuffer(bytes)
}

// Close ends Read and Serve.
func (s *Socket) Close() error { return s.conn.Close() }

// WriteTo sends one datagram.
func (s *Socket) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	return s.conn.WriteToUDPAddrPort(b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
}

// Reader is the memory of one socket's reads. It is one goroutine's.
type Reader struct {
	s     *Socket
	grams [1]Datagram
	buf   [MaxIn]byte
	oob   [128]byte
}

// origin is the control message that a datagram came with.
type origin struct{ oob []byte }

// Reader is for the goroutine that reads the socket. Close it.
func (s *Socket) Reader() *Reader { return &Reader{s: s} }

// Close is the end of reading, for the goroutine that reads.
func (r *Reader) Close() {}

// Read waits for a datagram, which is the reader's again at the next Read. It gives
// net.ErrClosed once the socket is closed.
func (r *Reader) Read() ([]Datagram, error) {
	for failures := 0; ; {
		n, oobn, _, from, err := r.s.conn.ReadMsgUDPAddrPort(r.buf[:], r.oob[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, net.ErrClosed
		case err != nil:
			if failures++; failures == maxFailures {
				return nil, fmt.Errorf("udp: %w", err)
			}
			pause(failures)
		case from.Port() != 0: // else nobody can be there
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			r.grams[0] = Datagram{In: r.buf[:n], From: from, origin: origin{r.oob[:oobn]}}
			return r.grams[:], nil
		}
	}
}

// Writer sends at once: there is no batch. It is one goroutine's.
type Writer struct {
	s    *Socket
	bufs [1][MaxOut]byte
}

// Writer is for a goroutine that sends.
func (s *Socket) Writer() *Writer { return &Writer{s: s} }

// Next is empty and has room for MaxOut bytes: memory of the writer's own for the datagram
// that is appended next.
func (w *Writer) Next() []byte { return w.bufs[0][:0] }

// Append sends b; whoever calls it keeps b as it is until Flush all the same.
func (w *Writer) Append(b []byte, to netip.AddrPort) { _, _ = w.s.WriteTo(b, to) }

// Reply sends b as the answer to d: to its sender, from the address that it was sent to.
func (w *Writer) Reply(d *Datagram, b []byte) {
	var source []byte
	if w.s.pktinfo {
		source = sourceFor(d.origin.oob)
	}
	_, _, _ = w.s.conn.WriteMsgUDPAddrPort(b, source, d.From)
}

// Flush has nothing left to do.
func (w *Writer) Flush() {}

func (w *Writer) send() {}

// sourceFor is the control message that makes an answer leave from the address that
// the query, received with oob, was sent to.
func sourceFor(oob []byte) []byte {
	var m6 ipv6.ControlMessage
	if m6.Parse(oob) == nil && m6.Dst != nil && m6.Dst.To4() == nil {
		return (&ipv6.ControlMessage{Src: m6.Dst}).Marshal()
	}
	var m4 ipv4.ControlMessage
	if m4.Parse(oob) == nil && m4.Dst != nil {
		return (&ipv4.ControlMessage{Src: m4.Dst}).Marshal()
	}
	return nil
}

package sfu

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"bailiwick/datagram"
)

// leg is one participant of the floor.
type leg struct {
	room    string
	addr    netip.AddrPort
	in, out *srtp.Context
	others  []*leg
}

// floor is what forwarding cannot do without: recvmmsg, decrypt, encrypt for each
// subscriber, sendmmsg. It negotiates, rewrites, keeps and reports nothing.
type floor struct {
	mu   sync.Mutex
	legs atomic.Pointer[map[netip.AddrPort]*leg] // replaced whole
}

// key makes one participant's SRTP context in one direction: from the name alone, since
// nothing here is secret.
func key(name, direction string) (*srtp.Context, error) {
	h := sha256.Sum256([]byte(name + " " + direction))
	return srtp.CreateContext(h[:16], h[16:28], srtp.ProtectionProfileAeadAes128Gcm)
}

func serveFloor(at netip.AddrPort) error {
	sockets, err := datagram.ListenPolled(netip.AddrPortFrom(at.Addr(), 0), 1)
	if err != nil {
		return err
	}
	s := sockets[0]
	s.SetBuffers(4 << 20)
	f := &floor{}
	f.legs.Store(&map[netip.AddrPort]*leg{})
	go func() { panic(f.forward(s)) }()
	return serve(at, func(ws *websocket.Conn, r *http.Request) error {
		from, err := netip.ParseAddrPort(r.FormValue("addr"))
		if err != nil {
			return err
		}
		l := &leg{room: r.FormValue("room"), addr: from}
		if l.in, err = key(r.FormValue("name"), "in"); err != nil {
			return err
		}
		if l.out, err = key(r.FormValue("name"), "out"); err != nil {
			return err
		}
		f.set(from, l)
		defer f.set(from, nil)
		if err := wsjson.Write(r.Context(), ws, s.LocalAddr().String()); err != nil {
			return err
		}
		ws.Read(r.Context()) // until it leaves
		return nil
	})
}

// set seats a leg, or with nil frees its seat.
func (f *floor) set(at netip.AddrPort, l *leg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := map[netip.AddrPort]*leg{}
	for a, o := range *f.legs.Load() {
		next[a] = &leg{room: o.room, addr: o.addr, in: o.in, out: o.out}
	}
	if delete(next, at); l != nil {
		next[at] = l
	}
	for _, a := range next {
		for _, b := range next {
			if a != b && a.room == b.room {
				a.others = append(a.others, b)
			}
		}
	}
	f.legs.Store(&next)
}

func (f *floor) forward(s *datagram.Socket) error {
	r, w := s.Reader(), s.Writer()
	defer r.Close()
	var header rtp.Header
	for {
		burst, err := r.Read()
		if err != nil {
			return err
		}
		legs := *f.legs.Load()
		for i := range burst {
			d := &burst[i]
			from := legs[d.From]
			if from == nil {
				continue
			}
			plain, err := from.in.DecryptRTP(d.In, d.In, &header)
			if err != nil {
				return err
			}
			for _, to := range from.others {
				b, err := to.out.EncryptRTP(w.Next(), plain, &header)
				if err != nil {
					return err
				}
				w.Append(b, to.addr)
			}
		}
		w.Flush()
	}
}

// joinFloor needs no connection but a socket: the keys are known.
func joinFloor(at netip.AddrPort, c *client) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.ip, 0)))
	if err != nil {
		return err
	}
	c.hangup(func() { conn.Close() })
	ws, err := c.dial(fmt.Sprintf("ws://%s/join?%s&addr=%s", at, c.query(), conn.LocalAddr()))
	if err != nil {
		return err
	}
	var server string
	if err := wsjson.Read(c.ctx, ws, &server); err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(server)
	if err != nil {
		return err
	}
	in, err := key(c.name, "in")
	if err != nil {
		return err
	}
	out, err := key(c.name, "out")
	if err != nil {
		return err
	}
	id := sha256.Sum256([]byte(c.name))
	var plain, sealed []byte
	for k := range c.send {
		c.send[k] = func(p *rtp.Packet) (err error) {
			p.SSRC = uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(k)
			if plain, err = p.Marshal(); err != nil {
				return err
			}
			if sealed, err = in.EncryptRTP(sealed[:0], plain, nil); err != nil {
				return err
			}
			_, err = conn.WriteToUDPAddrPort(sealed, to)
			return err
		}
	}
	c.running.Go(func() {
		tracks := map[uint32]*receiver{}
		b := make([]byte, 1500)
		var packet []byte
		var header rtp.Header
		for {
			n, _, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			at := now()
			if packet, err = out.DecryptRTP(packet[:0], b[:n], &header); err != nil {
				c.fail(err)
				return
			}
			if tracks[header.SSRC] == nil {
				tracks[header.SSRC] = c.hear()
			}
			tracks[header.SSRC].take(packet, at)
		}
	})
	return nil
}

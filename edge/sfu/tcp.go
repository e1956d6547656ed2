package sfu

import (
	"fmt"
	"net"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	pionnet "github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"

	"bailiwick/edge/sfu/lane"
)

// tcpMux is the lane's TCP addresses as pion's ICE takes them (RFC 6544). Below it is the mux that
// UDP has: checks are sorted by their usernames, and nothing is kept of those that name nobody
// here. pion's own for TCP keeps each for half a minute, and has connections that are not the lane's.
type tcpMux []*ice.UDPMuxDefault

func (m *tcpMux) add(conn *lane.Conn, log logging.LeveledLogger) {
	*m = append(*m, ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: log}))
}

// GetConnByUfrag is asked for each address of addresses.
func (m tcpMux) GetConnByUfrag(ufrag string, _ bool, local net.IP) (net.PacketConn, error) {
	for _, one := range m {
		at := one.LocalAddr().(*net.UDPAddr)
		if !at.IP.Equal(local) {
			continue
		}
		conn, err := one.GetConn(ufrag, at)
		if err != nil {
			return nil, err
		}
		return tcpConn{conn.(packetConn)}, nil
	}
	return nil, fmt.Errorf("%s: not an address of the media's", local)
}

func (m tcpMux) RemoveConnByUfrag(ufrag string) {
	for _, one := range m {
		one.RemoveConnByUfrag(ufrag)
	}
}

func (m tcpMux) Close() error {
	for _, one := range m {
		one.Close()
	}
	return nil
}

type packetConn interface {
	net.PacketConn
	ice.AddrPortReaderWriter
}

// tcpConn is one of UDP's that says that it is of TCP.
type tcpConn struct{ packetConn }

func (c tcpConn) LocalAddr() net.Addr {
	at := c.packetConn.LocalAddr().(*net.UDPAddr)
	return &net.TCPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone}
}

// addresses has pion know the media's addresses and no others: it would look through the
// machine's interfaces at each connection, where not even all of these need be found.
type addresses struct {
	*stdnet.Net
	list []*pionnet.Interface
}

func newAddresses(sockets []Socket) *addresses {
	all := pionnet.NewInterface(net.Interface{Name: "media", Flags: net.FlagUp})
	for _, s := range sockets {
		all.AddAddress(&net.IPNet{IP: s.Bound.Addr().AsSlice(), Mask: net.CIDRMask(s.Bound.Addr().BitLen(), s.Bound.Addr().BitLen())})
	}
	return &addresses{&stdnet.Net{}, []*pionnet.Interface{all}}
}

func (a *addresses) Interfaces() ([]*pionnet.Interface, error) { return a.list, nil }

package edge

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	pion "github.com/pion/turn/v5"

	"bailiwick/tools/exectest"
)

// TestAnswersFromItsPublicAddress: of several addresses of the machine a client is answered
// from the one that it asked.
func TestAnswersFromItsPublicAddress(t *testing.T) {
	public := netip.MustParseAddr("127.0.0.2")
	probe, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		exectest.Absent(t, "no second address of loopback: "+err.Error())
	}
	probe.Close()
	every := netip.MustParseAddrPort("0.0.0.0:0")
	f := startWith(t, 10, func(c *Config) { c.HTTP, c.Media, c.Turn, c.Public = every, every, every, []Address{{Public: public}} }, "de-ber")
	self := f.edges["de-ber"].Self()
	if self.Media.Addr() != public || self.Turn.Addr() != public {
		t.Errorf("offers %v and %v, want %v", self.Media, self.Turn, public)
	}
	// A socket of its own for the one address, as a browser's: what comes from another is
	// not for it.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", self.Turn.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	client, err := pion.NewClient(&pion.ClientConfig{STUNServerAddr: self.Turn.String(), Conn: connected{conn}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.SendBindingRequest(); err != nil {
		t.Errorf("a STUN Binding: %v", err)
	}
}

// connected is a connection as a PacketConn of one peer.
type connected struct{ net.Conn }

func (c connected) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

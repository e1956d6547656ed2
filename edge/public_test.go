package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	pion "github.com/pion/turn/v5"

	"bailiwick/consult"
	"bailiwick/tools/exectest"
	"bailiwick/tools/logtest"
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

// addressed is an Address as --public has it.
func addressed(text string) (a Address) {
	public, own, two := strings.Cut(text, "/")
	a.Public = netip.MustParseAddr(public)
	if two {
		a.Own = netip.MustParseAddr(own)
	}
	return a
}

// TestAddresses: what is announced, and what is bound for it.
func TestAddresses(t *testing.T) {
	const every = "0.0.0.0:1"
	for _, c := range []struct {
		name, http, media string
		public            []string
		want              string // announced and own, IPv4 first, with where media are; or an error
		logs              string
	}{
		{"that of HTTP", "127.0.0.1:1", every, nil, "127.0.0.1 at 127.0.0.1:1", ""},
		{"media elsewhere", "127.0.0.1:1", "127.0.0.2:1", nil, "127.0.0.1 at 127.0.0.2:1", ""},
		{"this machine's", every, every, []string{"127.0.0.2"}, "127.0.0.2 at 127.0.0.2:1", ""},
		{"behind NAT", every, every, []string{"192.0.2.7/127.0.0.2"}, "192.0.2.7/127.0.0.2 at 127.0.0.2:1", "1:1 NAT is assumed"},
		{"both families", every, every, []string{"2001:db8::7/::1", "192.0.2.7/127.0.0.2"}, "192.0.2.7/127.0.0.2 at 127.0.0.2:1, 2001:db8::7/::1 at [::1]:1", "1:1 NAT is assumed"},
		{"one of both behind NAT", "[::]:1", "[::]:1", []string{"192.0.2.7/127.0.0.2", "::1"}, "192.0.2.7/127.0.0.2 at 127.0.0.2:1, ::1 at [::1]:1", "1:1 NAT is assumed"},
		{"HTTP at the machine's own", "127.0.0.2:1", every, []string{"192.0.2.7/127.0.0.2"}, "192.0.2.7/127.0.0.2 at 127.0.0.2:1", ""},
		{"media at the machine's own", every, "127.0.0.3:1", []string{"192.0.2.7/127.0.0.2"}, "192.0.2.7/127.0.0.2 at 127.0.0.3:1", ""},
		{"of a private network", every, every, []string{"10.1.2.3/127.0.0.2"}, "10.1.2.3/127.0.0.2 at 127.0.0.2:1", "of a private network"},
		{"none", every, every, nil, "no public address", ""},
		{"two of a family", every, every, []string{"127.0.0.2", "127.0.0.1"}, "127.0.0.1 and 127.0.0.2: one a family", ""},
		{"HTTP of one family", "127.0.0.1:1", every, []string{"127.0.0.1", "::1"}, "http at 127.0.0.1:1 serves one family, and announced is 127.0.0.1 and ::1", ""},
		{"media of one family", every, "127.0.0.1:1", []string{"127.0.0.1", "::1"}, "media at 127.0.0.1:1 serves one family", ""},
		{"media of the other family", every, "127.0.0.1:1", []string{"::1"}, "media at 127.0.0.1:1 serves one family", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log logtest.Buffer
			cfg := Config{HTTP: netip.MustParseAddrPort(c.http), Media: netip.MustParseAddrPort(c.media), Turn: netip.MustParseAddrPort(every), Log: slog.New(slog.NewTextHandler(&log, nil))}
			for _, text := range c.public {
				cfg.Public = append(cfg.Public, addressed(text))
			}
			list, err := cfg.addresses()
			var got []string
			for _, a := range list {
				got = append(got, fmt.Sprintf("%s at %s", a, a.bound(cfg.Media)))
			}
			if err != nil && strings.Contains(err.Error(), c.want) {
				return
			}
			if strings.Join(got, ", ") != c.want || err != nil {
				t.Errorf("%v, %v; want %s", got, err, c.want)
			}
			if !strings.Contains(log.String(), c.logs) {
				t.Errorf("the log has no %q:\n%s", c.logs, log.String())
			}
		})
	}
}

// TestOffersWhatIsPublic: nothing that clients or other nodes are told names an address of the
// machine behind the NAT, and the relay takes its SFU by the public one alone.
func TestOffersWhatIsPublic(t *testing.T) {
	f := startWith(t, 10, func(c *Config) {
		every := netip.MustParseAddrPort("0.0.0.0:0")
		c.HTTP, c.Media, c.Turn, c.Public = every, every, every, []Address{addressed("192.0.2.7/127.0.0.2"), addressed("2001:db8::7/::1")}
	}, "de-ber")
	e := f.edges["de-ber"]
	self, at := e.Self(), "192.0.2.7"
	if self.Addr4.String() != at || self.Addr6.String() != "2001:db8::7" || self.Media.Addr() != self.Addr4 || self.Turn.Addr() != self.Addr4 || e.registered().Addr() != self.Addr4 ||
		!strings.HasPrefix(self.Host, "http://"+at+":") {
		t.Errorf("registers %+v at %s", self, e.registered())
	}
	w := e.welcome(f.world.Current(), &consult.Terms{}, &consult.Token{Participant: "p1", Expires: time.Now().Add(time.Hour)}, "", time.Now())
	urls, six := w.ICEServers[0].URLs, e.turns[1].at()
	if want := []string{"turn:" + self.Turn.String() + "?transport=udp", "turn:" + self.Turn.String() + "?transport=tcp",
		"turn:" + six.String() + "?transport=udp", "turn:" + six.String() + "?transport=tcp"}; !slices.Equal(urls, want) || six.Addr() != self.Addr6 {
		t.Errorf("offers %v, want %v", urls, want)
	}
	_, inside := e.Inside()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client, err := pion.NewClient(&pion.ClientConfig{TURNServerAddr: inside.String(), Conn: conn, Username: w.ICEServers[0].Username, Password: w.ICEServers[0].Credential, Realm: f.m.Zone})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer relayed.Close()
	if err := client.CreatePermission(net.UDPAddrFromAddrPort(self.Media)); err != nil {
		t.Errorf("the SFU by its public address: %v", err)
	}
	for _, other := range []string{"127.0.0.2:" + fmt.Sprint(self.Media.Port()), "192.0.2.7:1", "127.0.0.1:" + fmt.Sprint(self.Media.Port())} {
		if err := client.CreatePermission(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(other))); err == nil {
			t.Errorf("%s is permitted", other)
		}
	}
}

// connected is a connection as a PacketConn of one peer.
type connected struct{ net.Conn }

func (c connected) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

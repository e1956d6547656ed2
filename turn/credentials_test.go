package turn

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
	"golang.org/x/sync/errgroup"
)

func TestCredentials(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	valid, validPass := Credentials(secret, "p1", hour)
	old, oldPass := Credentials(secret, "p1", time.Now().Add(-time.Second))
	_, forgedPass := Credentials([]byte("another secret"), "p1", hour)
	tests := []struct {
		name, user, pass string
		want             stun.ErrorCode
		reason           Reason
	}{
		{"valid", valid, validPass, 0, Reasons},
		{"expired", old, oldPass, 401, Expired},
		{"forged with another secret", valid, forgedPass, 401, Forged},
		{"wrong password", valid, "password", 401, Forged},
		{"expiry moved", "9" + valid, validPass, 401, Forged},
		{"another participant", strings.Replace(valid, "p1", "p2", 1), validPass, 401, Forged},
		{"no participant", strings.TrimSuffix(valid, "p1"), validPass, 401, UnknownUser},
		{"no expiry", "p1", validPass, 401, UnknownUser},
		{"expiry is no number", "soon:p1", validPass, 401, UnknownUser},
		{"empty", "", "", 401, UnknownUser},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, "127.0.0.1", nil)
			c := dial(t, s, "udp", "p1")
			c.user, c.pass = tt.user, tt.pass
			_, code := c.allocate()
			c.expect("Allocate", code, tt.want)
			want := map[Reason]uint64{}
			if tt.reason != Reasons {
				want[tt.reason] = 1
			}
			refused(t, s, want)
		})
	}
}

func TestAnotherRealm(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	c := dial(t, s, "udp", "p1")
	c.realm = "other.example"
	_, code := c.allocate()
	c.expect("Allocate", code, 401)
	refused(t, s, map[Reason]uint64{UnknownUser: 1})
}

func TestParseUsername(t *testing.T) {
	at := time.Unix(1764000000, 0)
	tests := []struct {
		name, username, participant string
		ok                          bool
	}{
		{"plain", "1764000000:p7", "p7", true},
		{"colon in the participant", "1764000000:p:7", "p:7", true},
		{"sign", "+1764000000:p7", "", false},
		{"leading zero", "01764000000:p7", "", false},
		{"beyond 64 bits", "99999999999999999999:p7", "", false},
		{"no participant", "1764000000:", "", false},
		{"too long", "1764000000:" + strings.Repeat("p", maxUsername), "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expires, participant, err := parseUsername(tt.username)
			if (err == nil) != tt.ok || participant != tt.participant {
				t.Fatalf("got %q, %v", participant, err)
			}
			if tt.ok && !expires.Equal(at) {
				t.Errorf("expires %s, want %s", expires, at)
			}
			if tt.ok {
				if got, _ := Credentials(secret, participant, at); got != tt.username {
					t.Errorf("Credentials gives %q back, want %q", got, tt.username)
				}
			}
		})
	}
}

func TestQuota(t *testing.T) {
	s := start(t, "127.0.0.1", nil, func(c *Config) { c.PerUser, c.Allocations = 2, 3 })
	first := dial(t, s, "udp", "p1")
	first.mustAllocate()
	dial(t, s, "tcp", "p1").mustAllocate()
	_, code := dial(t, s, "udp", "p1").allocate()
	first.expect("third of one participant", code, stun.CodeAllocQuotaReached)
	dial(t, s, "udp", "p2").mustAllocate()
	_, code = dial(t, s, "udp", "p3").allocate()
	first.expect("fourth of three in all", code, stun.CodeAllocQuotaReached)

	// Room again once one is given up.
	_, code = first.ask(stun.MethodRefresh, lifetime(0))
	first.expect("Refresh with lifetime 0", code, 0)
	dial(t, s, "udp", "p3").mustAllocate()
	if got := s.Stats().Allocations; got != 3 {
		t.Errorf("%d allocations, want 3", got)
	}
	refused(t, s, map[Reason]uint64{UserQuota: 1, TotalQuota: 1})
}

func drained(s *Server) {
	s.mu.Lock() // what was reserved until now is seen
	s.mu.Unlock()
	s.relays.Wait()
}

func TestAllocationEndsWithItsCredential(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	c := dial(t, s, "udp", "p1")
	expires := time.Now().Add(2 * time.Second).Truncate(time.Second)
	c.user, c.pass = Credentials(secret, "p1", expires)
	if _, code := c.allocate(transportAttr(17), lifetime(3000)); code != 0 {
		t.Fatalf("Allocate: got %d", code)
	}
	drained(s)
	if early := time.Until(expires); early > 0 {
		t.Errorf("ended %s before the credential", early)
	}
	_, code := c.ask(stun.MethodRefresh, lifetime(600))
	c.expect("Refresh with the expired credential", code, 401)
	refused(t, s, map[Reason]uint64{Expired: 1})
}

func TestStrangersHaveABudget(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	known := dial(t, s, "udp", "p1")
	known.mustAllocate()

	stranger := dial(t, s, "udp", "p2")
	for range strangerBurst - 101 { // and one for known's challenge
		s.limit.take(netip.MustParseAddr("127.0.0.1"), time.Now())
	}
	begin, answered := time.Now(), 0
	const asked = 2000
	for range asked {
		m := stranger.build(stun.NewType(stun.MethodAllocate, stun.ClassRequest), transportAttr(17))
		stranger.send(m.Raw)
		// Binding is answered always, and in order: it tells that m was not.
		b := stranger.build(stun.BindingRequest)
		stranger.send(b.Raw)
		r := &stun.Message{Raw: stranger.read()}
		if err := r.Decode(); err != nil {
			t.Fatal(err)
		}
		if r.TransactionID == m.TransactionID {
			answered++
			stranger.answer(b)
		}
	}
	back := int(time.Since(begin).Seconds()*strangerRefill) + 1
	if answered < 100 || answered > 100+back+strangerRefill {
		t.Errorf("a stranger was answered %d times of %d, want 100 and what flowed back, at most %d", answered, asked, back)
	}
	if got := s.Stats().Refused[Strangers]; got != uint64(asked-answered) {
		t.Errorf("counted %d, want %d", got, asked-answered)
	}
	for range strangerBurst {
		s.limit.take(netip.MustParseAddr("127.0.0.1"), time.Now().Add(time.Hour)) // nothing flows back for an hour
	}
	// Guessing gets no verdict either.
	stranger.nonce, stranger.pass = known.nonce, "guess"
	m := stranger.build(stun.NewType(stun.MethodRefresh, stun.ClassRequest))
	stranger.send(m.Raw)
	b := stranger.build(stun.BindingRequest)
	stranger.send(b.Raw)
	if r := (&stun.Message{Raw: stranger.read()}); r.Decode() != nil || r.TransactionID != b.TransactionID {
		t.Errorf("a forged Refresh beyond the budget got %s", r)
	}
	// The same source with a credential is served.
	_, code := known.ask(stun.MethodRefresh, lifetime(600))
	known.expect("Refresh of a known client", code, 0)
}

// After a region's move a clinic's 600 patients come from one address within seconds, each
// asking by UDP and TCP: all get their relays, and nobody is taken for a flood.
func TestClinicBehindOneAddress(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	begin := time.Now()
	var clinic errgroup.Group
	clinic.SetLimit(100) // a client gives up after 8 s, and this machine is all of them
	for i := range 600 {
		for _, transport := range []string{"udp", "tcp"} {
			clinic.Go(func() error {
				var socket net.PacketConn
				if transport == "udp" {
					conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
					if err != nil {
						return err
					}
					socket = conn
				} else {
					conn, err := net.Dial("tcp", s.Addr().String())
					if err != nil {
						return err
					}
					socket = pion.NewSTUNConn(conn)
				}
				t.Cleanup(func() { socket.Close() })
				user, pass := Credentials(secret, fmt.Sprint("p", i), time.Now().Add(time.Hour))
				c, err := pion.NewClient(&pion.ClientConfig{TURNServerAddr: s.Addr().String(), Conn: socket, Username: user, Password: pass, Realm: realm})
				if err != nil {
					return err
				}
				t.Cleanup(c.Close)
				if err := c.Listen(); err != nil {
					return err
				}
				if _, err = c.Allocate(); err != nil {
					return fmt.Errorf("patient %d over %s: %w", i, transport, err)
				}
				return nil
			})
		}
	}
	if err := clinic.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("1200 relays in %s", time.Since(begin).Round(time.Millisecond))
	if got := s.Stats().Allocations; got != 1200 {
		t.Errorf("%d allocations, want 1200", got)
	}
	refused(t, s, nil)
}

func TestGuardAdmits(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	c := dial(t, s, "udp", "p1")
	allocate := stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	unsigned := c.build(allocate, transportAttr(17)).Raw
	c.nonce = stun.NewNonce("n")
	tests := []struct {
		name        string
		packet      []byte
		rich, broke bool // admitted with a budget, without one
	}{
		{"unsigned request", unsigned, true, false},
		{"signed request", c.build(allocate, transportAttr(17)).Raw, true, true},
		{"binding", c.build(stun.BindingRequest).Raw, true, true},
		{"channel data", []byte("\x40\x00\x00\x05hello"), true, true},
		{"indication", c.build(stun.NewType(stun.MethodSend, stun.ClassIndication)).Raw, true, true},
	}
	has, hasNot := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range strangerBurst {
		s.limit.take(hasNot, time.Now().Add(time.Hour)) // nothing flows back for an hour
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := guard{s: s}
			if got := g.admit(tt.packet, has); got != tt.rich {
				t.Errorf("with a budget: got %t, want %t", got, tt.rich)
			}
			if got := g.admit(tt.packet, hasNot); got != tt.broke {
				t.Errorf("without one: got %t, want %t", got, tt.broke)
			}
		})
	}
	refused(t, s, map[Reason]uint64{Strangers: 1})
}

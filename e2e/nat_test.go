package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"bailiwick/acme/certtest"
	"bailiwick/edge/signal"
	"bailiwick/sim/page"
	"bailiwick/store/consultest"
	"bailiwick/tools/exectest"
)

// A cloud: the edge's machine has private addresses, and its provider's router translates one
// of each family to a public one, both ways (1:1 NAT), for those who come from outside only.
// Around it is the test's own namespace, with patients, a DNS node and Consul.
const (
	outside, outside6 = "198.51.100.1", "2001:db8:51::1" // the patients, in Berlin
	router, router6   = "198.51.100.2", "2001:db8:51::2"
	public, public6   = "203.0.113.10", "2001:db8:113::10"
	primary           = "10.0.0.5" // what the machine sends from
	private, private6 = "10.0.0.6", "fd00::5"
	edgeName          = "de-ber-1.edge.media.example"
	translation       = `
table ip nat {
	chain in { type nat hook prerouting priority dstnat; iifname "out" ip daddr ` + public + ` dnat to ` + private + `; }
	chain out { type nat hook postrouting priority srcnat; oifname "out" ip saddr ` + private + ` snat to ` + public + `; oifname "out" masquerade; }
}
table ip6 nat {
	chain in { type nat hook prerouting priority dstnat; iifname "out" ip6 daddr ` + public6 + ` dnat to ` + private6 + `; }
	chain out { type nat hook postrouting priority srcnat; oifname "out" ip6 saddr ` + private6 + ` snat to ` + public6 + `; }
}
`
)

// cloud makes that little internet.
func cloud(t *testing.T) {
	t.Helper()
	ip, nft := exectest.Need(t, "ip", "iproute2"), exectest.Need(t, "nft", "nftables")
	// Named namespaces are files below /run.
	if err := cmp.Or(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), syscall.Mount("tmpfs", "/run", "tmpfs", 0, "")); err != nil {
		t.Fatalf("/run of the namespace: %v", err)
	}
	do := func(name string, args ...string) {
		t.Helper()
		if out, err := output(name, args...); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	for _, args := range []string{
		"netns add router", "netns add cloud",
		"link set lo up", "-n router link set lo up", "-n cloud link set lo up",
		"link add wan type veth peer name out netns router", "link set wan up", "-n router link set out up",
		"addr add " + outside + "/24 dev wan", "addr add " + outside6 + "/64 dev wan nodad",
		"-n router addr add " + router + "/24 dev out", "-n router addr add " + router6 + "/64 dev out nodad",
		"addr add " + authority + "/32 dev lo",
		"route add 203.0.113.0/24 via " + router, "route add 2001:db8:113::/48 via " + router6,
		"-n router link add in type veth peer name eth0 netns cloud", "-n router link set in up", "-n cloud link set eth0 up",
		"-n router addr add 10.0.0.1/24 dev in", "-n router addr add fd00::1/64 dev in nodad",
		"-n cloud addr add " + primary + "/24 dev eth0", "-n cloud addr add " + private + "/24 dev eth0", "-n cloud addr add " + private6 + "/64 dev eth0 nodad",
		"-n cloud route add default via 10.0.0.1", "-n cloud route add default via fd00::1",
	} {
		do(ip, strings.Fields(args)...)
	}
	do(ip, "netns", "exec", "router", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	rules := filepath.Join(t.TempDir(), "nat.nft")
	write(t, rules, translation)
	do(ip, "netns", "exec", "router", nft, "-f", rules)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "nameserver "+authority+"\n")
	if err := syscall.Mount(conf, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("/etc/resolv.conf of the namespace: %v", err)
	}
}

// way is how a patient's media go.
type way struct {
	name string
	six  bool
	tcp  bool   // no UDP, and no TURN
	turn string // which of the edge's TURN servers, by what its URL begins and ends with; none: directly
}

func (w way) at() string {
	if w.six {
		return public6
	}
	return public
}

func (w way) mine(ip net.IP) bool { return (ip.To4() == nil) == w.six && ip.IsGlobalUnicast() }

// peer is an RTCPeerConnection that has this one way; the last that it made is in made.
func (w way) peer(made *atomic.Pointer[webrtc.PeerConnection]) peerMaker {
	return func(servers []signal.ICEServer) (*webrtc.PeerConnection, error) {
		var set webrtc.SettingEngine
		set.SetIPFilter(w.mine)
		set.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
		if w.tcp {
			set.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})
		}
		var cfg webrtc.Configuration
		if w.turn != "" {
			cfg.ICETransportPolicy = webrtc.ICETransportPolicyRelay
			for _, s := range servers {
				for _, url := range s.URLs {
					if first, last, _ := strings.Cut(w.turn, "…"); strings.HasPrefix(url, first) && strings.HasSuffix(url, last) {
						cfg.ICEServers = append(cfg.ICEServers, webrtc.ICEServer{URLs: []string{url}, Username: s.Username, Credential: s.Credential})
					}
				}
			}
			if len(cfg.ICEServers) != 1 {
				return nil, fmt.Errorf("of %v %d are %s, want one", servers, len(cfg.ICEServers), w.turn)
			}
		}
		pc, err := newPeer(set, cfg)
		made.Store(pc)
		return pc, err
	}
}

// An edge whose machine has no public address: it starts, registers and is answered with its
// public ones, and a patient outside has media by each way that there is, in each family.
func TestBehindNAT(t *testing.T) {
	if !alone(t) {
		return
	}
	t.Setenv("BAILIWICK_CONSUL", consultest.Binary(t))
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.txt")
	write(t, keys, "dev\n")
	cert, key := certtest.SelfSigned(t, time.Time{}, time.Now().AddDate(1, 0, 0), edgeName).Write(t, dir)
	t.Setenv("SSL_CERT_FILE", cert)
	cloud(t)
	consul := consultest.Start(t, `client_addr = "0.0.0.0"`)
	_, port, err := net.SplitHostPort(consul.Addr())
	if err != nil {
		t.Fatal(err)
	}
	start(t, "dns", "--node", "dns-1", "--listen", authority+":53", "--consul", consul.Addr(), "--probe-interval", "250ms")
	edge := launchCommand(t, "edge", exec.Command(exectest.Need(t, "ip", "iproute2"), "netns", "exec", "cloud", binary, "edge", "--id", "de-ber-1", "--region", "de-ber",
		"--listen", "0.0.0.0:443", "--public", public+"/"+private, "--public", public6, "--tls-cert", cert, "--tls-key", key,
		"--api-keys", keys, "--consul", net.JoinHostPort(outside, port), "--probe-interval", "250ms", "--linger", "1s"))
	edge.ready()
	for _, q := range []struct{ name, kind, want string }{
		{edgeName, "A", public}, {edgeName, "AAAA", public6}, {"de.join.media.example", "A", public}, {"de.join.media.example", "AAAA", public6},
	} {
		eventually(t, q.name+" "+q.kind, func() error {
			if got := dig(t, authority, q.name, q.kind, "-p", "53"); !slices.Equal(got, []string{q.want}) {
				return fmt.Errorf("answer %v, want %s", got, q.want)
			}
			return nil
		})
	}
	for _, w := range []way{
		{name: "UDP over IPv4"}, {name: "UDP over IPv6", six: true},
		{name: "TCP over IPv4", tcp: true}, {name: "TCP over IPv6", tcp: true, six: true},
		{name: "TURN over UDP and IPv4", turn: "turn:" + public + ":3478…udp"}, {name: "TURN over UDP and IPv6", six: true, turn: "turn:[" + public6 + "]:3478…udp"},
		{name: "TURN over TCP and IPv4", turn: "turn:" + public + ":3478…tcp"}, {name: "TURN over TCP and IPv6", six: true, turn: "turn:[" + public6 + "]:3478…tcp"},
		{name: "TURN over TLS and IPv4", turn: "turns:" + edgeName + ":5349…tcp"}, {name: "TURN over TLS and IPv6", six: true, turn: "turns:" + edgeName + ":5349…tcp"},
		{name: "TURN on the HTTPS port over IPv4", turn: "turns:" + edgeName + ":443…tcp"}, {name: "TURN on the HTTPS port over IPv6", six: true, turn: "turns:" + edgeName + ":443…tcp"},
	} {
		t.Run(w.name, w.talk)
	}
}

// talk has two who know this way alone hear each other.
func (w way) talk(t *testing.T) {
	network := "tcp4"
	if w.six {
		network = "tcp6"
	}
	via := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	defer via.CloseIdleConnections()
	c := newConsult(t, "https://"+edgeName, "DE", "DE")
	var tabs [2]*tab
	var made [2]atomic.Pointer[webrtc.PeerConnection]
	for i, p := range c.Participants {
		tb, err := openTab(p.ID, via, w.peer(&made[i]), []page.Address{linked(p.URL, p.Token)}, t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		defer tb.shut(true)
		tabs[i] = tb
	}
	eventually(t, "both hear each other", func() error {
		for i, tb := range tabs {
			if got, want := tb.hears(), c.Participants[1-i].ID; !slices.Equal(got, []string{want}) {
				return fmt.Errorf("%s hears %v, want %s", c.Participants[i].ID, got, want)
			}
		}
		return nil
	})
	for i := range made {
		pc := made[i].Load()
		pair, err := pc.GetSenders()[0].Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil || pair == nil {
			t.Fatalf("no pair: %v", err)
		}
		if want := netip.AddrPortFrom(netip.MustParseAddr(w.at()), 7882).String(); net.JoinHostPort(pair.Remote.Address, fmt.Sprint(pair.Remote.Port)) != want {
			t.Errorf("media go to %s, want %s", pair.Remote, want)
		}
		if (pair.Remote.Protocol == webrtc.ICEProtocolTCP) != w.tcp {
			t.Errorf("media go by %s", pair.Remote)
		}
		if (pair.Local.Typ == webrtc.ICECandidateTypeRelay) != (w.turn != "") {
			t.Errorf("media come from %s", pair.Local)
		}
		for _, mine := range []string{primary, private, private6} {
			if strings.Contains(pc.RemoteDescription().SDP, mine) {
				t.Errorf("the offer has %s, which is the machine's own:\n%s", mine, pc.RemoteDescription().SDP)
			}
		}
	}
}

package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestAddressFlags: what is no address is told with its flag, and with one that would do.
func TestAddressFlags(t *testing.T) {
	for args, want := range map[string]string{
		"probe --at eth0 x":                        `--at: "eth0": want an IP address, such as`,
		"edge --listen :8080":                      `--listen: ":8080": want an IP address and a port, such as`,
		"dns --why 10.0.0.1":                       `--why: "10.0.0.1": want a network, such as`,
		"dns --ns 192.0.2.1,ns2":                   `--ns: "ns2": want an IP address, such as`,
		"dns check --server 192.0.2.1 --server x:": `--server: "x:": want the IP address of a DNS server`,
		"geo lookup 192.0.2.1 nobody":              `"nobody": want an IP address, such as`,
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), nil, new(bytes.Buffer), &stderr); code != exitMisuse || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %s; want %s", args, code, &stderr, want)
		}
	}
}

// TestPublic: what the edge is announced with is what somebody can reach, one a family, and no
// value that was written is dropped.
func TestPublic(t *testing.T) {
	edge := "edge --id de-fra-1 --region de-fra --api-keys keys.txt --map " + shippedMap + " "
	for _, c := range []struct{ name, args, want string }{
		{"a name", "--public eth0", `--public: "eth0": want an IP address, such as`},
		{"nothing", "--public=", "--listen 0.0.0.0:8080 names no address: give --public"},
		{"a port", "--public 192.0.2.1:443", `--public: "192.0.2.1:443": want an IP address`},
		{"a network", "--public 192.0.2.1/24", `--public: "192.0.2.1/24": want an IP address`},
		{"every address", "--public 0.0.0.0", `--public: "0.0.0.0": want an IP address`},
		{"every IPv6 address", "--public ::", `--public: "::": want an IP address`},
		{"a zone", "--public fe80::1%eth0", `--public: "fe80::1%eth0": want an IP address`},
		{"of the link", "--public 169.254.0.1", `--public: "169.254.0.1": want an IP address`},
		{"multicast", "--public 224.0.0.1", `--public: "224.0.0.1": want an IP address`},
		{"broadcast", "--public 255.255.255.255", `--public: "255.255.255.255": want an IP address`},
		{"IPv4 as IPv6", "--public ::ffff:192.0.2.1", `--public: "::ffff:192.0.2.1": want an IP address`},
		{"every address behind NAT", "--public 192.0.2.1/0.0.0.0", `--public: "192.0.2.1/0.0.0.0": want an IP address`},
		{"the other family behind NAT", "--public 192.0.2.1/fd00::1", `--public: "192.0.2.1/fd00::1": want an IP address`},
		{"three", "--public 192.0.2.1/10.0.0.1/10.0.0.2", `want an IP address`},
		{"two of IPv4", "--public 192.0.2.1 --public 192.0.2.2", "--public 192.0.2.1 and 192.0.2.2: want one address a family"},
		{"two of IPv6", "--public 2001:db8::1 --public 2001:db8::2", "--public 2001:db8::1 and 2001:db8::2: want one address a family"},
		{"one twice", "--public 192.0.2.1,192.0.2.1", "want one address a family"},
		{"three of two", "--public 192.0.2.1 --public 2001:db8::1 --public 192.0.2.2", "want one address a family"},
		{"none", "", "--listen 0.0.0.0:8080 names no address: give --public"},
		{"another flag twice", "--public 192.0.2.1 --media 192.0.2.1:1 --media 192.0.2.1:2", "--media is given twice"},
		{"one of each family", "--public 2001:db8::1 --public 192.0.2.1/10.0.0.5", "keys.txt: no such file"},
		{"of this machine", "--public 127.0.0.1", "keys.txt: no such file"},
		{"of a laboratory", "--public 10.0.0.5", "keys.txt: no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := run(t.Context(), strings.Fields(edge+c.args), nil, new(bytes.Buffer), &stderr); code != exitMisuse || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("%s: exit code %d, %s; want %s", c.args, code, &stderr, c.want)
			}
		})
	}
}

func TestServerAddr(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"192.0.2.53", "192.0.2.53:53"}, {"192.0.2.53:5300", "192.0.2.53:5300"}, {"2001:db8::53", "[2001:db8::53]:53"},
		{"[2001:db8::53]:5300", "[2001:db8::53]:5300"}, {"ns.example", ""}, {"", ""}, {"192.0.2.53:x", ""},
	} {
		a, err := parseServer(c.in)
		if (err != nil) != (c.want == "") || err == nil && a.String() != c.want {
			t.Errorf("%q: got %s, %v, want %q", c.in, a, err, c.want)
		}
	}
}

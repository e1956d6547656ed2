package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestAddressFlags: what is no address is told with its flag, and with one that would do.
func TestAddressFlags(t *testing.T) {
	for args, want := range map[string]string{
		"edge --public eth0":                       `--public: "eth0": want an IP address, such as`,
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

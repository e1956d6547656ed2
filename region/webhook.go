package region

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// webhook reads where a tenant's events go.
func (r *reader) webhook(n *yaml.Node, what string) Webhook {
	s := r.section(n, n, what, "url", "secret_file")
	at, file := s.need("url"), s.need("secret_file")
	h := Webhook{URL: r.text(at, what+": url"), SecretFile: r.text(file, what+": secret_file"), Line: n.Line}
	if why := notWebhook(h.URL); h.URL != "" && why != "" {
		r.fault(at, "%s: url: %s: want https://HOST/PATH, without user, password and fragment", what, why)
	}
	if h.SecretFile != "" && h.SecretFile[0] != '/' { // perhaps the secret itself: it is not said
		r.fault(file, "%s: secret_file: want the whole path of a file, from /", what)
	}
	return h
}

// notWebhook is what keeps a URL from being one that events may go to; empty: nothing. In the
// clear they go no further than this machine. The URL itself may hold a secret, and is not said.
func notWebhook(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "not a URL"
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Hostname() == "":
		return "no host"
	case u.Port() != "" && (err != nil || port == 0):
		return "not a port"
	case u.User != nil:
		return "a user or password in it"
	case strings.Contains(text, "#"):
		return "a fragment"
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return ""
	case u.Scheme == "http":
		return "in the clear to another machine"
	}
	return "not https"
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

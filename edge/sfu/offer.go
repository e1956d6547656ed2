package sfu

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"bailiwick/edge/sfu/rtp"
)

// ErrUnusable is wrapped by what is wrong with an offer of somebody's: the text behind it is for
// who wrote the client.
var ErrUnusable = errors.New("the offer cannot be used")

func unusable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnusable, fmt.Errorf(format, args...))
}

// offer is one that a client made: at most one audio and one video, all of one direction.
type offer struct {
	d     *sdp.SessionDescription
	kinds []Kind // of its m-lines
	// layers are the names of those that the video is sent in, the lowest first; none: it is sent as one.
	layers []string
	// passive: the client wants to be DTLS server, and pion carries its media.
	passive bool
}

// readOffer takes an offer that has media to publish, or asks for some to play, and leaves in it
// what will be answered: what goes the other way, and layers that are too many, are taken out.
func readOffer(text string, plays bool) (*offer, error) {
	if len(text) > maxSDP {
		return nil, unusable("sdp: %d bytes, limit %d", len(text), maxSDP)
	}
	o := &offer{d: &sdp.SessionDescription{}}
	if err := o.d.UnmarshalString(text); err != nil {
		return nil, unusable("sdp: %w", err)
	}
	if len(o.d.MediaDescriptions) == 0 {
		return nil, unusable("sdp: no m-line: want audio, video or both")
	}
	for i, m := range o.d.MediaDescriptions {
		k, err := o.line(m, plays)
		if err != nil {
			return nil, unusable("sdp: m-line %d: %w", i, err)
		}
		o.kinds = append(o.kinds, k)
	}
	return o, o.bundled()
}

// line checks one m-line.
func (o *offer) line(m *sdp.MediaDescription, plays bool) (Kind, error) {
	k, known := map[string]Kind{"audio": Audio, "video": Video}[m.MediaName.Media]
	switch {
	case !known:
		return 0, fmt.Errorf("%.16q: want audio and video alone", m.MediaName.Media)
	case slices.Contains(o.kinds, k):
		return 0, fmt.Errorf("a second %s: want at most one", k)
	}
	if _, only := m.Attribute("bundle-only"); m.MediaName.Port.Value == 0 && !only {
		return 0, errors.New("port 0: leave out what is not offered")
	}
	if mid, _ := m.Attribute(sdp.AttrKeyMID); mid == "" || len(mid) > 32 {
		return 0, errors.New("no mid, or one of more than 32 octets")
	}
	if _, mux := m.Attribute(sdp.AttrKeyRTCPMux); !mux {
		return 0, errors.New("no rtcp-mux")
	}
	for _, key := range []string{"ice-ufrag", "ice-pwd", "fingerprint"} {
		if v, _ := attribute(o.d, m, key); v == "" {
			return 0, errors.New("no " + key)
		}
	}
	switch setup, _ := attribute(o.d, m, sdp.AttrKeyConnectionSetup); setup {
	case "", "actpass", "active":
	case "passive":
		o.passive = true
	default:
		return 0, fmt.Errorf("setup %.16q: want actpass", setup)
	}
	if layers := takeLayers(m); !plays && k == Video {
		o.layers = ascending(layers)
	} else {
		m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool { return a.Key == "simulcast" || a.Key == "rid" })
	}
	return k, direct(o.d, m, plays)
}

// direct makes the m-line one way, if it goes that way.
func direct(d *sdp.SessionDescription, m *sdp.MediaDescription, plays bool) error {
	is, way := "sendrecv", "sendonly"
	if plays {
		way = "recvonly"
	}
	ways := []string{"sendrecv", "sendonly", "recvonly", "inactive"}
	for _, w := range ways {
		if _, ok := attribute(d, m, w); ok {
			is = w
		}
	}
	for _, w := range ways { // the m-line's own comes first
		if _, ok := m.Attribute(w); ok {
			is = w
		}
	}
	if is != way && is != "sendrecv" {
		return fmt.Errorf("%s: want %s", is, way)
	}
	m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
		return slices.Contains(ways, a.Key)
	})
	m.Attributes = append(m.Attributes, sdp.Attribute{Key: way})
	return nil
}

// bundled checks that everything is to go over one connection.
func (o *offer) bundled() error {
	var mids []string
	for _, m := range o.d.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		if slices.Contains(mids, mid) {
			return unusable("sdp: mid %.32q: twice", mid)
		}
		mids = append(mids, mid)
	}
	group, _ := o.d.Attribute(sdp.AttrKeyGroup)
	in := strings.Fields(group)
	for _, mid := range mids {
		if len(mids) > 1 && (len(in) == 0 || in[0] != "BUNDLE" || !slices.Contains(in[1:], mid)) {
			return unusable("sdp: a=group:BUNDLE must name every m-line")
		}
	}
	return nil
}

// text is the offer as it will be answered.
func (o *offer) text() (string, error) {
	b, err := o.d.Marshal()
	return string(b), err
}

// restarted gives the offer the client's new ICE credentials, and no candidates.
func (o *offer) restarted(ufrag, pwd string) {
	change := func(list []sdp.Attribute) []sdp.Attribute {
		list = slices.DeleteFunc(list, func(a sdp.Attribute) bool { return a.Key == "candidate" || a.Key == "end-of-candidates" })
		for i := range list {
			switch list[i].Key {
			case "ice-ufrag":
				list[i].Value = ufrag
			case "ice-pwd":
				list[i].Value = pwd
			}
		}
		return list
	}
	o.d.Attributes = change(o.d.Attributes)
	for _, m := range o.d.MediaDescriptions {
		m.Attributes = change(m.Attributes)
	}
}

// extForeign is a number that no extension of ours has: what a client sends and we do not read.
const extForeign = 14

// extensions are those that an answer may take, by what we call them; the one that may be long is
// first, for a header has all of them in the form of its first.
var extensions = [...]struct {
	uri string
	id  uint8
}{{dependencyURI, extDependency}, {sdp.SDESMidURI, extMID}, {sdp.AudioLevelURI, extAudioLevel}, {sdp.TransportCCURI, extWide}, {captureTimeURI, extCaptureTime},
	{sdp.SDESRTPStreamIDURI, extRID}, {sdp.SDESRepairRTPStreamIDURI, extRepairedRID}}

// numbers are what a client calls payload types and extensions that we answered to, both ways.
type numbers struct {
	in  rtp.Numbers // theirs to ours
	out rtp.Numbers // ours to theirs; 0: they have none
}

// readNumbers reads them in the answer, which keeps the offer's.
func readNumbers(answer string) (*numbers, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(answer); err != nil {
		return nil, err
	}
	n := &numbers{}
	for i := range n.in.Extensions {
		n.in.Extensions[i] = extForeign
	}
	for _, m := range d.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			return nil, unusable("sdp: %s: no codec of it can be passed on: want Opus, VP8, VP9 or AV1 of profile 0, or H.264 of profile 42e01f with packetization-mode 1", m.MediaName.Media)
		}
		repairs := map[uint8]uint8{} // theirs, and of what
		for _, a := range m.Attributes {
			number, is, _ := strings.Cut(a.Value, " ")
			id, err := strconv.ParseUint(number, 10, 8)
			if err != nil {
				continue
			}
			switch a.Key {
			case "rtpmap":
				n.codec(uint8(id), is)
			case "fmtp":
				if of, err := strconv.ParseUint(strings.TrimPrefix(is, "apt="), 10, 7); err == nil {
					repairs[uint8(id)] = uint8(of)
				}
			case "extmap":
				for _, e := range extensions {
					if e.uri == is && id > 0 {
						n.in.Extensions[id], n.out.Extensions[e.id] = e.id, uint8(id)
					}
				}
			}
		}
		for id, of := range repairs {
			if ours := n.in.Types[of]; ours != 0 && id < 128 {
				n.in.Types[id], n.out.Types[ours+1] = ours+1, id
			}
		}
	}
	return n, nil
}

func (n *numbers) codec(id uint8, name string) {
	name, _, _ = strings.Cut(name, "/")
	ours, known := map[string]uint8{"opus": ptOpus, "vp8": ptVP8, "vp9": ptVP9, "h264": ptH264, "av1": ptAV1}[strings.ToLower(name)]
	if !known || id > 127 {
		return
	}
	n.in.Types[id] = ours
	if n.out.Types[ours] == 0 {
		n.out.Types[ours] = id
	}
}

// fragment is what of an answer says where the edge is (RFC 8840).
func fragment(answer string) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(answer); err != nil {
		return "", err
	}
	var b strings.Builder
	group, _ := d.Attribute(sdp.AttrKeyGroup)
	m := d.MediaDescriptions[0]
	mid, _ := m.Attribute(sdp.AttrKeyMID)
	ufrag, _ := attribute(&d, m, "ice-ufrag")
	pwd, _ := attribute(&d, m, "ice-pwd")
	b.WriteString("a=ice-lite\r\n")
	if group != "" {
		fmt.Fprintf(&b, "a=group:%s\r\n", group)
	}
	fmt.Fprintf(&b, "m=%s\r\na=mid:%s\r\na=ice-ufrag:%s\r\na=ice-pwd:%s\r\n", m.MediaName.String(), mid, ufrag, pwd)
	for _, a := range m.Attributes {
		if a.Key == "candidate" {
			fmt.Fprintf(&b, "a=candidate:%s\r\n", a.Value)
		}
	}
	b.WriteString("a=end-of-candidates\r\n")
	return b.String(), nil
}

// ReadFragment reads the client's ICE credentials in an SDP fragment (RFC 8840); both are empty
// where it has none.
func ReadFragment(text string) (ufrag, pwd string, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 2 || line[1] != '=' || !strings.Contains("am", line[:1]) || !printable(line) {
			return "", "", fmt.Errorf("fragment: %.32q: want a= and m= lines", line)
		}
		key, value, _ := strings.Cut(line, ":")
		to, least := &ufrag, 4
		switch key {
		case "a=ice-ufrag":
		case "a=ice-pwd":
			to, least = &pwd, 22
		default:
			continue
		}
		if len(value) < least || len(value) > 256 || strings.Trim(value, iceChars) != "" || *to != "" && *to != value {
			return "", "", fmt.Errorf("fragment: %s: want one of %d to 256 ice-chars (RFC 8839)", key, least)
		}
		*to = value
	}
	return ufrag, pwd, nil
}

const iceChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

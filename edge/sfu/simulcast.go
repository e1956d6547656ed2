package sfu

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"bailiwick/edge/sfu/layer"
)

// videoLine is the m-line on which a participant sends video.
const videoLine = 1

// rids are what every offer calls the simulcast layers of videoLine (RFC 8851), the lowest first.
var rids = [layer.Layers]string{"l", "m", "h"}

// layerOf is the layer of a name, of those from the lowest; -1 is none of them.
func layerOf(names []string, rid []byte) int {
	for i, name := range names {
		if string(rid) == name {
			return i
		}
	}
	return -1
}

// offerLayers has an offer take simulcast on videoLine (RFC 8853). pion, which says nothing of
// it to begin with, says later what the answer did.
func offerLayers(offer string) string {
	var b strings.Builder
	for line := range strings.Lines(offer) {
		if isLayers(line) {
			continue
		}
		b.WriteString(line)
		if strings.TrimRight(line, "\r\n") == "a=mid:"+strconv.Itoa(videoLine) {
			for _, rid := range rids {
				b.WriteString("a=rid:" + rid + " recv\r\n")
			}
			b.WriteString("a=simulcast:recv " + strings.Join(rids[:], ";") + "\r\n")
		}
	}
	return b.String()
}

// answeredLayers takes from an answer what it says of layers, but for those of ours that it
// sends on videoLine: with none of these it is a single stream.
func answeredLayers(answer string) (plain string, layers bool) {
	head, lines := sections(answer)
	var b strings.Builder
	var of []string
	for i, section := range append([]string{head}, lines...) {
		for line := range strings.Lines(section) {
			if !isLayers(line) {
				b.WriteString(line)
				continue
			}
			rid, direction, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "a=rid:")), " ")
			ours := i == 1+videoLine && layerOf(rids[:], []byte(rid)) >= 0 && !slices.Contains(of, rid)
			if ours && (direction == "send" || strings.HasPrefix(direction, "send ")) {
				of = append(of, rid)
				b.WriteString("a=rid:" + rid + " send\r\n")
			}
		}
	}
	return b.String(), len(of) > 0
}

// takeLayers reads which layers a client offers to send on an m-line, of each its first alternative (RFC
// 8853), and leaves in it those that are taken: the first, which it prefers. None are, where
// packets do not name theirs.
func takeLayers(m *sdp.MediaDescription) (taken []string) {
	sends, named, list := map[string]bool{}, false, ""
	m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
		f := strings.Fields(a.Value)
		switch a.Key {
		case "rid":
			if len(f) > 1 && f[1] == "send" && isRID(f[0]) {
				sends[f[0]] = true
			}
			return true
		case "simulcast":
			for i := 0; i+1 < len(f); i += 2 {
				if f[i] == "send" {
					list = f[i+1]
				}
			}
			return true
		case "extmap":
			named = named || len(f) > 1 && f[1] == sdp.SDESRTPStreamIDURI
		}
		return false
	})
	for stream := range strings.SplitSeq(list, ";") {
		rid, _, _ := strings.Cut(stream, ",")
		rid = strings.TrimPrefix(rid, "~") // it begins paused
		if named && sends[rid] && len(taken) < layer.Layers {
			sends[rid] = false // once
			taken = append(taken, rid)
			m.Attributes = append(m.Attributes, sdp.Attribute{Key: "rid", Value: rid + " send"})
		}
	}
	if len(taken) > 0 {
		m.Attributes = append(m.Attributes, sdp.Attribute{Key: "simulcast", Value: "send " + strings.Join(taken, ";")})
	}
	return taken
}

// isRID tells what is a name of a layer (RFC 8851 section 10) and fits into a packet (RFC 8285 section 4.2).
func isRID(s string) bool {
	return s != "" && len(s) <= 16 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_'
	})
}

// ascending orders a client's layers from the lowest. They are listed from the most preferred (RFC 8853
// section 5.2), as OBS does, but by pages, which call the lowest l, low, q or s. What each
// really takes is measured.
func ascending(listed []string) []string {
	names := slices.Clone(listed)
	if len(names) > 0 && !strings.ContainsRune("lqsLQS", rune(names[0][0])) {
		slices.Reverse(names)
	}
	return names
}

func isLayers(line string) bool {
	return strings.HasPrefix(line, "a=rid:") || strings.HasPrefix(line, "a=simulcast:")
}

package sfu

import (
	"slices"
	"strconv"
	"strings"

	"bailiwick/edge/sfu/layer"
)

// videoLine is the m-line on which a participant sends video.
const videoLine = 1

// rids are what every offer calls the simulcast layers of videoLine (RFC 8851), the lowest first.
var rids = [layer.Layers]string{"l", "m", "h"}

// layerOf is the layer of a name; -1 is none of ours.
func layerOf(rid []byte) int {
	for i, name := range rids {
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
			ours := i == 1+videoLine && layerOf([]byte(rid)) >= 0 && !slices.Contains(of, rid)
			if ours && (direction == "send" || strings.HasPrefix(direction, "send ")) {
				of = append(of, rid)
				b.WriteString("a=rid:" + rid + " send\r\n")
			}
		}
	}
	return b.String(), len(of) > 0
}

func isLayers(line string) bool {
	return strings.HasPrefix(line, "a=rid:") || strings.HasPrefix(line, "a=simulcast:")
}

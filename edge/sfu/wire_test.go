package sfu

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bailiwick/tools/exectest"
)

// TestNothingInTheClear: of a consult that is captured on the loopback interface there are
// handshakes and RTP headers, and of what was said nothing, whoever carries the media, over UDP and
// over TCP. A datagram in the clear, which the same capture shows, says that it would be seen.
func TestNothingInTheClear(t *testing.T) {
	tshark, dumpcap := exectest.Need(t, "tshark", "tshark"), exectest.Need(t, "dumpcap", "tshark")
	for name, by := range map[string]struct{ plain, tcp bool }{"lane": {}, "pion": {plain: true}, "lane over TCP": {tcp: true}, "pion over TCP": {true, true}} {
		t.Run(name, func(t *testing.T) {
			passive = by.plain
			defer func() { passive = false }()
			s := listen(t)
			media := s.Sockets()[0].Bound.Port()
			clear, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer clear.Close()
			control := clear.LocalAddr().(*net.UDPAddr).Port
			file, stop := capture(t, dumpcap, fmt.Sprintf("port %d or udp port %d", media, control))

			canary := "canary-" + rand.Text()
			const words = 50
			var how []clientOption
			if by.tcp {
				how = append(how, overTCP)
			}
			a, b := join(t, s, "a", how...), join(t, s, "b", how...)
			for _, k := range kinds[:Screen] {
				b.routed(a, k)
				for n := range uint16(words) {
					a.say(k, n, vp8(n == 0, fmt.Sprintf("%s-%d.", canary, n)))
				}
				b.hears("a", k, fmt.Sprintf("%s-%d.", canary, words-1))
			}
			end := "end-" + rand.Text()
			for _, text := range []string{canary, end} {
				if _, err := clear.WriteTo([]byte(text), clear.LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "end in the capture", func() bool { b, _ := os.ReadFile(file); return bytes.Contains(b, []byte(end)) })
			stop()

			read := func(filter string, fields ...string) (rows [][]string) {
				t.Helper()
				args := []string{"-n", "-r", file, "--enable-heuristic", "rtp_udp", "-Y", filter, "-T", "fields"}
				for _, f := range fields {
					args = append(args, "-e", f)
				}
				out, err := exec.Command(tshark, args...).Output()
				if err != nil {
					t.Fatalf("tshark %s: %v", filter, err)
				}
				for line := range strings.Lines(string(out)) {
					rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
				}
				return rows
			}
			found := read(fmt.Sprintf("frame contains %q", canary), "udp.dstport")
			if len(found) != 1 || found[0][0] != fmt.Sprint(control) {
				t.Errorf("%s is in packets to %v, want the one in the clear to %d alone", canary, found, control)
			}
			hellos, in, out := 0, map[string]int{}, map[string]int{}
			count := func(pt string, payload []byte, to string) {
				if to == fmt.Sprint(media) {
					in[pt]++
				} else {
					out[pt]++ // a run to one address is captured as one
				}
				if bytes.Contains(payload, []byte("anary")) {
					t.Errorf("payload %q", payload)
				}
			}
			bin := func(field string) []byte {
				b, err := hex.DecodeString(strings.ReplaceAll(field, ":", ""))
				if err != nil {
					t.Error(err)
				}
				return b
			}
			if by.tcp {
				streams := map[[2]string][]byte{}
				for _, row := range read(fmt.Sprintf("tcp.port==%d && tcp.len>0", media), "tcp.srcport", "tcp.dstport", "tcp.payload") {
					of := [2]string{row[0], row[1]}
					streams[of] = append(streams[of], bin(row[2])...)
				}
				for of, b := range streams {
					for len(b) >= 2 && len(b) >= 2+int(binary.BigEndian.Uint16(b)) { // RFC 4571
						f := b[2 : 2+int(binary.BigEndian.Uint16(b))]
						b = b[2+len(f):]
						switch {
						case len(f) > 13 && f[0] == 22 && f[13] == 1:
							hellos++
						case len(f) > 12 && f[0]>>6 == 2 && (f[1] < 192 || f[1] > 223):
							count(fmt.Sprint(f[1]&127), f[12:], of[1])
						}
					}
					if len(b) > 0 {
						t.Errorf("%d bytes from %s to %s are no frame", len(b), of[0], of[1])
					}
				}
				if n := len(read(fmt.Sprintf("udp.port==%d", media), "frame.number")); n != 0 {
					t.Errorf("%d datagrams of UDP", n)
				}
			} else {
				ours := fmt.Sprintf("udp.port==%d", media)
				hellos = len(read(ours+" && dtls.handshake.type==1", "frame.number"))
				for _, row := range read(ours+" && rtp", "rtp.p_type", "rtp.payload", "udp.dstport") {
					count(row[0], bin(row[1]), row[2])
				}
			}
			if hellos < 2 {
				t.Errorf("%d ClientHellos, want one of each", hellos)
			}
			for _, pt := range []int{ptOpus, ptVP8} {
				if of := fmt.Sprint(pt); in[of] < words || out[of] == 0 {
					t.Errorf("of payload type %d %d packets in and %d out, want %d in; of all %v, %v", pt, in[of], out[of], words, in, out)
				}
			}
		})
	}
}

// capture has what passes the loopback interface written to a file until stop is called.
func capture(t *testing.T, dumpcap, filter string) (file string, stop func()) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "lo.pcapng")
	c := exec.Command(dumpcap, "-q", "-i", "lo", "-f", filter, "-w", file)
	exectest.DieWithParent(c)
	said, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	began := make(chan string, 1)
	go func() {
		defer close(done)
		var all strings.Builder
		for lines := bufio.NewScanner(said); lines.Scan(); {
			fmt.Fprintln(&all, lines.Text())
			if strings.HasPrefix(lines.Text(), "File: ") {
				began <- ""
			}
		}
		select {
		case began <- all.String():
		default:
		}
		c.Wait()
	}()
	stop = func() { c.Process.Signal(os.Interrupt); <-done }
	t.Cleanup(stop)
	select {
	case why := <-began:
		if why != "" {
			t.Skip("no capture is permitted here, which takes root or dumpcap with cap_net_raw: " + why)
		}
	case <-time.After(patience):
		t.Fatal("dumpcap does not begin")
	}
	return file, stop
}

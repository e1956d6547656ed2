package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// perfSeconds is how long dnsperf asks each server.
const perfSeconds = 3

// perfed is what dnsperf says of one server.
type perfed struct {
	sent, completed, lost, noError int
	rate                           float64
}

// crossCheck lets another load generator ask the same queries of our server and gdnsd.
func (b *bench) crossCheck() error {
	path, err := exec.LookPath("dnsperf")
	if err != nil {
		return errors.New("not installed: apt-get install dnsperf")
	}
	b.perfed = map[string]perfed{}
	for _, s := range []*server{b.own, b.find(gdnsdName), b.find(ownSignedName), b.find(knotSigned)} {
		if s == nil {
			continue
		}
		say("dnsperf on " + s.name)
		var framed []byte // as over TCP: dnsperf -B
		for _, q := range b.sets[s.set()] {
			framed = append(binary.BigEndian.AppendUint16(framed, uint16(len(q))), q...)
		}
		file := filepath.Join(b.dir, "queries")
		if err := os.WriteFile(file, framed, 0o600); err != nil {
			return err
		}
		out, err := exec.CommandContext(b.ctx, path, "-B", "-d", file, "-s", s.addr.Addr().String(), "-p", strconv.Itoa(int(s.addr.Port())),
			"-c", "1", "-T", "1", "-q", strconv.Itoa(window), "-l", strconv.Itoa(perfSeconds), "-t", "2").CombinedOutput()
		if err != nil {
			return fmt.Errorf("dnsperf: %w: %s", err, lastLine(string(out)))
		}
		x, err := parsePerf(string(out))
		if err != nil {
			return err
		}
		b.perfed[s.name] = x
	}
	return nil
}

var perfLine = regexp.MustCompile(`(?m)^ *(Queries sent|Queries completed|Queries lost|Queries per second):\s+([\d.]+)`)
var perfNoError = regexp.MustCompile(`NOERROR (\d+)`)

func parsePerf(text string) (x perfed, err error) {
	seen := map[string]float64{}
	for _, m := range perfLine.FindAllStringSubmatch(text, -1) {
		if seen[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return x, err
		}
	}
	if len(seen) != 4 {
		return x, fmt.Errorf("dnsperf: no statistics in %.200q", text)
	}
	x = perfed{sent: int(seen["Queries sent"]), completed: int(seen["Queries completed"]), lost: int(seen["Queries lost"]), rate: seen["Queries per second"]}
	if m := perfNoError.FindStringSubmatch(text); m != nil {
		x.noError, err = strconv.Atoi(m[1])
	}
	return x, err
}

func (b *bench) writeDnsperf(p printer) {
	p("\n## dnsperf\n")
	if b.notPerfed != "" {
		p("Not measured: %s", strings.ReplaceAll(b.notPerfed, "|", "/"))
		return
	}
	p("Another generator (`dnsperf -B`, one client, %d queries in flight, %d s) with the same queries; signed servers get those with DO. Its rate is no measure of a server: the machine is shared, and the generator can be the slower. Ours beside it is the loss in all measured slices.\n", window, perfSeconds)
	p("| server | sent | completed | NOERROR | lost | a second | our generator: answered | lost |")
	p("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, s := range b.servers {
		x, ok := b.perfed[s.name]
		if !ok {
			continue
		}
		var own tally
		for _, t := range s.samples[s.set()] {
			own.answered += t.answered
			own.lost += t.lost
		}
		p("| %s | %d | %d | %d | %d | %.0f | %d | %d |", s.name, x.sent, x.completed, x.noError, x.lost, x.rate, own.answered, own.lost)
	}
}

package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Replay is what real processes can do of a run, for the consult that was in pieces for
// longest: a test of whole systems plays it line by line.
//
//	edges de-ber-1 de-fra-1        start these, each with a state folder
//	1.250 make c1 DE,DE by de-ber-1
//	2.000 join c1 0                a page opens that participant's link
//	9.000 leave c1 0 | reload c1 0 | end c1 by de-fra-1
//	12.000 kill de-fra-1           SIGKILL; stop is SIGTERM
//	22.000 start de-fra-1 kept     none: without its state folder
//	30.000 mode de-fra draining    an operator's word; serving takes it back
//	40.000 store down | store up   the store's process
//	55.000 whole c1 within 90s     both hear each other
//
// Broken paths, clocks, papers and restores are left out.
func (s *Sim) Replay() string {
	var lines []timed
	put := func(at time.Duration, format string, args ...any) {
		lines = append(lines, timed{at, fmt.Sprintf(format, args...)})
	}
	last := time.Duration(0)
	for _, a := range s.Script.Actions {
		n := len(lines)
		s.real(&a, put)
		if len(lines) > n {
			last = max(last, a.At)
		}
	}
	for _, l := range lines {
		last = max(last, l.at)
	}
	if t := s.named(s.sees.who); t != nil && !t.sees.asked && len(t.wanting()) > 1 {
		put(last+time.Second, "whole %s within %s", s.sees.who, meetWithin)
	}
	slices.SortStableFunc(lines, func(a, b timed) int { return int(a.at - b.at) })
	var b strings.Builder
	fmt.Fprintf(&b, "# seed %d: %s was in pieces for %s\nedges %s\n", s.Script.Seed, s.sees.who, s.sees.Worst.Round(time.Second), strings.Join(topologies[s.Script.Topology], " "))
	for _, l := range lines {
		fmt.Fprintf(&b, "%.3f %s\n", l.at.Seconds(), l.text)
	}
	return b.String()
}

type timed struct {
	at   time.Duration
	text string
}

// real words one action, if real processes can do it.
func (s *Sim) real(a *Action, put func(time.Duration, string, ...any)) {
	d := func(i int) time.Duration {
		d, _ := time.ParseDuration(a.Args[i])
		return d
	}
	switch a.Verb {
	case "make", "join", "leave", "reload", "end":
		if a.Args[0] != s.sees.who {
			return
		}
		switch a.Verb {
		case "make":
			var law []string
			for _, j := range kinds[a.Args[1]].law {
				law = append(law, string(j))
			}
			put(a.At, "make %s %s by %s", a.Args[0], strings.Join(law, ","), a.Args[2])
		case "end":
			put(a.At, "end %s by %s", a.Args[0], a.Args[1])
		default:
			put(a.At, "%s %s %s", a.Verb, a.Args[0], a.Args[1])
		}
	case "kill", "freeze", "stop":
		verb := a.Verb
		back := a.At + d(1)
		if verb == "freeze" {
			verb = "kill"
		}
		if verb == "stop" {
			back += linger
		}
		put(a.At, "%s %s", verb, a.Args[0])
		put(back, "start %s %s", a.Args[0], strings.Replace(a.Args[2], "old", "kept", 1))
	case "mode":
		put(a.At, "mode %s %s", a.Args[0], a.Args[1])
		put(a.At+d(2), "mode %s serving", a.Args[0])
	case "store":
		put(a.At, "store down")
		put(a.At+d(1), "store up")
	}
}

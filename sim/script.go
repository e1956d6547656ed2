package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Script is one schedule: how the run is laid out, and what is done to it. The seed is
// the chance of everything else.
type Script struct {
	Seed     uint64
	Topology string
	Grace    time.Duration // of the map
	Admits   int           // consults on an edge at most
	Static   bool          // de-ber's edges are in the map
	Actions  []Action      // in order
}

// Action is one line of it: at 12.5s, "kill de-fra-1 10s kept".
type Action struct {
	At   time.Duration
	Verb string
	Args []string
}

// Ends is when the healing begins.
func (sc *Script) Ends() time.Duration {
	if len(sc.Actions) == 0 {
		return time.Second
	}
	return sc.Actions[len(sc.Actions)-1].At + 5*time.Second
}

func (sc *Script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "run seed=%d topology=%s grace=%s admits=%d static=%t\n", sc.Seed, sc.Topology, sc.Grace, sc.Admits, sc.Static)
	for i := range sc.Actions {
		a := &sc.Actions[i]
		fmt.Fprintf(&b, "%.3f %s %s\n", a.At.Seconds(), a.Verb, strings.Join(a.Args, " "))
	}
	return b.String()
}

// ParseScript reads what String writes; empty lines and lines that begin with # are for
// the reader.
func ParseScript(text string) (*Script, error) {
	sc := &Script{}
	for i, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		err := sc.line(f)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if topologies[sc.Topology] == nil {
		return nil, fmt.Errorf("topology %q: not known", sc.Topology)
	}
	return sc, nil
}

func (sc *Script) line(f []string) (err error) {
	if f[0] != "run" {
		s, err := strconv.ParseFloat(f[0], 64)
		if err != nil || len(f) < 2 || s < 0 {
			return fmt.Errorf("want SECONDS VERB ARGUMENTS")
		}
		n, known := verbs[f[1]]
		if !known || len(f)-2 != n {
			return fmt.Errorf("%s: not a verb with %d arguments", f[1], len(f)-2)
		}
		at := time.Duration(s*1000+0.5) * time.Millisecond
		if k := len(sc.Actions); k > 0 && at < sc.Actions[k-1].At {
			return fmt.Errorf("%s: earlier than the line before", f[0])
		}
		sc.Actions = append(sc.Actions, Action{at, f[1], f[2:]})
		return nil
	}
	for _, pair := range f[1:] {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "seed":
			sc.Seed, err = strconv.ParseUint(value, 10, 64)
		case "topology":
			sc.Topology = value
		case "grace":
			sc.Grace, err = time.ParseDuration(value)
		case "admits":
			sc.Admits, err = strconv.Atoi(value)
		case "static":
			sc.Static, err = strconv.ParseBool(value)
		default:
			err = fmt.Errorf("%s: not known", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Generate draws a schedule of n actions.
func Generate(seed uint64, n int) *Script {
	r := newRand(seed, "script")
	pick := func(list ...string) string { return list[r.n(len(list))] }
	sc := &Script{Seed: seed, Admits: 100, Static: r.chance(0.3), Grace: []time.Duration{0, 20 * time.Second, 45 * time.Second}[r.n(3)]}
	sc.Topology = pick("small", "small", "small", "small", "small", "small", "pairs", "pairs", "pairs", "pairs", "pairs", "pairs", "medium", "medium", "medium", "medium", "medium", "medium", "medium", "full")
	if r.chance(0.25) {
		sc.Admits = 2 + r.n(3)
	}
	edges := topologies[sc.Topology]
	length := r.between(60*time.Second, 150*time.Second)
	faults := n * []int{4, 8, 15, 30}[r.n(4)] / 100
	put := func(at time.Duration, verb string, args ...string) {
		if at > length { // a consult of the last seconds has little life left
			return
		}
		sc.Actions = append(sc.Actions, Action{at.Round(time.Millisecond), verb, args})
	}
	edge := func() string { return edges[r.n(len(edges))] }
	span := func() string {
		hi := 20 * time.Second
		if r.chance(0.3) {
			hi = 70 * time.Second
		}
		return r.between(500*time.Millisecond, hi).Round(100 * time.Millisecond).String()
	}
	kindsHere := []string{"de", "de", "ee", "df", "fr", "ie", "xx"}
	if sc.Topology == "medium" || sc.Topology == "full" {
		kindsHere = append(kindsHere, "ae", "ae", "ie")
	}
	var talks []string
	who := func() (string, string) { return talks[r.n(len(talks))], strconv.Itoa(r.n(2)) }
	for len(sc.Actions) < n-faults {
		name := fmt.Sprint("c", len(talks)+1)
		talks = append(talks, name)
		kind := kindsHere[r.n(len(kindsHere))]
		at := r.between(2*time.Second, length*8/10)
		put(at, "make", name, kind, edge())
		for i := range len(kinds[kind].law) {
			put(at+r.between(100*time.Millisecond, 6*time.Second), "join", name, strconv.Itoa(i))
		}
		later := at
		for range r.n(5) {
			later += r.between(time.Second, 40*time.Second)
			i := strconv.Itoa(r.n(len(kinds[kind].law)))
			switch r.n(10) {
			case 0, 1, 2:
				put(later, "reload", name, i)
			case 3:
				put(later, "leave", name, i)
				if r.chance(0.7) {
					put(later+r.between(time.Second, 15*time.Second), "join", name, i)
				}
			case 4:
				put(later, "tab", name, i)
			case 5:
				put(later, "crash", name, i)
				put(later+r.between(time.Second, 25*time.Second), "join", name, i)
			case 6:
				put(later, "reset", name, i)
			case 7:
				put(later, "get", name, edge())
			case 8:
				put(later, "park", name, i, edge(), span())
			case 9:
				put(later, "retry", name, i)
			}
		}
		if r.chance(0.5) {
			later += r.between(time.Second, 30*time.Second)
			put(later, "end", name, edge())
			if r.chance(0.4) {
				put(later+r.between(-time.Second, 4*time.Second), "join", name, "0")
			}
			if r.chance(0.3) {
				put(later+r.between(0, 2*time.Second), "end", name, edge())
			}
		}
	}
	for range faults {
		at := r.between(2*time.Second, length)
		switch r.n(27) {
		case 0, 1:
			put(at, "kill", edge(), span(), pick("kept", "kept", "old", "none"))
		case 2:
			put(at, "freeze", edge(), span(), pick("kept", "none"))
		case 3, 4:
			put(at, "stop", edge(), span(), pick("kept", "old", "none"))
		case 5:
			put(at, "cut", edge(), "store", span())
		case 6:
			put(at, "cut", "store", edge(), span())
		case 7:
			put(at, "part", edge(), "store", span())
		case 8:
			put(at, "part", edge(), edge(), span())
		case 9:
			put(at, "cut", edge(), edge(), span())
		case 10, 11, 12:
			name, i := who()
			put(at, "far", name, i, edge(), pick("both", "both", "media", "signal"), span())
		case 13:
			name, i := who()
			put(at, "far", name, i, "all", pick("both", "media", "signal"), span())
		case 14:
			put(at, "store", pick("away", "hang"), span())
		case 15:
			put(at, "restore", r.between(time.Second, 40*time.Second).Round(time.Second).String())
		case 16:
			put(at, "flaky", edge(), span())
		case 17, 18, 19:
			id := edge()
			put(at, "mode", id[:len(id)-2], pick("draining", "down"), span(), pick("undo", "expires", "drill"))
		case 20:
			put(at, "maint", edge(), span())
		case 21:
			put(at, "jump", edge(), pick("-20s", "-5s", "-500ms", "2s", "10s", "20s"))
		case 22:
			put(at, "paper", papers[r.n(len(papers))], pick("expires", "withdrawn"), span())
		case 23:
			put(at, "flag", span())
		case 24:
			id := edge()
			put(at, "region", id[:len(id)-2], span())
		case 25:
			put(at, pick("lag", "dns"), edge(), span())
		case 26: // what stands together falls together
			d := r.between(20*time.Second, 110*time.Second).Round(time.Second).String()
			put(at, "store", "away", d)
			put(at+r.between(0, 2*time.Second), "kill", edge(), d, "kept")
		}
	}
	slices.SortStableFunc(sc.Actions, func(a, b Action) int { return int(a.At - b.At) })
	for len(sc.Actions) > n { // a consult more than asked for
		sc.Actions = sc.Actions[:n]
	}
	return sc
}

// Command dns measures what one geo+ECS query costs the server: processor time of
// Bailiwick's DNS server beside gdnsd, Knot DNS and NSD, in one run, interleaved on
// one core of loopback. It writes RESULTS.md and cost.svg into bench/dns. README.md
// says what is measured; `make bench-dns` runs it.
//
// Invariants: every number written was measured in this run; every server gets the
// same queries, and its answers are compared with ours; nothing is left running.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"bailiwick/geodns/geo"
)

const (
	mapFile = "regions.yaml"
	outDir  = "bench/dns"
	rounds  = 9
	slice   = time.Second
	profile = 10 * time.Second
)

func main() {
	if role := os.Getenv(roleVar); role != "" {
		if err := serve(role, os.Getenv(dbVar)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench-dns:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	// Debian keeps servers where not every user's path leads.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin"); err != nil {
		return err
	}
	cores, err := pin()
	if err != nil {
		return err
	}
	// A child is killed with the thread that started it, so that not even a crash
	// leaves a server behind. That thread is this one.
	runtime.LockOSThread()
	dir, err := os.MkdirTemp("", "bench-dns-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	machine := describe(cores)
	say("importing the country database of tor-geoipdb")
	db := filepath.Join(dir, "country.mmdb")
	stats, err := importDB(db)
	if err != nil {
		return err
	}
	table, err := geo.Load(db, nil)
	if err != nil {
		return err
	}
	b := &bench{ctx: ctx, dir: dir, db: db, core: cores[0], load: cores[1], table: table}
	defer b.stopAll()
	if err := b.prepare(); err != nil {
		return err
	}
	if err := b.measure(); err != nil {
		return err
	}
	// The rest is beside the costs: a run without Consul or dnsperf says so in its rows.
	if err := b.crossCheck(); err != nil {
		b.notPerfed = err.Error()
	}
	b.stopAll()
	if err := b.changeModes(); err != nil {
		b.notChanged = err.Error()
	}
	for _, why := range []string{b.notPerfed, b.notChanged} {
		if why != "" {
			say(why)
		}
	}
	if err := ctx.Err(); err != nil {
		return errors.New("interrupted")
	}
	machine.end()
	return b.write(machine, stats)
}

// bench is one run.
type bench struct {
	ctx   context.Context
	dir   string
	db    string
	core  int // the servers'
	load  int // the generator's
	table *geo.Table

	plan    plan
	sets    map[string][][]byte // queries by name of the set
	nodata  int                 // of the set everywhere, what ours answers without an address
	servers []*server
	own     *server
	cpu     profiled

	changed               *changed
	perfed                map[string]perfed
	notChanged, notPerfed string // why they are not there
}

// The sets of queries.
const (
	served     = "ECS"                // networks with one lawful answer
	withDO     = "ECS, DO"            // the same, asking for DNSSEC
	everywhere = "ECS, all countries" // networks of the whole world
)

// prepare starts every server and checks what it answers.
func (b *bench) prepare() error {
	say("starting bailiwick")
	b.own = &server{name: "bailiwick", command: ownCommand}
	if err := b.launch(b.own); err != nil {
		return err
	}
	homes, err := homesOf(b.own.addr, countries(b.table))
	if err != nil {
		return err
	}
	if b.plan, err = newPlan(b.table, homes); err != nil {
		return err
	}
	b.sets, err = drawSets(b.table, homes)
	if err != nil {
		return err
	}
	b.servers = []*server{b.own}
	for _, s := range peers() {
		say("starting " + s.name)
		b.servers = append(b.servers, s)
		if err := b.launch(s); err != nil {
			if b.ctx.Err() != nil {
				return err
			}
			s.absent = err.Error()
			say(s.name + ": " + s.absent)
		}
	}
	return b.compare()
}

// compare asks every server every query once.
func (b *bench) compare() error {
	want, err := answers(b.own.addr, b.sets[served])
	if err != nil {
		return fmt.Errorf("bailiwick: %w", err)
	}
	for _, s := range b.servers {
		if s.absent != "" {
			continue
		}
		got, err := answers(s.addr, b.sets[s.set()])
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if s.signed {
			keys, err := keysAt(s.addr)
			if err == nil {
				s.verified, err = verify(keys, got)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		for i := range got {
			s.octets += got[i].octets
			if got[i].addr.IsValid() && got[i].addr == want[i].addr {
				s.same++
			}
			if got[i].scope > 0 {
				s.scoped++
			}
		}
		s.asked = len(got)
	}
	all, err := answers(b.own.addr, b.sets[everywhere])
	if err != nil {
		return fmt.Errorf("bailiwick: %w", err)
	}
	for _, a := range all {
		if !a.addr.IsValid() {
			b.nodata++
		}
	}
	return nil
}

// measure takes the slices in turn, so that what disturbs the machine disturbs all.
func (b *bench) measure() error {
	for round := range rounds {
		say(fmt.Sprintf("round %d of %d", round+1, rounds))
		for _, set := range []string{served, withDO, everywhere} {
			for _, s := range b.servers {
				if s.absent != "" || set == everywhere && s != b.own || s.signed && set != withDO {
					continue
				}
				if err := b.slice(s, set); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
			}
		}
	}
	for _, s := range b.servers {
		if s.absent != "" {
			continue
		}
		m, err := memoryOf(s.pid())
		if err != nil {
			return err
		}
		s.end, s.peak = m.rss, m.peak
	}
	for _, s := range b.servers {
		if s.absent != "" {
			continue
		}
		var err error
		if s.calls, err = b.countCalls(s); err != nil {
			s.noCalls = err.Error()
		}
	}
	return b.takeProfile()
}

func (b *bench) slice(s *server, set string) error {
	if err := b.ctx.Err(); err != nil {
		return errors.New("interrupted")
	}
	for try := range attempts {
		x, err := b.take(s, set)
		if err != nil {
			return err
		}
		if x.answered == 0 {
			say(fmt.Sprintf("%s: no answer in a whole slice, try %d of %d", s.name, try+1, attempts))
			s.barren++
			continue
		}
		if set != everywhere && x.failed > 0 {
			return fmt.Errorf("%d of %d answers were none, lost %d: not measured", x.failed, x.answered, x.lost)
		}
		if s.samples == nil {
			s.samples = map[string][]sample{}
		}
		s.samples[set] = append(s.samples[set], x)
		return nil
	}
	return fmt.Errorf("no answer in %d slices", attempts)
}

// take is one slice of load and what it cost the server.
func (b *bench) take(s *server, set string) (x sample, err error) {
	before, err := usageOf(s.pid())
	if err != nil {
		return x, err
	}
	if x.tally, err = blast(s.addr, b.sets[set], slice); err != nil {
		return x, err
	}
	after, err := usageOf(s.pid())
	x.usage = after.since(before)
	return x, err
}

func say(s string) { fmt.Fprintln(os.Stderr, "bench-dns:", s) }

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bailiwick/geodns/geo"
)

// sample is one slice of one server.
type sample struct {
	usage
	tally
}

func (s sample) micros() float64       { return float64(s.total()) / 1e3 / float64(s.answered) }
func (s sample) userMicros() float64   { return float64(s.user) / 1e3 / float64(s.answered) }
func (s sample) systemMicros() float64 { return float64(s.system) / 1e3 / float64(s.answered) }

// spread is the median of some figures, and their extremes.
type spread struct{ median, low, high float64 }

func spreadOf(all []sample, f func(sample) float64) spread {
	v := make([]float64, len(all))
	for i, s := range all {
		v[i] = f(s)
	}
	slices.Sort(v)
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

func (s *server) cost(set string) spread { return spreadOf(s.samples[set], sample.micros) }

// write makes RESULTS.md and cost.svg, and prints the former.
func (b *bench) write(m *machine, stats geo.Stats) error {
	var w strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	p("# DNS: the server beside its peers")
	p("\nWritten by `make bench-dns`; every number is of that one run. [README.md](README.md) says what is measured.")
	p("\n![processor time per query](cost.svg)")
	b.writeGoals(p)
	b.writeCost(p)
	b.writeSigned(p)
	b.writeSplit(p)
	b.writeChanges(p)
	b.writeDnsperf(p)
	b.writeMemory(p, stats)
	b.writeProfile(p)
	writeMachine(p, m)
	fmt.Print(w.String())
	if err := os.WriteFile(filepath.Join(outDir, "RESULTS.md"), []byte(w.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(outDir, "cost.svg"), []byte(b.plot()), 0o644)
}

type printer func(format string, args ...any)

// find is the server of that name; nil where it was not measured.
func (b *bench) find(name string) *server {
	for _, s := range b.servers {
		if s.name == name && s.absent == "" {
			return s
		}
	}
	return nil
}

// ratio is the median of the rounds' ratios: what disturbed a round met both. ok is
// false where one of the two was not measured.
func ratio(s, r *server, set string) (x float64, ok bool) {
	if s == nil || r == nil {
		return 0, false
	}
	round := -1
	return spreadOf(s.samples[set], func(x sample) float64 {
		round++
		return x.micros() / r.samples[set][round].micros()
	}).median, true
}

func showRatio(x float64, ok bool) string {
	if !ok {
		return "n/a"
	}
	return fmt.Sprintf("%.2f", x)
}

func (b *bench) writeCost(p printer) {
	p("\n## Cost\n")
	p("µs of server processor time per answered query: median (lowest–highest) of %d slices of %s; the ratio is the median of the rounds' ratios. Busy is the share of its core: below 100 %% the generator was the slower, or something else ran there.\n", rounds, slice)
	p("| server | version | ECS, µs | ÷ gdnsd | ECS, DO, µs | ÷ gdnsd | busy | lost | same address as bailiwick | ECS scope > 0 |")
	p("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	gdnsd := b.find(gdnsdName)
	for _, s := range b.servers {
		if s.signed {
			continue
		}
		if s.absent != "" {
			p("| %s | not measured: %s | | | | | | | | |", s.name, strings.ReplaceAll(s.absent, "|", "/"))
			continue
		}
		busy := spreadOf(s.samples[served], func(s sample) float64 { return float64(s.total()) / float64(s.elapsed) * 100 })
		lost := spreadOf(s.samples[served], func(s sample) float64 { return float64(s.lost) / float64(s.answered+s.lost) * 100 })
		same := fmt.Sprintf("%.2f %%", percent(s.same, s.asked))
		if s.static {
			same = "n/a: one address for all"
		}
		p("| %s | %s | %s | %s | %s | %s | %.0f %% | %.2f %% | %s | %.1f %% |", s.name, s.release(), show(s.cost(served)), showRatio(ratio(s, gdnsd, served)),
			show(s.cost(withDO)), showRatio(ratio(s, gdnsd, withDO)), busy.median, lost.median, same, percent(s.scoped, s.asked))
	}
	p("\nbailiwick, networks of all countries, of which %.0f %% have no lawful edge and get NODATA with SOA and the reason: %s µs.",
		percent(b.nodata, len(b.sets[everywhere])), show(b.own.cost(everywhere)))
}

func (s *server) release() string {
	if s.version == "" {
		return "this tree"
	}
	return s.version
}

func percent(n, of int) float64 { return float64(n) / float64(of) * 100 }

func show(s spread) string { return fmt.Sprintf("%.1f (%.1f–%.1f)", s.median, s.low, s.high) }

func (b *bench) writeMemory(p printer, stats geo.Stats) {
	p("\n## Memory\n")
	p("MiB resident, without places (base: one at most) and with them: %d ranges of text, which are %d ranges of one country in our table, or %d prefixes with a lawful edge for the peers.\n",
		stats.Ranges, b.table.Ranges(), len(b.plan.prefixes))
	p("| server | base | with places, started | after the load | above base | peak | start to first answer |")
	p("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, s := range b.servers {
		if s.absent != "" {
			continue
		}
		above := mib(s.end - s.base)
		if s.static {
			above = "n/a"
		}
		p("| %s | %s | %s | %s | %s | %s | %.2f s |", s.name, mib(s.base), mib(s.loaded), mib(s.end), above, mib(s.peak), s.ready.Seconds())
	}
}

func mib(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }

func (b *bench) writeProfile(p printer) {
	p("\n## Where bailiwick's time goes\n")
	p("A processor profile of %s of the same load. A query allocates %.1f objects, %.0f bytes; the collector runs %.1f times per 100,000 queries.\n",
		profile, b.cpu.objects, b.cpu.bytes, b.cpu.cycles)
	p("| stage, with what it calls | share | µs per query |")
	p("| --- | ---: | ---: |")
	total := b.own.cost(served).median
	for _, s := range stages {
		share, ok := b.cpu.share[s.function]
		if !ok {
			p("| %s | not in the profile | |", s.what)
			continue
		}
		p("| %s | %.1f %% | %.2f |", s.what, share*100, share*total)
	}
	p("\nThe 15 functions with the most time of their own (`go tool pprof -top`):\n\n```\n%s\n```", b.cpu.flat)
}

func writeMachine(p printer, m *machine) {
	p("\n## Machine\n")
	p("| | |\n| --- | --- |")
	p("| processor | %s, cores %s online; core %d shares a physical core with: %s |", m.cpu, m.cores, m.pinned[0], m.siblings)
	p("| cores used | servers %d, load %d |", m.pinned[0], m.pinned[1])
	p("| kernel | %s |", m.kernel)
	p("| Go | %s |", m.goVersion)
	p("| tree | %s |", m.tree)
	p("| tor-geoipdb | %s |", m.geoData)
	p("| run | %s, %s |", m.began.Format(time.RFC3339), m.ended.Sub(m.began).Round(time.Second))
	p("| load average before, after | %s · %s |", m.load[0], m.load[1])
}

// plot is a bar for each server.
func (b *bench) plot() string {
	const left, width, row = 230, 420, 34
	most := 0.0
	for _, s := range b.servers {
		if s.absent == "" {
			most = max(most, s.cost(s.set()).high)
		}
	}
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" role="img">
<title>µs of processor time per geo+ECS query</title>
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="10" y="22" font-weight="bold">µs of processor time per geo+ECS query (median; line: lowest to highest)</text>
`, left+width+90, 44+row*len(b.servers))
	for i, s := range b.servers {
		y := 40 + i*row
		fmt.Fprintf(&w, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+15, s.name)
		if s.absent != "" {
			fmt.Fprintf(&w, `<text x="%d" y="%d" fill="#666">not measured</text>`+"\n", left, y+15)
			continue
		}
		c := s.cost(s.set())
		x := func(v float64) float64 { return left + v/most*width }
		fmt.Fprintf(&w, `<rect x="%d" y="%d" width="%.1f" height="20" fill="#3b6ea5"/><line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#111" stroke-width="2"/><text x="%.1f" y="%d">%.1f</text>`+"\n",
			left, y, x(c.median)-left, x(c.low), x(c.high), y+10, y+10, x(c.high)+6, y+15, c.median)
	}
	return w.String() + "</svg>\n"
}

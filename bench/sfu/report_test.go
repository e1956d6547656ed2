package sfu

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	shared "bailiwick/bench/report"
)

// What must be reached.
const (
	mostLiveKit = 0.45
	mostBest    = 0.80
	mostFloor   = 1.60
	mostLatency = 1.00  // × LiveKit's
	mostMemory  = 1e6   // bytes a consult
	mostLoss    = 0.005 // more, and a run was overloaded
)

// results are those of the run; nil without one.
var results *report

// cell is one peer in one size, its figures by round; a round that failed has no packets.
type cell struct {
	Load    string   `json:"load"`
	Size    int      `json:"size"`
	Peer    string   `json:"peer"`
	Figures []figure `json:"figures"`
	Failed  string   `json:"failed,omitempty"` // why some round did, the last one's
}

func (c *cell) each(of func(figure) float64) (list []float64) {
	for _, f := range c.Figures {
		if f.Packets > 0 {
			list = append(list, of(f))
		}
	}
	return list
}

func (c *cell) median(of func(figure) float64) float64 { return median(c.each(of)) }
func (c *cell) measured() bool                         { return len(c.each(figure.micros)) > 0 }
func (c *cell) overloaded() bool                       { return c.median(loss) > mostLoss }

// lacks lists what must be on and was not negotiated; nothing of the floor, which negotiates
// nothing.
func (c *cell) lacks() string {
	var list []string
	for _, what := range everything {
		if slices.ContainsFunc(c.Figures, func(f figure) bool { return f.Packets > 0 && !slices.Contains(f.With, what.name) }) {
			list = append(list, what.name)
		}
	}
	return strings.Join(list, ", ")
}

func loss(f figure) float64 { return f.Loss }
func p50(f figure) float64  { return float64(f.P50) }
func p99(f figure) float64  { return float64(f.P99) }
func held(f figure) float64 { return float64(f.Memory) }

// ratio is the median of the rounds' ratios of a to b.
func ratio(a, b *cell, of func(figure) float64) (float64, bool) {
	var list []float64
	for i := range a.Figures {
		if a.Figures[i].Packets > 0 && b.Figures[i].Packets > 0 && of(b.Figures[i]) > 0 {
			list = append(list, of(a.Figures[i])/of(b.Figures[i]))
		}
	}
	return median(list), len(list) > 0
}

type report struct {
	Rows    []shared.Row      `json:"rows"`
	Cells   []*cell           `json:"cells"`
	Absent  map[string]string `json:"absent"`
	Machine shared.Machine    `json:"machine"`
	peers   []*peer
	began   time.Time
}

func begin(all []*peer) *report {
	r := &report{Absent: map[string]string{}, Machine: shared.Begin(), peers: all, began: time.Now()}
	for _, p := range all {
		if p.absent != "" {
			r.Absent[p.name] = p.absent
		}
		r.Machine[p.name] = p.version
	}
	return r
}

func (r *report) cell(p *peer, s scenario, size int) *cell {
	if c := r.find(p.name, s, size); c != nil {
		return c
	}
	c := &cell{Load: s.name, Size: size, Peer: p.name, Figures: make([]figure, *rounds)}
	r.Cells = append(r.Cells, c)
	return c
}

func (r *report) find(peer string, s scenario, size int) *cell {
	i := slices.IndexFunc(r.Cells, func(c *cell) bool { return c.Peer == peer && c.Load == s.name && c.Size == size })
	if i < 0 {
		return nil
	}
	return r.Cells[i]
}

func (r *report) add(p *peer, s scenario, size, round int, f figure) {
	r.cell(p, s, size).Figures[round] = f
}

func (r *report) failed(p *peer, s scenario, size int, why string) {
	r.cell(p, s, size).Failed = why
	say("%s, %d %s, %s: %s", s.name, size, s.of, p.name, why)
}

func (r *report) end() {
	r.Machine.End(r.began, fmt.Sprintf("%d rounds of %s", *rounds, *window))
	for _, s := range []scenario{pairs, fanout} {
		r.Rows = append(r.Rows,
			r.against(s, "processor time a forwarded packet", mostLiveKit, figure.micros, livekitName),
			r.against(s, "processor time a forwarded packet", mostBest, figure.micros, livekitName, janusName),
			r.against(s, "processor time a forwarded packet", mostFloor, figure.micros, floorName),
			r.against(s, "latency, p50", mostLatency, p50, livekitName),
			r.against(s, "latency, p99", mostLatency, p99, livekitName))
	}
	r.Rows = append(r.Rows, r.memory())
}

// against is our ratio to the best of some peers in each size; all must be low enough.
func (r *report) against(s scenario, what string, most float64, of func(figure) float64, names ...string) shared.Row {
	t := shared.Row{What: fmt.Sprintf("%s: %s", s.name, what), Must: fmt.Sprintf("≤ %.2f × %s", most, strings.Join(names, " and ")), Is: "n/a"}
	worst, list, short := 0.0, []string(nil), ""
	for _, size := range s.sizes {
		own := r.find(ownName, s, size)
		high, found := 0.0, false
		for _, name := range names {
			other := r.find(name, s, size)
			if own == nil || other == nil {
				continue
			}
			if x, ok := ratio(own, other, of); ok {
				high, found = max(high, x), true
				if own.overloaded() || other.overloaded() {
					short = ", overloaded"
				} else if lacks := own.lacks(); lacks != "" {
					short = ", without " + lacks
				}
			}
		}
		if !found {
			return t // a size is missing
		}
		worst, list = max(worst, high), append(list, fmt.Sprintf("%.2f", high))
	}
	t.Measured, t.Reached, t.Is = true, worst <= most && short == "", strings.Join(list, ", ")+short
	return t
}

// memory is of our largest run of consults.
func (r *report) memory() shared.Row {
	t := shared.Row{What: "memory a consult above base", Must: "≤ 1 MB", Is: "n/a"}
	size := slices.Max(pairs.sizes)
	if own := r.find(ownName, pairs, size); own != nil && own.measured() {
		v := own.median(held) / float64(size)
		t.Measured, t.Reached, t.Is = true, v <= mostMemory, fmt.Sprintf("%.2f MB with %d", v/1e6, size)
	}
	return t
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return shared.JSON(w, r)
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	shared.Rows(&b, r.Rows)
	for _, s := range []scenario{pairs, fanout} {
		p("\n## %s\n", s.name)
		p("| %s | server | CPU a packet, µs (lowest–highest) | × floor | latency p50, ms | p99, ms | memory above base, MB | objects a packet | forwarded a second | loss | off | generator, cores |", s.of)
		p("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |")
		for _, size := range s.sizes {
			for _, peer := range r.peers {
				r.line(p, peer, s, size)
			}
		}
	}
	r.Machine.Print(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) line(p func(string, ...any), peer *peer, s scenario, size int) {
	c := r.find(peer.name, s, size)
	switch {
	case peer.absent != "":
		p("| %d | %s | %s | | | | | | | | | |", size, peer.name, peer.absent)
		return
	case c == nil || !c.measured():
		why := "not run"
		if c != nil {
			why = c.Failed
		}
		p("| %d | %s | %s | | | | | | | | | |", size, peer.name, strings.ReplaceAll(why, "\n", " "))
		return
	}
	cpu, times, objects, over := slices.Sorted(slices.Values(c.each(figure.micros))), "", "", ""
	if f := r.find(floorName, s, size); f != nil {
		if x, ok := ratio(c, f, figure.micros); ok {
			times = fmt.Sprintf("%.2f", x)
		}
	}
	if v := c.median(func(f figure) float64 { return f.Allocated }); v >= 0 {
		objects = fmt.Sprintf("%.2f", v)
	}
	if c.overloaded() {
		over = ", overloaded"
	}
	if len(cpu) < len(c.Figures) {
		over += fmt.Sprintf(", %d of %d rounds failed: %s", len(c.Figures)-len(cpu), len(c.Figures), strings.ReplaceAll(c.Failed, "\n", " "))
	}
	p("| %d | %s | %.1f (%.1f–%.1f) | %s | %.2f | %.2f | %.1f | %s | %.0f | %.2f %%%s | %s | %.2f |", size, peer.name,
		quantile(cpu, 0.5), cpu[0], cpu[len(cpu)-1], times, c.median(p50)/1e6, c.median(p99)/1e6,
		c.median(held)/1e6, objects,
		c.median(func(f figure) float64 { return float64(f.Packets) / window.Seconds() }), c.median(loss)*100, over, c.lacks(),
		c.median(func(f figure) float64 { return f.Generator }))
}

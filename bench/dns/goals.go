package main

import (
	"fmt"
	"time"
)

// What the server must reach.
const (
	mostPlain    = 1.00 // × gdnsd
	mostSigned   = 0.80 // × Knot, signed
	mostMemory   = 64 << 20
	leastPlaces  = 186_000 // prefixes that the memory is judged with
	mostLate     = time.Second
	changes      = 100
	rate         = 5_000 // queries a second while modes change
	fewestAllocs = 0.005 // a query: fewer are the process's, not the query's
)

// goal is one row: what was measured, and whether it is enough.
type goal struct {
	what, want, got string
	measured, met   bool
}

func (t goal) verdict() string {
	switch {
	case !t.measured:
		return "not measured"
	case t.met:
		return "reached"
	}
	return "**not reached**"
}

func (b *bench) goals() []goal {
	over := func(what, of string, most float64, s, r *server, set string) goal {
		t := goal{what: what, want: fmt.Sprintf("≤ %.2f × %s", most, of), got: "n/a"}
		var x float64
		if x, t.measured = ratio(s, r, set); t.measured {
			t.got, t.met = fmt.Sprintf("%.2f", x), x <= most
		}
		return t
	}
	signed := over("server CPU per geo+ECS query with DO, signed", "Knot (mod-geoip, signed)", mostSigned, b.find(ownSignedName), b.find(knotSigned), withDO)
	if s := b.find(ownSignedName); s != nil && s.verified < s.asked {
		signed.met, signed.got = false, fmt.Sprintf("%s, but only %d of %d signed", signed.got, s.verified, s.asked)
	}
	above := b.own.peak - b.own.base
	list := []goal{
		over("server CPU per geo+ECS query, unsigned", "gdnsd", mostPlain, b.own, b.find(gdnsdName), served),
		signed,
		{"memory above the process's base, at its peak", "≤ 64 MiB with 186k prefixes", fmt.Sprintf("%s MiB with %d ranges", mib(above), b.table.Ranges()),
			b.table.Ranges() >= leastPlaces, above <= mostMemory},
		{"allocations a query on the fast path", "0", fmt.Sprintf("%.2f", b.cpu.objects), true, b.cpu.objects < fewestAllocs},
	}
	late := goal{what: "answer after a mode change in the store", want: "≤ 1 s", got: "n/a"}
	lost := goal{what: fmt.Sprintf("queries lost across %d changes at %d a second", changes, rate), want: "0", got: "n/a"}
	if c := b.changed; c != nil {
		worst := quantile(c.took, 1)
		late.measured, late.met, late.got = true, worst <= mostLate && c.unseen == 0 && len(c.took) == changes, fmt.Sprintf("%s at most", worst.Round(time.Millisecond/10))
		if c.unseen > 0 {
			late.got = fmt.Sprintf("%d changes were not seen within %s", c.unseen, seenWithin)
		}
		achieved := float64(c.sent) / c.elapsed.Seconds()
		lost.measured, lost.met = len(c.took)+c.unseen == changes, c.lost == 0 && achieved >= 0.99*rate
		lost.got = fmt.Sprintf("%d of %d, at %.0f a second", c.lost, c.sent, achieved)
	}
	return append(list, late, lost)
}

func (b *bench) writeGoals(p printer) {
	p("\n## Must reach\n")
	p("Computed from this run, as all below.\n")
	p("| what | must be | is | |")
	p("| --- | --- | --- | --- |")
	for _, t := range b.goals() {
		p("| %s | %s | %s | %s |", t.what, t.want, t.got, t.verdict())
	}
	p("\nCPU is the median of the rounds' ratios.")
	for _, s := range b.servers {
		if s.barren > 0 {
			p("%s: %d slices had no answer at all and were taken again.", s.name, s.barren)
		}
	}
}

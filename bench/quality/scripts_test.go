package quality

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bailiwick/tools/pathtest"
)

const (
	ownName     = "bailiwick"
	livekitName = "LiveKit"
)

// good is a path on which nothing is short: a home's cable and the way to a near city.
var good = pathtest.Shape{Rate: 20_000_000, Delay: 10 * time.Millisecond}

func narrow(rate int) pathtest.Shape {
	s := good
	s.Rate = rate
	return s
}

// script is who calls whom, and what becomes of the first one's path.
type script struct {
	name   string
	what   string
	people int
	alone  bool // without a peer: what is counted is our page's
	phases []phase
	rows   func(*run) []row
}

// phase is a while with one shape of the first one's path; the others' stay good.
type phase struct {
	name  string
	shape pathtest.Shape
	lasts time.Duration
}

// settle is given to every call before anything is asked of it.
var settle = phase{"settle", good, 20 * time.Second}

var scripts = []script{
	{name: "60k-then-loss", what: "60 kbit/s, then 15 % loss", people: 2,
		phases: []phase{settle, {"60 kbit/s", narrow(60_000), 40 * time.Second}, {"15 % loss", pathtest.Shape{Rate: good.Rate, Delay: good.Delay, Loss: 0.15}, 40 * time.Second}},
		rows: func(r *run) (rows []row) {
			for _, p := range []string{"60 kbit/s", "15 % loss"} {
				down, up := r.person(0).concealed(r.span(p)), r.person(1).concealed(r.span(p))
				rows = append(rows, row{"speech concealed at " + p + ", of who is behind it, and of who hears it", "≤ 5 % of the time",
					fmt.Sprintf("%.1f %%, %.1f %%", 100*down, 100*up), max(down, up) <= 0.05})
			}
			return rows
		}},
	{name: "300k", what: "300 kbit/s", people: 2,
		phases: []phase{settle, {"300 kbit/s", narrow(300_000), 40 * time.Second}},
		rows: func(r *run) []row {
			s := r.span("300 kbit/s")
			p, late := r.person(0), span{s.To - 15, s.To}
			broken := p.broken(s)
			return []row{
				{"seconds in which audio broke", "0", fmt.Sprint(broken), broken == 0},
				{"video in the last 15 s", "at its lowest layer, and going on", fmt.Sprintf("%d wide, %.0f frames a second", p.width(late), p.fps(late)),
					p.width(late) <= lowest && p.fps(late) >= 5},
			}
		}},
	{name: "dip", what: "1 Mbit/s, 150 kbit/s, 1 Mbit/s", people: 2,
		phases: []phase{{"settle", narrow(1_000_000), 30 * time.Second}, {"150 kbit/s", narrow(150_000), 30 * time.Second}, {"again", narrow(1_000_000), 60 * time.Second}},
		rows: func(r *run) []row {
			p, before := r.person(0), r.span("settle")
			dip, again := r.span("150 kbit/s"), r.span("again")
			broken := p.broken(span{dip.From, again.To})
			was := p.videoRate(span{before.To - 10, before.To})
			back := p.back(again, 0.9*was)
			is := "not within " + fmt.Sprint(again.To-again.From) + " s"
			if back >= 0 {
				is = fmt.Sprintf("%d s", back)
			}
			return []row{
				{"seconds in which audio broke", "0", fmt.Sprint(broken), broken == 0},
				{fmt.Sprintf("video back at 90 %% of %.0f kbit/s", was/1000), "≤ 5 s", is, back >= 0 && back <= 5},
			}
		}},
	{name: "one-of-three", what: "one subscriber of three at 150 kbit/s", people: 3,
		phases: []phase{{"settle", good, 30 * time.Second}, {"one at 150 kbit/s", narrow(150_000), 40 * time.Second}},
		rows: func(r *run) []row {
			s := r.span("one at 150 kbit/s")
			a, b := r.person(1).of(2).changes(s), r.person(2).of(1).changes(s)
			return []row{{"changes of layer between the two others", "0", fmt.Sprintf("%d, %d", a, b), a+b == 0}}
		}},
	{name: "lan", what: "clean LAN, 10 minutes", people: 2, alone: true,
		phases: []phase{{"settle", pathtest.Shape{}, 20 * time.Second}, {"LAN", pathtest.Shape{}, 10 * time.Minute}},
		rows: func(r *run) []row {
			s := r.span("LAN")
			warned := slices.Concat(r.person(0).warnings(s), r.person(1).warnings(s))
			changed := r.person(0).changes(s) + r.person(1).changes(s)
			is := fmt.Sprint(len(warned))
			if len(warned) > 0 {
				is += ": " + strings.Join(warned, "; ")
			}
			return []row{{"warnings shown", "0", is, len(warned) == 0}, {"changes of layer", "0", fmt.Sprint(changed), changed == 0}}
		}},
}

// row is a thing that must be reached, and what one peer reached.
type row struct {
	what, must, is string
	reached        bool
}

// figures says in a line what was measured.
func (s *script) figures(r *run) string {
	if r.Failed != "" {
		return r.Failed
	}
	var list []string
	for _, row := range s.rows(r) {
		list = append(list, row.what+": "+row.is)
	}
	return strings.Join(list, "; ")
}

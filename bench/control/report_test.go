package control

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	shared "bailiwick/bench/report"
)

// results are those of the run; nil without one.
var results *report

// The rows, in the order of the report.
const (
	rowFull = iota
	rowIdle
	rowChurn
	rowRatio
	rowToggle
	rowTold
	rowGone
	rowFolds
	rowViews
	rowSim
)

type report struct {
	Rows    []shared.Row       `json:"rows"`
	Figures map[string]float64 `json:"figures"`
	Notes   []string           `json:"notes"`
	Machine shared.Machine     `json:"machine"`
	began   time.Time
}

func begin() *report {
	r := &report{Figures: map[string]float64{}, Machine: shared.Begin(), began: time.Now(), Rows: []shared.Row{
		rowFull:   {What: "one edge that admits 2,000: 1,600 rooms of one socket each, Consul's default limits", Must: "all made; ≤ 8 connections to the agent; lease never critical"},
		rowIdle:   {What: "store traffic of an edge with 1,600 idle rooms", Must: "≤ 5 requests a second in all, flat"},
		rowChurn:  {What: "consults made and ended at 50/s for two minutes, 3-server Consul, five edges", Must: "0 refused"},
		rowRatio:  {What: "p99 of `POST /v1/consults` in it", Must: "≤ 3 × that of a bare CAS"},
		rowToggle: {What: "region down with 1,600 rooms: next DNS answer, next placement", Must: "≤ 1 s"},
		rowTold:   {What: "region down with 1,600 rooms: all told", Must: "≤ 10 s, paced"},
		rowGone:   {What: "`POST /v1/consults` with Consul gone", Must: "201; p99 ≤ that with Consul"},
		rowFolds:  {What: "World folds at 100 edges with changing load", Must: "≤ 4 a second"},
		rowViews:  {What: "DNS views emptied without need at 100 edges with changing load", Must: "0"},
		rowSim:    {What: "simulation, schedules a second", Must: "≥ 100"},
	}}
	for i := range r.Rows {
		r.Rows[i].Is = "n/a"
	}
	return r
}

func (r *report) end() {
	r.Machine.End(r.began, "one round")
}

// set fills a row.
func (r *report) set(i int, reached bool, format string, args ...any) {
	r.Rows[i].Measured, r.Rows[i].Reached, r.Rows[i].Is = true, reached, fmt.Sprintf(format, args...)
	say("%s: %s: %s", r.Rows[i].What, r.Rows[i].Is, r.Rows[i].Verdict())
}

// missed says why a row has no figure.
func (r *report) missed(i int, why string) { r.Rows[i].Is = why }

func (r *report) figure(name string, v float64) { r.Figures[name] = v }

func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if r == nil {
		return nil // the run was of other tests
	}
	if asJSON {
		return shared.JSON(w, r)
	}
	var b strings.Builder
	shared.Rows(&b, r.Rows)
	b.WriteString("\n")
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	r.Machine.Print(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// times are those of one kind of request.
type times []time.Duration

// at is a quantile: 0 to 1.
func (t times) at(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func (t times) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, most %s", ms(t.at(0.5)), ms(t.at(0.99)), ms(t.at(1)))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

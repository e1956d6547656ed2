package control

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
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

// row is one thing that must be reached, and what was.
type row struct {
	What     string `json:"what"`
	Must     string `json:"must"`
	Is       string `json:"is"`
	Measured bool   `json:"measured"`
	Reached  bool   `json:"reached"`
}

func (r *row) verdict() string {
	switch {
	case !r.Measured:
		return "not measured"
	case r.Reached:
		return "reached"
	}
	return "**not reached**"
}

type report struct {
	Rows    []row              `json:"rows"`
	Figures map[string]float64 `json:"figures"`
	Notes   []string           `json:"notes"`
	Machine map[string]string  `json:"machine"`
	began   time.Time
}

func begin() *report {
	r := &report{Figures: map[string]float64{}, Machine: map[string]string{}, began: time.Now(), Rows: []row{
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
	r.Machine["cores"] = fmt.Sprint(runtime.NumCPU())
	r.Machine["kernel"] = text("/proc/sys/kernel/osrelease")
	r.Machine["go"] = runtime.Version()
	r.Machine["tree"] = output("git", "describe", "--always", "--dirty")
	r.Machine["load average before"] = text("/proc/loadavg")
	return r
}

func (r *report) end() {
	r.Machine["load average after"] = text("/proc/loadavg")
	r.Machine["run"] = fmt.Sprintf("%s, %s", r.began.UTC().Format(time.RFC3339), time.Since(r.began).Round(time.Second))
}

// set fills a row.
func (r *report) set(i int, reached bool, format string, args ...any) {
	r.Rows[i].Measured, r.Rows[i].Reached, r.Rows[i].Is = true, reached, fmt.Sprintf(format, args...)
	say("%s: %s: %s", r.Rows[i].What, r.Rows[i].Is, r.Rows[i].verdict())
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
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("| what | must | is | |")
	p("| --- | --- | --- | --- |")
	for _, row := range r.Rows {
		p("| %s | %s | %s | %s |", row.What, row.Must, row.Is, row.verdict())
	}
	p("")
	for _, n := range r.Notes {
		p("- %s", n)
	}
	p("\n| | |\n| --- | --- |")
	for _, k := range slices.Sorted(maps.Keys(r.Machine)) {
		p("| %s | %s |", k, r.Machine[k])
	}
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

// text is a file's content; a fact that this system does not tell is unknown.
func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func output(name string, args ...string) string {
	b, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

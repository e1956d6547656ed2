package quality

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"bailiwick/bench/report"
)

// second is what one page tells at the end of one second. Counters go on from one to the next.
type second struct {
	Samples   float64          `json:"samples"`   // of audio, played
	Concealed float64          `json:"concealed"` // of those, made up for speech that did not come
	Videos    map[string]video `json:"videos"`    // by whom they show: "0" is the script's first
	Said      []string         `json:"said"`      // what the page has said so far
	Sends     float64          `json:"sends"`     // bit/s that it thinks it may
}

type video struct {
	Width  int     `json:"width"`
	Frames float64 `json:"frames"` // decoded
	Bytes  float64 `json:"bytes"`
	Frozen float64 `json:"frozen"` // seconds
}

// run is one script as it went with one peer.
type run struct {
	Failed string          `json:"failed,omitempty"`
	Spans  map[string]span `json:"spans"`
	People []person        `json:"people"`
}

// span is from one second of the script to another.
type span struct{ From, To int }

// person is what one page told, a second each.
type person []second

func (r *run) person(i int) person {
	if i < len(r.People) {
		return r.People[i]
	}
	return nil
}

func (r *run) span(name string) span { return r.Spans[name] }

// of is what came of one other's video alone.
func (p person) of(other int) person {
	q := slices.Clone(p)
	for i := range q {
		q[i].Videos = map[string]video{fmt.Sprint(other): p[i].Videos[fmt.Sprint(other)]}
	}
	return q
}

// each gives the pairs of seconds, one after the other, within the span.
func (p person) each(s span, f func(i int, a, b *second)) {
	for i := max(s.From, 0); i < min(s.To, len(p)-1); i++ {
		f(i, &p[i], &p[i+1])
	}
}

// concealed is the share of what was played that was made up, 0 to 1.
func (p person) concealed(s span) float64 {
	var made, all float64
	p.each(s, func(_ int, a, b *second) {
		made += max(b.Concealed-a.Concealed, 0)
		all += max(b.Samples-a.Samples, 0)
	})
	if all == 0 {
		return 1
	}
	return made / all
}

// broken counts the seconds of which more than a quarter was made up, or nothing was played.
func (p person) broken(s span) (n int) {
	p.each(s, func(_ int, a, b *second) {
		if all := b.Samples - a.Samples; all <= 0 || (b.Concealed-a.Concealed)/all > 0.25 {
			n++
		}
	})
	return n
}

// rate is what came of all videos in one second, in bit/s.
func rate(a, b *second) (bits float64) {
	for who, v := range b.Videos {
		bits += 8 * max(v.Bytes-a.Videos[who].Bytes, 0)
	}
	return bits
}

// videoRate is the median of the seconds'.
func (p person) videoRate(s span) float64 {
	var list []float64
	p.each(s, func(_ int, a, b *second) { list = append(list, rate(a, b)) })
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// back is how many seconds after the span's beginning video comes at a rate again; -1: never. Of
// three seconds the middle one counts: a keyframe alone is no rate.
func (p person) back(s span, to float64) int {
	var list []float64
	p.each(s, func(_ int, a, b *second) { list = append(list, rate(a, b)) })
	for i := range list {
		if i+2 < len(list) {
			three := slices.Sorted(slices.Values(list[i : i+3]))
			if three[1] >= to {
				return i + 1
			}
		}
	}
	return -1
}

// width is that of the widest video that went on in the span.
func (p person) width(s span) (w int) {
	p.each(s, func(_ int, a, b *second) {
		for who, v := range b.Videos {
			if v.Frames > a.Videos[who].Frames {
				w = max(w, v.Width)
			}
		}
	})
	return w
}

func (p person) fps(s span) float64 {
	frames, seconds := 0.0, 0
	p.each(s, func(_ int, a, b *second) {
		seconds++
		for who, v := range b.Videos {
			frames += max(v.Frames-a.Videos[who].Frames, 0)
		}
	})
	return frames / float64(max(seconds, 1))
}

// changes counts how often the width of some video changed.
func (p person) changes(s span) (n int) {
	p.each(s, func(_ int, a, b *second) {
		for who, v := range b.Videos {
			if was := a.Videos[who]; was.Width != 0 && v.Width != 0 && was.Width != v.Width {
				n++
			}
		}
	})
	return n
}

// warnings is what the page said in the span.
func (p person) warnings(s span) []string {
	if s.To >= len(p) || s.From >= len(p) {
		return nil
	}
	return p[s.To].Said[min(len(p[s.From].Said), len(p[s.To].Said)):]
}

// results are those of all scripts.
type results struct {
	Machine report.Machine             `json:"machine"`
	Runs    map[string]map[string]*run `json:"-"`
	Rows    []report.Row               `json:"rows"`
}

func (r *results) print(w io.Writer, asJSON bool) error {
	for _, s := range scripts {
		runs := r.Runs[s.name]
		if runs == nil {
			continue
		}
		own, peer := runs[ownName], runs[livekitName]
		var theirs []row
		if peer != nil && peer.Failed == "" {
			theirs = s.rows(peer)
		}
		if own == nil || own.Failed != "" {
			own = &run{}
		}
		for i, o := range s.rows(own) {
			t := report.Row{What: s.what + ": " + o.what, Must: o.must, Is: o.is, Measured: len(own.People) > 0, Reached: o.reached}
			if !t.Measured {
				t.Is = "n/a"
			}
			if theirs != nil {
				t.Is += " (" + livekitName + ": " + theirs[i].is + ")"
			}
			r.Rows = append(r.Rows, t)
		}
	}
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	var b strings.Builder
	report.Rows(&b, r.Rows)
	r.Machine.Print(&b)
	_, err := fmt.Fprint(w, b.String())
	return err
}

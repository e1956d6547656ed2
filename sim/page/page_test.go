package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"bailiwick/tools/exectest"
)

// line is what the page's runner prints for an event, tools/web/machine.mjs.
type line struct {
	At    int64
	Event string
	State struct {
		Name, Step, Text string
		Gap              int
		Moving           bool
		FlowAt, Due      int64
		Failures         int
		Tried, Sent      []string
		Stranded         string
		Addresses        []Address
		Legs             []lineLeg
	}
	Effects []map[string]any
}

type lineLeg struct {
	ID       int
	Role     string
	URL      string
	Sent     bool
	Socket   string
	Region   string
	Epoch    uint64
	Heard    int
	Progress int64
	To       string
}

// summary is the page's state as the runner words it.
func (l *line) summary(s *State) {
	st := &l.State
	st.Name, st.Step, st.Text, st.Gap, st.Moving, st.FlowAt, st.Due = s.Name, s.Step, s.Text, s.Gap, s.Moving, s.FlowAt, s.Due
	st.Failures, st.Tried, st.Sent, st.Stranded, st.Addresses = s.Failures, s.Tried, s.Sent, s.Stranded, s.Addresses
	for _, x := range s.Legs {
		role := "next"
		if x.Current {
			role = "current"
		}
		st.Legs = append(st.Legs, lineLeg{x.ID, role, x.Address.URL, x.Sent, x.Socket, x.Place.Region, x.Epoch, x.Heard, x.Progress, x.To})
	}
}

func (e *Effect) line() map[string]any {
	m := map[string]any{"do": e.Do}
	switch e.Do {
	case "connect":
		m["leg"], m["stranded"] = e.Leg, e.Stranded
		m["address"] = map[string]any{"edge": e.Address.Edge, "url": e.Address.URL, "token": e.Address.Token, "session": e.Address.Session}
	case "adopt", "drop", "leave":
		m["leg"] = e.Leg
	case "timer":
		m["name"], m["ms"] = e.Name, e.MS
	case "cancel":
		m["name"] = e.Name
	case "forget":
		m["token"] = e.Token
	}
	return m
}

// play runs a script through the model.
func play(t *testing.T, script []byte) (lines []any) {
	p := New()
	for text := range strings.Lines(string(script)) {
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		var in struct {
			At    int64
			Event Event
		}
		if err := json.Unmarshal([]byte(text), &in); err != nil {
			t.Fatal(err)
		}
		fx := Step(p, &in.Event, in.At)
		l := line{At: in.At, Event: in.Event.Type, Effects: []map[string]any{}}
		l.summary(p)
		for i := range fx {
			l.Effects = append(l.Effects, fx[i].line())
		}
		lines = append(lines, canonical(t, l)) // now: the page goes on in the same memory
	}
	return lines
}

// compare takes what the original printed.
func compare(t *testing.T, name string, script, printed []byte) {
	t.Helper()
	got := play(t, script)
	d := json.NewDecoder(bytes.NewReader(printed))
	for i := range got {
		var want line
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%s: line %d: %v", name, i+1, err)
		}
		kept := []map[string]any{}
		for _, e := range want.Effects {
			if e["do"] != "say" && e["do"] != "devices" && e["do"] != "send" {
				kept = append(kept, e)
			}
		}
		want.Effects = kept
		a, b := got[i], canonical(t, want)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%s: event %d:\n got %v\nwant %v", name, i+1, a, b)
		}
	}
}

// canonical makes an empty list and none alike, and numbers of one kind.
func canonical(t *testing.T, v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(bytes.ReplaceAll(b, []byte("null"), []byte("[]")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPage holds the model of the page to the page: the scripts of web/testdata/machine,
// and lives drawn by chance, through both. Without Node.js the scripts' committed output
// stands for the page.
func TestPage(t *testing.T) {
	scripts, err := filepath.Glob("../../web/testdata/machine/*.jsonl")
	if err != nil || len(scripts) < 8 {
		t.Fatalf("%d scripts of the page, %v", len(scripts), err)
	}
	for _, path := range scripts {
		if strings.HasSuffix(path, ".out.jsonl") {
			continue
		}
		script, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		printed, err := os.ReadFile(strings.TrimSuffix(path, ".jsonl") + ".out.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		compare(t, filepath.Base(path), script, printed)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		exectest.Absent(t, "node is not installed: lives drawn by chance were not compared")
	}
	var lives []string
	for seed := range uint64(300) {
		lives = append(lives, string(life(seed)))
	}
	in, err := json.Marshal(lives)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "lives.json")
	if err := os.WriteFile(file, in, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "--input-type=module", "--eval", `import {readFileSync} from "node:fs"; import {argv} from "node:process"; import {run} from "./tools/web/machine.mjs";
console.log(JSON.stringify(JSON.parse(readFileSync(argv[1], "utf8")).map((script) => run(script).join("\n"))))`, file)
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var printed []string
	if err := json.Unmarshal(out, &printed); err != nil || len(printed) != len(lives) {
		t.Fatalf("%d lives printed of %d, %v", len(printed), len(lives), err)
	}
	for i, script := range lives {
		compare(t, fmt.Sprint("life ", i), []byte(script), []byte(printed[i]))
	}
}

// life is a page's life by chance: whatever may happen to its legs, in any order.
func life(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var out bytes.Buffer
	now := int64(1000)
	p := New()
	put := func(e map[string]any) {
		b, _ := json.Marshal(map[string]any{"at": now, "event": e})
		out.Write(append(b, '\n'))
		var in struct{ Event Event }
		json.Unmarshal(b, &in)
		Step(p, &in.Event, now)
	}
	edges := []map[string]any{}
	for i := range 4 {
		name := string(rune('a' + i))
		edges = append(edges, map[string]any{"edge": "e-" + name, "url": "wss://" + name + "/v1/join", "token": "t" + name, "session": ""})
	}
	first := map[string]any{"edge": "", "url": "wss://a/v1/join", "token": "t0", "session": ""}
	if r.Float64() < 0.2 {
		first["session"] = "s0"
	}
	put(map[string]any{"type": "open", "problem": "", "granted": true, "addresses": append([]map[string]any{first}, edges[1:1+r.IntN(3)]...), "mic": true, "camera": true, "sound": false})
	put(map[string]any{"type": "devices", "mic": true, "camera": true, "failures": map[string]any{"mic": nil, "camera": nil}, "news": nil})
	put(map[string]any{"type": "join"})
	for range 150 {
		now += int64(r.IntN(3000))
		leg, met := 0, 0
		if n := len(p.Legs); n > 0 {
			leg = p.Legs[r.IntN(n)].ID
		}
		for _, l := range p.Legs {
			if l.Welcomed && (met == 0 || r.Float64() < 0.5) {
				met = l.ID
			}
		}
		dice := float64(r.IntN(1000)) / 1000
		to := edges[r.IntN(len(edges))]
		switch r.IntN(17) {
		case 0:
			put(map[string]any{"type": "opened", "leg": leg})
		case 1:
			put(map[string]any{"type": "progress", "leg": leg})
		case 2, 3:
			put(map[string]any{"type": "welcome", "leg": leg, "session": fmt.Sprint("s", leg), "epoch": 1 + r.IntN(3), "place": map[string]any{"region": []string{"de-fra", "fr-par"}[r.IntN(2)], "city": "", "country": []string{"DE", "FR"}[r.IntN(2)]},
				"standby": edges[1 : 1+r.IntN(3)]})
		case 4, 5, 6:
			put(map[string]any{"type": "pulse", "leg": met, "alive": r.Float64() < 0.7, "heard": r.IntN(2)})
		case 7:
			put(map[string]any{"type": "move", "leg": leg, "edge": to["edge"], "url": to["url"], "token": to["token"], "epoch": 1 + r.IntN(3), "dice": dice})
		case 8:
			put(map[string]any{"type": "closed", "leg": leg, "dice": dice})
		case 9:
			code := []string{"region_full", "wrong_edge", "store_unavailable", "consult_ended", "token_early", "region_down"}[min(5, r.IntN(13))]
			put(map[string]any{"type": "refused", "leg": leg, "refusal": map[string]any{"code": code, "jurisdiction": "", "citation": []string{}, "id": ""}, "dice": dice})
		case 10, 11, 12:
			late := int64(0)
			if r.Float64() < 0.1 {
				late = 5000
			}
			put(map[string]any{"type": "timer", "name": "attempt", "late": late, "dice": dice})
		case 16:
			e := map[string]any{"type": "withdrawal", "leg": met, "code": "home_only", "citation": []string{}, "left": nil}
			if r.Float64() < 0.6 {
				e["left"] = r.IntN(400_000)
			}
			put(e)
			if r.Float64() < 0.5 {
				put(map[string]any{"type": "timer", "name": "withdrawal", "late": 0, "dice": dice})
			}
		case 13:
			put(map[string]any{"type": "timer", "name": "gap", "late": 0, "dice": dice})
		case 14:
			put(map[string]any{"type": []string{"retry", "rejoin", "sound", "camera"}[r.IntN(4)]})
			if p.Step == "joining" && p.Due == 0 {
				put(map[string]any{"type": "devices", "mic": true, "camera": true, "failures": map[string]any{"mic": nil, "camera": nil}, "news": nil})
			}
		case 15:
			if r.Float64() < 0.1 {
				put(map[string]any{"type": "ended", "leg": leg, "reason": []string{"done", "replaced", "expired", "law"}[r.IntN(4)]})
			} else if met != 0 {
				put(map[string]any{"type": "peers", "leg": met, "peers": []map[string]any{{"participant": "p2", "role": "clinician", "mic": true, "camera": true, "connected": r.Float64() < 0.6}}})
			}
		}
	}
	return out.Bytes()
}

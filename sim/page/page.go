// Package page is web/consult/machine.js in Go, as far as it decides anything: its words and
// its devices are left out. TestPage holds it to the original by the same scripts through
// both. Its functions bear the names that they have there, and their reasons are there.
//
// Like the original it is a rule alone: the simulation, and the tests of whole systems, make
// events of what happens to a page and carry its effects out.
package page

import (
	"math"
	"slices"
	"strings"
)

// State is a page's.
type State struct {
	Name, Step, Text string
	sound            bool // of the wish
	Gap              int
	Moving           bool
	FlowAt, Due      int64 // ms
	Failures         int
	Tried, Sent      []string
	Stranded         string
	Addresses        []Address
	Legs             []*Leg
	made             int
	seen, away       []string
	peers            []Peer // of the current leg

	do []Effect // of the step under way
}

// Address is where a join may land.
type Address struct {
	Edge    string `json:"edge"`
	URL     string `json:"url"`
	Token   string `json:"token"`
	Session string `json:"session"`
}

// Leg is one WebSocket with its media.
type Leg struct {
	ID       int
	Current  bool // else next
	Address  Address
	Sent     bool
	Socket   string // connecting, open, closed
	Welcomed bool
	Place    Place
	Epoch    uint64
	Standby  []Address
	peers    []Peer
	told     bool // peers is known
	Heard    int
	Progress int64
	To       string
}

// Place is where a call is handled.
type Place struct {
	Region  string `json:"region"`
	Country string `json:"country"`
}

// Peer is another participant.
type Peer struct {
	Participant string `json:"participant"`
	Connected   bool   `json:"connected"`
}

// Event is one of types.js, with the fields of all of them.
type Event struct {
	Type      string    `json:"type"`
	Leg       int       `json:"leg"`
	Problem   string    `json:"problem"`
	Granted   bool      `json:"granted"`
	Sound     bool      `json:"sound"`
	Addresses []Address `json:"addresses"`
	Session   string    `json:"session"`
	Place     Place     `json:"place"`
	Epoch     uint64    `json:"epoch"`
	Standby   []Address `json:"standby"`
	Alive     bool      `json:"alive"`
	Heard     int       `json:"heard"`
	Peers     []Peer    `json:"peers"`
	Edge      string    `json:"edge"`
	URL       string    `json:"url"`
	Token     string    `json:"token"`
	Reason    string    `json:"reason"`
	Refusal   struct {
		Code string `json:"code"`
	} `json:"refusal"`
	Name string  `json:"name"`
	Late int64   `json:"late"`
	Dice float64 `json:"dice"`
}

// Effect is one of types.js, with the fields of those that are modelled.
type Effect struct {
	Do       string
	Leg      int
	Address  Address
	Stranded bool
	Name     string
	MS       int64
	Token    bool
}

// Gaps are the silences, ms, after which the banner, the help and the failure page come.
var Gaps = [3]int64{1_500, 10_000, 60_000}

const (
	welcomeMS, mediaMS, lateMS, noticeMS, peerMS = 3_000, 8_000, 1_000, 15_000, 1_500
	beside                                       = 3
	stallMS                                      = 15_000
)

// New is a page before anything has happened.
func New() *State { return &State{Name: "link", Step: "ask"} }

// Step takes one event at a time in ms; the effects are the caller's until the next one.
func Step(s *State, e *Event, now int64) []Effect {
	s.do = s.do[:0]
	was := s.Due
	if s.InCall() {
		s.Name = "call"
	}
	s.take(e, now)
	dice := 0.5
	switch e.Type {
	case "move", "refused", "closed", "timer":
		dice = e.Dice
	}
	s.pursue(dice, now)
	if s.Due != was || s.Due != 0 && e.Type == "timer" && e.Name == "attempt" {
		if s.Due != 0 {
			s.timerIn("attempt", max(0, s.Due-now))
		} else {
			s.fx(Effect{Do: "cancel", Name: "attempt"})
		}
	}
	if s.InCall() {
		switch {
		case s.Gap > 0:
			s.Name = "reconnecting"
		case s.Moving:
			s.Name = "moving"
		case s.sound:
			s.Name = "audio-only"
		default:
			s.Name = "call"
		}
	}
	return s.do
}

func (s *State) fx(e Effect)                   { s.do = append(s.do, e) }
func (s *State) timerIn(name string, ms int64) { s.fx(Effect{Do: "timer", Name: name, MS: ms}) }

// InCall tells whether the page shows a call, whether it plays or not.
func (s *State) InCall() bool { return s.Name != "link" && s.Name != "ended" && s.Name != "refused" }

func (s *State) take(e *Event, now int64) {
	switch e.Type {
	case "open":
		s.open(e)
	case "ask":
		s.Step, s.sound = "opening", e.Sound
	case "devices":
		s.devices(now)
	case "join":
		if s.Name == "link" && s.Step == "ready" {
			s.Step = "joining"
			s.begin(now)
		}
	case "rejoin":
		if s.Step == "stopped" {
			for i := range s.Addresses {
				s.Addresses[i].Session = ""
			}
			s.rejoin()
		}
	case "retry":
		s.retry(now)
	case "leave":
		if s.InCall() {
			s.finish("ended.left")
		}
	case "mic", "camera", "sound":
		s.toggle(e.Type)
	case "timer":
		s.timer(e, now)
	case "again", "trouble", "calm":
	default:
		s.fromLeg(e, now)
	}
}

func (s *State) fromLeg(e *Event, now int64) {
	l := s.Leg(e.Leg)
	if l == nil {
		return
	}
	if !l.Current && (e.Type != "pulse" || e.Alive) {
		l.Progress = now
	}
	switch e.Type {
	case "opened":
		l.Socket = "open"
	case "welcome":
		if !l.Current {
			s.welcome(e, l, now)
		}
	case "pulse":
		s.pulse(e, l, now)
	case "peers":
		if !l.Current {
			l.peers, l.told = e.Peers, true
		} else {
			s.hearPeers(e.Peers)
		}
	case "move":
		s.move(e, l, now)
	case "ended":
		if e.Reason == "replaced" && l.Current && slices.ContainsFunc(s.Legs, func(n *Leg) bool {
			return !n.Current && (n.Welcomed || n.Socket == "open" && same(&n.Address, &l.Address))
		}) {
			return
		}
		s.finish(endText(e.Reason))
	case "refused":
		s.refused(e, l, now)
	case "closed":
		if !l.Current {
			s.fail(l, e.Dice, now)
			return
		}
		l.Socket = "closed"
		s.seek(now)
	}
}

// Leg is the leg of that number; nil: it is gone.
func (s *State) Leg(id int) *Leg {
	for _, l := range s.Legs {
		if l.ID == id {
			return l
		}
	}
	return nil
}

// Current is the leg that people hear; nil: there is none.
func (s *State) Current() *Leg {
	for _, l := range s.Legs {
		if l.Current {
			return l
		}
	}
	return nil
}

func (s *State) attempts() (n int) {
	for _, l := range s.Legs {
		if !l.Current {
			n++
		}
	}
	return n
}

func (s *State) followed() (epoch uint64) {
	for _, l := range s.Legs {
		if !l.Current || s.Gap == 0 {
			epoch = max(epoch, l.Epoch)
		}
	}
	return epoch
}

func (s *State) isWell() bool {
	c := s.Current()
	return s.Gap == 0 && c != nil && c.Socket == "open"
}

func same(a, b *Address) bool { return a.URL == b.URL || a.Edge != "" && a.Edge == b.Edge }

func (s *State) open(e *Event) {
	if e.Problem != "" {
		s.Step, s.Text = "stopped", e.Problem
		return
	}
	s.Addresses, s.sound = slices.Clone(e.Addresses), e.Sound
	if slices.ContainsFunc(s.Addresses, func(a Address) bool { return a.Session != "" }) {
		s.rejoin()
		return
	}
	if e.Granted {
		s.Step = "opening"
	}
}

func (s *State) devices(now int64) {
	if s.Step == "stopped" {
		s.fx(Effect{Do: "stop"})
		return
	}
	if s.Name != "link" {
		return
	}
	if s.Step == "opening" {
		s.Step = "ready"
	}
	if s.Step == "joining" && s.Due == 0 {
		s.begin(now)
	}
}

func (s *State) begin(now int64) {
	s.FlowAt = now
	s.seek(now)
	s.timerIn("gap", Gaps[1])
}

// reset is Object.assign(s, initial, …) with what both of its callers keep.
func (s *State) reset(step, text string) {
	*s = State{Name: "link", Step: step, Text: text, sound: s.sound, Addresses: s.Addresses, made: s.made, do: s.do}
}

func (s *State) rejoin() { s.reset("joining", "") }

func (s *State) retry(now int64) {
	if s.InCall() && s.Gap == 0 || !s.InCall() && s.Due == 0 {
		return
	}
	for _, l := range slices.Clone(s.Legs) {
		if !l.Current && now-l.Progress >= welcomeMS {
			s.quit(l)
		}
	}
	s.anew()
	s.Due = now
}

func (s *State) seek(now int64) {
	switch {
	case s.Due > 0:
	case s.attempts() > 0:
		s.Due = now + welcomeMS
	default:
		s.anew()
		s.Due = now
	}
}

func (s *State) anew() { s.Failures, s.Tried, s.Sent = 0, nil, nil }

func (s *State) pursue(dice float64, now int64) {
	for s.Due > 0 && now >= s.Due {
		slow, to := s.slowest(0), s.vacancy()
		switch {
		case slow != nil && now-slow.Progress >= stallMS:
			s.fail(slow, dice, now)
		case to != nil:
			s.start(*to, now, false, 0)
		case slow != nil:
			s.Due = slow.Progress + stallMS
		default:
			s.Sent = nil
			s.Due = now + mediaMS
		}
	}
}

func (s *State) start(a Address, now int64, sent bool, epoch uint64) {
	s.made++
	s.Legs = append(s.Legs, &Leg{ID: s.made, Address: a, Socket: "connecting", Progress: now, Sent: sent, Epoch: epoch})
	s.last(a.URL)
	s.fx(Effect{Do: "connect", Leg: s.made, Address: a, Stranded: s.Stranded != "" && s.Stranded != a.URL})
	s.Due = now + welcomeMS
}

func (s *State) last(url string) {
	s.Tried = append(slices.DeleteFunc(s.Tried, func(u string) bool { return u == url }), url)
}

func (s *State) end(how string, which func(*Leg) bool) {
	for _, l := range s.Legs {
		if which(l) {
			s.fx(Effect{Do: how, Leg: l.ID})
		}
	}
	s.Legs = slices.DeleteFunc(s.Legs, which)
}

func (s *State) quit(l *Leg) {
	how := "leave"
	if c := s.Current(); c != nil && same(&c.Address, &l.Address) {
		how = "drop"
	}
	s.end(how, func(x *Leg) bool { return x == l })
}

func (s *State) fail(l *Leg, dice float64, now int64) {
	s.quit(l)
	s.last(l.Address.URL)
	s.Failures++
	if l.Sent {
		s.Stranded, s.Sent = l.Address.URL, nil
	}
	if !s.InCall() || !s.isWell() || s.Moving {
		s.Due = now + s.pause(dice)
	} else {
		s.Due = 0
	}
}

func (s *State) welcome(e *Event, l *Leg, now int64) {
	a := l.Address
	a.Session = e.Session
	var standby []Address
	for _, b := range e.Standby {
		if b.Session = ""; !same(&b, &a) {
			standby = append(standby, b)
		}
	}
	for i := range s.Addresses {
		if same(&s.Addresses[i], &a) {
			s.Addresses[i].Session = e.Session
		}
	}
	s.merge(standby)
	for i := range s.Addresses {
		if s.Addresses[i].Token == "" {
			s.Addresses[i].Token = a.Token
		}
	}
	l.Address, l.Place, l.Welcomed, l.Epoch, l.Socket, l.Standby = a, e.Place, true, e.Epoch, "open", standby
	s.fx(Effect{Do: "save"})
	if c := s.Current(); s.Gap == 0 && c != nil && e.Epoch < c.Epoch {
		s.fail(l, 0.5, now)
		return
	}
	if s.Due > 0 {
		s.Due = now + mediaMS
	}
}

func (s *State) pulse(e *Event, l *Leg, now int64) {
	l.Heard = e.Heard
	if !e.Alive {
		return
	}
	if l.Current {
		s.flows(l, now)
		return
	}
	c := s.Current()
	if c == nil || s.Gap > 0 || e.Heard >= c.Heard {
		s.adopt(l, now)
		return
	}
	if s.Due > 0 && s.Due < now+mediaMS-1_000 {
		s.Due = now + mediaMS
	}
}

func (s *State) flows(l *Leg, now int64) {
	s.FlowAt = now
	if s.Gap == 0 {
		return
	}
	s.Gap = 0
	s.timerIn("gap", Gaps[0])
	if !s.isWell() || s.Moving {
		return
	}
	s.settle(l)
}

func (s *State) settle(l *Leg) {
	s.Due = 0
	s.end("leave", func(x *Leg) bool { return !x.Current && !same(&x.Address, &l.Address) })
}

func (s *State) adopt(l *Leg, now int64) {
	old := s.Current()
	onward := func(x *Leg) bool { return !x.Current && (x.Address.URL == l.To || x.Epoch > l.Epoch) }
	s.fx(Effect{Do: "adopt", Leg: l.ID})
	s.end("drop", func(x *Leg) bool { return x != l && same(&x.Address, &l.Address) })
	s.end("leave", func(x *Leg) bool { return x != l && !onward(x) })
	l.Current, l.Socket = true, "open"
	if old == nil {
		s.peers = nil
	}
	moving := s.Moving
	var list []Address
	on := slices.IndexFunc(s.Addresses, func(a Address) bool { return a.URL == l.To })
	if on >= 0 {
		list = append(list, s.Addresses[on])
	}
	list = append(list, l.Address)
	for _, b := range l.Standby {
		if i := slices.IndexFunc(s.Addresses, func(a Address) bool { return same(&a, &b) }); i >= 0 {
			b = s.Addresses[i]
		}
		list = append(list, b)
	}
	s.Addresses = list
	s.Moving = len(s.Legs) > 1 || on >= 0
	s.Stranded, s.Gap, s.FlowAt = "", 0, now
	s.anew()
	s.Due = 0
	if s.Moving {
		s.Due = now
		if len(s.Legs) > 1 {
			s.Due += mediaMS
		}
	}
	if s.Name == "link" {
		s.Name = "call"
	}
	s.timerIn("gap", Gaps[0])
	s.fx(Effect{Do: "save"})
	if l.told {
		s.hearPeers(l.peers)
	}
	switch {
	case old != nil && old.Welcomed && old.Place.Country != l.Place.Country:
		s.timerIn("notice", noticeMS)
	case moving && (old == nil || old.Place.Region != l.Place.Region):
		s.timerIn("notice", noticeMS)
	}
}

func (s *State) move(e *Event, l *Leg, now int64) {
	to := Address{Edge: e.Edge, URL: e.URL, Token: e.Token}
	over := !l.Welcomed
	old := e.Epoch < s.followed()
	if over {
		if old || slices.Contains(s.Sent, to.URL) || same(&to, &l.Address) {
			s.fail(l, e.Dice, now)
			return
		}
		s.end("drop", func(x *Leg) bool { return x == l })
		s.Sent = append(s.Sent, l.Address.URL)
	} else if old || same(&to, &l.Address) {
		return
	} else if !l.Current {
		l.To = to.URL
	}
	list := []Address{to}
	for _, a := range s.Addresses {
		if !same(&a, &to) {
			list = append(list, a)
		} else if list[0].Session == "" {
			list[0].Session = a.Session
		}
	}
	to, s.Addresses = list[0], list
	c := s.Current()
	if over && c != nil && s.isWell() && same(&c.Address, &to) {
		s.Moving = false
		s.settle(c)
		return
	}
	if l.Current {
		s.Moving = true
		s.anew()
		s.end("leave", func(x *Leg) bool { return !x.Current && !same(&x.Address, &to) })
	}
	for _, there := range s.Legs {
		if !there.Current && same(&there.Address, &to) {
			if s.Due == 0 {
				s.Due = now + welcomeMS
			}
			there.Sent, there.Epoch = true, max(there.Epoch, e.Epoch)
			return
		}
	}
	if s.attempts() >= beside {
		slow := s.slowest(l.ID)
		s.end("leave", func(x *Leg) bool { return x == slow })
	}
	s.start(to, now, true, e.Epoch)
}

func (s *State) refused(e *Event, l *Leg, now int64) {
	text := refusalText(e.Refusal.Code)
	runs := !l.Current && (s.attempts() > 1 || s.InCall() && s.Gap == 0)
	switch {
	case text == "ended.done" || text != "" && !runs:
		s.finish(text)
	case !l.Current:
		s.fail(l, e.Dice, now)
	}
}

func (s *State) finish(text string) {
	s.end("leave", func(l *Leg) bool { return !l.Current || text == "ended.left" })
	s.end("drop", func(*Leg) bool { return true })
	for _, name := range []string{"gap", "notice", "peers"} {
		s.fx(Effect{Do: "cancel", Name: name})
	}
	s.fx(Effect{Do: "stop"})
	s.fx(Effect{Do: "forget", Token: text == "ended.done"})
	s.reset("stopped", text)
	switch {
	case strings.HasPrefix(text, "refused."):
		s.Name = "refused"
	case text == "link.bad" || text == "link.expired":
	default:
		s.Name = "ended"
	}
}

func (s *State) toggle(which string) {
	was := s.sound
	switch which {
	case "camera":
		s.sound = false
	case "sound":
		s.sound = !s.sound
	}
	s.fx(Effect{Do: "save"})
	if was && !s.sound && s.InCall() {
		s.timerIn("notice", noticeMS)
	}
}

func (s *State) timer(e *Event, now int64) {
	if e.Late > lateMS {
		for _, l := range s.Legs {
			l.Progress = min(now, l.Progress+e.Late)
		}
		s.FlowAt = min(now, s.FlowAt+e.Late)
	}
	switch e.Name {
	case "gap":
		s.gapped(now)
	case "peers":
		s.away = nil
		for _, p := range s.peers {
			if !p.Connected {
				s.away = append(s.away, p.Participant)
			}
		}
	}
}

func (s *State) gapped(now int64) {
	if s.Name == "ended" || s.Name == "refused" || s.Step == "stopped" {
		return
	}
	silence, was, reached := now-s.FlowAt, s.Gap, 0
	for _, ms := range Gaps {
		if silence >= ms {
			reached++
		}
	}
	if s.Gap = reached; s.Name == "link" && reached == 1 {
		s.Gap = 0
	}
	if reached < 3 {
		s.timerIn("gap", max(1, Gaps[reached]-silence))
	}
	if s.Gap > was && s.InCall() {
		s.seek(now)
	}
}

func (s *State) hearPeers(list []Peer) {
	for _, p := range list {
		if p.Connected && !slices.Contains(s.seen, p.Participant) {
			s.seen = append(s.seen, p.Participant)
		}
	}
	s.peers = list
	s.away = slices.DeleteFunc(s.away, func(who string) bool {
		return !slices.ContainsFunc(list, func(p Peer) bool { return p.Participant == who && !p.Connected })
	})
	if slices.ContainsFunc(list, func(p Peer) bool {
		return !p.Connected && slices.Contains(s.seen, p.Participant) && !slices.Contains(s.away, p.Participant)
	}) {
		s.timerIn("peers", peerMS)
	} else {
		s.fx(Effect{Do: "cancel", Name: "peers"})
	}
}

// vacancy, slowest, merge and pause are those of legs.js.

func (s *State) vacancy() *Address {
	if s.attempts() >= beside {
		return nil
	}
	well := s.isWell()
	best, at := -1, 0
	for i := range s.Addresses {
		a := &s.Addresses[i]
		if slices.Contains(s.Sent, a.URL) || slices.ContainsFunc(s.Legs, func(l *Leg) bool { return (well || !l.Current) && same(&l.Address, a) }) {
			continue
		}
		if k := slices.Index(s.Tried, a.URL); best < 0 || k < at {
			best, at = i, k
		}
	}
	if best < 0 {
		return nil
	}
	return &s.Addresses[best]
}

func (s *State) slowest(but int) (slow *Leg) {
	for _, l := range s.Legs {
		if !l.Current && l.ID != but && (slow == nil || l.Progress < slow.Progress) {
			slow = l
		}
	}
	return slow
}

func (s *State) merge(more []Address) {
	known := len(s.Addresses)
	for i := range s.Addresses {
		a := &s.Addresses[i]
		for k := range more {
			if same(&more[k], a) {
				if a.Edge == "" {
					a.Edge = more[k].Edge
				}
				if more[k].Token != "" {
					a.Token = more[k].Token
				}
				break
			}
		}
	}
	list := slices.Clip(s.Addresses[:known])
	for k := range more {
		if !slices.ContainsFunc(s.Addresses[:known], func(a Address) bool { return same(&more[k], &a) }) {
			list = append(list, more[k])
		}
	}
	s.Addresses = list
}

func (s *State) pause(dice float64) int64 {
	if to := s.vacancy(); to != nil && !slices.Contains(s.Tried, to.URL) {
		return 0
	}
	round := max(1, s.Failures/len(s.Addresses))
	return int64(min(5_000, math.Floor(250*math.Pow(2, float64(round-1))*(0.5+dice)+0.5)))
}

// refusalText and endText are those of codes.js.

func refusalText(code string) string {
	switch code {
	case "policy_missing", "denied_country", "no_common_place":
		return "refused.person"
	case "home_only", "outside_block", "not_adequate", "condition_unmet", "fact_missing", "baa_missing",
		"instrument_missing", "product_default", "stored_nowhere", "region_draining", "region_down",
		"region_unhealthy", "region_full", "no_region":
		return "refused.place"
	case "token_invalid", "not_found":
		return "link.bad"
	case "token_expired":
		return "link.expired"
	case "consult_ended":
		return "ended.done"
	}
	return ""
}

func endText(reason string) string {
	switch reason {
	case "replaced":
		return "link.elsewhere"
	case "expired":
		return "link.expired"
	}
	return "ended.done"
}

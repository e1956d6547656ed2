package sim

import (
	"math"
	"slices"
	"strings"
)

// page is web/consult/machine.js in Go, as far as it decides anything: its words and its
// devices are left out. TestPage holds it to the original by the same scripts through
// both. Its functions bear the names that they have there, and their reasons are there.
type page struct {
	Name, Step, Text string
	sound            bool // of the wish
	Gap              int
	Moving           bool
	FlowAt, Due      int64 // ms
	Failures         int
	Tried, Sent      []string
	Stranded         string
	Addresses        []address
	Legs             []*leg
	made             int
	seen, away       []string
	peers            []peer // of the current leg

	do []effect // of the step under way
}

// address is where a join may land.
type address struct {
	Edge    string `json:"edge"`
	URL     string `json:"url"`
	Token   string `json:"token"`
	Session string `json:"session"`
}

// leg is one WebSocket with its media.
type leg struct {
	ID       int
	Current  bool // else next
	Address  address
	Sent     bool
	Socket   string // connecting, open, closed
	Welcomed bool
	Place    place
	Epoch    uint64
	Standby  []address
	peers    []peer
	told     bool // peers is known
	Heard    int
	Progress int64
	To       string
}

type place struct {
	Region  string `json:"region"`
	Country string `json:"country"`
}

type peer struct {
	Participant string `json:"participant"`
	Connected   bool   `json:"connected"`
}

// event is one of types.js, with the fields of all of them.
type event struct {
	Type      string    `json:"type"`
	Leg       int       `json:"leg"`
	Problem   string    `json:"problem"`
	Granted   bool      `json:"granted"`
	Sound     bool      `json:"sound"`
	Addresses []address `json:"addresses"`
	Session   string    `json:"session"`
	Place     place     `json:"place"`
	Epoch     uint64    `json:"epoch"`
	Standby   []address `json:"standby"`
	Alive     bool      `json:"alive"`
	Heard     int       `json:"heard"`
	Peers     []peer    `json:"peers"`
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

// effect is one of types.js, with the fields of those that are modelled.
type effect struct {
	Do       string
	Leg      int
	Address  address
	Stranded bool
	Name     string
	MS       int64
	Token    bool
}

var gaps = [3]int64{1_500, 10_000, 60_000}

const (
	welcomeMS, mediaMS, lateMS, noticeMS, peerMS = 3_000, 8_000, 1_000, 15_000, 1_500
	beside                                       = 3
	stallMS                                      = 15_000
)

func newPage() *page { return &page{Name: "link", Step: "ask"} }

// step takes one event; the effects are the caller's until the next one.
func (s *page) step(e *event, now int64) []effect {
	s.do = s.do[:0]
	was := s.Due
	if s.inCall() {
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
			s.fx(effect{Do: "cancel", Name: "attempt"})
		}
	}
	if s.inCall() {
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

func (s *page) fx(e effect)                   { s.do = append(s.do, e) }
func (s *page) timerIn(name string, ms int64) { s.fx(effect{Do: "timer", Name: name, MS: ms}) }

func (s *page) inCall() bool { return s.Name != "link" && s.Name != "ended" && s.Name != "refused" }

func (s *page) take(e *event, now int64) {
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
		if s.inCall() {
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

func (s *page) fromLeg(e *event, now int64) {
	l := s.leg(e.Leg)
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
		if e.Reason == "replaced" && l.Current && slices.ContainsFunc(s.Legs, func(n *leg) bool {
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

func (s *page) leg(id int) *leg {
	for _, l := range s.Legs {
		if l.ID == id {
			return l
		}
	}
	return nil
}

func (s *page) current() *leg {
	for _, l := range s.Legs {
		if l.Current {
			return l
		}
	}
	return nil
}

func (s *page) attempts() (n int) {
	for _, l := range s.Legs {
		if !l.Current {
			n++
		}
	}
	return n
}

func (s *page) followed() (epoch uint64) {
	for _, l := range s.Legs {
		if !l.Current || s.Gap == 0 {
			epoch = max(epoch, l.Epoch)
		}
	}
	return epoch
}

func (s *page) isWell() bool {
	c := s.current()
	return s.Gap == 0 && c != nil && c.Socket == "open"
}

func same(a, b *address) bool { return a.URL == b.URL || a.Edge != "" && a.Edge == b.Edge }

func (s *page) open(e *event) {
	if e.Problem != "" {
		s.Step, s.Text = "stopped", e.Problem
		return
	}
	s.Addresses, s.sound = slices.Clone(e.Addresses), e.Sound
	if slices.ContainsFunc(s.Addresses, func(a address) bool { return a.Session != "" }) {
		s.rejoin()
		return
	}
	if e.Granted {
		s.Step = "opening"
	}
}

func (s *page) devices(now int64) {
	if s.Step == "stopped" {
		s.fx(effect{Do: "stop"})
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

func (s *page) begin(now int64) {
	s.FlowAt = now
	s.seek(now)
	s.timerIn("gap", gaps[1])
}

// reset is Object.assign(s, initial, …) with what both of its callers keep.
func (s *page) reset(step, text string) {
	*s = page{Name: "link", Step: step, Text: text, sound: s.sound, Addresses: s.Addresses, made: s.made, do: s.do}
}

func (s *page) rejoin() { s.reset("joining", "") }

func (s *page) retry(now int64) {
	if s.inCall() && s.Gap == 0 || !s.inCall() && s.Due == 0 {
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

func (s *page) seek(now int64) {
	switch {
	case s.Due > 0:
	case s.attempts() > 0:
		s.Due = now + welcomeMS
	default:
		s.anew()
		s.Due = now
	}
}

func (s *page) anew() { s.Failures, s.Tried, s.Sent = 0, nil, nil }

func (s *page) pursue(dice float64, now int64) {
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

func (s *page) start(a address, now int64, sent bool, epoch uint64) {
	s.made++
	s.Legs = append(s.Legs, &leg{ID: s.made, Address: a, Socket: "connecting", Progress: now, Sent: sent, Epoch: epoch})
	s.last(a.URL)
	s.fx(effect{Do: "connect", Leg: s.made, Address: a, Stranded: s.Stranded != "" && s.Stranded != a.URL})
	s.Due = now + welcomeMS
}

func (s *page) last(url string) {
	s.Tried = append(slices.DeleteFunc(s.Tried, func(u string) bool { return u == url }), url)
}

func (s *page) end(how string, which func(*leg) bool) {
	for _, l := range s.Legs {
		if which(l) {
			s.fx(effect{Do: how, Leg: l.ID})
		}
	}
	s.Legs = slices.DeleteFunc(s.Legs, which)
}

func (s *page) quit(l *leg) {
	how := "leave"
	if c := s.current(); c != nil && same(&c.Address, &l.Address) {
		how = "drop"
	}
	s.end(how, func(x *leg) bool { return x == l })
}

func (s *page) fail(l *leg, dice float64, now int64) {
	s.quit(l)
	s.last(l.Address.URL)
	s.Failures++
	if l.Sent {
		s.Stranded, s.Sent = l.Address.URL, nil
	}
	if !s.inCall() || !s.isWell() || s.Moving {
		s.Due = now + s.pause(dice)
	} else {
		s.Due = 0
	}
}

func (s *page) welcome(e *event, l *leg, now int64) {
	a := l.Address
	a.Session = e.Session
	var standby []address
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
	s.fx(effect{Do: "save"})
	if c := s.current(); s.Gap == 0 && c != nil && e.Epoch < c.Epoch {
		s.fail(l, 0.5, now)
		return
	}
	if s.Due > 0 {
		s.Due = now + mediaMS
	}
}

func (s *page) pulse(e *event, l *leg, now int64) {
	l.Heard = e.Heard
	if !e.Alive {
		return
	}
	if l.Current {
		s.flows(l, now)
		return
	}
	c := s.current()
	if c == nil || s.Gap > 0 || e.Heard >= c.Heard {
		s.adopt(l, now)
		return
	}
	if s.Due > 0 && s.Due < now+mediaMS-1_000 {
		s.Due = now + mediaMS
	}
}

func (s *page) flows(l *leg, now int64) {
	s.FlowAt = now
	if s.Gap == 0 {
		return
	}
	s.Gap = 0
	s.timerIn("gap", gaps[0])
	if !s.isWell() || s.Moving {
		return
	}
	s.settle(l)
}

func (s *page) settle(l *leg) {
	s.Due = 0
	s.end("leave", func(x *leg) bool { return !x.Current && !same(&x.Address, &l.Address) })
}

func (s *page) adopt(l *leg, now int64) {
	old := s.current()
	onward := func(x *leg) bool { return !x.Current && (x.Address.URL == l.To || x.Epoch > l.Epoch) }
	s.fx(effect{Do: "adopt", Leg: l.ID})
	s.end("drop", func(x *leg) bool { return x != l && same(&x.Address, &l.Address) })
	s.end("leave", func(x *leg) bool { return x != l && !onward(x) })
	l.Current, l.Socket = true, "open"
	if old == nil {
		s.peers = nil
	}
	moving := s.Moving
	var list []address
	on := slices.IndexFunc(s.Addresses, func(a address) bool { return a.URL == l.To })
	if on >= 0 {
		list = append(list, s.Addresses[on])
	}
	list = append(list, l.Address)
	for _, b := range l.Standby {
		if i := slices.IndexFunc(s.Addresses, func(a address) bool { return same(&a, &b) }); i >= 0 {
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
	s.timerIn("gap", gaps[0])
	s.fx(effect{Do: "save"})
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

func (s *page) move(e *event, l *leg, now int64) {
	to := address{Edge: e.Edge, URL: e.URL, Token: e.Token}
	over := !l.Welcomed
	old := e.Epoch < s.followed()
	if over {
		if old || slices.Contains(s.Sent, to.URL) || same(&to, &l.Address) {
			s.fail(l, e.Dice, now)
			return
		}
		s.end("drop", func(x *leg) bool { return x == l })
		s.Sent = append(s.Sent, l.Address.URL)
	} else if old || same(&to, &l.Address) {
		return
	} else if !l.Current {
		l.To = to.URL
	}
	list := []address{to}
	for _, a := range s.Addresses {
		if !same(&a, &to) {
			list = append(list, a)
		} else if list[0].Session == "" {
			list[0].Session = a.Session
		}
	}
	to, s.Addresses = list[0], list
	c := s.current()
	if over && c != nil && s.isWell() && same(&c.Address, &to) {
		s.Moving = false
		s.settle(c)
		return
	}
	if l.Current {
		s.Moving = true
		s.anew()
		s.end("leave", func(x *leg) bool { return !x.Current && !same(&x.Address, &to) })
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
		s.end("leave", func(x *leg) bool { return x == slow })
	}
	s.start(to, now, true, e.Epoch)
}

func (s *page) refused(e *event, l *leg, now int64) {
	text := refusalText(e.Refusal.Code)
	runs := !l.Current && (s.attempts() > 1 || s.inCall() && s.Gap == 0)
	switch {
	case text == "ended.done" || text != "" && !runs:
		s.finish(text)
	case !l.Current:
		s.fail(l, e.Dice, now)
	}
}

func (s *page) finish(text string) {
	s.end("leave", func(l *leg) bool { return !l.Current || text == "ended.left" })
	s.end("drop", func(*leg) bool { return true })
	for _, name := range []string{"gap", "notice", "peers"} {
		s.fx(effect{Do: "cancel", Name: name})
	}
	s.fx(effect{Do: "stop"})
	s.fx(effect{Do: "forget", Token: text == "ended.done"})
	s.reset("stopped", text)
	switch {
	case strings.HasPrefix(text, "refused."):
		s.Name = "refused"
	case text == "link.bad" || text == "link.expired":
	default:
		s.Name = "ended"
	}
}

func (s *page) toggle(which string) {
	was := s.sound
	switch which {
	case "camera":
		s.sound = false
	case "sound":
		s.sound = !s.sound
	}
	s.fx(effect{Do: "save"})
	if was && !s.sound && s.inCall() {
		s.timerIn("notice", noticeMS)
	}
}

func (s *page) timer(e *event, now int64) {
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

func (s *page) gapped(now int64) {
	if s.Name == "ended" || s.Name == "refused" || s.Step == "stopped" {
		return
	}
	silence, was, reached := now-s.FlowAt, s.Gap, 0
	for _, ms := range gaps {
		if silence >= ms {
			reached++
		}
	}
	if s.Gap = reached; s.Name == "link" && reached == 1 {
		s.Gap = 0
	}
	if reached < 3 {
		s.timerIn("gap", max(1, gaps[reached]-silence))
	}
	if s.Gap > was && s.inCall() {
		s.seek(now)
	}
}

func (s *page) hearPeers(list []peer) {
	for _, p := range list {
		if p.Connected && !slices.Contains(s.seen, p.Participant) {
			s.seen = append(s.seen, p.Participant)
		}
	}
	s.peers = list
	s.away = slices.DeleteFunc(s.away, func(who string) bool {
		return !slices.ContainsFunc(list, func(p peer) bool { return p.Participant == who && !p.Connected })
	})
	if slices.ContainsFunc(list, func(p peer) bool {
		return !p.Connected && slices.Contains(s.seen, p.Participant) && !slices.Contains(s.away, p.Participant)
	}) {
		s.timerIn("peers", peerMS)
	} else {
		s.fx(effect{Do: "cancel", Name: "peers"})
	}
}

// vacancy, slowest, merge and pause are those of legs.js.

func (s *page) vacancy() *address {
	if s.attempts() >= beside {
		return nil
	}
	well := s.isWell()
	best, at := -1, 0
	for i := range s.Addresses {
		a := &s.Addresses[i]
		if slices.Contains(s.Sent, a.URL) || slices.ContainsFunc(s.Legs, func(l *leg) bool { return (well || !l.Current) && same(&l.Address, a) }) {
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

func (s *page) slowest(but int) (slow *leg) {
	for _, l := range s.Legs {
		if !l.Current && l.ID != but && (slow == nil || l.Progress < slow.Progress) {
			slow = l
		}
	}
	return slow
}

func (s *page) merge(more []address) {
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
		if !slices.ContainsFunc(s.Addresses[:known], func(a address) bool { return same(&more[k], &a) }) {
			list = append(list, more[k])
		}
	}
	s.Addresses = list
}

func (s *page) pause(dice float64) int64 {
	if to := s.vacancy(); to != nil && !slices.Contains(s.Tried, to.URL) {
		return 0
	}
	round := max(1, s.Failures/len(s.Addresses))
	return int64(min(5_000, math.Floor(250*math.Pow(2, float64(round-1))*(0.5+dice)+0.5)))
}

// refusalText and endText are those of codes.js.

func refusalText(code string) string {
	switch code {
	case "policy_missing", "denied_country", "no_common_place", "subdivision_needed", "refused_by_operator", "not_served":
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

package signal

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	rows := []struct {
		name string
		in   string
		want Client
		err  string // contained in the error; empty: none
	}{
		{"hello", `{"type":"hello","token":"t","park":true,"session":"s"}`,
			Client{Type: TypeHello, Hello: &Hello{Token: "t", Park: true, Session: "s"}}, ""},
		{"hello, token only", `{"type":"hello","token":"t"}`, Client{Type: TypeHello, Hello: &Hello{Token: "t"}}, ""},
		{"hello, longest fields", `{"type":"hello","token":"` + long(maxToken) + `","session":"` + long(64) + `"}`,
			Client{Type: TypeHello, Hello: &Hello{Token: long(maxToken), Session: long(64)}}, ""},
		{"unpark", `{"type":"unpark"}`, Client{Type: TypeUnpark}, ""},
		{"answer", `{"type":"answer","sdp":"v=0\r\n","seq":3}`, Client{Type: TypeAnswer, Answer: &Answer{SDP: "v=0\r\n", Seq: 3}}, ""},
		{"state", `{"type":"state","mic":true,"camera":false,"receive_video":true}`,
			Client{Type: TypeState, State: &State{Mic: true, ReceiveVideo: true}}, ""},
		{"state of who encrypts", `{"type":"state","kid":65536}`, Client{Type: TypeState, State: &State{KID: 1 << 16}}, ""},
		{"a KID of too few octets", `{"type":"state","kid":65535}`, Client{}, "three octets"},
		{"a KID of too many", `{"type":"state","kid":16777216}`, Client{}, "three octets"},
		{"a KID below 0", `{"type":"state","kid":-1}`, Client{}, "kid"},
		{"profile", `{"type":"profile","profile":"sign"}`, Client{Type: TypeProfile, Profile: &Profile{Type: TypeProfile, Profile: "sign"}}, ""},
		{"profile of a newer page", `{"type":"profile","profile":"x-ray"}`, Client{Type: TypeProfile, Profile: &Profile{Type: TypeProfile, Profile: "x-ray"}}, ""},
		{"profile without a name", `{"type":"profile"}`, Client{}, "profile"},
		{"profile's name too long", `{"type":"profile","profile":"` + long(maxProfile+1) + `"}`, Client{}, "limit 32"},
		{"stats", `{"type":"stats","participants":[{"participant":"p2","height":720,"frozen_s":0.5,"concealed":0.05,"mos":4.1,"mood":"calm"},{"participant":"p3"}]}`,
			Client{Type: TypeStats, Stats: &Stats{[]Played{{"p2", 720, 0.5, 0.05, 4.1}, {Participant: "p3"}}}}, ""},
		{"stats that cannot be: too much", `{"type":"stats","participants":[{"participant":"p2","height":2000000000,"frozen_s":1e300,"concealed":7,"mos":9}]}`,
			Client{Type: TypeStats, Stats: &Stats{[]Played{{"p2", maxHeight, maxFrozen, 1, 4.5}}}}, ""},
		{"stats that cannot be: too little", `{"type":"stats","participants":[{"participant":"p2","height":-1,"frozen_s":-1,"concealed":-0.1,"mos":-3}]}`,
			Client{Type: TypeStats, Stats: &Stats{[]Played{{"p2", 0, 0, 0, 1}}}}, ""},
		{"stats of nobody", `{"type":"stats"}`, Client{Type: TypeStats, Stats: &Stats{}}, ""},
		{"view", `{"type":"view","videos":[{"participant":"p2","width":640},{"participant":"p2","screen":true,"width":99999},{"participant":"p3","width":-1}]}`,
			Client{Type: TypeView, View: &View{[]Viewed{{"p2", false, 640}, {"p2", true, maxHeight}, {"p3", false, 0}}}}, ""},
		{"view of too many", `{"type":"view","videos":[` + strings.Repeat(`{},`, 2*maxPlayed) + `{}]}`, Client{}, "limit 16"},
		{"view of a long name", `{"type":"view","videos":[{"participant":"` + long(maxID+1) + `"}]}`, Client{}, "participant"},
		{"view in words", `{"type":"view","videos":[{"width":"large"}]}`, Client{}, "width"},
		{"stats of too many", `{"type":"stats","participants":[` + strings.Repeat(`{},`, maxPlayed) + `{}]}`, Client{}, "limit 8"},
		{"stats of a name too long", `{"type":"stats","participants":[{"participant":"` + long(maxID+1) + `"}]}`, Client{}, "limit 64"},
		{"stats of half a line", `{"type":"stats","participants":[{"height":0.5}]}`, Client{}, "height"},
		{"stats of a number too large for any", `{"type":"stats","participants":[{"mos":1e999}]}`, Client{}, "mos"},
		{"stats by a word", `{"type":"stats","participants":[{"mos":"NaN"}]}`, Client{}, "mos"},
		{"leave, with space around", " {\"type\": \"leave\"}\n", Client{Type: TypeLeave}, ""},

		{"hello without token", `{"type":"hello"}`, Client{}, "token"},
		{"token too long", `{"type":"hello","token":"` + long(maxToken+1) + `"}`, Client{}, "token"},
		{"session too long", `{"type":"hello","token":"t","session":"` + long(65) + `"}`, Client{}, "session"},
		{"answer without sdp", `{"type":"answer","seq":1}`, Client{}, "sdp"},
		{"field of a newer page", `{"type":"state","mic":true,"hand":{"raised":1}}`, Client{Type: TypeState, State: &State{Mic: true}}, ""},
		{"field on a message without any", `{"type":"leave","why":"done"}`, Client{Type: TypeLeave}, ""},
		{"hello of a newer page", `{"type":"hello","token":"t","features":["x"],"stranded":true,"captions":"de"}`,
			Client{Type: TypeHello, Hello: &Hello{Token: "t", Features: []string{"x"}, Stranded: true}}, ""},
		{"too many features", `{"type":"hello","token":"t","features":[` + strings.Repeat(`"x",`, maxFeatures) + `"x"]}`, Client{}, "features"},
		{"a feature too long", `{"type":"hello","token":"t","features":["` + long(maxFeature+1) + `"]}`, Client{}, "features"},
		{"wrong type of a field", `{"type":"answer","sdp":"v=0","seq":"3"}`, Client{}, "seq"},
		{"seq that is no integer", `{"type":"answer","sdp":"v=0","seq":1.5}`, Client{}, "seq"},
		{"type of a newer page", `{"type":"dance"}`, Client{Type: "dance"}, ""},
		{"the edge's type", `{"type":"offer","sdp":"v=0","seq":1}`, Client{Type: TypeOffer}, ""},
		{"no type", `{"token":"t"}`, Client{}, "no type"},
		{"type that is no string", `{"type":7}`, Client{}, "type"},
		{"not an object", `[]`, Client{}, "array"},
		{"not JSON", `hello`, Client{}, "invalid"},
		{"empty", ``, Client{}, "no JSON here"},
		{"type twice", `{"type":"leave","type":"unpark"}`, Client{}, "named twice"},
		{"token twice", `{"type":"hello","token":"t","token":"u"}`, Client{}, "named twice"},
		{"a newer field twice", `{"type":"leave","x":1,"x":2}`, Client{}, "named twice"},
		{"type in another case", `{"Type":"leave"}`, Client{}, "no type"},
		{"token in another case: not known, so ignored", `{"type":"hello","token":"t","Token":"u"}`, Client{Type: TypeHello, Hello: &Hello{Token: "t"}}, ""},
		{"a byte order mark", "\ufeff{\"type\":\"leave\"}", Client{}, "byte order mark"},
		{"a control character", "{\"type\":\"hello\",\"token\":\"\x01\"}", Client{}, "line 1"},
		{"two messages", `{"type":"leave"}{"type":"leave"}`, Client{}, "more follows"},
		{"too long", `{"type":"answer","sdp":"` + long(MaxMessage) + `","seq":1}`, Client{}, "limit 65536"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, err := Decode([]byte(r.in))
			if r.err == "" {
				if err != nil || !reflect.DeepEqual(got, r.want) {
					t.Errorf("got %+v, %v; want %+v", got, err, r.want)
				}
				return
			}
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), r.err) {
				t.Errorf("error %v, want one that wraps ErrMalformed and says %q", err, r.err)
			}
			if !reflect.DeepEqual(got, Client{}) {
				t.Errorf("got %+v with the error", got)
			}
		})
	}
}

// FuzzDecode: what is accepted means the same after a round trip, and is within
// the limits.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"type":"hello","token":"t","park":true,"session":"s"}`))
	f.Add([]byte(`{"type":"unpark"}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, err := Decode(frame)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		var body any = struct{}{}
		set := 0
		if c.Hello != nil {
			body, set = c.Hello, set+1
			if n := len(c.Hello.Token); n == 0 || n > maxToken || len(c.Hello.Session) > 64 {
				t.Errorf("out of limits: %+v", c.Hello)
			}
		}
		if c.Answer != nil {
			body, set = c.Answer, set+1
		}
		if c.State != nil {
			body, set = c.State, set+1
		}
		if c.Profile != nil {
			body, set = c.Profile, set+1
			if n := len(c.Profile.Profile); n == 0 || n > maxProfile {
				t.Errorf("out of limits: %+v", c.Profile)
			}
		}
		if c.Stats != nil {
			body, set = c.Stats, set+1
			if len(c.Stats.Participants) > maxPlayed {
				t.Errorf("out of limits: %+v", c.Stats)
			}
			for _, p := range c.Stats.Participants {
				if len(p.Participant) > maxID || p.Height < 0 || p.Height > maxHeight || !(p.Frozen >= 0 && p.Frozen <= maxFrozen) ||
					!(p.Concealed >= 0 && p.Concealed <= 1) || p.MOS != 0 && !(p.MOS >= 1 && p.MOS <= 4.5) {
					t.Errorf("out of limits: %+v", p)
				}
			}
		}
		if want := map[Type]int{TypeHello: 1, TypeAnswer: 1, TypeState: 1, TypeProfile: 1, TypeStats: 1}[c.Type]; set != want {
			t.Fatalf("%s: %d bodies, want %d", c.Type, set, want)
		}
		b, _ := json.Marshal(body)
		var fields map[string]any
		json.Unmarshal(b, &fields)
		fields["type"] = c.Type
		if c.Hello != nil && c.Hello.Features != nil && len(c.Hello.Features) == 0 {
			c.Hello.Features = nil // an empty list is left out
		}
		again, _ := json.Marshal(fields)
		if len(again) > MaxMessage {
			return // escapes made it longer
		}
		if got, err := Decode(again); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s came back as %+v, %v; was %+v", again, got, err, c)
		}
	})
}

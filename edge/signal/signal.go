// Package signal is the join protocol's vocabulary: the messages of the WebSocket
// /v1/join as docs/protocol.md section 3 has them, and their decoding.
//
// It holds no connection, room or clock. A decoded message is within the limits
// below; whether it is allowed now is the room's business. Page and edge differ in version
// at every move and upgrade: fields and types that are not known here are ignored, and
// hello and welcome name the features that each side has.
package signal

import (
	"errors"
	"fmt"
	"time"

	"bailiwick/exact"
)

const (
	// Subprotocol is offered and selected in the WebSocket handshake.
	Subprotocol = "bailiwick.v1"
	// MaxMessage is the largest frame in bytes, either way; an SDP with six
	// participants is about 12 kB.
	MaxMessage = 64 << 10
	// maxToken bounds a join token: a JWT with six jurisdictions is under 1 kB.
	maxToken = 4 << 10
)

// ErrMalformed is wrapped by every error of Decode.
var ErrMalformed = errors.New("malformed message")

// Type tags a message.
type Type string

const (
	// From client to edge.
	TypeHello  Type = "hello"
	TypeUnpark Type = "unpark"
	TypeAnswer Type = "answer"
	TypeState  Type = "state"
	TypeStats  Type = "stats"
	TypeView   Type = "view"
	TypeLeave  Type = "leave"

	// Both ways.
	TypeProfile Type = "profile"

	// From edge to client.
	TypeWelcome    Type = "welcome"
	TypeOffer      Type = "offer"
	TypePeers      Type = "peers"
	TypeLayers     Type = "layers"
	TypeVoice      Type = "voice"
	TypeScreen     Type = "screen"
	TypeSpeaker    Type = "speaker"
	TypeMove       Type = "move"
	TypeWithdrawal Type = "withdrawal"
	TypeQuality    Type = "quality"
	TypeEnded      Type = "ended"
	TypeRefused    Type = "refused"
)

// Hello is the client's first message.
type Hello struct {
	Token   string `json:"token"`
	Park    bool   `json:"park,omitempty"`
	Session string `json:"session,omitempty"`
	// Stranded: a move sent this client to another edge, where it found no media.
	Stranded bool     `json:"stranded,omitempty"`
	Features []string `json:"features,omitempty"`
}

// Features are those of this edge, which every welcome names: what a client may count on
// beside what every version has.
var Features = []string{"move-first", "withdrawal", "layers", "profile", "quality", "e2ee", "screen"}

// The most features that a client may name, and the longest of their names.
const maxFeatures, maxFeature = 32, 64

// Answer replies to the offer of the same Seq.
type Answer struct {
	SDP string `json:"sdp"`
	Seq int    `json:"seq"`
}

// State is what the client sends and wants now.
type State struct {
	Mic          bool `json:"mic"`
	Camera       bool `json:"camera"`
	ReceiveVideo bool `json:"receive_video"`
	// Screen: it shares its screen, in m-line 3.
	Screen bool `json:"screen,omitempty"`
	// KID is what the KIDs begin with under which it encrypts its media (RFC 9605): three octets,
	// the first not 0, before a fourth. 0: it encrypts nothing.
	KID uint32 `json:"kid,omitempty"`
}

// Stats is what the client's own browser counted since it last said so, of each of the others
// whose media came.
type Stats struct {
	Participants []Played `json:"participants"`
}

// Played is how one of the others was heard and seen. Whatever a client says is within the
// limits once it is decoded.
type Played struct {
	Participant string  `json:"participant"`
	Height      int     `json:"height"`    // lines of the picture now; 0: none comes
	Frozen      float64 `json:"frozen_s"`  // seconds that it stood
	Concealed   float64 `json:"concealed"` // share of the sound that was made up, 0 to 1
	MOS         float64 `json:"mos"`       // of the sound, 1 to 4.5 by ITU-T G.107; 0: none came
}

const (
	// The most participants that a client may tell of, and the longest of their IDs.
	maxPlayed, maxID = 8, 64
	// What nobody's screen has, and longer than any two reports are apart.
	maxHeight, maxFrozen = 16 << 10, 60
)

// View is how large the client shows the videos that it is sent. What it says nothing of is as
// large as a window has room for.
type View struct {
	Videos []Viewed `json:"videos"`
}

// Viewed is one of the others' videos. Width is in pixels of the device; 0: it is out of sight.
// What a client says is within the limits once it is decoded.
type Viewed struct {
	Participant string `json:"participant"`
	Screen      bool   `json:"screen,omitempty"` // it is the screen that they share
	Width       int    `json:"width"`
}

// Profile is both the clinician's wish and the edge's word on it: what the video of the consult
// is looked at for (package consult has the names). By is who changed it, empty for the answer
// to a wish that was refused, which says why: then the profile is as it was.
type Profile struct {
	Type    Type   `json:"type"`
	Profile string `json:"profile"`
	By      string `json:"by,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// maxProfile bounds a profile's name: there may be more of them than this version knows.
const maxProfile = 32

// Client is one decoded client message: Type says which pointer is set (none for unpark,
// leave, and types that are not known).
type Client struct {
	Type    Type
	Hello   *Hello
	Answer  *Answer
	State   *State
	Profile *Profile
	Stats   *Stats
	View    *View
}

// Place is where the call is handled, in words for people.
type Place struct {
	Region  string `json:"region"`
	City    string `json:"city"`
	Country string `json:"country"`
}

// ICEServer is one RTCIceServer dictionary (W3C WebRTC 4.2.2).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Standby is a lawful edge that takes the token when this one is gone.
type Standby struct {
	Edge  string `json:"edge"`
	URL   string `json:"url"`
	Token string `json:"token"`
}

// Welcome accepts a hello.
type Welcome struct {
	Type        Type        `json:"type"`
	Participant string      `json:"participant"`
	Session     string      `json:"session"`
	Consult     string      `json:"consult"`
	Epoch       uint64      `json:"epoch"`
	Place       Place       `json:"place"`
	ICEServers  []ICEServer `json:"ice_servers"`
	Standby     []Standby   `json:"standby"`
	Features    []string    `json:"features"`
	Profile     string      `json:"profile"`
}

// Track maps one m-line of an offer to whom it shows.
type Track struct {
	MID         string `json:"mid"`
	Participant string `json:"participant"`
	Kind        string `json:"kind"` // "audio", "video" or "screen"
}

// Offer asks for an answer with the same Seq; Seq grows by one an offer.
type Offer struct {
	Type   Type    `json:"type"`
	SDP    string  `json:"sdp"`
	Seq    int     `json:"seq"`
	Tracks []Track `json:"tracks"`
}

// Peer is one other participant of the room.
type Peer struct {
	Participant string `json:"participant"`
	Role        string `json:"role"`
	Mic         bool   `json:"mic"`
	Camera      bool   `json:"camera"`
	Screen      bool   `json:"screen,omitempty"`
	Connected   bool   `json:"connected"`
}

// Peers is the whole room but its receiver.
type Peers struct {
	Type  Type   `json:"type"`
	Peers []Peer `json:"peers"`
}

// Layers names the simulcast layers of the client's video that somebody watches, by their RIDs;
// the others are not to be sent. Before the first one all are.
type Layers struct {
	Type  Type     `json:"type"`
	Video []string `json:"video"`
}

// Voice says how much the client's voice is to take at most, in bit/s; 0 is as it likes.
type Voice struct {
	Type Type `json:"type"`
	Rate int  `json:"rate,omitempty"`
}

// Screen says how much the screen that the client shares is to take at most, in bit/s.
type Screen struct {
	Type Type `json:"type"`
	Rate int  `json:"rate"`
}

// Speaker tells who speaks, each time it changes; empty: nobody.
type Speaker struct {
	Type        Type   `json:"type"`
	Participant string `json:"participant,omitempty"`
}

// Move sends the client to another edge.
type Move struct {
	Type   Type   `json:"type"`
	URL    string `json:"url"` // ws:// or wss:// of the new edge's /v1/join
	Token  string `json:"token"`
	Epoch  uint64 `json:"epoch"`
	Reason string `json:"reason"`
	Place  Place  `json:"place"`
}

// Video is how much of a participant's video its receiver is sent.
type Video string

const (
	VideoFull    Video = "full"
	VideoReduced Video = "reduced"
	VideoOff     Video = "off"
)

// Cause is why it is not all of it.
type Cause string

const (
	CauseOwn    Cause = "own"    // the receiver's connection
	CausePeer   Cause = "peer"   // the sender's
	CauseEdge   Cause = "edge"   // the edge is under pressure
	CauseChosen Cause = "chosen" // one of the two has turned it off
)

// Quality is how a participant's video reaches the receiver now. What was never told is full.
type Quality struct {
	Type        Type   `json:"type"`
	Participant string `json:"participant"`
	Video       Video  `json:"video"`
	Cause       Cause  `json:"cause,omitempty"` // unless full
}

// Withdrawal tells that the law leaves the consult no place, by which rule, and when it
// ends; without EndsAt that it goes on after all. Seconds are how long that is from now: the
// clock of who hears it may be wrong.
type Withdrawal struct {
	Type     Type       `json:"type"`
	Code     string     `json:"code,omitempty"`
	Citation []string   `json:"citation,omitempty"`
	EndsAt   *time.Time `json:"ends_at,omitempty"` // RFC 3339
	Seconds  int        `json:"seconds,omitempty"`
}

// Ended closes the seat for good. Of law it names the rule.
type Ended struct {
	Type     Type     `json:"type"`
	Reason   string   `json:"reason"` // done, law, replaced, expired
	Code     string   `json:"code,omitempty"`
	Citation []string `json:"citation,omitempty"`
}

// Refused carries the fields of an RFC 9457 problem document.
type Refused struct {
	Type         Type     `json:"type"`
	Code         string   `json:"code"`
	Title        string   `json:"title"`
	Detail       string   `json:"detail,omitempty"`
	Jurisdiction string   `json:"jurisdiction,omitempty"`
	Citation     []string `json:"citation,omitempty"`
	ID           string   `json:"id,omitempty"` // names the edge's log line

	ValidFrom *time.Time `json:"valid_from,omitempty"` // of token_early
	Clock     *time.Time `json:"clock,omitempty"`
}

// Decode reads one client message: what is known of it. Bad JSON, trailing bytes, wrong
// types and oversized fields are errors that wrap ErrMalformed and name the place.
func Decode(frame []byte) (Client, error) {
	if len(frame) > MaxMessage {
		return Client{}, fmt.Errorf("%w: %d bytes, limit %d", ErrMalformed, len(frame), MaxMessage)
	}
	var tag struct {
		Type Type `json:"type"`
	}
	if err := exact.Known(frame, &tag); err != nil {
		return Client{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	c := Client{Type: tag.Type}
	var err error
	switch tag.Type {
	case "":
		err = errors.New("no type")
	case TypeHello:
		c.Hello = new(Hello)
		if err = exact.Known(frame, c.Hello); err == nil {
			err = c.Hello.check()
		}
	case TypeAnswer:
		c.Answer = new(Answer)
		if err = exact.Known(frame, c.Answer); err == nil && c.Answer.SDP == "" {
			err = errors.New("sdp: empty")
		}
	case TypeState:
		c.State = new(State)
		if err = exact.Known(frame, c.State); err == nil {
			err = c.State.check()
		}
	case TypeStats:
		c.Stats = new(Stats)
		if err = exact.Known(frame, c.Stats); err == nil {
			err = c.Stats.check()
		}
	case TypeView:
		c.View = new(View)
		if err = exact.Known(frame, c.View); err == nil {
			err = c.View.check()
		}
	case TypeProfile:
		c.Profile = new(Profile)
		if err = exact.Known(frame, c.Profile); err == nil && (c.Profile.Profile == "" || len(c.Profile.Profile) > maxProfile) {
			err = fmt.Errorf("profile: a name of %d bytes, limit %d", len(c.Profile.Profile), maxProfile)
		}
	}
	if err != nil {
		return Client{}, fmt.Errorf("%w: %.32s: %v", ErrMalformed, tag.Type, err)
	}
	return c, nil
}

func (s *State) check() error {
	if s.KID != 0 && (s.KID < 1<<16 || s.KID >= 1<<24) {
		return fmt.Errorf("kid: %d: want three octets, the first not 0", s.KID)
	}
	return nil
}

// check bounds what is said of whom, and takes numbers that cannot be for the next that can.
func (s *Stats) check() error {
	if len(s.Participants) > maxPlayed {
		return fmt.Errorf("participants: %d, limit %d", len(s.Participants), maxPlayed)
	}
	for i := range s.Participants {
		p := &s.Participants[i]
		if len(p.Participant) > maxID {
			return fmt.Errorf("participant: %d bytes, limit %d", len(p.Participant), maxID)
		}
		p.Height = min(max(p.Height, 0), maxHeight)
		p.Frozen = min(max(p.Frozen, 0), maxFrozen)
		p.Concealed = min(max(p.Concealed, 0), 1)
		if p.MOS != 0 {
			p.MOS = min(max(p.MOS, 1), 4.5)
		}
	}
	return nil
}

// check bounds what is said of whom, and takes widths that cannot be for the next that can.
func (v *View) check() error {
	if len(v.Videos) > 2*maxPlayed {
		return fmt.Errorf("videos: %d, limit %d", len(v.Videos), 2*maxPlayed)
	}
	for i := range v.Videos {
		w := &v.Videos[i]
		if len(w.Participant) > maxID {
			return fmt.Errorf("participant: %d bytes, limit %d", len(w.Participant), maxID)
		}
		w.Width = min(max(w.Width, 0), maxHeight)
	}
	return nil
}

func (h *Hello) check() error {
	switch {
	case h.Token == "" || len(h.Token) > maxToken:
		return fmt.Errorf("token: want 1 to %d bytes, got %d", maxToken, len(h.Token))
	case len(h.Session) > 64:
		return fmt.Errorf("session: %d bytes, limit 64", len(h.Session))
	case len(h.Features) > maxFeatures:
		return fmt.Errorf("features: %d, limit %d", len(h.Features), maxFeatures)
	}
	for _, f := range h.Features {
		if len(f) > maxFeature {
			return fmt.Errorf("features: %.16q… of %d bytes, limit %d", f, len(f), maxFeature)
		}
	}
	return nil
}

// Package signal is the join protocol's vocabulary: the messages of the WebSocket
// /v1/join as docs/protocol.md section 3 has them, and their strict decoding.
//
// It holds no connection, room or clock. A decoded message is within the limits
// below; whether it is allowed now is the room's business.
package signal

import (
	"encoding/json"
	"errors"
	"fmt"
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
	TypeLeave  Type = "leave"

	// From edge to client.
	TypeWelcome Type = "welcome"
	TypeOffer   Type = "offer"
	TypePeers   Type = "peers"
	TypeMove    Type = "move"
	TypeEnded   Type = "ended"
	TypeRefused Type = "refused"
)

// Hello is the client's first message.
type Hello struct {
	Token   string `json:"token"`
	Park    bool   `json:"park,omitempty"`
	Session string `json:"session,omitempty"`
	// Features names the optional behaviours that the client knows.
	Features []string `json:"features,omitempty"`
	// Stranded: a move sent the client to an edge from which it got no media.
	Stranded bool `json:"stranded,omitempty"`
}

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
}

// Client is one decoded client message: Type says which pointer is set (none
// for unpark and leave).
type Client struct {
	Type   Type
	Hello  *Hello
	Answer *Answer
	State  *State
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

// Standby is a lawful edge that takes the call when this one is gone. Without a Token
// of its own it takes the one that was welcomed.
type Standby struct {
	Edge  string `json:"edge"`
	URL   string `json:"url"`
	Token string `json:"token,omitempty"`
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
	Features    []string    `json:"features,omitempty"`
}

// Track maps one m-line of an offer to whom it shows.
type Track struct {
	MID         string `json:"mid"`
	Participant string `json:"participant"`
	Kind        string `json:"kind"` // "audio" or "video"
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
	Connected   bool   `json:"connected"`
}

// Peers is the whole room but its receiver.
type Peers struct {
	Type  Type   `json:"type"`
	Peers []Peer `json:"peers"`
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

// Ended closes the seat for good.
type Ended struct {
	Type   Type   `json:"type"`
	Reason string `json:"reason"` // done, replaced, expired
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
}

// Decode reads one client message strictly: unknown types and unknown fields,
// trailing bytes and oversized fields are errors that wrap ErrMalformed and name
// the place.
func Decode(frame []byte) (Client, error) {
	if len(frame) > MaxMessage {
		return Client{}, fmt.Errorf("%w: %d bytes, limit %d", ErrMalformed, len(frame), MaxMessage)
	}
	var tag struct {
		Type Type `json:"type"`
	}
	if err := json.Unmarshal(frame, &tag); err != nil {
		return Client{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	c := Client{Type: tag.Type}
	var err error
	switch tag.Type {
	case TypeHello:
		c.Hello, err = strict[Hello](frame)
		if err == nil && (c.Hello.Token == "" || len(c.Hello.Token) > maxToken) {
			err = fmt.Errorf("token: want 1 to %d bytes, got %d", maxToken, len(c.Hello.Token))
		}
		if err == nil && len(c.Hello.Session) > 64 {
			err = fmt.Errorf("session: %d bytes, limit 64", len(c.Hello.Session))
		}
	case TypeAnswer:
		c.Answer, err = strict[Answer](frame)
		if err == nil && c.Answer.SDP == "" {
			err = errors.New("sdp: empty")
		}
	case TypeState:
		c.State, err = strict[State](frame)
	case TypeUnpark, TypeLeave:
		_, err = strict[struct{}](frame)
	default:
		err = fmt.Errorf("unknown type %.32q", tag.Type)
	}
	if err != nil {
		return Client{}, fmt.Errorf("%w: %s: %v", ErrMalformed, tag.Type, err)
	}
	return c, nil
}

package sfu

import (
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// Kind tells audio from video; it indexes a participant's two tracks.
type Kind uint8

const (
	Audio Kind = iota
	Video
)

func (k Kind) String() string { return [...]string{"audio", "video"}[k] }

// transport is the media connection to one participant. m-lines 0 and 1 carry
// what the participant sends, audio and video; AddOut makes more. The room calls
// Offer and Answer in turn, never two offers at once; everything else may be
// called at any time, also after Close.
type transport interface {
	// AddOut adds one m-line on which the participant receives; it exists in the
	// next offer. Tracks of one stream are played in sync.
	AddOut(kind Kind, stream string) (out, error)
	// Offer makes the SDP that holds every m-line there is.
	Offer() (sdp string, err error)
	// Answer applies the participant's answer to the last offer.
	Answer(sdp string) error
	// WriteRTCP sends feedback about what the participant publishes.
	WriteRTCP(packets []rtcp.Packet) error
	Close() error
}

// out is one m-line on which a participant receives.
type out interface {
	// MID is the m-line's identification tag (RFC 5888), known after Offer.
	MID() string
	// SSRC is the outgoing one; 0 until the first answer.
	SSRC() uint32
	// Write sends one packet of the codec that the publisher sends; a subscriber
	// that did not negotiate that codec gets nothing. The header is the caller's
	// scratch: the transport sets SSRC and payload type.
	Write(codec string, h *rtp.Header, payload []byte) error
}

// events is what a transport tells; calls for one track are sequential.
type events interface {
	// Connected follows the media connection, not the signalling.
	Connected(up bool)
	// Track begins a published track.
	Track(kind Kind, ssrc uint32, codec string, clockRate uint32) packets
	// Feedback is what a subscriber says of one m-line.
	Feedback(o out, packets []rtcp.Packet)
}

// packets takes one published track.
type packets interface {
	// RTP gets the packet as received; both are the transport's own and valid
	// during the call.
	RTP(h *rtp.Header, packet []byte, payload []byte, at time.Time)
	// SenderReport relays the publisher's clock.
	SenderReport(sr *rtcp.SenderReport, at time.Time)
	Ended()
}

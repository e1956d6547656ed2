package sfu

import (
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

// Kind is what of a participant's media something is.
type Kind uint8

const (
	Audio Kind = iota
	Video
	Screen // a second video, of what the participant shares
)

var kinds = [...]Kind{Audio, Video, Screen}

func (k Kind) String() string { return [...]string{"audio", "video", "screen"}[k] }

// section is what its m-lines are called.
func (k Kind) section() string {
	if k == Audio {
		return "audio"
	}
	return "video"
}

// Label is one of the data channels that every connection has; it is its stream too (RFC 8832
// is not spoken: both sides know them).
type Label uint16

const (
	Reliable   Label = iota // ordered, all of it
	Unreliable              // unordered, sent once
)

var labels = [...]Label{Reliable, Unreliable}

func (l Label) String() string { return [...]string{"reliable", "unreliable"}[l] }

// What every offer calls the codecs. Clients keep the numbers of an offer (RFC 3264
// section 6.1 asks them to), so a packet passes from one to another as it is. One more than a
// video codec is its repair stream (RFC 4588).
const (
	ptVP8  = 96
	ptVP9  = 98
	ptH264 = 102
	ptAV1  = 104
	ptOpus = 111
	ptRED  = 63 // Opus with what came before it once more (RFC 2198)

	// What every offer calls the header extensions. RFC 6464's and the capture time pass as they
	// are. MID and the layers' names are the publisher's alone, for they would point at the wrong
	// m-line; and every connection numbers its packets itself.
	extMID         = 1
	extAudioLevel  = 2
	extWide        = 3
	extRID         = 4
	extRepairedRID = 5
	extCaptureTime = 6
	extDependency  = 7
)

// transport is the media connection to one participant: ICE, DTLS, SRTP and the
// SDP that goes with them. m-lines 0 and 1 carry what the participant sends, audio
// and video, 2 data both ways, and 3 the screen that it shares; every later one is an outlet, on
// which it receives. MIDs are the m-lines' indices.
//
// Open, Shut, Offer and Answer are called in turn by one caller; Padding, Send, WriteRTCP
// and Close at any time. No method but Close and Send may wait for the network. The handler's
// methods are called without any lock of the transport held that its methods take.
type transport interface {
	// Open makes m-line i send what kind of media participant publishes, with a
	// fresh SSRC. i is a shut m-line of that kind or the next new one. It is in the
	// next Offer.
	Open(i int, kind Kind, participant string) (outlet, error)
	// Shut makes m-line i inactive, from the next Offer on.
	Shut(i int) error
	// Offer describes every m-line, candidates included.
	Offer() (sdp string, err error)
	// Answer applies the answer to the last Offer, which checkAnswer has passed.
	Answer(sdp string) error
	// Padding says how many bytes to send now beside the media, to find out whether the path
	// carries want bit/s; 0 wants nothing. It may be called at any time, each 5 to 20 ms while it
	// has something due.
	Padding(want int, now time.Time) (bytes int)
	// WriteRTCP sends one compound packet; before the connection is up it is lost.
	WriteRTCP([]rtcp.Packet) error
	// Send sends one message. On Reliable it waits while too much of that waits already, until
	// enough is closed. What finds no room then, or no channel, is lost.
	Send(l Label, message []byte, enough <-chan struct{}) error
	// Close ends the connection and returns when its last callback has.
	Close() error
}

// outlet is one m-line on which a participant receives. Its methods are called by one
// goroutine at a time.
type outlet interface {
	// SSRC is what the offer declares.
	SSRC() uint32
	// Repair is the SSRC on which lost packets are sent again (RFC 4588); ok is false where
	// the client takes none such.
	Repair() (ssrc uint32, ok bool)
	// Doubles says whether the client takes audio as RED (RFC 2198).
	Doubles() bool
	// WriteRTP encrypts and sends one packet with the batch, of the goroutine that calls; it
	// keeps no argument, and may add to the header's extensions. Before the connection is up
	// the packet is lost.
	WriteRTP(b *lane.Batch, h *pion.Header, payload []byte, at time.Time) error
}

// source is what one received stream is, by its SSRC.
type source struct {
	SSRC   uint32
	Kind   Kind
	Layer  int  // of a video, from the lowest, 0; all of one that is sent without simulcast is 0
	Named  bool // it is one of several
	Repair bool // of what was lost (RFC 4588)
}

// carriage is what a connection carries, as far as it has shown.
type carriage struct {
	rate  int           // bit/s, with all that is around RTP
	loss  float64       // share of what is sent that never comes, whatever the rate
	queue time.Duration // that stands before it
	trip  time.Duration // there and back takes no more, of late; 0: not known
}

// handler takes what one participant's transport receives.
type handler interface {
	// stream is asked once for each SSRC that media come with; nil wants none of it.
	stream(src source) inlet
	// control is one RTCP packet, at most once each.
	control(b *lane.Batch, p rtcp.Packet, at time.Time)
	// data is one message, of each label one at a time; it may wait, and then so does who
	// sends. The message is the transport's again after the call.
	data(l Label, message []byte)
	// malformed is one packet that is none of these.
	malformed()
	// carries tells what the connection carries now towards the participant.
	carries(b *lane.Batch, c carriage, at time.Time)
	// connected tells that media can pass now, or cannot for the time being.
	connected(bool)
}

// inlet takes one stream's packets, one at a time. The packet, and raw of which it was parsed,
// are the transport's again after the call.
type inlet interface {
	packet(b *lane.Batch, p *rtp.Packet, raw []byte, at time.Time)
}

// carried tells what a payload type of ours is; a Screen is a Video by it.
func carried(pt uint8) (k Kind, repair, ok bool) {
	switch pt {
	case ptOpus, ptRED:
		return Audio, false, true
	case ptVP8, ptVP9, ptH264, ptAV1:
		return Video, false, true
	case ptVP8 + 1, ptVP9 + 1, ptH264 + 1, ptAV1 + 1:
		return Video, true, true
	}
	return 0, false, false
}

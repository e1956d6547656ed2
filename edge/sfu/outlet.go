package sfu

import (
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	pion "github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
)

// pionOutlet is a webrtc.TrackLocal: pion binds it to an m-line, the room writes.
type pionOutlet struct {
	kind    Kind
	stream  string
	ssrc    uint32
	repair  uint32
	path    *path
	wide    [2]byte
	mends   atomic.Bool                                       // the client takes repair
	counts  atomic.Bool                                       // and says what arrives
	doubles atomic.Bool                                       // and takes RED
	read    func([]byte) (int, interceptor.Attributes, error) // of RTCP, by pion
	peer    atomic.Pointer[lane.Peer]                         // nil: pion carries the media, or nothing is decided
	sender  *lane.Sender                                      // of peer, from the first packet on
	plain   atomic.Bool                                       // pion carries the media
	numbers *numbers                                          // the client's; nil where it keeps ours
	header  pion.Header                                       // scratch
	writer  atomic.Pointer[webrtc.TrackLocalWriter]
}

func (o *pionOutlet) SSRC() uint32           { return o.ssrc }
func (o *pionOutlet) Repair() (uint32, bool) { return o.repair, o.repair != 0 && o.mends.Load() }

func (o *pionOutlet) Doubles() bool { return o.doubles.Load() }

func (o *pionOutlet) WriteRTP(b *lane.Batch, h *pion.Header, payload []byte, at time.Time) (err error) {
	peer, w := o.peer.Load(), o.writer.Load()
	switch {
	case peer == nil && (w == nil || !o.plain.Load()):
		return net.ErrClosed
	case peer != nil && o.sender == nil:
		ssrcs := []uint32{o.ssrc}
		if o.repair != 0 {
			ssrcs = append(ssrcs, o.repair)
		}
		if o.sender, err = peer.Sender(ssrcs...); err != nil {
			return err
		}
	}
	// What is not repaired by RTX is sent again byte for byte: the same nonce.
	if o.counts.Load() && (o.kind == Audio || o.mends.Load()) {
		h.SetExtension(extWide, o.wide[:])
		o.path.number(&o.wide, h.MarshalSize()+len(payload), at)
	}
	if o.numbers != nil {
		if h = o.theirs(h); h == nil {
			return webrtc.ErrUnsupportedCodec
		}
	}
	if peer != nil {
		return o.sender.Write(b, h, payload)
	}
	_, err = (*w).WriteRTP(h, payload)
	return err
}

// Bind is called when an answer has accepted the m-line. Which of its codecs a
// packet has is the packet's business.
func (o *pionOutlet) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	codecs := c.CodecParameters()
	if len(codecs) == 0 {
		return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
	}
	o.mends.Store(slices.ContainsFunc(codecs, func(c webrtc.RTPCodecParameters) bool { return c.MimeType == webrtc.MimeTypeRTX }))
	o.counts.Store(slices.ContainsFunc(c.HeaderExtensions(), func(e webrtc.RTPHeaderExtensionParameter) bool { return e.URI == sdp.TransportCCURI }))
	o.doubles.Store(o.numbers == nil && slices.ContainsFunc(codecs, func(c webrtc.RTPCodecParameters) bool { return c.MimeType == mimeRED }))
	w := c.WriteStream()
	o.writer.Store(&w)
	return codecs[0], nil
}

func (o *pionOutlet) Unbind(webrtc.TrackLocalContext) error {
	o.writer.Store(nil)
	return nil
}

func (o *pionOutlet) ID() string       { return o.kind.String() }
func (o *pionOutlet) RID() string      { return "" }
func (o *pionOutlet) StreamID() string { return o.stream }

func (o *pionOutlet) Kind() webrtc.RTPCodecType {
	if o.kind != Audio {
		return webrtc.RTPCodecTypeVideo
	}
	return webrtc.RTPCodecTypeAudio
}

package sfu

import (
	"errors"
	"fmt"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// captureTimeURI is when the sender's clock says that something was captured, on which a
// recording or a measure of delay relies.
const captureTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

const mimeRED = "audio/red"

// dependencyURI is the dependency descriptor, which describes frames whose payload does not, or
// cannot be read.
const dependencyURI = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"

// media registers what every offer says. Registration order gives extensions their
// IDs: see extMID and those after it. What is sealed is VP8 alone: H.264 is cut into packets by what
// is in a frame, and what RED repeats is not taken apart before it is opened.
func media(sealed bool) (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	wide := webrtc.RTCPFeedback{Type: "transport-cc"}
	feedback := []webrtc.RTCPFeedback{wide, {Type: "goog-remb"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	const audio, video = webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo
	err := errors.Join(
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptOpus, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: clockRate[Audio], Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1;usedtx=1",
			RTCPFeedback: []webrtc.RTCPFeedback{wide, {Type: "nack"}}}}, audio),
		// VP8 first: everybody has it, and it has no profiles to disagree about.
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptVP8, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: clockRate[Video], RTCPFeedback: feedback}}, video),
		m.RegisterCodec(repair(ptVP8), video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.TransportCCURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.TransportCCURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESRTPStreamIDURI}, video, webrtc.RTPTransceiverDirectionRecvonly),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESRepairRTPStreamIDURI}, video, webrtc.RTPTransceiverDirectionRecvonly),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: captureTimeURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: captureTimeURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: dependencyURI}, video),
	)
	if sealed {
		return m, err
	}
	return m, errors.Join(err,
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptRED, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mimeRED, ClockRate: clockRate[Audio], Channels: 2, SDPFmtpLine: fmt.Sprintf("%d/%[1]d", ptOpus)}}, audio),
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptH264, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeH264, ClockRate: clockRate[Video], RTCPFeedback: feedback,
			SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}}, video),
		m.RegisterCodec(repair(ptH264), video),
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptVP9, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP9, ClockRate: clockRate[Video], RTCPFeedback: feedback, SDPFmtpLine: "profile-id=0"}}, video),
		m.RegisterCodec(repair(ptVP9), video),
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptAV1, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeAV1, ClockRate: clockRate[Video], RTCPFeedback: feedback, SDPFmtpLine: "level-idx=5;profile=0;tier=0"}}, video),
		m.RegisterCodec(repair(ptAV1), video))
}

// repair is the retransmission of a codec (RFC 4588 section 8.6).
func repair(pt webrtc.PayloadType) webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{PayloadType: pt + 1, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeRTX, ClockRate: clockRate[Video], SDPFmtpLine: fmt.Sprint("apt=", pt)}}
}

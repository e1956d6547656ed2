package sfu

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/pion/webrtc/v4"
)

func (t *pionTransport) Open(i int, kind Kind, participant string) (outlet, error) {
	o := &pionOutlet{kind: kind, stream: participant, path: t.path}
	var sender *webrtc.RTPSender
	if i -= firstLine; i == len(t.outs) {
		tr, err := t.pc.AddTransceiverFromTrack(o, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return nil, err
		}
		if err := tr.SetMid(strconv.Itoa(firstLine + i)); err != nil {
			return nil, err
		}
		t.outs = append(t.outs, tr)
		sender = tr.Sender()
	} else {
		// PeerConnection.AddTrack would pick any idle m-line, the first ones included. A
		// new sender has a new SSRC: a browser may have dropped the rollover counter of
		// the old one with its m-line.
		var err error
		if sender, err = t.api.NewRTPSender(o, t.dtls()); err != nil {
			return nil, err
		}
		if err := t.outs[i].SetSender(sender, o); err != nil {
			return nil, err
		}
	}
	encoding := sender.GetParameters().Encodings[0]
	o.ssrc, o.repair, o.read = uint32(encoding.SSRC), uint32(encoding.RTX.SSRC), sender.Read
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outlets = append(t.outlets, o)
	if t.decided {
		t.begin(o)
	}
	return o, nil
}

func (t *pionTransport) Shut(i int) error {
	sender := t.outs[i-firstLine].Sender()
	t.mu.Lock()
	t.outlets = slices.DeleteFunc(t.outlets, func(o *pionOutlet) bool { return sender.Track() == webrtc.TrackLocal(o) })
	t.mu.Unlock()
	return t.pc.RemoveTrack(sender)
}

func (t *pionTransport) Offer() (string, error) {
	offer, err := t.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(t.pc)
	if err := t.pc.SetLocalDescription(offer); err != nil {
		return "", err
	}
	<-gathered // asks nobody: the mux's sockets are the only candidates
	d := t.pc.LocalDescription()
	if d == nil {
		return "", webrtc.ErrConnectionClosed
	}
	return offerLayers(dataThird(oneCandidate(d.SDP))), nil
}

func (t *pionTransport) Answer(text string) error {
	text, layered := answeredLayers(text)
	t.layered.Store(layered)
	t.screens.Store(answeredScreen(text))
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		return fmt.Errorf("sdp: %w", err)
	}
	return nil
}

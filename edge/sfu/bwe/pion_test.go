package bwe

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/gcc"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

const transportCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

// peer is pion's estimator on the same link. It reads the clock itself, so it runs in a bubble
// of synctest, whose clock is the simulation's. It has no probes.
type peer struct {
	t *testing.T
	e *gcc.SendSideBWE
	w interceptor.RTPWriter
}

func newPeer(t *testing.T, start, ceiling int) *peer {
	e, err := gcc.NewSendSideBWE(gcc.SendSideBWEInitialBitrate(start), gcc.SendSideBWEMinBitrate(floor), gcc.SendSideBWEMaxBitrate(ceiling),
		gcc.SendSideBWEPacer(gcc.NewNoOpPacer()), gcc.WithLoggerFactory(&logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}))
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, e: e}
	p.w = e.AddStream(&interceptor.StreamInfo{SSRC: 1, RTPHeaderExtensions: []interceptor.RTPHeaderExtension{{URI: transportCC, ID: 5}}},
		interceptor.RTPWriterFunc(func(*rtp.Header, []byte, interceptor.Attributes) (int, error) { return 0, nil }))
	return p
}

func (p *peer) Sent(seq uint16, size int, _ time.Time) {
	h := &rtp.Header{Version: 2, SSRC: 1}
	b, err := (&rtp.TransportCCExtension{TransportSequence: seq}).Marshal()
	if err == nil {
		err = h.SetExtension(5, b)
	}
	if err == nil {
		_, err = p.w.Write(h, make([]byte, size-h.MarshalSize()), nil)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) Feedback(report []byte, _ time.Time) {
	packets, err := rtcp.Unmarshal(report)
	if err == nil {
		err = p.e.WriteRTCP(packets, nil)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	synctest.Wait()
}

func (p *peer) Target() int { return p.e.GetTargetBitrate() }

func (p *peer) Padding(int, time.Time) int { return 0 }

// runPeer plays the scenario with pion's estimator.
func runPeer(t *testing.T, sc scenario) (r *result) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t, sc.start, sc.ceiling)
		defer p.e.Close()
		r = sc.run(p, time.Now(), func(now time.Time) { time.Sleep(time.Until(now)) })
	})
	return r
}

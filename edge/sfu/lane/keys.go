package lane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"sync"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"
)

var errTooLong = errors.New("packet is too long for a datagram")

// ErrNoKeys is returned by Keys of a handshake in which we were the client, or which was not
// of DTLS 1.2.
var ErrNoKeys = errors.New("dtls: not the server of a 1.2 handshake")

// Handshake overhears one connection's DTLS 1.2 handshake, in which we are the server, for
// the keys of SRTP: pion/webrtc has no other way out for them. Its zero value is ready.
type Handshake struct {
	mu      sync.Mutex
	client  []byte // random
	server  []byte
	master  []byte // secret, the extended one where that was negotiated
	hash    func() hash.Hash
	profile dtls.SRTPProtectionProfile
}

// Overhear makes a connection's settings tell. Each connection needs its own.
func (h *Handshake) Overhear(s *webrtc.SettingEngine) {
	s.SetDTLSKeyLogWriter(h)
	s.SetDTLSServerHelloMessageHook(func(m handshake.MessageServerHello) handshake.Message {
		h.hello(&m)
		return &m
	})
}

func (h *Handshake) hello(m *handshake.MessageServerHello) {
	h.mu.Lock()
	defer h.mu.Unlock()
	random := m.Random.MarshalFixed()
	h.server, h.hash, h.profile = random[:], sha256.New, 0
	if m.CipherSuiteID != nil {
		switch dtls.CipherSuiteID(*m.CipherSuiteID) {
		case dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
			h.hash = sha512.New384
		}
	}
	for _, e := range m.Extensions {
		if s, ok := e.(*extension.UseSRTP); ok && len(s.ProtectionProfiles) == 1 {
			h.profile = s.ProtectionProfiles[0]
		}
	}
}

// Write takes a line of the key log: "CLIENT_RANDOM random secret" (RFC 9850 section 1.2).
func (h *Handshake) Write(line []byte) (int, error) {
	f := bytes.Fields(line)
	if len(f) != 3 || string(f[0]) != "CLIENT_RANDOM" {
		return len(line), nil
	}
	random, err1 := hex.AppendDecode(nil, f[1])
	secret, err2 := hex.AppendDecode(nil, f[2])
	if err1 == nil && err2 == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.client, h.master = random, secret
	}
	return len(line), nil
}

// Keys are those of the finished handshake, which is forgotten.
func (h *Handshake) Keys() (Keys, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { clear(h.master); h.client, h.server, h.master = nil, nil, nil }()
	if h.client == nil || h.server == nil || h.profile == 0 {
		return Keys{}, ErrNoKeys
	}
	c := srtp.Config{Profile: srtp.ProtectionProfile(h.profile)}
	if err := c.ExtractSessionKeysFromDTLS(exporter{h}, false); err != nil {
		return Keys{}, err
	}
	return Keys{c.Profile, c.Keys.LocalMasterKey, c.Keys.RemoteMasterKey, c.Keys.LocalMasterSalt, c.Keys.RemoteMasterSalt}, nil
}

// exporter is RFC 5705's, without a context.
type exporter struct{ h *Handshake }

func (e exporter) ExportKeyingMaterial(label string, _ []byte, length int) ([]byte, error) {
	seed := append(append([]byte(label), e.h.client...), e.h.server...)
	return prf.PHash(e.h.master, seed, length, e.h.hash)
}

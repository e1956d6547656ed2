package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"bailiwick/region"
)

const (
	// patience is for one try, from the name's resolution to the answer's end.
	patience = 10 * time.Second
	// maxAnswer bytes of an answer are read, so that its connection can be used again.
	maxAnswer = 4 << 10
	// maxSecrets of one file sign an event.
	maxSecrets = 4
	// maxSecretFile bytes are read of one.
	maxSecretFile = 4 << 10
)

// Failure is why a try failed. The list is closed.
type Failure uint8

const (
	Status  Failure = iota // the backend's answer was not 2xx
	Network                // there was no answer
	Secret                 // the event could not be signed
	Failures
)

func (f Failure) String() string { return [...]string{"status", "network", "secret"}[f] }

type failed struct {
	why Failure
	err error
}

func (f *failed) Error() string { return f.err.Error() }

// client speaks to backends. A redirect is an answer like any other: what follows it would be
// sent where nobody of the map said.
func client(roots *x509.CertPool) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	t.MaxResponseHeaderBytes = 16 << 10
	t.MaxIdleConnsPerHost = abreast
	return &http.Client{Transport: t, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// send tries once.
func send(ctx context.Context, c *http.Client, h region.Webhook, id string, body []byte, now time.Time) *failed {
	secrets, err := Secrets(h.SecretFile)
	if err != nil {
		return &failed{Secret, err}
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return &failed{Network, errors.New("the URL cannot be used")}
	}
	at := strconv.FormatInt(now.Unix(), 10)
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("User-Agent", "bailiwick")
	q.Header.Set("webhook-id", id)
	q.Header.Set("webhook-timestamp", at)
	q.Header.Set("webhook-signature", sign(secrets, id, at, body))
	r, err := c.Do(q)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // it names the URL else
		}
		return &failed{Network, err}
	}
	defer r.Body.Close()
	io.CopyN(io.Discard, r.Body, maxAnswer)
	if r.StatusCode/100 != 2 {
		return &failed{Status, fmt.Errorf("answered %d", r.StatusCode)}
	}
	return nil
}

// sign is the value of webhook-signature, of every secret that is in force.
func sign(secrets [][]byte, id, at string, body []byte) string {
	var list []string
	for _, key := range secrets {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, at)
		mac.Write(body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(list, " ")
}

// Secrets reads a file of them, one a line.
func Secrets(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxSecretFile:
		return nil, fmt.Errorf("%s: more than %d bytes: want a secret", path, maxSecretFile)
	}
	var list [][]byte
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		text, ok := strings.CutPrefix(line, "whsec_")
		key, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(key) < 24 || len(key) > 64 { // what it is instead is not said
			return nil, fmt.Errorf("%s:%d: want whsec_ and base64 of 24 to 64 octets, such as: echo whsec_$(openssl rand -base64 32)", path, n)
		}
		list = append(list, key)
	}
	if len(list) == 0 || len(list) > maxSecrets {
		return nil, fmt.Errorf("%s: %d secrets: want 1 to %d, one a line", path, len(list), maxSecrets)
	}
	return list, nil
}

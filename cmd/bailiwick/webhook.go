package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"bailiwick/region"
	"bailiwick/webhook"
)

// webhooks is the node's queue of events. Whoever the map names to be told is told from the
// first one on: a secret that is not there keeps the node from starting.
func (n *node) webhooks(state string) (*webhook.Queue, error) {
	m := n.world.Current().Map
	for _, l := range secrets(n.flags.Map, m) {
		return nil, misuse{fmt.Errorf("%s:%d: %s", l.File, l.Line, l.Text)}
	}
	path := ""
	if state != "" {
		path = filepath.Join(state, n.name+".webhooks")
	} else if len(m.Webhooks) > 0 {
		n.e.log.Warn("webhook events wait in memory alone, and end with this process: give --state")
	}
	return n.queue(path, n.roots)
}

func (n *node) queue(path string, roots *x509.CertPool) (*webhook.Queue, error) {
	q, err := webhook.Open(webhook.Config{Path: path, Roots: roots, Log: n.e.log, Hook: func(tenant string) (region.Webhook, bool) {
		h, ok := n.world.Current().Map.Webhooks[tenant]
		return h, ok
	}})
	if err != nil {
		return nil, misuse{err}
	}
	return q, nil
}

// secrets finds what keeps events from being signed on this machine. A map may be checked on
// one that is no edge: there a file that is missing is a warning.
func secrets(file string, m *region.Map) (lines []line) {
	for _, tenant := range slices.Sorted(maps.Keys(m.Webhooks)) {
		h := m.Webhooks[tenant]
		_, err := webhook.Secrets(h.SecretFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			lines = append(lines, line{"warning", file, h.Line, "webhook-secret", fmt.Sprintf("tenant %s: webhook: secret_file: %s is not on this machine: no edge starts without it", tenant, h.SecretFile)})
		case err != nil:
			lines = append(lines, line{"error", file, h.Line, "webhook-secret", fmt.Sprintf("tenant %s: webhook: secret_file: %v", tenant, err)})
		}
	}
	return lines
}

package steer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"bailiwick/exact"
	"bailiwick/region"
)

// ModesPrefix is where operators' words on regions live in the store.
const ModesPrefix = "bailiwick/regions/"

// ModeKey is the store key of one region's mode.
func ModeKey(id region.ID) string { return ModesPrefix + string(id) }

// ModeRecord is an operator's word on one region, as stored.
type ModeRecord struct {
	Mode      string    `json:"mode"`
	Reason    string    `json:"reason,omitempty"`
	Actor     string    `json:"actor,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // back to serving then; zero: until changed
	Drill     string    `json:"drill,omitempty"`
	Gen       uint64    `json:"gen,omitempty"`
}

// ParseMode reads a mode by its word.
func ParseMode(word string) (Mode, error) {
	switch word {
	case "serving":
		return Serving, nil
	case "draining":
		return Draining, nil
	case "down":
		return Down, nil
	}
	return Serving, fmt.Errorf("mode %.32q: want serving, draining or down", word)
}

// ParseModeRecord reads the value of a region's key: a bare word, as `consul kv
// put` writes it, or JSON.
func ParseModeRecord(value []byte) (ModeRecord, error) {
	value = bytes.TrimSpace(value)
	if len(value) > 0 && value[0] != '{' {
		_, err := ParseMode(string(value))
		return ModeRecord{Mode: string(value)}, err
	}
	var r ModeRecord
	if len(value) == 0 {
		return r, errors.New("mode: empty: want serving, draining or down")
	}
	if err := exact.Read(value, &r); err != nil {
		return r, fmt.Errorf("mode: %w", err)
	}
	_, err := ParseMode(r.Mode)
	return r, err
}

// maxReason bounds an operator's reason in bytes.
const maxReason = 512

// ParseModeWish reads what an operator wishes of a region. The other members of its record
// are the server's to set.
func ParseModeWish(body []byte) (ModeRecord, error) {
	var w struct {
		Mode      string    `json:"mode"`
		Reason    string    `json:"reason"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	if err := exact.Read(body, &w); err != nil {
		return ModeRecord{}, fmt.Errorf("mode: %w", err)
	}
	if len(w.Reason) > maxReason || strings.ContainsFunc(w.Reason, func(c rune) bool { return !unicode.IsGraphic(c) }) {
		return ModeRecord{}, fmt.Errorf("mode: reason: want one line of at most %d bytes", maxReason)
	}
	_, err := ParseMode(w.Mode)
	return ModeRecord{Mode: w.Mode, Reason: w.Reason, ExpiresAt: w.ExpiresAt}, err
}

// At is the mode in force at t.
func (r ModeRecord) At(t time.Time) Mode {
	if !r.ExpiresAt.IsZero() && !t.Before(r.ExpiresAt) {
		return Serving
	}
	m, _ := ParseMode(r.Mode)
	return m
}

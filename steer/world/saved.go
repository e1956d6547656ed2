package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"bailiwick/store"
)

// saved is the last known good in the store's own words, so that the code that
// reads the store reads the file too.
type saved struct {
	Modes     []store.Entry
	Keys      []store.Entry // public halves only
	Flags     []store.Entry
	Instances []store.Instance
}

type savedFile struct {
	Version int
	SavedAt time.Time
	saved
}

func loadSaved(path string) (saved, bool, error) {
	if path == "" {
		return saved{}, false, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved{}, false, nil
	}
	var f struct {
		Version int
		saved
	}
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Version != 1 {
		err = fmt.Errorf("version %d, want 1", f.Version)
	}
	if err != nil {
		return saved{}, false, fmt.Errorf("last-known-good %s: %w; remove the file to start without it", path, err)
	}
	return f.saved, true, nil
}

// save writes the file when something is new since the last time.
func (w *Writer) save() error {
	w.mu.Lock()
	dirty := w.unsaved && w.cfg.Path != ""
	w.unsaved = false
	f := savedFile{Version: 1, SavedAt: time.Now().UTC(), saved: w.in.saved}
	w.mu.Unlock()
	if !dirty {
		return nil
	}
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	return store.WriteFile(w.cfg.Path, b)
}

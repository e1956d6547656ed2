package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"bailiwick/exact"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

// saved is the last known good of one datacenter in its own words, so that the code that
// reads the store reads the file too.
type saved struct {
	Modes     []store.Entry
	Keys      []store.Entry // public halves only
	Flags     []store.Entry
	Instances []store.Instance
}

// Saved is the last-known-good file. Version 1 was that of one nameless datacenter.
type Saved struct {
	Version     int
	SavedAt     time.Time
	Datacenters map[string]saved
	Left        []region.EdgeID // see steer.World
}

func readSaved(path string) (Saved, bool, error) {
	var f struct {
		Saved
		saved // version 1
	}
	if path == "" {
		return f.Saved, false, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.Saved, false, nil
	}
	if err == nil {
		err = exact.Read(b, &f)
	}
	if err == nil {
		switch f.Version {
		case 1:
			f.Datacenters = map[string]saved{"": f.saved}
		case 2:
		default:
			err = fmt.Errorf("version %d, want 1 or 2", f.Version)
		}
	}
	if err != nil {
		return Saved{}, false, fmt.Errorf("last-known-good %s: %w; remove the file to start without it", path, err)
	}
	return f.Saved, true, nil
}

// Restore takes what a file holds of the datacenters that there are now.
func (h *Heard) Restore(f Saved, now time.Time) {
	for name, s := range f.Datacenters {
		if t := h.stores[name]; t != nil {
			h.Modes(name, store.Snapshot{Entries: s.Modes}, now)
			h.Keys(name, s.Keys)
			h.Flags(name, s.Flags)
			h.Instances(name, s.Instances, now)
			clear(t.seen) // by the store
		}
	}
	h.world = &steer.World{Left: map[region.EdgeID]bool{}}
	for _, id := range f.Left {
		h.world.Left[id] = true
	}
}

// Save is what the file is to hold.
func (h *Heard) Save(now time.Time) Saved {
	f := Saved{Version: 2, SavedAt: now.UTC(), Datacenters: map[string]saved{}, Left: slices.Sorted(maps.Keys(h.world.Left))}
	for name, t := range h.stores {
		f.Datacenters[name] = t.saved
	}
	return f
}

// save writes the file when something is new since it was last written.
func (w *Writer) save() error {
	w.mu.Lock()
	dirty := w.unsaved && w.cfg.Path != ""
	w.unsaved = false
	f := w.heard.Save(time.Now())
	w.mu.Unlock()
	if !dirty {
		return nil
	}
	b, err := json.MarshalIndent(f, "", " ")
	if err == nil {
		err = store.WriteFile(w.cfg.Path, b)
	}
	if err != nil {
		w.mu.Lock()
		w.unsaved = true // tried again with the next tick
		w.mu.Unlock()
	}
	return err
}

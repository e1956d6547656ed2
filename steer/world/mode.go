package world

import (
	"context"
	"encoding/json"
	"errors"

	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

// SetMode writes an operator's word on a region by compare-and-swap; the record's
// Gen is one more than that of the record it replaces. The last writer wins, and
// knows whose word it replaced.
func SetMode(ctx context.Context, st store.Store, id region.ID, rec steer.ModeRecord) error {
	for {
		e, err := st.Get(ctx, steer.ModeKey(id))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil {
			old, _ := steer.ParseModeRecord(e.Value)
			rec.Gen = old.Gen
		}
		rec.Gen++
		b, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		if _, err = st.CAS(ctx, steer.ModeKey(id), b, e.Rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

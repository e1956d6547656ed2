package store

import (
	"bytes"
	"slices"
)

// EqualEntries reports whether two snapshots hold the same: their revisions may differ.
func EqualEntries(a, b []Entry) bool {
	return slices.EqualFunc(a, b, func(a, b Entry) bool {
		return a.Key == b.Key && a.Rev == b.Rev && bytes.Equal(a.Value, b.Value)
	})
}

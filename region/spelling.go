package region

import (
	"fmt"

	"bailiwick/residency"
)

// meant is "; did you mean …?" where one of the words is close to s, else empty.
func meant(s string, words []string) string {
	if near := nearest(s, words); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// nearest is the word at most a third of its letters away from s, or empty.
func nearest(s string, words []string) string {
	if len(s) > 64 {
		return ""
	}
	best, least := "", len(s)
	for _, w := range words {
		if d := residency.Edits(s, w); d < least && 3*d <= max(len(w), 6) {
			best, least = w, d
		}
	}
	return best
}

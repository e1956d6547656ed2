package region

import "fmt"

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
		if d := edits(s, w); d < least && 3*d <= max(len(w), 6) {
			best, least = w, d
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

package acme

import (
	"slices"
	"strings"
)

// Names are the names on the certificate of a region's edges: every edge's own, the
// join name, and the join names pinned to a jurisdiction, since any region may be
// asked for any that the law lets it serve.
//
// The last one makes the set the region's own. A public CA issues one exact set of
// names five times a week; ten regions with the same set would take two weeks.
func Names(zone, region string) []string {
	zone = strings.ToLower(strings.TrimSuffix(zone, "."))
	names := []string{"*.edge." + zone, "join." + zone, "*.join." + zone, "*." + strings.ToLower(region) + ".edge." + zone}
	slices.Sort(names)
	return names
}

// hostname reports whether s is a host name of two labels or more (RFC 1123 section
// 2.1), lower case, without a final dot.
func hostname(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

package speaker

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// Each row is how loud a, b and c are over time, a digit each tick: 0 is silence, 1 to 9 are 3 dB
// apart, of which 3 is the first voice; a dot is that they are not there. want is who speaks after it, a dash nobody.
func TestSpeaker(t *testing.T) {
	for name, row := range map[string]struct{ a, b, c, want string }{
		"nobody":                  {"00000000", "........", "........", "--------"},
		"one":                     {"99999999", "00000000", "........", "--aaaaaa"},
		"a cough":                 {"90000000", "00000000", "........", "--------"},
		"noise is no voice":       {"22222222", "11111111", "........", "--------"},
		"the pauses of speech":    {"99909900990009", "00000000000000", "..............", "--aaaaaaaaaaaa"},
		"it ends":                 {"9990000000000", "0000000000000", ".............", "--aaaaaaa----"},
		"an interruption":         {"5555555555", "0000999999", "..........", "--aaaabbbb"},
		"one not loud enough":     {"99999999", "00089999", "........", "--aaaaaa"},
		"turns":                   {"999990000000", "000009999999", "............", "--aaaaabbbbb"},
		"two in turn as loud":     {"9898989898", "8989898989", "..........", "--aaaaaaaa"},
		"two at once":             {"0000000000", "0003939393", "0004939393", "-----ccccc"},
		"who leaves is silent":    {"9999....", "00000000", "........", "--aa----"},
		"who leaves, and another": {"9999....", "00000999", "........", "--aa---b"},
	} {
		var s Speaker
		var got strings.Builder
		now := time.Unix(1, 0)
		for i := range row.a {
			var levels []Level
			for id, loud := range map[string]byte{"a": row.a[i], "b": row.b[i], "c": row.c[i]} {
				if n, err := strconv.Atoi(string(loud)); err == nil {
					levels = append(levels, Level{id, min(n, 1) * (voice - 9 + 3*n)})
				}
			}
			s.Listen(levels, now)
			now = now.Add(Every)
			who := s.Who()
			if who == "" {
				who = "-"
			}
			got.WriteString(who)
		}
		if got.String() != row.want {
			t.Errorf("%s:\n%s\n%s\n%s\ngot  %s\nwant %s", name, row.a, row.b, row.c, &got, row.want)
		}
	}
}

// Levels out of range make nobody louder than others can be.
func TestClamped(t *testing.T) {
	var s Speaker
	now := time.Unix(1, 0)
	for range 5 {
		s.Listen([]Level{{"a", Loudest}, {"b", 0}}, now)
		now = now.Add(Every)
	}
	for range 5 {
		s.Listen([]Level{{"a", Loudest}, {"b", 1 << 40}, {"c", -5}}, now)
		now = now.Add(Every)
	}
	if s.Who() != "a" {
		t.Errorf("%q speaks, want a, whom nobody can drown out", s.Who())
	}
}

package geodns

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// TestChallengeComesAtOnce: a challenge is answered from the moment that there is one,
// also where the zone file has the name, or an alias of it, and its answer was given
// before; and no longer than there is one.
func TestChallengeComesAtOnce(t *testing.T) {
	var waits atomic.Bool
	s := listen(t, withRecords(t, "_acme-challenge TXT left\nalias CNAME _acme-challenge\n_acme-challenge.w CNAME elsewhere.example.\n"), func(c *Config) {
		c.Challenges = func(name string) []string {
			if waits.Load() && name != "alias.media.example." {
				return []string{"new"}
			}
			return nil
		}
	})
	_, k := keys(t, false)
	for _, signed := range []bool{false, true} {
		alter := []func(*dns.Msg){}
		if signed {
			s.SetSigner(k)
			alter = append(alter, do)
		}
		for _, r := range []struct {
			query         string
			before, while []string
		}{
			{"_acme-challenge.media.example.", []string{`TXT "left"`}, []string{`TXT "new"`}},
			{"alias.media.example.", []string{"CNAME _acme-challenge.media.example.", `TXT "left"`}, []string{"CNAME _acme-challenge.media.example.", `TXT "new"`}},
			{"_acme-challenge.w.media.example.", []string{"CNAME elsewhere.example."}, []string{`TXT "new"`}},
			{"_acme-challenge.none.media.example.", nil, []string{`TXT "new"`}},
		} {
			for i, want := range [][]string{r.before, r.before, r.while, r.while, r.before} {
				waits.Store(i == 2 || i == 3)
				m := exchange(t, s, pack(t, ask(r.query, dns.TypeTXT, alter...)), berlin, overUDP)
				got := slices.DeleteFunc(show(m.Answer), func(rr string) bool { return signed && rr[:5] == "RRSIG" })
				if !slices.Equal(got, want) {
					t.Errorf("%s, signed %v, answer %d: got %q, want %q", r.query, signed, i+1, got, want)
				}
			}
		}
	}
}

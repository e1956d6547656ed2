package geodns

import (
	"strings"
	"testing"

	"bailiwick/geodns/dnstest"
	"bailiwick/tools/exectest"
)

// namesInData is a zone file of each type with names in its RDATA, in capitals: RFC
// 4034 section 6.2 has most of them signed in lower case.
const namesInData = `
t	MD	Mail.media.example.
t	MF	Mail.media.example.
t	MB	Mail.media.example.
t	MG	Mail.media.example.
t	MR	Mail.media.example.
t	MINFO	Who.media.example. Errors.media.example.
t	MX	10 Mail
t	MX	10 Apps
t	RP	Who.media.example. Text.media.example.
t	AFSDB	1 Cell
t	RT	10 Relay
t	PX	10 Who.media.example. X400.media.example.
t	KX	10 Keys
t	PTR	Name
t	SRV	1 2 3 Host
t	NAPTR	1 2 "s" "A" "" Host
t	LP	10 Name
t	SVCB	1 Host
t	HINFO	"Capitals" "STAY"
t	TYPE65280 \# 3 414243
mail	A	198.18.0.1
apps	A	198.18.0.1
`

// TestDelvValidatesEveryType asks BIND's validator, which has a canonical form of its own.
func TestDelvValidatesEveryType(t *testing.T) {
	exectest.Need(t, "delv", "bind9-dnsutils")
	s := listen(t, withRecords(t, namesInData))
	set, k := keys(t, false)
	s.SetSigner(k)
	serve(t, s)
	anchor := trust(t, set)
	for _, rrtype := range strings.Fields("MD MF MB MG MR MINFO MX RP AFSDB RT PX KX PTR SRV NAPTR LP SVCB HINFO TYPE65280") {
		t.Run(rrtype, func(t *testing.T) {
			if out := anchor.Delv(t, s.Addr(), "t.media.example", rrtype); !strings.Contains(out, dnstest.Validated) || !strings.Contains(out, "t.media.example.") {
				t.Errorf("want it fully validated:\n%s", out)
			}
		})
	}
}

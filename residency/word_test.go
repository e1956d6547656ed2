package residency

import (
	"strings"
	"testing"
)

// Every code of the law says in words who, what and by which law, and its phrase
// is its own.
func TestReasons(t *testing.T) {
	seen := map[string]Code{}
	for _, tt := range []struct {
		hopTest
		want []string
	}{
		{hopTest{name: "permitted", who: "DE", at: "DE"}, []string{"permitted"}},
		{hopTest{name: "policy_missing", who: "BY", at: "DE"}, []string{"BY: no law is on file"}},
		{hopTest{name: "overlay", who: "GB", at: "GB", with: overlay("nhs_scotland")}, []string{"GB: the overlay nhs_scotland is not on file"}},
		{hopTest{name: "nobody", at: "GB"}, []string{"nobody: "}},
		{hopTest{name: "home_only", who: "AE", at: "IN"}, []string{"AE: only hops inside", "ICT Health Law", "as of 2026-11-23", "confidence high"}},
		{hopTest{name: "prose of the row", who: "AE", at: "IN"}, []string{"never applied here: media: MD 51/2021 online-health exception"}},
		{hopTest{name: "an overlay states no confidence", who: "CA-ON", at: "US", with: overlay("ontario_hospital")}, []string{"overlay ontario_hospital", "confidence not stated"}},
		{hopTest{name: "tag", plane: Stored, who: "AU", at: "IN", with: tags("my_health_record_data")}, []string{"marked my_health_record_data"}},
		{hopTest{name: "outside_block", who: "RE", at: "CH"}, []string{"RE: outside the countries", "(FR, HDS"}},
		{hopTest{name: "not_adequate", who: "DE", at: "IN"}, []string{"DE: not on the adequacy list", "no contract route"}},
		{hopTest{name: "condition_unmet", who: "DE", at: "US"}, []string{"only if the provider there asserts importer_is_DPF_certified"}},
		{hopTest{name: "fact_missing", who: "PH", at: "PH", less: []Fact{"processor_contract"}}, []string{"the fact processor_contract is not asserted, or has expired"}},
		{hopTest{name: "baa_missing", who: "US", at: "US", less: []Fact{"baa"}}, []string{"business associate agreement"}},
		{hopTest{name: "instrument_missing", who: "CL", at: "AR"}, []string{"no transfer instrument in force", "effective 2026-12-01"}},
		{hopTest{name: "denied_country", who: "IN", at: "RU"}, []string{"deny list"}},
		{hopTest{name: "product_default", who: "AT", at: "GB"}, []string{"AT: the product's default", "(EU, GDPR"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.ask()
			got := v.Reason()
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("reason %q, want %q in it", got, want)
				}
			}
			if other, dup := seen[v.why()]; dup && other != v.Code {
				t.Errorf("%s and %s have one phrase: %q", v.Code, other, v.why())
			}
			seen[v.why()] = v.Code
		})
	}
	for _, code := range []Code{StoredNowhere, RegionFull} {
		if got := (Verdict{Code: code}).Reason(); !strings.HasPrefix(got, "nobody: ") || len(got) < len("nobody: ")+5 {
			t.Errorf("%s: reason %q", code, got)
		}
	}
}

func TestParseJurisdiction(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Jurisdiction // "" is an error
	}{
		{"DE", "DE"}, {"de", "DE"}, {"ca-qc", "CA-QC"}, {"FR-75C", "FR-75C"}, {"FR-75", ""}, {"GB-ENG", "GB-ENG"},
		{"", ""}, {"D", ""}, {"DEU", ""}, {"D3", ""}, {"??", ""}, {"CA-", ""}, {"CA-QCQC", ""}, {"CA-Q C", ""}, {"CA_QC", ""}, {"CA-QC-1", ""}, {"DÉ", ""},
	} {
		got, err := ParseJurisdiction(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("ParseJurisdiction(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

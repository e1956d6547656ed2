package residency

import (
	"strings"
	"testing"
	"time"
)

// Each test here is one rule of READING.md and bears its number.

func TestReading01Intersection(t *testing.T) {
	run(t, []hopTest{
		{name: "both laws permit", who: "DE AT", at: "FR"},
		{name: "the second refuses", who: "DE FR", at: "CH", plane: Relay, want: "outside_block FR FR"},
		{name: "the first refuses", who: "FR DE", at: "CH", plane: Relay, want: "outside_block FR FR"},
		{name: "home of one is not home of the other", who: "AE IN", at: "IN", want: "home_only AE AE"},
		{name: "an overlay refuses what its country permits", who: "US", at: "CA", with: overlay("us_medicaid"), want: "outside_block US us_medicaid"},
		{name: "the country permits it without the overlay", who: "US", at: "CA"},
		{name: "deny_everywhere beside a row that denies nothing", who: "IN", at: "RU", want: "denied_country IN IN"},
		{name: "nobody is protected: refused", who: "", at: "DE", want: "policy_missing  -"},
	})
}

func TestReading02FactsAndWhenTheyAreNeeded(t *testing.T) {
	until := func(f Fact, r Record) func(*Subject) {
		return func(s *Subject) { s.Operator[f] = r }
	}
	run(t, []hopTest{
		{name: "always, at home", who: "CH", at: "CH", plane: Stored, less: []Fact{"art321_secrecy_clause"}, want: "fact_missing CH CH art321_secrecy_clause"},
		{name: "a BAA has its own code", who: "US", at: "US-OR", less: []Fact{"baa"}, want: "baa_missing US US baa"},
		{name: "the first missing fact of the row", who: "US", at: "US-OR", less: []Fact{"risk_analysis_covers_location"}, want: "fact_missing US US risk_analysis_covers_location"},
		{name: "outside_home is not needed at home", who: "AU", at: "AU", less: []Fact{"app8_reasonable_steps"}},
		{name: "outside_home is needed abroad", who: "AU", at: "NZ", less: []Fact{"app8_reasonable_steps"}, want: "fact_missing AU AU app8_reasonable_steps"},
		{name: "Québec never refuses Québec", who: "CA-QC", at: "CA-QC", less: []Fact{"pia_outside_quebec", "written_agreement", "comparable_protection_contract", "notice"}},
		{name: "Québec's assessment, in Ontario", who: "CA-QC", at: "CA-ON", less: []Fact{"pia_outside_quebec"}, with: instrument("CA-QC", "CA"), want: "fact_missing CA-QC CA-QC pia_outside_quebec"},
		{name: "contract_route is not needed on the list", who: "BR", at: "DE", less: []Fact{"anpd_scc_if_elsewhere"}},
		{name: "contract_route is needed off the list", who: "BR", at: "IN", less: []Fact{"anpd_scc_if_elsewhere"}, with: instrument("BR", "IN"), want: "fact_missing BR BR anpd_scc_if_elsewhere"},
		{name: "expired is false", who: "MX", at: "MX", with: func(s *Subject) {
			s.Tenant.Facts["privacy_notice"] = Record{ID: "doc-2", Date: now.AddDate(-1, 0, 0), Expires: now}
		}, want: "fact_missing MX MX privacy_notice"},
		{name: "dated in the future is false", who: "PH", at: "PH", with: until("processor_contract", Record{ID: "doc-2", Date: now.Add(time.Second)}), want: "fact_missing PH PH processor_contract"},
		{name: "no expiry holds", who: "PH", at: "PH", with: until("processor_contract", Record{ID: "doc-2", Date: now})},
		{name: "no date is false", who: "PH", at: "PH", with: until("processor_contract", Record{ID: "doc-2"}), want: "fact_missing PH PH processor_contract"},
		{name: "another scope cannot assert it", who: "PH", at: "PH", less: []Fact{"processor_contract"}, with: func(s *Subject) {
			s.Tenant.Facts["processor_contract"] = paper
		}, want: "fact_missing PH PH processor_contract"},
		{name: "no tenant asserts no tenant's fact", who: "MX", at: "MX", with: func(s *Subject) { s.Tenant = nil }, want: "fact_missing MX MX privacy_notice"},
		{name: "the suffix _if_ has no meaning of its own", who: "GB", at: "IN", less: []Fact{"idta_if_contract"}, with: instrument("GB", "IN"), want: "fact_missing GB GB idta_if_contract"},
	})
}

func TestReading03TransferInstrument(t *testing.T) {
	change := func(edit func(*Instrument)) func(*Subject) {
		return all(instrument("GB", "IN"), func(s *Subject) { edit(&s.Instruments[0]) })
	}
	none := "instrument_missing GB GB"
	run(t, []hopTest{
		{name: "off the list without one", who: "GB", at: "IN", want: none},
		{name: "off the list with one", who: "GB", at: "IN", with: instrument("GB", "IN")},
		{name: "one of several destinations", who: "GB", at: "IN", with: instrument("GB", "BR", "IN")},
		{name: "to another country", who: "GB", at: "IN", with: instrument("GB", "BR"), want: none},
		{name: "from another country", who: "GB", at: "IN", with: instrument("CH", "IN"), want: none},
		{name: "no wildcard", who: "GB", at: "IN", with: instrument("GB", "*", "EEA", ""), want: none},
		{name: "without an id", who: "GB", at: "IN", with: change(func(i *Instrument) { i.ID = "" }), want: none},
		{name: "without an assessment", who: "GB", at: "IN", with: change(func(i *Instrument) { i.Assessment = "" }), want: none},
		{name: "an undated assessment", who: "GB", at: "IN", with: change(func(i *Instrument) { i.Assessed = time.Time{} }), want: none},
		{name: "an assessment still to come", who: "GB", at: "IN", with: change(func(i *Instrument) { i.Assessed = now.Add(1) }), want: none},
		{name: "expired", who: "GB", at: "IN", with: change(func(i *Instrument) { i.Expires = now }), want: none},
		{name: "it stands in for an unmet condition", who: "CH", at: "US", less: []Fact{"Swiss_US_DPF_certified"}, with: instrument("CH", "US")},
		{name: "an unmet condition without one", who: "CH", at: "US", less: []Fact{"Swiss_US_DPF_certified"}, want: "condition_unmet CH CH Swiss_US_DPF_certified"},
		{name: "never opens a block", who: "FR", at: "CH", with: instrument("FR", "CH"), want: "outside_block FR FR"},
		{name: "never opens home_only", who: "AE", at: "IN", with: instrument("AE", "IN"), want: "home_only AE AE"},
		{name: "never opens an adequacy list", who: "DE", at: "IN", with: instrument("DE", "IN"), want: "not_adequate DE DE"},
		{name: "never opens a condition where contract_route is false", who: "DE", at: "US", with: instrument("DE", "US"), want: "condition_unmet DE DE importer_is_DPF_certified"},
		{name: "never opens the deny list", who: "GB", at: "RU", with: instrument("GB", "RU"), want: "denied_country GB GB"},
		{name: "a country opens its province", who: "CA-QC", at: "CA-ON", with: instrument("CA-QC", "CA")},
		{name: "a province opens itself", who: "CA-QC", at: "CA-ON", with: instrument("CA-QC", "CA-ON")},
		{name: "a province does not open its country", who: "CA-QC", at: "CA", with: instrument("CA-QC", "CA-ON"), want: "instrument_missing CA-QC CA-QC"},
		{name: "nor another province", who: "CA-QC", at: "CA-BC", with: instrument("CA-QC", "CA-ON"), want: "instrument_missing CA-QC CA-QC"},
	})
}

func TestReading04ProductDefault(t *testing.T) {
	off := defaultOff(paper, "KR")
	run(t, []hopTest{
		{name: "at home", who: "KR", at: "KR"},
		{name: "intersects the rule", who: "KR", at: "JP", with: instrument("KR", "JP"), want: "product_default KR KR"},
		{name: "binds relay where relay is omitted", plane: Relay, who: "KR", at: "JP", with: instrument("KR", "JP"), want: "product_default KR KR"},
		{name: "the rule is cited before it", who: "KR", at: "JP", want: "instrument_missing KR KR"},
		{name: "a record lifts it", who: "KR", at: "JP", with: all(off, instrument("KR", "JP"))},
		{name: "and not the rule", who: "KR", at: "JP", with: off, want: "instrument_missing KR KR"},
		{name: "an expired record does not", who: "KR", at: "JP", with: all(defaultOff(Record{ID: "r", Date: now.AddDate(-1, 0, 0), Expires: now}, "KR"), instrument("KR", "JP")), want: "product_default KR KR"},
		{name: "another jurisdiction's record does not", who: "KR", at: "JP", with: all(defaultOff(paper, "AT"), instrument("KR", "JP")), want: "product_default KR KR"},
		{name: "no tenant, no record", who: "KR", at: "JP", with: all(instrument("KR", "JP"), func(s *Subject) { s.Tenant = nil }), want: "product_default KR KR"},
		{name: "the rule's always facts stay, inside the default", who: "AT", at: "AT", less: []Fact{"art28_dpa"}, want: "fact_missing AT EU art28_dpa"},
		{name: "the EU's default is the EEA", who: "AT", at: "GB", want: "product_default AT EU"},
		{name: "stored has none unless written", plane: Stored, who: "AT", at: "GB"},
	})
}

func TestReading05Germany(t *testing.T) {
	off := defaultOff(paper, "DE")
	run(t, []hopTest{
		{name: "home", who: "DE", at: "DE"},
		{name: "EEA", who: "DE", at: "NO"},
		{name: "the row binds every patient, without an overlay", who: "DE", at: "DE", less: []Fact{"c5_type2_or_equivalent"}, want: "fact_missing DE DE c5_type2_or_equivalent"},
		{name: "and its establishment", who: "DE", at: "FR", less: []Fact{"establishment_in_DE"}, want: "fact_missing DE DE establishment_in_DE"},
		{name: "US, flag off", who: "DE", at: "US", want: "condition_unmet DE DE importer_is_DPF_certified"},
		{name: "US, flag on, not certified", who: "DE", at: "US", dpf: true, less: []Fact{"importer_is_DPF_certified"}, want: "condition_unmet DE DE importer_is_DPF_certified"},
		{name: "US, flag on: the EU's default", who: "DE", at: "US", dpf: true, want: "product_default DE EU"},
		{name: "US, flag on, default off", who: "DE", at: "US", dpf: true, with: off},
		{name: "US, default off, flag off: the row stays", who: "DE", at: "US", with: off, want: "condition_unmet DE DE importer_is_DPF_certified"},
		{name: "IN, default off: the row stays", who: "DE", at: "IN", with: off, want: "not_adequate DE DE"},
		{name: "GB is adequate, but the default", who: "DE", at: "GB", want: "product_default DE EU"},
		{name: "GB with the default off", who: "DE", at: "GB", with: off},
		{name: "relay: EEA", plane: Relay, who: "DE", at: "FR"},
		{name: "relay: Switzerland", plane: Relay, who: "DE", at: "CH"},
		{name: "relay: not GB, adequate or not", plane: Relay, who: "DE", at: "GB", with: off, want: "not_adequate DE DE"},
		{name: "relay: not US, certified or not", plane: Relay, who: "DE", at: "US", dpf: true, with: off, want: "not_adequate DE DE"},
		{name: "stored: the default does not bind", plane: Stored, who: "DE", at: "GB"},
		{name: "stored: C5", plane: Stored, who: "DE", at: "DE", less: []Fact{"c5_type2_or_equivalent"}, want: "fact_missing DE DE c5_type2_or_equivalent"},
		{name: "statutory: KBV", who: "DE", at: "DE", less: []Fact{"kbv_certified_video_service"}, with: overlay("de_statutory"), want: "fact_missing DE de_statutory kbv_certified_video_service"},
		{name: "statutory: E2EE", who: "DE", at: "DE", with: overlay("de_statutory"), want: "fact_missing DE de_statutory e2ee"},
		{name: "statutory, encrypted", who: "DE", at: "DE", with: all(e2ee, overlay("de_statutory"))},
		{name: "private care needs neither", who: "DE", at: "DE", less: []Fact{"kbv_certified_video_service"}},
	})
}

func TestReading06Planes(t *testing.T) {
	run(t, []hopTest{
		{name: "omitted relay is media", plane: Relay, who: "AE", at: "IN", want: "home_only AE AE"},
		{name: "and needs its facts", plane: Relay, who: "US", at: "US", less: []Fact{"baa"}, want: "baa_missing US US baa"},
		{name: "an SFU in CH for DE", who: "DE", at: "CH", want: "product_default DE EU"},
		{name: "the same under E2EE is relay only", who: "DE", at: "CH", with: e2ee},
		{name: "stored is a plane of its own", plane: Stored, who: "KZ", at: "RU", with: exception("RU"), want: "home_only KZ KZ"},
		{name: "media of the same", who: "KZ", at: "RU", with: exception("RU")},
		{name: "E2EE does not make stored relay", plane: Stored, who: "FR", at: "FR", less: []Fact{"hds_v2"}, with: e2ee, want: "fact_missing FR FR hds_v2"},
	})
}

func TestReading07Subdivisions(t *testing.T) {
	run(t, []hopTest{
		{name: "they intersect with the country's row", who: "CA-ON", at: "CA", less: []Fact{"pia_tra"}, want: "fact_missing CA-ON CA-ON pia_tra"},
		{name: "and the country's row with them", who: "CA-ON", at: "IN", less: []Fact{"notice"}, want: "fact_missing CA-ON CA notice"},
		{name: "Texas stores on US soil", plane: Stored, who: "US-TX", at: "CA", want: "outside_block US-TX US-TX"},
		{name: "Puerto Rico is US soil", plane: Stored, who: "US-TX", at: "PR"},
		{name: "Florida also in Canada", plane: Stored, who: "US-FL", at: "CA-ON"},
		{name: "a subdivision without a row has its country's", who: "US-OR", at: "IN", less: []Fact{"baa"}, want: "baa_missing US-OR US baa"},
		{name: "missing means not inside any", who: "CA-QC", at: "CA", want: "instrument_missing CA-QC CA-QC"},
		{name: "another province is outside Québec", who: "CA-QC", at: "CA-ON", want: "instrument_missing CA-QC CA-QC"},
		{name: "CA-NS binds everyone", who: "CA-NS", at: "US", want: "outside_block CA-NS CA-NS"},
		{name: "CA-NS, no public body", who: "CA-NS", at: "US", with: notPublic("CA-NS")},
		{name: "the country's row stays", who: "CA-NS", at: "US", with: notPublic("CA-NS"), less: []Fact{"notice"}, want: "fact_missing CA-NS CA notice"},
		{name: "CA-NB, no public body", who: "CA-NB", at: "US", with: notPublic("CA-NB")},
		{name: "CA-BC, no public body", who: "CA-BC", at: "US", less: []Fact{"pia"}, with: notPublic("CA-BC")},
		{name: "CA-BC", who: "CA-BC", at: "US", less: []Fact{"pia"}, want: "fact_missing CA-BC CA-BC pia"},
		{name: "CA-NB is not lifted by Nova Scotia's record", who: "CA-NB", at: "US", with: notPublic("CA-NS"), want: "outside_block CA-NB CA-NB"},
		{name: "no record lifts CA-QC", who: "CA-QC", at: "US", with: notPublic("CA-QC"), want: "instrument_missing CA-QC CA-QC"},
	})
}

func TestReading08UnknownCountry(t *testing.T) {
	run(t, []hopTest{
		{name: "a country without law", who: "BY", at: "BY", want: "policy_missing BY -"},
		{name: "beside a known one", who: "DE BY", at: "DE", want: "policy_missing BY -"},
		{name: "Macao is denied by others and has no law of its own", who: "MO", at: "MO", want: "policy_missing MO -"},
		{name: "EU is a default, not a participant", who: "EU", at: "DE", want: "policy_missing EU -"},
		{name: "US-MEDICAID is an overlay", who: "US-MEDICAID", at: "US", want: "policy_missing US-MEDICAID -"},
		{name: "not a country: ??", who: "??", at: "DE", want: "policy_missing ?? -"},
		{name: "not a country: AP", who: "AP", at: "DE", want: "policy_missing AP -"},
		{name: "not a country: A1", who: "A1", at: "DE", want: "policy_missing A1 -"},
		{name: "not a country: CS", who: "CS", at: "DE", want: "policy_missing CS -"},
		{name: "empty", with: func(s *Subject) { s.Participants = []Jurisdiction{""} }, at: "DE", want: "policy_missing  -"},
		{name: "a territory has its state's law", who: "RE", at: "CH", want: "outside_block RE FR"},
		{name: "Åland has the EU's default", who: "AX", at: "GB", want: "product_default AX EU"},
		{name: "Svalbard has Norway's, the EU's", who: "SJ", at: "NO"},
		{name: "UK is GB", who: "UK", at: "IN", want: "instrument_missing UK GB"},
		{name: "Jersey is unmapped", who: "JE", at: "GB", want: "policy_missing JE -"},
	})
	if got := (Verdict{Code: PolicyMissing}).Citation(); len(got) != 1 || !strings.Contains(got[0], "meta.default_for_unknown") {
		t.Errorf("citation of policy_missing %q, want meta.default_for_unknown", got)
	}
	if Shipped().Maps("EU") || Shipped().Maps("BY") || !Shipped().Maps("AT") || !Shipped().Maps("CA-PE") {
		t.Error("Maps: want AT and CA-PE on file, EU and BY not")
	}
}

package residency

import (
	"slices"
	"strings"
	"testing"
)

// The second half of READING.md's rules, and its fine points.

func TestReading09ProseIsShownNotApplied(t *testing.T) {
	run(t, []hopTest{
		{name: "exception of AE, consent and encryption there", who: "AE", at: "IN", with: e2ee, want: "home_only AE AE"},
		{name: "exception of ID", who: "ID", at: "SG", want: "home_only ID ID"},
		{name: "exception of TW", plane: Stored, who: "TW", at: "JP", want: "home_only TW TW"},
		{name: "sdf_override of IN", plane: Stored, who: "IN", at: "SG"},
		{name: "notes of AU do not lift the tag", plane: Stored, who: "AU", at: "NZ", with: tags("my_health_record_data"), want: "home_only AU AU my_health_record_data"},
	})
	if r, _ := Shipped().Row("AE"); r.Note == "" {
		t.Error("the note of AE is not kept to be shown")
	}
}

func TestReading10ImpliedFacts(t *testing.T) {
	run(t, []hopTest{
		{name: "processor_contract at home", who: "HK", at: "HK", less: []Fact{"processor_contract"}, want: "fact_missing HK HK processor_contract"},
		{name: "processor_contract abroad", plane: Stored, who: "MX", at: "US", less: []Fact{"processor_contract"}, want: "fact_missing MX MX processor_contract"},
		{name: "a require list replaces it", who: "MX", at: "US", less: []Fact{"processor_contract"}},
		{name: "home_copy abroad", who: "KE", at: "ZA", less: []Fact{"home_copy"}, want: "fact_missing KE KE home_copy"},
		{name: "home_copy at home", who: "KE", at: "KE", less: []Fact{"home_copy", "s48_49_safeguards"}},
		{name: "home_copy does not replace the require list", who: "KE", at: "ZA", less: []Fact{"s48_49_safeguards"}, want: "fact_missing KE KE s48_49_safeguards"},
		{name: "HDS on stored does not bind media", who: "FR", at: "FR", less: []Fact{"hds_v2"}},
		{name: "HDS binds stored", plane: Stored, who: "FR", at: "FR", less: []Fact{"hds_v2"}, want: "fact_missing FR FR hds_v2"},
	})
}

func TestReading11ConditionsOfTheDestination(t *testing.T) {
	off := defaultOff(paper, "AT")
	run(t, []hopTest{
		{name: "KR in the EU list", who: "AT", at: "KR", less: []Fact{"PIPA"}, with: off, want: "condition_unmet AT EU PIPA"},
		{name: "KR in the EU list, asserted", who: "AT", at: "KR", with: off},
		{name: "KR in the UK list has none", who: "GB", at: "KR", less: []Fact{"PIPA"}},
		{name: "US for the UK", who: "GB", at: "US-VA", less: []Fact{"DPF_with_UK_extension"}, want: "condition_unmet GB GB DPF_with_UK_extension"},
		{name: "US for the UK needs no flag", who: "GB", at: "US-VA"},
		{name: "JP's alias in the UK list", who: "GB", at: "JP", less: []Fact{"APPI_private_sector"}, want: "condition_unmet GB GB APPI_private_sector"},
		{name: "a province has its country's condition", who: "GB", at: "CA-QC", less: []Fact{"commercial_orgs_under_PIPEDA_only"}, want: "condition_unmet GB GB commercial_orgs_under_PIPEDA_only"},
		{name: "the operator cannot assert it", who: "GB", at: "US-VA", less: []Fact{"DPF_with_UK_extension"}, with: func(s *Subject) {
			s.Operator["DPF_with_UK_extension"] = paper
		}, want: "condition_unmet GB GB DPF_with_UK_extension"},
	})
}

func TestReading12DatesOfRows(t *testing.T) {
	chile := hopTest{name: "Chile's law binds a week before it is in force", who: "CL", at: "AR", want: "instrument_missing CL CL"}
	run(t, []hopTest{
		chile,
		{name: "Texas", plane: Stored, who: "US-TX", at: "IN", want: "outside_block US-TX US-TX"},
	})
	if got, want := chile.ask().Reason(), "effective 2026-12-01"; !strings.Contains(got, want) {
		t.Errorf("reason %q, want the date %q with it", got, want)
	}
	if r, _ := Shipped().Row("CA-NS"); r.Effective != "FOIPOP 2027-04-01" {
		t.Errorf("CA-NS effective %q, want FOIPOP 2027-04-01", r.Effective)
	}
	if r, _ := Shipped().Row("CA"); r.Effective != "" {
		t.Errorf("CA effective %q, want none: the date is its province's", r.Effective)
	}
}

func TestReading13Overlays(t *testing.T) {
	nhs, medicaid := overlay("nhs_england"), overlay("us_medicaid")
	run(t, []hopTest{
		{name: "a subdivision of applies", who: "US-OR", at: "CA", with: medicaid, want: "outside_block US-OR us_medicaid"},
		{name: "a subdivision that has a row", who: "US-FL", plane: Stored, at: "CA", with: medicaid, want: "outside_block US-FL us_medicaid"},
		{name: "applies names a subdivision", who: "CA-ON", at: "US", with: overlay("ontario_hospital"), want: "outside_block CA-ON ontario_hospital"},
		{name: "and not its country", who: "CA", at: "US", with: overlay("ontario_hospital")},
		{name: "nor a sister", who: "CA-AB", at: "US", with: overlay("ontario_hospital")},
		{name: "a plane that it omits is not changed", plane: Stored, who: "CA-ON", at: "US", with: overlay("ontario_hospital")},
		{name: "a top-level require binds media", who: "GB", at: "GB", less: []Fact{"dspt"}, with: nhs, want: "fact_missing GB nhs_england dspt"},
		{name: "and relay", plane: Relay, who: "GB", at: "GB", less: []Fact{"dspt"}, with: nhs, want: "fact_missing GB nhs_england dspt"},
		{name: "and stored", plane: Stored, who: "GB", at: "GB", less: []Fact{"dspt"}, with: nhs, want: "fact_missing GB nhs_england dspt"},
		{name: "another country is not touched", who: "US", at: "GB", less: []Fact{"dspt"}, with: nhs},
		{name: "two overlays", who: "GB US", at: "US", with: overlay("nhs_england", "us_medicaid")},
		{name: "an overlay that is not on file refuses", who: "GB", at: "GB", with: overlay("nhs_scotland"), want: "policy_missing GB - overlay nhs_scotland"},
	})
	for name, want := range map[string]string{"nhs_england": "none", "us_medicaid": "none"} {
		if got := Shipped().overlays[name].BreakGlass; got != want {
			t.Errorf("overlay %s: break-glass %q, want %q", name, got, want)
		}
	}
}

func TestReading14BreakGlass(t *testing.T) {
	for _, tt := range []struct {
		hopTest
		shut string // "" opens
	}{
		{hopTest{name: "nothing is refused", who: "DE", at: "DE"}, ""},
		{hopTest{name: "vital", who: "DE", at: "IN", want: "not_adequate DE DE"}, ""},
		{hopTest{name: "vital, and the default of the EU", who: "DE", at: "GB", want: "product_default DE EU"}, ""},
		{hopTest{name: "two vital rows", who: "DE GB", at: "IN", want: "not_adequate DE DE"}, ""},
		{hopTest{name: "the deny list never", who: "DE", at: "RU", want: "denied_country DE DE"}, "denied_country DE DE"},
		{hopTest{name: "no ground", who: "AE", at: "IN", want: "home_only AE AE"}, "home_only AE AE"},
		{hopTest{name: "every blocking row, not the first alone", who: "DE AE", at: "IN", want: "not_adequate DE DE"}, "home_only AE AE"},
		{hopTest{name: "a deny list behind a vital row", who: "GB US", at: "HK", with: exception("HK"), want: "instrument_missing GB GB"}, "denied_country US US"},
		{hopTest{name: "contract is not openable", who: "US", at: "US", less: []Fact{"baa"}, want: "baa_missing US US baa"}, "baa_missing US US baa"},
		{hopTest{name: "an overlay has none", who: "CA-ON", at: "US", with: overlay("ontario_hospital"), want: "outside_block CA-ON ontario_hospital"}, "outside_block CA-ON ontario_hospital"},
		{hopTest{name: "an overlay behind a vital row", who: "DE", at: "IN", with: overlay("de_statutory"), want: "not_adequate DE DE"}, "fact_missing DE de_statutory e2ee"},
		{hopTest{name: "no law on file", who: "DE BY", at: "IN", want: "not_adequate DE DE"}, "policy_missing BY -"},
		{hopTest{name: "a vital province in a contract country", who: "CA-QC", at: "IN", want: "instrument_missing CA-QC CA-QC"}, ""},
		{hopTest{name: "the country behind it", who: "CA-QC", at: "IN", less: []Fact{"notice"}, want: "instrument_missing CA-QC CA-QC"}, "fact_missing CA-QC CA notice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, []hopTest{tt.hopTest})
			l, h, s := tt.parts()
			if got := text(l.BreakGlass(tt.plane, &h, &s, now)); got != tt.shut {
				t.Errorf("break-glass for %s at %s: shut by %q, want %q", tt.who, tt.at, got, tt.shut)
			}
		})
	}
}

func TestReading15Citation(t *testing.T) {
	run(t, []hopTest{
		{name: "the first in request order", who: "AE CN", at: "IN", want: "home_only AE AE"},
		{name: "the order of the request, not of the alphabet", who: "CN AE", at: "IN", want: "home_only CN CN"},
		{name: "a participant as named in the request", who: "GP", at: "IN", want: "outside_block GP FR"},
		{name: "an overlay that uses a row cites it", who: "US", at: "IN", with: overlay("us_medicaid"), want: "outside_block US us_medicaid"},
	})
	closed := []Code{OK, PolicyMissing, HomeOnly, OutsideBlock, NotAdequate, ConditionUnmet, FactMissing, BAAMissing, InstrumentMissing,
		DeniedCountry, ProductDefault, StoredNowhere, NoCommonPlace, RegionDraining, RegionDown, RegionUnhealthy, RegionFull, NoRegion,
		SubdivisionNeeded, RefusedByOperator, NotServed}
	for j, at := range pairs() {
		for plane := Media; plane <= Stored; plane++ {
			v := hopTest{plane: plane, who: string(j), at: at, less: []Fact{"baa", "notice"}}.ask()
			if !slices.Contains(closed, v.Code) {
				t.Errorf("%s %s %s: code %q is not in the closed list", j, plane, at, v.Code)
			}
			if !v.Permitted() && (len(v.Citation()) == 0 || !strings.Contains(v.Reason(), string(j))) {
				t.Errorf("%s %s %s: %s: citation %q, reason %q", j, plane, at, v.Code, v.Citation(), v.Reason())
			}
		}
	}
}

// pairs yields every participant on file with every place of the golden file.
func pairs() func(func(Jurisdiction, Jurisdiction) bool) {
	return func(yield func(Jurisdiction, Jurisdiction) bool) {
		for _, j := range Shipped().Jurisdictions() {
			for _, at := range goldenPlaces {
				if !yield(j, at) {
					return
				}
			}
		}
	}
}

// Rule 16 is package steer's: it measures, breaks ties and drains. Here remains
// that the law knows neither distance nor mode: a region's code cites no law and
// belongs to no participant, and a place at the other end of the world is as
// lawful as the one next door.
func TestReading16DistanceAndDrainingAreNotLaw(t *testing.T) {
	run(t, []hopTest{
		{name: "far", who: "IN", at: "BR"},
		{name: "near", who: "IN", at: "SG"},
	})
	for _, code := range []Code{RegionDraining, RegionDown, RegionUnhealthy, RegionFull, NoRegion} {
		if v := (Verdict{Code: code}); v.Permitted() || v.Citation() != nil {
			t.Errorf("%s: permitted %t, citation %q, want refused and none", code, v.Permitted(), v.Citation())
		}
	}
}

func TestFinePointDenyLists(t *testing.T) {
	run(t, []hopTest{
		{name: "a row's own deny binds beside an exception", who: "US", at: "HK", with: exception("HK"), want: "denied_country US US"},
		{name: "an exception lifts deny_everywhere", who: "IN", at: "HK", with: exception("HK")},
		{name: "by name", who: "IN", at: "CN", with: exception("HK"), want: "denied_country IN IN"},
		{name: "it lifts no rule", who: "AE", at: "HK", with: exception("HK"), want: "home_only AE AE"},
		{name: "a country itself", who: "CN", at: "CN"},
		{name: "Hong Kong in Hong Kong", who: "HK", at: "HK"},
		{name: "Hong Kong in China", who: "HK", at: "CN", want: "denied_country HK HK"},
		{name: "China in Hong Kong", who: "CN", at: "HK", want: "denied_country CN CN"},
		{name: "Russia in Russia", who: "RU", at: "RU"},
		{name: "a foreign clinician keeps Hong Kong shut", who: "HK IN", at: "HK", want: "denied_country IN IN"},
		{name: "a subdivision of a denied country", who: "IN", at: "CN-GD", want: "denied_country IN IN"},
	})
}

// A record that names a row binds whoever that row judges.
func TestFinePointReachOfRecords(t *testing.T) {
	run(t, []hopTest{
		{name: "Canada's does not serve Québec", who: "CA-QC", at: "IN", with: instrument("CA", "IN"), want: "instrument_missing CA-QC CA-QC"},
		{name: "Québec's serves Québec", who: "CA-QC", at: "IN", with: instrument("CA-QC", "IN")},
		{name: "Finland's serves Åland", who: "AX", at: "IN", with: all(instrument("FI", "IN"), defaultOff(paper, "FI"))},
		{name: "Åland's does not serve Finland", who: "FI", at: "IN", with: all(instrument("AX", "IN"), defaultOff(paper, "FI")), want: "instrument_missing FI EU"},
		{name: "Åland's default is not Finland's", who: "FI", at: "CA", with: defaultOff(paper, "AX"), want: "product_default FI EU"},
		{name: "Sweden's serves a Swedish county, which has no row", who: "SE-AB", at: "IN", with: all(instrument("SE", "IN"), defaultOff(paper, "SE"))},
		{name: "and not Finland, on the same default", who: "FI", at: "IN", with: all(instrument("SE", "IN"), defaultOff(paper, "FI")), want: "instrument_missing FI EU"},
		{name: "the United States' serves Puerto Rico's law", who: "GB", at: "PR", with: instrument("GB", "US")},
		{name: "one to Réunion opens Réunion", who: "CO", at: "RE", with: instrument("CO", "RE")},
		{name: "and not France", who: "CO", at: "FR", with: instrument("CO", "RE"), want: "instrument_missing CO CO"},
		{name: "one to Canada opens Ontario", who: "CO", at: "CA-ON", with: instrument("CO", "CA")},
		{name: "one to Ontario opens Ontario", who: "CO", at: "CA-ON", with: instrument("CO", "CA-ON")},
		{name: "and not Québec", who: "CO", at: "CA-QC", with: instrument("CO", "CA-ON"), want: "instrument_missing CO CO"},
		{name: "nor a region of Canada that names no province", who: "CO", at: "CA", with: instrument("CO", "CA-ON"), want: "instrument_missing CO CO"},
		{name: "one to GB opens UK", who: "CO", at: "UK", with: instrument("CO", "GB")},
		{name: "Åland's serves Åland", who: "AX", at: "IN", with: all(instrument("AX", "IN"), defaultOff(paper, "AX"))},
		{name: "GB's serves a participant named UK", who: "UK", at: "IN", with: instrument("GB", "IN")},
		{name: "and a nation of it", who: "GB-SCT", at: "IN", with: instrument("GB", "IN")},
		{name: "the EU's, a fault of the map, serves no member", who: "AT", at: "IN", with: all(instrument("EU", "IN"), defaultOff(paper, "AT")), want: "instrument_missing AT EU"},
	})
}

func TestFinePointE2EE(t *testing.T) {
	run(t, []hopTest{
		{name: "clinicians count", who: "FR CN", at: "FR", want: "home_only CN CN"},
		{name: "the facts of media are not needed", who: "DE", at: "CH", less: []Fact{"c5_type2_or_equivalent", "establishment_in_DE"}, with: e2ee},
		{name: "those of a relay that is media are", who: "US", at: "US", less: []Fact{"baa"}, with: e2ee, want: "baa_missing US US baa"},
		{name: "those of overlays are", who: "DE", at: "DE", less: []Fact{"kbv_certified_video_service"}, with: all(e2ee, overlay("de_statutory")), want: "fact_missing DE de_statutory kbv_certified_video_service"},
		{name: "TURN is not asked for them", plane: Relay, who: "DE", at: "DE", less: []Fact{"kbv_certified_video_service"}, with: all(e2ee, overlay("de_statutory"))},
		{name: "a place that an overlay names for media alone does not bind the relay", who: "CA-ON", at: "US", with: all(e2ee, overlay("ontario_hospital"))},
		{name: "a use row's block holds under E2EE", who: "US", at: "CA", with: all(e2ee, overlay("us_medicaid")), want: "outside_block US us_medicaid"},
	})
}

func TestFinePointTags(t *testing.T) {
	mhr, sovereign := tags("my_health_record_data"), tags("government_or_sovereign_data")
	run(t, []hopTest{
		{name: "default false", plane: Stored, who: "AU", at: "NZ"},
		{name: "tagged, abroad", plane: Stored, who: "AU", at: "NZ", with: mhr, want: "home_only AU AU my_health_record_data"},
		{name: "tagged, at home", plane: Stored, who: "AU", at: "AU-NSW", with: mhr},
		{name: "stored only", who: "AU", at: "NZ", with: mhr},
		{name: "another law's tag", plane: Stored, who: "AU", at: "NZ", with: sovereign},
		{name: "no instrument opens it", plane: Stored, who: "NG", at: "ZA", with: all(sovereign, instrument("NG", "ZA")), want: "home_only NG NG government_or_sovereign_data"},
		{name: "untagged, the instrument does", plane: Stored, who: "NG", at: "ZA", with: instrument("NG", "ZA")},
	})
}

func TestReading17SubdivisionNeeded(t *testing.T) {
	l := Shipped()
	for _, row := range []struct {
		who  Jurisdiction
		want Code
	}{
		{"CA", SubdivisionNeeded}, {"US", SubdivisionNeeded}, {"CA-MB", OK}, {"CA-QC", OK}, {"US-TX", OK}, {"US-NY", OK},
		{"PR", OK}, {"GU", OK}, {"AU", OK}, {"DE", OK}, {"UK", OK}, {"ZZ", PolicyMissing}, {"", PolicyMissing},
		{"CA-PQ", PolicyMissing}, {"US-ZZ", PolicyMissing}, {"US-PR", PolicyMissing}, // of a token: nobody reads it there
	} {
		v := l.Declares(&Subject{Participants: []Jurisdiction{row.who}}, row.who)
		if v.Code != row.want || v.Code != OK && v.Participant != row.who {
			t.Errorf("%q: got %q, want %q", row.who, text(v), row.want)
		}
		if v.Code == SubdivisionNeeded && !strings.Contains(v.Reason(), "https://") {
			t.Errorf("%q: %s: want where the codes are listed", row.who, v.Reason())
		}
	}
	run(t, []hopTest{ // what DNS is answered with: the country's row, and never it alone for a code that is none
		{name: "Canada by its row", who: "CA", at: "US"},
		{name: "a code that is none", who: "CA-PQ", at: "CA-QC", want: "policy_missing CA-PQ -"},
	})
}

func TestReading17Codes(t *testing.T) {
	for _, row := range []struct{ country, subdivision, want string }{
		{"US", "US-TX", "US-TX"}, {"US", "TX", "US-TX"}, {"us", "us-tx", "US-TX"}, {"us", "tx", "US-TX"}, {"US-TX", "", "US-TX"},
		{"us-tx", "TX", "US-TX"}, {"US-TX", "US-TX", "US-TX"}, {"CA", "QC", "CA-QC"}, {"DE", "BY", "DE-BY"}, {"DE", "", "DE"},
		{"UK", "", "UK"}, {"UK", "ENG", "GB-ENG"}, {"UK", "GB-ENG", "GB-ENG"}, {"GB", "eng", "GB-ENG"},
		{"NL", "AW", "AW"}, {"FR", "FR-NC", "NC"}, {"CN-HK", "", "HK"}, {"US", "PR", "PR"}, {"US-PR", "", "PR"}, {"US-PR", "PR", "PR"}, {"PR", "US-PR", "PR"},
		{"FR", "974", "RE"}, {"FR", "RE", "RE"}, {"NO", "21", "SJ"}, {"FI", "01", "AX"}, {"NL", "BQ1", "BQ"}, {"CN", "TW", "TW"}, {"CN", "GD", "CN-GD"},
		{"ZZ", "", "ZZ"}, // no law is on file for it: another refusal

		{"CA", "PQ", "error CA-PE"}, {"CA-PQ", "", "error CA-PE"}, {"CA", "QUE", "error CA-QC"}, {"US", "US-TEX", "error US-TX"}, {"US", "ZZ", "error US-AZ"},
		{"PR", "TX", "error US-TX"}, {"GB", "UK-ENG", "error GB-ENG"}, {"CA", "QUEBEC", "error CA-QC"},
		{"US", "CA-QC", "error two places"}, {"US-TX", "FL", "error two places"}, {"US-TX", "US-FL", "error two places"},
		{"US-PR", "TX", "error two places"}, {"PR", "US-TX", "error two places"}, {"RE", "FR-IDF", "error two places"},
		{"", "US-TX", "error ISO 3166"}, {"", "", "error ISO 3166"}, {"US", "-TX", "error ISO 3166"}, {"US", "TX-", "error ISO 3166"}, {"US", " TX", "error ISO 3166"},
		{"US ", "", "error ISO 3166"}, {"USA", "", "error ISO 3166"}, {"U\x00", "", "error ISO 3166"}, {"u\u017f", "", "error ISO 3166"}, {"\u0131t", "", "error ISO 3166"},
		{"\ufeffUS", "", "error ISO 3166"}, {"US", strings.Repeat("T", 64), "error ISO 3166"}, {"US", "T\nX", "error ISO 3166"},
	} {
		got, err := Declared(row.country, row.subdivision)
		if want, bad := strings.CutPrefix(row.want, "error "); bad {
			if err == nil || !strings.Contains(err.Error(), want) || got != "" {
				t.Errorf("%q %q: got %q, %v: want an error that says %s", row.country, row.subdivision, got, err, want)
			}
		} else if string(got) != want || err != nil {
			t.Errorf("%q %q: got %q, %v: want %s", row.country, row.subdivision, got, err, want)
		}
	}
	if !strings.Contains(Edition(), " of 20") || len(codes().all) < 5000 {
		t.Errorf("edition %q with %d codes", Edition(), len(codes().all))
	}
	if _, err := ParseJurisdiction("US-ZZ"); err == nil || !strings.Contains(err.Error(), Edition()) {
		t.Errorf("%v: want the edition shown", err)
	}
	for _, j := range Shipped().Jurisdictions() { // a row that nobody could name
		if got, err := ParseJurisdiction(string(j)); got != j || err != nil {
			t.Errorf("row %s: read as %q, %v", j, got, err)
		}
	}
}

func TestReading21Tags(t *testing.T) {
	want := []string{"de_statutory", "government_or_sovereign_data", "my_health_record_data", "nhs_england", "ontario_hospital", "us_medicaid"}
	if got := Shipped().Tags(); !slices.Equal(got, want) {
		t.Errorf("tags %q, want %q", got, want)
	}
	run(t, []hopTest{
		{name: "an overlay by name binds", who: "US-OR", at: "CA", with: tags("us_medicaid"), want: "outside_block US-OR us_medicaid"},
		{name: "a subdivision with a row of its own too", who: "US-FL", plane: Stored, at: "CA", with: tags("us_medicaid"), want: "outside_block US-FL us_medicaid"},
		{name: "and a territory", who: "PR", at: "CA", with: tags("us_medicaid"), want: "outside_block PR us_medicaid"},
		{name: "its facts", who: "GB", at: "GB", less: []Fact{"dspt"}, with: tags("nhs_england"), want: "fact_missing GB nhs_england dspt"},
		{name: "nobody whom it does not apply to", who: "AU", at: "NZ", with: tags("nhs_england")},
		{name: "beside the tenant's", who: "GB US-OR", at: "CA", with: all(overlay("nhs_england"), tags("us_medicaid")), want: "outside_block US-OR us_medicaid"},
		{name: "of a token that is older than the law: unknown denies", who: "DE", at: "DE", with: tags("my_heath_record_data"), want: "policy_missing DE - tag my_heath_record_data"},
	})
}

func TestUnknownTenantIsRefused(t *testing.T) {
	run(t, []hopTest{
		{name: "at home", who: "DE", at: "DE", with: func(s *Subject) { s.Tenant = Unknown("clinc") }, want: "policy_missing DE - tenant clinc"},
		{name: "whoever has no tenant is judged without", who: "DE", at: "DE", with: func(s *Subject) { s.Tenant = nil }},
	})
}

func TestFinePointDenyListIsNamedFirst(t *testing.T) {
	run(t, []hopTest{
		{name: "of one participant's refusals", plane: Stored, who: "US-TX", at: "HK", with: exception("HK"), want: "denied_country US-TX US"},
		{name: "not before another participant's", who: "AE IN", at: "CN", want: "denied_country AE AE"},
		{name: "the first participant stays first", who: "AE US-TX", at: "HK", with: exception("HK"), want: "home_only AE AE"},
	})
}

func TestFinePointEffectiveIsTheLastLine(t *testing.T) {
	c := hopTest{who: "CL", at: "AR"}.ask().Citation()
	if len(c) < 2 || c[len(c)-1] != "effective 2026-12-01" {
		t.Errorf("citation %q", c)
	}
}

func TestFinePointTerritories(t *testing.T) {
	run(t, []hopTest{
		{name: "a hop in Réunion is a hop in France", who: "FR", at: "RE"},
		{name: "and a patient of Réunion's home is France", who: "RE", at: "FR"},
		{name: "Puerto Rico is home to the US", who: "US", at: "PR", with: overlay("us_medicaid")},
		{name: "an instrument for France serves a hop in Réunion", who: "CO", at: "RE", with: instrument("CO", "FR")},
		{name: "Svalbard is in the EEA by Norway", who: "FR", at: "SJ"},
	})
}

func TestFinePointSubdivisionIsCitedFirst(t *testing.T) {
	run(t, []hopTest{
		{name: "both lack a fact", who: "CA-ON", at: "IN", less: []Fact{"pia_tra", "notice"}, want: "fact_missing CA-ON CA-ON pia_tra"},
		{name: "both deny", who: "US-TX", at: "CN", want: "denied_country US-TX US-TX"},
		{name: "deny_everywhere", who: "CA-QC", at: "CN", want: "denied_country CA-QC CA-QC"},
		{name: "a lifted subdivision is not cited", who: "CA-NS", at: "CN", with: notPublic("CA-NS"), want: "denied_country CA-NS CA"},
		{name: "the country before the overlay", who: "US", at: "CA", less: []Fact{"baa"}, with: overlay("us_medicaid"), want: "baa_missing US US baa"},
	})
}

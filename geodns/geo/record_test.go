package geo

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter/mmdbtype"

	"bailiwick/region"
)

// TestRecord: what a database says is told as far as it says it, whatever it calls itself.
func TestRecord(t *testing.T) {
	iso := func(code string) mmdbtype.Map { return mmdbtype.Map{"iso_code": mmdbtype.String(code)} }
	names := func(lang, name string) mmdbtype.Map {
		return mmdbtype.Map{"names": mmdbtype.Map{mmdbtype.String(lang): mmdbtype.String(name)}}
	}
	full := city("DE", "BE", 52.52, 13.405)
	full["subdivisions"] = mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("BE"), "names": names("en", "Land Berlin")["names"]}}
	full["city"] = names("de", "Berlin")
	full["registered_country"] = iso("FR")
	full["represented_country"] = mmdbtype.Map{"iso_code": mmdbtype.String("US"), "type": mmdbtype.String("military")}
	broken := cc("DE")
	broken["city"] = mmdbtype.String("Berlin")
	rows := []row{{"81.2.0.0/16", full}, {"9.9.9.0/24", cc("CH")}, {"9.9.8.0/24", broken}, {"9.9.7.0/24", mmdbtype.Map{}}}
	const tail = `,"type":"Bailiwick-Country","built":"2026-06-25T04:33:59Z"}`
	for _, r := range []struct{ name, addr, want string }{
		{"all of it", "81.2.3.4", `{"network":"81.2.0.0/16","country":"DE","registered_country":"FR","represented_country":"US","represented_type":"military",` +
			`"subdivisions":[{"iso_code":"BE","name":"Land Berlin"}],"city":"Berlin","latitude":52.52,"longitude":13.405,"accuracy_radius_km":20` + tail},
		{"a country alone", "9.9.9.9", `{"network":"9.9.9.0/24","country":"CH"` + tail},
		{"mapped", "::ffff:9.9.9.9", `{"network":"9.9.9.0/24","country":"CH"` + tail},
		{"an empty record", "9.9.7.1", `{"network":"9.9.7.0/24"` + tail},
		{"none", "200.0.0.1", `{"network":"128.0.0.0/1"` + tail},
	} {
		for _, version := range []int{4, 6} {
			d, err := Open(file(t, database(t, "Bailiwick-Country", version, rows...)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(d.Record(netip.MustParseAddr(r.addr)))
			if err != nil || string(got) != r.want {
				t.Errorf("%s, IPv%d: got %s, %v\nwant %s", r.name, version, got, err, r.want)
			}
		}
	}
	d, err := Open(file(t, database(t, "Bailiwick-Country", 4, rows...)))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"9.9.8.1": "", "2001:db8::1": "IPv4-only"} {
		if got := d.Record(netip.MustParseAddr(addr)); got.Fault == "" || !strings.Contains(got.Fault, want) || got.Country == "CH" {
			t.Errorf("%s: got %+v, want its fault", addr, got)
		}
	}
	none, err := Open("")
	if err != nil || none.Record(netip.MustParseAddr("9.9.9.9")) != nil {
		t.Errorf("without a database: %v, or a record", err)
	}
}

func TestOverriding(t *testing.T) {
	var list []region.Override
	for _, p := range []string{"192.0.2.0/24", "192.0.2.64/26", "192.0.0.0/16", "2001:db8::/32"} {
		list = append(list, region.Override{Prefix: netip.MustParsePrefix(p)})
	}
	for addr, want := range map[string]string{"192.0.2.1": "192.0.2.0/24", "192.0.2.65": "192.0.2.64/26", "::ffff:192.0.2.65": "192.0.2.64/26",
		"192.0.3.1": "192.0.0.0/16", "2001:db8::1": "2001:db8::/32", "9.9.9.9": "invalid Prefix"} {
		if got := Overriding(list, netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s: by %s, want %s", addr, got, want)
		}
	}
}

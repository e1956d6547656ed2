package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"bailiwick/region"
)

func TestOpenStores(t *testing.T) {
	one := []region.Datacenter{{Name: "eu", Jurisdiction: "DE", Addrs: []string{"192.0.2.1:8500", "192.0.2.2:8500"}}}
	two := append(one, region.Datacenter{Name: "us", Jurisdiction: "US", Addrs: []string{"192.0.2.3:8500"}})
	for _, c := range []struct {
		name, flag string
		consul     []region.Datacenter
		want       string // the names, and the agents that an error of each would name
	}{
		{"nothing said", "", nil, "[=127.0.0.1:8500]"},
		{"the flag", "192.0.2.9:8500", nil, "[=192.0.2.9:8500]"},
		{"the flag for the map's only one", "192.0.2.9:8500", one, "[eu=192.0.2.9:8500]"},
		{"the map's only one", "", one, "[eu=192.0.2.1:8500, 192.0.2.2:8500]"},
		{"the map's two", "", two, "[eu=192.0.2.1:8500, 192.0.2.2:8500 us=192.0.2.3:8500]"},
	} {
		set, err := openStores(c.flag, &region.Map{Consul: c.consul})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, name := range slices.Sorted(maps.Keys(set)) {
			got = append(got, name+"="+set[name].(fmt.Stringer).String())
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
	_, err := openStores("192.0.2.9:8500", &region.Map{Consul: two})
	if !errors.As(err, new(misuse)) || !strings.Contains(err.Error(), "2 datacenters") {
		t.Errorf("one flag for two datacenters: got %v, want a misuse", err)
	}
	if _, err := openStores("ftp://192.0.2.9", &region.Map{}); !errors.As(err, new(misuse)) {
		t.Errorf("a flag that names no agent: got %v, want a misuse", err)
	}
}

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bailiwick/health"
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

// A node keeps to the datacenters that it started with: another map's would have no store.
func TestNodeRefusesAnotherDatacenter(t *testing.T) {
	shipped, err := os.ReadFile(shippedMap)
	if err != nil {
		t.Fatal(err)
	}
	before, sample, _ := strings.Cut(string(shipped), "\n# consul:\n")
	path := filepath.Join(t.TempDir(), "regions.yaml")
	if err := os.WriteFile(path, []byte(before+"\nconsul:\n"+strings.ReplaceAll(sample, "# ", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(path string) *region.Map {
		m, err := readMap(path)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	open := func(path string) *node {
		n, err := newNode(&env{log: slog.New(slog.DiscardHandler)}, "dns-1", mapFlags{Map: path}, new(devCmd).stores, health.Production(), "")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	named, nameless := open(path), open(shippedMap)
	if got := slices.Sorted(maps.Keys(named.stores)); fmt.Sprint(got) != "[au br ca eu gb us]" || named.first() != named.stores["eu"] {
		t.Errorf("stores: got %v, the first is eu's: %t", got, named.first() == named.stores["eu"])
	}
	for _, c := range []struct {
		name string
		n    *node
		m    *region.Map
		ok   bool
	}{
		{"the same", named, read(path), true},
		{"none any more", named, read(shippedMap), false},
		{"described since", nameless, read(path), false},
		{"none, as before", nameless, read(shippedMap), true},
	} {
		if err := c.n.holds(c.m); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want it taken: %t", c.name, err, c.ok)
		}
	}
}

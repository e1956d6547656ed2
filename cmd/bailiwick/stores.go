package main

import (
	"fmt"

	"bailiwick/region"
	"bailiwick/store"
	"bailiwick/store/consul"
)

// localAgent is where a machine's own Consul agent listens.
const localAgent = "127.0.0.1:8500"

// openStores opens a store for each datacenter of the map, none of which need answer yet.
// flag is the agent of the only one; where it is empty the map's addresses are used, or
// the machine's own agent where the map has none.
func openStores(flag string, m *region.Map) (store.Set, error) {
	set := store.Set{}
	add := func(name string, addrs ...string) error {
		st, err := consul.New(addrs[0], "", addrs[1:]...)
		if err != nil {
			return misuse{err}
		}
		set[name] = st
		return nil
	}
	switch {
	case len(m.Consul) == 0 && flag == "":
		flag = localAgent
		fallthrough
	case len(m.Consul) == 0:
		return set, add("", flag)
	case len(m.Consul) == 1 && flag != "":
		return set, add(m.Consul[0].Name, flag)
	case flag != "":
		return nil, misuse{fmt.Errorf("--consul %s: the map names %d datacenters with their agents under consul: leave the flag out", flag, len(m.Consul))}
	}
	for _, d := range m.Consul {
		if err := add(d.Name, d.Addrs...); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// stores are those of a node.
func (f *nodeFlags) stores(m *region.Map) (store.Set, error) { return openStores(f.Consul, m) }

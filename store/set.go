package store

// Set is the stores of a deployment by the datacenter that each is: one without a name
// where the map declares none. They know nothing of each other: losing one is its own
// keys' matter, and revisions compare within one. A key lies in one of them, which its
// name decides and not who writes it: a region's mode in that of the region's country
// (region.Map's Datacenter), a consult's record where the law permits to store it
// (steer.RecordsIn), and what belongs to no region in the map's first.
type Set map[string]Store

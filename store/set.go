package store

// Set is the datacenters of the store by name; one nameless is the common case.
type Set map[string]Store

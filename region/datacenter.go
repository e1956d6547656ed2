package region

// Datacenter names the store's datacenter that holds what belongs to a region: the one
// nameless.
func (m *Map) Datacenter(ID) string { return "" }

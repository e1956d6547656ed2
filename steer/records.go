package steer

import "bailiwick/residency"

// RecordsIn names the datacenters of the store that may hold the consult's record, best
// first: at the patient's home, then elsewhere. The record is health metadata, so the law
// is asked for everybody in the consult; an empty list means that it may be written
// nowhere. The only name is empty where the map declares no datacenter.
func RecordsIn(w *World, c *Client) []string {
	var home residency.Jurisdiction
	if c.Patient < len(c.Participants) {
		home = c.Participants[c.Patient]
	}
	s := subject(w, c)
	return w.Map.RecordsIn(w.Law, &s, home, w.At)
}

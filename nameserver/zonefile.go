package nameserver

import (
	"os"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/zonefile"
)

// ReadZone reads and checks a zone file, which must fit a signed zone where it is one; nil
// without a path.
func ReadZone(path, zone string, signed bool) (*zonefile.Records, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	z, err := zonefile.Parse(zone, path, b)
	if err == nil && signed {
		err = z.Signable(dnssec.DefaultPolicy().ZoneTTL)
	}
	return z, err
}

// Reload puts a changed zone file in force. taken is that file, or empty where it was
// refused.
func (s *Server) Reload() (taken string) {
	z, err := ReadZone(s.cfg.ZoneFile, s.zone, s.keys != nil)
	if err == nil {
		err = s.dns.SetRecords(z)
	}
	if err != nil {
		s.cfg.Log.Error("zone file not reloaded: the last good one stays in force", "file", s.cfg.ZoneFile, "err", err)
		return ""
	}
	return s.cfg.ZoneFile
}

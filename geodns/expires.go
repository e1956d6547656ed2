package geodns

import "time"

// SignatureExpires is when the first of the signatures ends that answers of the last
// hours carried; zero when none did. Denials are not among them.
func (s *Server) SignatureExpires(now time.Time) time.Time {
	return s.signatures.Expires(now.Add(-2 * time.Hour))
}

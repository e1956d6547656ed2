package consult

import (
	"errors"
	"fmt"
	"time"

	"bailiwick/exact"
	"bailiwick/region"
)

// Notice tells one edge what somebody else did to a consult that it may have people of.
// The edge deletes it once it has taken it; see docs/adr/0011.
type Notice struct {
	Terms
	Ended   bool      `json:"ended,omitempty"`
	Expires time.Time `json:"expires"` // of the record: nobody needs it later
}

// NoticesPrefix is where notices live in the store: NoticesPrefix/EDGE/CONSULT.
const NoticesPrefix = "bailiwick/notices/"

// NoticesTo begins the keys of an edge's notices.
func NoticesTo(edge region.EdgeID) string { return NoticesPrefix + string(edge) + "/" }

// NoticeKey is the store key of an edge's notice of a consult.
func NoticeKey(edge region.EdgeID, id ID) string { return NoticesTo(edge) + string(id) }

// Notice is what the placement tells an edge.
func (p *Placement) Notice() Notice {
	return Notice{Terms: p.Terms, Ended: p.Ended, Expires: p.Expires}
}

// ParseNotice reads a stored notice.
func ParseNotice(data []byte) (Notice, error) {
	var n Notice
	if err := exact.Known(data, &n); err != nil {
		return Notice{}, fmt.Errorf("notice: parse: %w", err)
	}
	if n.Consult == "" || n.Epoch == 0 || n.Edge == "" || n.Expires.IsZero() || len(n.Jurisdictions) == 0 || n.Patient < 0 || n.Patient >= len(n.Jurisdictions) {
		return Notice{}, errors.New("notice: consult, edge, epoch, jurisdictions and expires are required")
	}
	return n, nil
}

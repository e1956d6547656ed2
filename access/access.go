// Package access says who calls the API: it reads the keys file, and finds the principal of
// a request's key. What a principal may do is asked of it; what a handler does is its own.
//
// The file has one key a line:
//
//	KEY name=clinic-backend tenant=clinic roles=backend
//	KEY name=oncall roles=operator,viewer
//
// A name is what logs and the console say in the key's place. A tenant binds a backend to
// that tenant's consults; without one it is everybody's. A line with the key alone is the
// older form: it has every role, and no name.
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Role is what a key is for.
type Role string

const (
	Backend  Role = "backend"  // makes, reads and ends consults
	Operator Role = "operator" // changes regions
	Viewer   Role = "viewer"   // reads the status and explanations
)

var roles = []Role{Backend, Operator, Viewer}

// Principal is the holder of a key.
type Principal struct {
	Name   string // as the file has it; "line N" in the older form
	Tenant string // whose consults alone it may see; empty: everybody's
	Roles  []Role
}

// Is tells whether the principal has one of the roles.
func (p Principal) Is(any ...Role) bool {
	return slices.ContainsFunc(any, func(r Role) bool { return slices.Contains(p.Roles, r) })
}

// Sees tells whether consults of a tenant are the principal's to read and end.
func (p Principal) Sees(tenant string) bool { return p.Tenant == "" || p.Tenant == tenant }

// Keys are those of a deployment, hashed. They are safe for concurrent use.
type Keys struct {
	list []key
	// Warnings say what of the file is accepted and should be changed.
	Warnings []string
}

type key struct {
	sum [sha256.Size]byte
	of  Principal
}

// Parse reads a keys file. Every fault of it is told at once, by its line and never with
// the key. tenants are those of the map.
func Parse(file, text string, tenants []string) (*Keys, error) {
	k := &Keys{}
	var faults []error
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		at := fmt.Sprintf("%s:%d", file, n)
		of, err := principal(f[1:], n, tenants)
		if len(f) == 1 {
			k.Warnings = append(k.Warnings, at+": a key alone has every role and no name; write KEY name=NAME roles=backend, or which it needs of backend, operator and viewer")
		}
		for _, err := range append(err, k.add(f[0], of)...) {
			faults = append(faults, fmt.Errorf("%s: %w", at, err))
		}
	}
	if len(faults) == 0 && len(k.list) == 0 {
		return nil, fmt.Errorf("%s: holds no API key: want one a line, as KEY name=NAME roles=backend", file)
	}
	return k, errors.Join(faults...)
}

// Of makes keys without a file; the principal of each is named.
func Of(of map[string]Principal) *Keys {
	k := &Keys{}
	for secret, p := range of {
		k.list = append(k.list, key{sha256.Sum256([]byte(secret)), p})
	}
	return k
}

// Everything is a principal that may do everything.
func Everything(name string) Principal { return Principal{Name: name, Roles: roles} }

func (k *Keys) add(secret string, of Principal) (faults []error) {
	if strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		faults = append(faults, errors.New("the key has characters that no HTTP header carries: want printable ASCII"))
	}
	if name, _, is := strings.Cut(secret, "="); is && slices.Contains([]string{"name", "tenant", "roles"}, name) {
		faults = append(faults, fmt.Errorf("%s= comes where the key should be: want KEY name=NAME roles=backend", name))
	}
	sum := sha256.Sum256([]byte(secret))
	for _, other := range k.list {
		if other.sum == sum {
			faults = append(faults, fmt.Errorf("the key is that of %s already", other.of.Name))
		} else if other.of.Name == of.Name {
			faults = append(faults, fmt.Errorf("name %s is another key's: logs could not tell them apart", of.Name))
		}
	}
	k.list = append(k.list, key{sum, of})
	return faults
}

// principal reads what follows the key.
func principal(pairs []string, line int, tenants []string) (p Principal, faults []error) {
	if len(pairs) == 0 {
		return Everything(fmt.Sprint("line ", line)), nil
	}
	seen := map[string]bool{}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, pair := range pairs {
		name, value, is := strings.Cut(pair, "=")
		switch {
		case !is:
			fault("%.40q: want name=, tenant= or roles= after the key", pair)
		case seen[name]:
			fault("%s= is there twice", name)
		case value == "":
			fault("%s= says nothing", name)
		case name == "name" && strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "":
			fault("name %.40q: want letters, digits, dashes, dots", value)
		case name == "name":
			p.Name = value
		case name == "tenant" && !slices.Contains(tenants, value):
			fault("tenant %.40q: not in the map; it has %s", value, strings.Join(tenants, ", "))
		case name == "tenant":
			p.Tenant = value
		case name == "roles":
			for _, r := range strings.Split(value, ",") {
				if !slices.Contains(roles, Role(r)) {
					fault("role %.40q: want backend, operator or viewer", r)
				}
				p.Roles = append(p.Roles, Role(r))
			}
		default:
			fault("%.40s=: want name=, tenant= or roles=", name)
		}
		seen[name] = true
	}
	for _, need := range []string{"name", "roles"} {
		if !seen[need] {
			fault("%s= is missing", need)
		}
	}
	if p.Tenant != "" && p.Is(Operator, Viewer) {
		fault("tenant=%s goes with roles=backend alone: regions and the status are of all tenants", p.Tenant)
	}
	return p, faults
}

// Principal finds who sent a request with this Authorization header (RFC 6750; the scheme in
// any case, RFC 9110 section 11.1). It takes as long for every key.
func (k *Keys) Principal(authorization string) (p Principal, ok bool) {
	scheme, given, _ := strings.Cut(authorization, " ")
	sum := sha256.Sum256([]byte(strings.TrimLeft(given, " ")))
	at := -1
	for i := range k.list {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], k.list[i].sum[:]), i, at)
	}
	if at < 0 || !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, false
	}
	return k.list[at].of, true
}

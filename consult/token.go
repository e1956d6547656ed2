package consult

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bailiwick/region"
	"bailiwick/residency"
)

// TokenLife is how long a join token is good for: a consult of an hour, its
// waiting room and a late start.
const TokenLife = 2 * time.Hour

var (
	// ErrTokenInvalid covers everything wrong with a token but its age.
	ErrTokenInvalid = errors.New("join token is not valid")
	// ErrTokenExpired is told apart so that a person can be sent for a new link.
	ErrTokenExpired = errors.New("join token has expired")
)

// Token is what a join token says (docs/protocol.md, section 4).
type Token struct {
	Participant   ParticipantID
	Consult       ID
	Role          Role
	Jurisdictions []residency.Jurisdiction
	Priority      Priority
	Edge          region.EdgeID
	Standby       []region.EdgeID
	Epoch         uint64
	E2EE          bool
	Tenant        string
	Tags          []string
	Expires       time.Time
}

type claims struct {
	jwt.RegisteredClaims
	Consult       ID                       `json:"cst"`
	Role          Role                     `json:"role"`
	Jurisdictions []residency.Jurisdiction `json:"jur"`
	Priority      Priority                 `json:"prio"`
	Edge          region.EdgeID            `json:"edge"`
	Standby       []region.EdgeID          `json:"stb,omitempty"`
	Epoch         uint64                   `json:"ep"`
	E2EE          bool                     `json:"e2ee,omitempty"`
	Tenant        string                   `json:"tnt,omitempty"`
	Tags          []string                 `json:"tag,omitempty"`
}

const (
	issuer   = "bailiwick"
	audience = "join"
)

// Names tells whether the token lets its holder join at the edge.
func (t *Token) Names(edge region.EdgeID) bool {
	if t.Edge == edge {
		return true
	}
	for _, s := range t.Standby {
		if s == edge {
			return true
		}
	}
	return false
}

// Token is the i-th participant's, good from now.
func (p *Placement) Token(i int, now time.Time) Token {
	t := Token{Participant: p.Participants[i].ID, Consult: p.ID, Role: p.Participants[i].Role,
		Priority: p.Priority, Edge: p.Edge, Standby: p.Standby, Epoch: p.Epoch, E2EE: p.E2EE,
		Tenant: p.Tenant, Tags: p.Tags, Expires: now.Add(TokenLife)}
	if p.Expires.Before(t.Expires) {
		t.Expires = p.Expires
	}
	for _, who := range p.Participants {
		t.Jurisdictions = append(t.Jurisdictions, who.Jurisdiction)
	}
	return t
}

// Sign makes the JWT (EdDSA, RFC 8037) under the key named kid.
func (t *Token) Sign(key ed25519.PrivateKey, kid string, now time.Time) (string, error) {
	j := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Subject: string(t.Participant), Audience: jwt.ClaimStrings{audience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-leeway)), ExpiresAt: jwt.NewNumericDate(t.Expires),
		},
		Consult: t.Consult, Role: t.Role, Jurisdictions: t.Jurisdictions, Priority: t.Priority, Edge: t.Edge,
		Standby: t.Standby, Epoch: t.Epoch, E2EE: t.E2EE, Tenant: t.Tenant, Tags: t.Tags,
	})
	j.Header["kid"] = kid
	return j.SignedString(key)
}

// leeway absorbs the clock difference between edges.
const leeway = 30 * time.Second

// Verify checks signature, issuer, audience and times, and wraps ErrTokenExpired
// or ErrTokenInvalid. key gives the public key of a kid, or nil.
func Verify(token string, now time.Time, key func(kid string) ed25519.PublicKey) (Token, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(j *jwt.Token) (any, error) {
		kid, _ := j.Header["kid"].(string)
		if k := key(kid); len(k) == ed25519.PublicKeySize {
			return k, nil
		}
		return nil, errors.New("signed with a key that no edge of this deployment published")
	}, jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(func() time.Time { return now }))
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Token{}, fmt.Errorf("%w: it was good until %s", ErrTokenExpired, c.ExpiresAt.UTC().Format(time.RFC3339))
	case err != nil:
		return Token{}, fmt.Errorf("%w: %v", ErrTokenInvalid, err)
	case c.Consult == "" || c.Subject == "" || c.Edge == "" || len(c.Jurisdictions) == 0 || c.Epoch == 0:
		return Token{}, fmt.Errorf("%w: a claim is missing", ErrTokenInvalid)
	}
	return Token{Participant: ParticipantID(c.Subject), Consult: c.Consult, Role: c.Role, Jurisdictions: c.Jurisdictions,
		Priority: c.Priority, Edge: c.Edge, Standby: c.Standby, Epoch: c.Epoch, E2EE: c.E2EE, Tenant: c.Tenant,
		Tags: c.Tags, Expires: c.ExpiresAt.Time}, nil
}

// Placement is what the token alone tells of its consult: enough for the law,
// which every hop judges again, not for distance.
func (t *Token) Placement() *Placement {
	p := &Placement{ID: t.Consult, Edge: t.Edge, Standby: t.Standby, Epoch: t.Epoch, Priority: t.Priority,
		E2EE: t.E2EE, Tenant: t.Tenant, Tags: t.Tags}
	for _, j := range t.Jurisdictions {
		p.Participants = append(p.Participants, Participant{Jurisdiction: j})
	}
	return p
}

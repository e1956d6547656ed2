package consult

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bailiwick/exact"
)

// TokenLife is how long a join token is good for: a consult of an hour, its
// waiting room and a late start.
const TokenLife = 2 * time.Hour

var (
	// ErrTokenInvalid covers everything wrong with a token but its age.
	ErrTokenInvalid = errors.New("join token is not valid")
	// ErrKeyUnknown is an ErrTokenInvalid of a key that the verifier has not heard of, and
	// may yet.
	ErrKeyUnknown = fmt.Errorf("%w: signed with a key that no edge of this deployment published", ErrTokenInvalid)
	// ErrTokenExpired is told apart so that a person can be sent for a new link.
	ErrTokenExpired = errors.New("join token has expired")
)

// TokenEarly says that a token is not valid yet, by the clock that judged it: that clock or
// the one of the edge that signed it is wrong.
type TokenEarly struct{ From, Clock time.Time }

func (e *TokenEarly) Error() string {
	return fmt.Sprintf("join token is valid from %s, and the clock here says %s: one of the two is wrong",
		e.From.UTC().Format(time.RFC3339), e.Clock.UTC().Format(time.RFC3339))
}

// Token is what a join token says (docs/protocol.md, section 4).
type Token struct {
	Terms
	Participant ParticipantID
	Role        Role
	Expires     time.Time
}

type claims struct {
	jwt.RegisteredClaims
	Terms
	Role Role `json:"role"`
}

const (
	issuer   = "bailiwick"
	audience = "join"
)

// Token is the i-th participant's, good from now.
func (p *Placement) Token(i int, now time.Time) Token {
	t := Token{Terms: p.Terms, Participant: p.Participants[i].ID, Role: p.Participants[i].Role, Expires: now.Add(TokenLife)}
	if p.Expires.Before(t.Expires) {
		t.Expires = p.Expires
	}
	return t
}

// Sign makes the JWT (EdDSA, RFC 8037) under the key named kid.
func (t *Token) Sign(key ed25519.PrivateKey, kid string, now time.Time) (string, error) {
	j := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Subject: string(t.Participant), Audience: jwt.ClaimStrings{audience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(t.Expires),
		},
		Terms: t.Terms, Role: t.Role,
	})
	j.Header["kid"] = kid
	return j.SignedString(key)
}

// header is all that the JOSE header of a join token may have. It is read before the
// signature is: crit, and whatever else could change how the rest is to be read, is no
// member of it (RFC 7515 section 4).
type header struct {
	Algorithm string `json:"alg"`
	Type      string `json:"typ"`
	KID       string `json:"kid"`
}

// read gives the claims of a token that nobody has verified. The library verifies what its
// own decoder reads, which takes any case and the last of two names; the law is read here,
// from the same bytes.
func read(token string) (c claims, err error) {
	head, rest, _ := strings.Cut(token, ".")
	body, _, ok := strings.Cut(rest, ".")
	if !ok {
		return c, errors.New("not three parts with dots between")
	}
	var h header
	for _, part := range []struct {
		name, text string
		into       any
	}{{"header", head, &h}, {"claims", body, &c}} {
		b, err := base64.RawURLEncoding.DecodeString(part.text)
		if err == nil {
			err = exact.Read(b, part.into)
		}
		if err != nil {
			return c, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return c, nil
}

// Skew is how far the clock that judges a token may be from the one that dated it, either way.
const Skew = 5 * time.Minute

// Verify checks signature, issuer, audience and times, and wraps ErrTokenExpired,
// ErrTokenInvalid or a *TokenEarly. key gives the public key of a kid, or nil.
func Verify(token string, now time.Time, key func(kid string) ed25519.PublicKey) (Token, error) {
	c, err := read(token)
	if err != nil {
		return Token{}, fmt.Errorf("%w: %v", ErrTokenInvalid, err)
	}
	_, err = jwt.ParseWithClaims(token, &jwt.RegisteredClaims{}, func(j *jwt.Token) (any, error) {
		kid, _ := j.Header["kid"].(string)
		if k := key(kid); len(k) == ed25519.PublicKeySize {
			return k, nil
		}
		return nil, ErrKeyUnknown
	}, jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(Skew), jwt.WithTimeFunc(func() time.Time { return now }))
	switch {
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenInvalidAudience): // whatever its age
		return Token{}, fmt.Errorf("%w: %v", ErrTokenInvalid, err)
	case errors.Is(err, jwt.ErrTokenExpired):
		return Token{}, fmt.Errorf("%w: it was good until %s", ErrTokenExpired, c.ExpiresAt.UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return Token{}, &TokenEarly{c.NotBefore.Time, now}
	case errors.Is(err, ErrKeyUnknown):
		return Token{}, ErrKeyUnknown
	case err != nil:
		return Token{}, fmt.Errorf("%w: %v", ErrTokenInvalid, err)
	case c.Terms.Consult == "" || c.Subject == "" || c.Edge == "" || len(c.Jurisdictions) == 0 || c.Epoch == 0 ||
		c.Patient < 0 || c.Patient >= len(c.Jurisdictions):
		return Token{}, fmt.Errorf("%w: a claim is missing", ErrTokenInvalid)
	}
	return Token{Terms: c.Terms, Participant: ParticipantID(c.Subject), Role: c.Role, Expires: c.ExpiresAt.Time}, nil
}

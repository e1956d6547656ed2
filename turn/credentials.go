package turn

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Credentials makes the TURN credentials of a participant, valid until expires
// (draft-uberti-behave-turn-rest-00): the username is expiry:participant with the
// expiry in Unix seconds, the password base64(HMAC-SHA1(secret, username)). SHA-1 is
// the convention's; as a MAC it holds.
func Credentials(secret []byte, participant string, expires time.Time) (username, pass string) {
	username = strconv.FormatInt(expires.Unix(), 10) + ":" + participant
	return username, password(secret, username)
}

func password(secret []byte, username string) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// maxUsername is RFC 8489 14.3's limit, in bytes.
const maxUsername = 508

var errUsername = errors.New("username is not expiry:participant")

// parseUsername splits a username that Credentials made; anybody may send another.
func parseUsername(username string) (expires time.Time, participant string, err error) {
	expiry, participant, _ := strings.Cut(username, ":")
	seconds, err := strconv.ParseInt(expiry, 10, 64)
	if err != nil || participant == "" || len(username) > maxUsername || strconv.FormatInt(seconds, 10) != expiry {
		return time.Time{}, "", errUsername
	}
	return time.Unix(seconds, 0), participant, nil
}

package sfu

import (
	"strings"
	"testing"
)

func TestReadFragment(t *testing.T) {
	const pwd = "0123456789012345678901"
	for name, row := range map[string]struct{ text, ufrag, pwd, want string }{
		"whole":            {"a=ice-options:trickle\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:" + pwd + "\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n", "EsAw", pwd, ""},
		"in each m-line":   {"m=audio 9 RTP/AVP 0\na=ice-ufrag:abcd\nm=video 9 RTP/AVP 0\na=ice-ufrag:abcd\n", "abcd", "", ""},
		"empty":            {"", "", "", ""},
		"candidates alone": {"a=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n", "", "", ""},
		"two sessions":     {"a=ice-ufrag:abcd\na=ice-ufrag:efgh\n", "", "", "one of 4"},
		"short":            {"a=ice-pwd:short\n", "", "", "one of 22"},
		"long":             {"a=ice-ufrag:" + strings.Repeat("x", 257) + "\n", "", "", "one of 4"},
		"another line":     {"a=ice-ufrag:abcd\r\nb=x\r\n", "", "", "want a= and m= lines"},
		"a hidden line":    {"a=ice-ufrag:abcd\ra=ice-pwd:x\r\n", "", "", "want a= and m= lines"},
		"an odd letter":    {"a=ice-ufrag:ab cd\r\n", "", "", "ice-chars"},
	} {
		ufrag, pwd, err := ReadFragment(row.text)
		if ufrag != row.ufrag || pwd != row.pwd || (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %q %q %v", name, ufrag, pwd, err)
		}
	}
}

// FuzzFragment: what is read is of ice-chars alone: it goes into an SDP.
func FuzzFragment(f *testing.F) {
	f.Add("a=ice-ufrag:EsAw\r\na=ice-pwd:0123456789012345678901\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		ufrag, pwd, err := ReadFragment(text)
		if strings.Trim(ufrag+pwd, iceChars) != "" || err != nil && ufrag+pwd != "" || ufrag != "" && len(ufrag) < 4 || pwd != "" && len(pwd) < 22 {
			t.Errorf("%q %q %v", ufrag, pwd, err)
		}
	})
}

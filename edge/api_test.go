package edge

import (
	"strings"
	"testing"

	"bailiwick/problem"
	"bailiwick/steer"
)

func TestModesAPI(t *testing.T) {
	f := start(t, 10, "de-ber")
	tests := []struct {
		name, path, body, key string
		status                int
		code                  string
	}{
		{"no key", "/v1/regions/de-ber", `{"mode":"down"}`, "x", 401, "unauthorized"},
		{"a viewer's key", "/v1/regions/de-ber", `{"mode":"down"}`, "watch", 403, "forbidden"},
		{"unknown region", "/v1/regions/xx", `{"mode":"down"}`, "dev", 404, "not_found"},
		{"unknown mode", "/v1/regions/de-ber", `{"mode":"off"}`, "dev", 400, "bad_request"},
		{"expiry in the past", "/v1/regions/de-ber", `{"mode":"down","expires_at":"2020-01-01T00:00:00Z"}`, "dev", 400, "bad_request"},
		{"a misspelt expiry", "/v1/regions/de-ber", `{"mode":"down","expires":"2099-01-01T00:00:00Z"}`, "dev", 400, "bad_request"},
		{"an expiry in another case", "/v1/regions/de-ber", `{"mode":"down","Expires_At":"2099-01-01T00:00:00Z"}`, "dev", 400, "bad_request"},
		{"an expiry that is a number", "/v1/regions/de-ber", `{"mode":"down","expires_at":4070908800}`, "dev", 400, "bad_request"},
		{"two modes", "/v1/regions/de-ber", `{"mode":"serving","mode":"down"}`, "dev", 400, "bad_request"},
		{"another's generation", "/v1/regions/de-ber", `{"mode":"down","gen":7}`, "dev", 400, "bad_request"},
		{"another's drill", "/v1/regions/de-ber", `{"mode":"down","drill":"d1"}`, "dev", 400, "bad_request"},
		{"another's name", "/v1/regions/de-ber", `{"mode":"down","actor":"alice"}`, "dev", 400, "bad_request"},
		{"a reason with a control character", "/v1/regions/de-ber", `{"mode":"down","reason":"a\u0007"}`, "dev", 400, "bad_request"},
		{"a reason of a kilobyte", "/v1/regions/de-ber", `{"mode":"down","reason":"` + strings.Repeat("a", 1024) + `"}`, "dev", 400, "bad_request"},
		{"a bare word", "/v1/regions/de-ber", `down`, "dev", 400, "bad_request"},
		{"a parameter", "/v1/regions/de-ber?dry_run=1", `{"mode":"down"}`, "dev", 400, "bad_request"},
		{"nothing", "/v1/regions/de-ber", ``, "dev", 400, "bad_request"},
		{"a byte order mark", "/v1/regions/de-ber", "\ufeff{\"mode\":\"down\"}", "dev", 400, "bad_request"},
		{"more than a body holds", "/v1/regions/de-ber", `{"mode":"` + strings.Repeat("d", 1<<16) + `"}`, "dev", 413, "body_too_large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p problem.Document
			if status := f.call("de-ber", "PUT", tt.path, tt.body, tt.key, &p); status != tt.status || p.Code != tt.code {
				t.Errorf("%d %+v, want %d %s", status, p, tt.status, tt.code)
			}
		})
	}
	if status := f.call("de-ber", "PUT", "/v1/regions/de-ber", `{"mode":"down","reason":"test"}`, "dev", nil); status != 204 {
		t.Errorf("status %d", status)
	}
	if status := f.call("de-ber", "GET", "/v1/status", "", "", nil); status != 401 {
		t.Errorf("status without a key, from this machine: %d, want 401: loopback is no person", status)
	}
	if status := f.call("de-ber", "GET", "/v1/status", "", "watch", nil); status != 200 {
		t.Errorf("status with a viewer's key: %d", status)
	}
	f.until("the mode is folded", func(w *steer.World) bool { return w.Regions[w.RegionIndex("de-ber")].Reason == "test" })
}

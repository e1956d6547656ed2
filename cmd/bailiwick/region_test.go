package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a node answers decides the exit code.
func TestExitCodeOfAnswers(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		code   int
		stderr string
	}{
		{"bad request", 400, `{"code":"bad_request","title":"the request is not well-formed","detail":"ip: what"}`, exitMisuse, "bailiwick: bad_request: ip: what"},
		{"no such region", 404, `{"code":"not_found","title":"no such thing"}`, exitMisuse, "bailiwick: not_found: no such thing"},
		{"wrong key", 401, `{"code":"unauthorized","title":"a valid API key is required"}`, exitMisuse, "BAILIWICK_API_KEY"},
		{"conflict", 409, `{"code":"conflict","title":"somebody else changed it meanwhile"}`, exitFinding, "somebody else"},
		{"store lost", 503, `{"code":"store_unavailable","title":"the control plane cannot be reached"}`, exitFinding, "control plane"},
		{"another server's error", 502, `<html>`, exitFinding, "502 Bad Gateway: is that a bailiwick node?"},
		{"another server's page", 200, `<html>`, exitFinding, "is that a bailiwick node?"},
		{"refused client", 200, `{"refused":"home_only","jurisdictions":["XX"]}`, exitFinding, ""},
		{"permitted client", 200, `{"jurisdictions":["DE"]}`, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer srv.Close()
			var stdout, stderr strings.Builder
			code := run(context.Background(), []string{"why", "--country", "DE", "--api", srv.URL}, strings.NewReader(""), &stdout, &stderr)
			if code != tt.code || !strings.Contains(stderr.String(), tt.stderr) || tt.stderr == "" && stderr.Len() > 0 {
				t.Errorf("exit code %d, stderr %q, want %d and %q", code, stderr.String(), tt.code, tt.stderr)
			}
		})
	}
}

func TestRegionList(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"generation":4,"store":"stale","regions":[
{"id":"de-ber","city":"Berlin","country":"DE","mode":"down","reason":"a drill","actor":"oncall","drill":"q4","until":"2026-11-27T13:00:00Z","edges":[{"id":"de-ber-1","health":"unknown","consults":1,"admits":8},{"id":"de-ber-2","health":"up","consults":2,"admits":8}]},
{"id":"br-gru","city":"São Paulo","country":"BR","mode":"serving","edges":[]}]}`)
	}))
	defer srv.Close()
	var stdout, stderr strings.Builder
	if code := run(context.Background(), []string{"region", "list", "--api", srv.URL}, strings.NewReader(""), &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	want := `REGION  MODE     UNTIL              BY                EDGES UP  CONSULTS  CITY           REASON
de-ber  down     2026-11-27 13:00Z  oncall, drill q4  1 of 2    3 of 16   Berlin, DE     a drill
br-gru  serving  -                  -                 0 of 0    0 of 0    São Paulo, BR

generation 4, store stale: the last known good is served
`
	if got := stdout.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAPIOfAnUnknownCA: a node is there, so nobody is asked whether it runs.
func TestAPIOfAnUnknownCA(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	var stdout, stderr strings.Builder
	code := run(context.Background(), []string{"region", "list", "--api", srv.URL}, strings.NewReader(""), &stdout, &stderr)
	if got := stderr.String(); code != exitFinding || !strings.Contains(got, "SSL_CERT_FILE") || strings.Contains(got, "running there") {
		t.Errorf("exit code %d: %s", code, got)
	}
}

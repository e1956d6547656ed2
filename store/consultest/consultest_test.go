package consultest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"bailiwick/store/consultest"
)

// answers reports whether the server's HTTP API answers within the time.
func answers(t *testing.T, s *consultest.Server, within time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr()+"/v1/kv/consultest/ready?raw", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func TestServerLife(t *testing.T) {
	s := consultest.Start(t)
	if !answers(t, s, 5*time.Second) {
		t.Error("a started server does not answer")
	}
	s.Pause()
	if answers(t, s, 300*time.Millisecond) {
		t.Error("a paused server answers")
	}
	s.Resume()
	if !answers(t, s, 5*time.Second) {
		t.Error("a resumed server does not answer")
	}
	s.Kill()
	if answers(t, s, 5*time.Second) {
		t.Error("a killed server answers")
	}
	s.Restart()
	s.Ready()
	if !answers(t, s, 5*time.Second) {
		t.Error("a restarted server does not answer")
	}
	s.Pause()
	s.Stop()
	if answers(t, s, 5*time.Second) {
		t.Error("a stopped server answers")
	}
}

func TestClusterElectsAnother(t *testing.T) {
	servers := consultest.StartCluster(t, 3)
	first := consultest.Leader(t, servers)
	first.Kill()
	if second := consultest.Leader(t, servers); second == first {
		t.Errorf("leader after its end: still %s", second.Addr())
	}
}

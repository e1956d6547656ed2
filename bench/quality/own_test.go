package quality

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bailiwick/acme/certtest"
	"bailiwick/store/consultest"
	"bailiwick/tools/exectest"
	"bailiwick/web/webtest"
)

// own runs an edge, places a consult, and gives the page that a person joins by.
func own(t *testing.T, pair *certtest.Pair, people int) func(context.Context, int) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "bailiwick")
	if out, err := exec.Command("go", "build", "-o", binary, "bailiwick/cmd/bailiwick").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.txt")
	if err := os.WriteFile(keys, []byte("dev\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := pair.Write(t, dir)
	consul := consultest.Start(t)
	edge := exec.Command(binary, "edge", "--id", "de-ber-1", "--region", "de-ber", "--listen", ownAt+":443", "--host", "https://"+ownAt,
		"--media", ownAt+":7882", "--turn", ownAt+":3478", "--tls-cert", cert, "--tls-key", key, "--tls-root", cert,
		"--api-keys", keys, "--consul", consul.Addr())
	edge.Dir = filepath.Join("..", "..") // regions.yaml
	p := exectest.Start(t, edge)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pair.Roots()}}}
	roles := []string{"patient", "clinician", "companion"}
	var body []string
	for _, role := range roles[:people] {
		body = append(body, fmt.Sprintf(`{"role":%q,"country":"DE"}`, role))
	}
	var consult struct {
		Participants []struct{ ID, URL string }
	}
	p.Await(t, func() error {
		q, err := http.NewRequest("POST", "https://"+ownAt+"/v1/consults", strings.NewReader(`{"participants":[`+strings.Join(body, ",")+`]}`))
		if err != nil {
			return err
		}
		q.Header.Set("Authorization", "Bearer dev")
		r, err := client.Do(q)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		var b bytes.Buffer
		b.ReadFrom(r.Body)
		if r.StatusCode != http.StatusCreated {
			return fmt.Errorf("%d: %s", r.StatusCode, b.String())
		}
		return json.Unmarshal(b.Bytes(), &consult)
	})
	who := map[string]string{}
	for i, p := range consult.Participants {
		who[p.ID] = fmt.Sprint(i)
	}
	names, err := json.Marshal(who)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, i int) {
		webtest.Script(t, ctx, "window.people = "+string(names))
		navigate(t, ctx, consult.Participants[i].URL)
		webtest.Click(t, ctx, "#join")
	}
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// joinAs takes a seat as a page does, without any media, and keeps it until the test ends.
func joinAs(t *testing.T, url, token string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"bailiwick.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	b, err := json.Marshal(map[string]any{"type": "hello", "token": token})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(ctx, websocket.MessageText, b); err != nil {
		t.Fatal(err)
	}
	hears(t, conn, "welcome")
	return conn
}

type heard struct{ Type, Code, URL, Token string }

// hears waits for a message of the type.
func hears(t *testing.T, conn *websocket.Conn, kind string) heard {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("waiting for %s: %v", kind, err)
		}
		var m heard
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if m.Type == "refused" || m.Type == kind {
			if m.Type != kind {
				t.Fatalf("waiting for %s: got %+v", kind, m)
			}
			return m
		}
	}
}

// A Consul that is restored from a backup has lost every consult made since, and where others
// went. The edges notice, and what is on record is as the calls are.
func TestRestoredConsul(t *testing.T) {
	d := deploy(t)
	join := func(i int) string { return "ws" + strings.TrimPrefix(d.api(i), "http") + "/v1/join" }
	consul := "http://" + d.servers[0].Addr()
	index := func(key string) (n uint64) {
		var pairs []struct{ ModifyIndex uint64 }
		if consulCall(t, "GET", consul+"/v1/kv/"+key+"?consistent", &pairs); len(pairs) == 1 {
			n = pairs[0].ModifyIndex
		}
		return n
	}

	moved, over := newConsult(t, d.api(0), "DE", "DE"), newConsult(t, d.api(0), "DE", "DE")
	page := joinAs(t, join(0), moved.Participants[0].Token)
	backup := snapshot(t, "GET", consul, nil)

	consulKV(t, d.servers[0].Addr(), "bailiwick/regions/de-ber", "draining")
	m := hears(t, page, "move")
	joinAs(t, m.URL, m.Token)
	page.CloseNow()
	d.answers("de-fra-1", "de-ber drains")
	if code := call(t, "DELETE", d.api(0)+"/v1/consults/"+over.ID, "", nil); code != http.StatusNoContent {
		t.Fatalf("DELETE: %d", code)
	}
	made, idle := newConsult(t, d.api(1), "DE", "DE"), newConsult(t, d.api(0), "DE", "DE")
	joinAs(t, join(1), made.Participants[0].Token)

	type record struct {
		Recorded, Ended bool
		Placement       struct {
			Edge  string
			Epoch int
		}
	}
	var want, now [4]record
	is := func(i int) [4]record {
		var all [4]record
		for n, c := range []consultReply{moved, over, made, idle} {
			call(t, "GET", d.api(i)+"/v1/consults/"+c.ID, "", &all[n])
		}
		return all
	}
	eventually(t, "what happened is on record, and the edges know that it is", func() error {
		last := max(index("bailiwick/consults/"+made.ID), index("bailiwick/consults/"+idle.ID))
		for _, edge := range []string{"de-ber-1", "de-fra-1"} {
			if at := index("bailiwick/notices/" + edge + "/edge"); at <= last {
				return fmt.Errorf("the mark of %s is of %d, a record of %d", edge, at, last)
			}
		}
		if want = is(0); want[0].Placement.Edge != "de-fra-1" || want[0].Placement.Epoch != 2 || !want[1].Ended || want[2].Placement.Edge != "de-fra-1" {
			return fmt.Errorf("on record is %+v", want)
		}
		return nil
	})

	snapshot(t, "PUT", consul, backup)
	took := eventually(t, "the records are as they were", func() error {
		for i := range 2 {
			if now = is(i); now != want {
				return fmt.Errorf("edge %d has %+v, want %+v", i, now, want)
			}
		}
		return nil
	})
	t.Logf("after %v the records are as they were", took)
	d.answers("de-ber-1", "the drain is lost: an operator's word is restored with the rest")

	// Links of before and after are good at both edges.
	joinAs(t, join(1), made.Participants[1].Token)
	joinAs(t, join(0), newConsult(t, d.api(1), "DE", "DE").Participants[0].Token)
}

// snapshot takes one of Consul, or restores it.
func snapshot(t *testing.T, method, consul string, body []byte) []byte {
	t.Helper()
	q, err := http.NewRequest(method, consul+"/v1/snapshot", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s /v1/snapshot: %s, %v: %s", method, r.Status, err, b)
	}
	return b
}

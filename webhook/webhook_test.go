package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bailiwick/consult"
	"bailiwick/region"
	"bailiwick/tools/logtest"
)

const patient = time.Minute

// backend is a tenant's, as its own programmers would write it.
type backend struct {
	t      *testing.T
	server *httptest.Server
	secret string // as its file has it

	mu     sync.Mutex
	answer func(n int, w http.ResponseWriter) // the n-th request; nil: 204
	got    []delivery
	came   chan struct{}
}

type delivery struct {
	ID, Type, Participant, Consult string
	Raw                            string
}

const secretOne, secretTwo = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="

func newBackend(t *testing.T) *backend {
	b := &backend{t: t, secret: secretOne, came: make(chan struct{}, 10_000)}
	b.server = httptest.NewServer(b)
	t.Cleanup(b.server.Close)
	return b
}

// verify is Standard Webhooks' rule: "id.timestamp.body", HMAC-SHA256, any of the signatures.
func (b *backend) verify(h http.Header, body []byte) error {
	at, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("timestamp %q", h.Get("webhook-timestamp"))
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(b.secret, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "."))
	mac.Write(body)
	for _, s := range strings.Split(h.Get("webhook-signature"), " ") {
		if version, text, _ := strings.Cut(s, ","); version == "v1" {
			if sum, err := base64.StdEncoding.DecodeString(text); err == nil && hmac.Equal(sum, mac.Sum(nil)) {
				return nil
			}
		}
	}
	return fmt.Errorf("signature %q", h.Get("webhook-signature"))
}

func (b *backend) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		err = b.verify(q.Header, body)
	}
	var e struct {
		Type      string
		Timestamp time.Time
		Data      struct{ Consult, Participant string }
	}
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	if err != nil || q.Header.Get("Content-Type") != "application/json" || e.Timestamp.IsZero() {
		b.t.Errorf("request of %s: %v", body, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.got = append(b.got, delivery{q.Header.Get("webhook-id"), e.Type, e.Data.Participant, e.Data.Consult, string(body)})
	if b.answer != nil {
		b.answer(len(b.got), w)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	b.came <- struct{}{}
}

// wait returns the requests once there are n.
func (b *backend) wait(n int) []delivery {
	b.t.Helper()
	late := time.After(patient)
	for {
		b.mu.Lock()
		got := slices.Clone(b.got)
		b.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-b.came:
		case <-late:
			b.t.Fatalf("%d requests of %d: %v", len(got), n, got)
		}
	}
}

// rig is a queue that runs.
type rig struct {
	*Queue
	t    *testing.T
	file string // of the secret
	log  *logtest.Buffer
	stop func()
}

func secretFile(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, url, path string, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, file: secretFile(t, secretOne+"\n"), log: new(logtest.Buffer)}
	cfg := Config{Path: path, Log: slog.New(slog.NewTextHandler(r.log, nil)), Hook: func(tenant string) (region.Webhook, bool) {
		return region.Webhook{URL: url, SecretFile: r.file}, tenant != "nobody"
	}}
	if change != nil {
		change(&cfg)
	}
	q, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	q.pause = 20 * time.Millisecond
	r.Queue = q
	return r
}

func (r *rig) run() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Error(err)
			}
		case <-time.After(patient):
			r.t.Error("the queue does not stop")
		}
	})
	r.t.Cleanup(r.stop)
	return r
}

func of(id consult.ID) Consult { return Consult{ID: id, Epoch: 1, Edge: "de-fra-1", Region: "de-fra"} }

func who(i int) consult.ParticipantID { return consult.ParticipantID(fmt.Sprint("p", i)) }

// until waits for what the queue's own counters show: no event tells of it.
func (r *rig) until(what string, is func(Stats) bool) {
	r.t.Helper()
	for end := time.Now().Add(patient); !is(r.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not so: %s: %+v\n%s", what, r.Stats(), r.log)
		}
	}
}

func TestEventsAreDeliveredSigned(t *testing.T) {
	b := newBackend(t)
	r := open(t, b.server.URL, filepath.Join(t.TempDir(), "q"), nil).run()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	c := of("c1")
	r.Put(c.Started(at))
	r.Put(c.Joined(at, "p1", "patient"))
	r.Put(c.Moved(at, "de-fra-1", "de-ber-1", "region_down"))
	r.Put(c.Degraded(at, "audio", "egress"))
	r.Put(c.Left(at, "p1", "patient", "gone"))
	r.Put(c.Ended(at, "done"))
	r.Put(c.Started(at)) // told already
	var text []string
	for _, d := range b.wait(6) {
		text = append(text, d.Raw)
	}
	const head, place = `","timestamp":"2026-01-02T03:04:05.006Z","data":{"consult":"c1","epoch":1,"edge":"de-fra-1","region":"de-fra"`, `{"type":"consult.`
	want := []string{
		place + "started" + head + "}}",
		place + "joined" + head + `,"participant":"p1","role":"patient"}}`,
		place + "moved" + head + `,"from":"de-fra-1","to":"de-ber-1","reason":"region_down"}}`,
		place + "degraded" + head + `,"step":"audio","reason":"egress"}}`,
		place + "left" + head + `,"participant":"p1","role":"patient","reason":"gone"}}`,
		place + "ended" + head + `,"reason":"done"}}`,
	}
	if !slices.Equal(text, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(text, "\n"), strings.Join(want, "\n"))
	}
	r.until("nothing is left", func(s Stats) bool { return s.Queued == 0 && s.Bytes == 0 && s.Events[moved][Delivered] == 1 })
	if n := r.Stats().Events[started][Delivered]; n != 1 {
		t.Errorf("the beginning was told %d times", n)
	}
}

func TestFailuresAreTriedAgainUnderTheirID(t *testing.T) {
	b := newBackend(t)
	b.answer = func(n int, w http.ResponseWriter) {
		if n <= 3 {
			w.WriteHeader(500)
		}
	}
	r := open(t, b.server.URL, "", nil).run()
	r.Put(of("c1").Joined(time.Now(), "p1", "patient"))
	got := b.wait(4)
	for _, d := range got {
		if d != got[0] {
			t.Errorf("a try differs: %v of %v", d, got[0])
		}
	}
	r.until("it is delivered", func(s Stats) bool {
		return s.Queued == 0 && s.Failures[Status] == 3 && s.Events[joined][Delivered] == 1
	})
	if text := r.log.String(); strings.Count(text, "not delivered") != 1 || strings.Count(text, "delivered again") != 1 || strings.Contains(text, b.server.URL) || strings.Contains(text, "p1") {
		t.Errorf("log:\n%s", text)
	}
}

// Of each consult what happens first is told first, though other consults go on meanwhile.
func TestOrderIsKeptPerConsult(t *testing.T) {
	b := newBackend(t)
	fails := map[string]int{} // each event's first try, and all of c0's
	b.answer = func(n int, w http.ResponseWriter) {
		d := b.got[n-1]
		if fails[d.ID]++; fails[d.ID] == 1 || d.Consult == "c0" {
			w.WriteHeader(503)
		}
	}
	r := open(t, b.server.URL, "", nil).run()
	const consults, events = 8, 10
	for i := range events {
		for c := range consults {
			r.Put(of(consult.ID(fmt.Sprint("c", c))).Joined(time.Now(), who(i), "patient"))
		}
	}
	r.until("all but c0's are delivered", func(s Stats) bool { return s.Events[joined][Delivered] == (consults-1)*events })
	order := map[string][]string{}
	for _, d := range b.wait(0) {
		list := order[d.Consult]
		if len(list) == 0 || list[len(list)-1] != d.Participant {
			order[d.Consult] = append(list, d.Participant)
		}
	}
	for c, list := range order {
		want := []string{"p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"}
		if c == "c0" {
			want = want[:1]
		}
		if !slices.Equal(list, want) {
			t.Errorf("%s: %v", c, list)
		}
	}
}

// TestKilledProcess is the process that TestEventsOutliveAKill kills.
func TestKilledProcess(t *testing.T) {
	path, secret := os.Getenv("BAILIWICK_WEBHOOK_JOURNAL"), os.Getenv("BAILIWICK_WEBHOOK_SECRET")
	if path == "" {
		t.Skip("run by TestEventsOutliveAKill")
	}
	q, err := Open(Config{Path: path, Log: slog.New(slog.DiscardHandler),
		Hook: func(string) (region.Webhook, bool) {
			return region.Webhook{URL: os.Getenv("BAILIWICK_WEBHOOK_URL"), SecretFile: secret}, true
		}})
	if err != nil {
		t.Fatal(err)
	}
	go q.Run(context.Background())
	for i := range 100 {
		q.Put(of("c1").Joined(time.Now(), who(i), "patient"))
	}
	// The journal's last event is on the disk once the line is.
	for {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(`"p99`)) || bytes.Contains(b, []byte(`\"p99`)) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println("on disk")
	select {}
}

func TestEventsOutliveAKill(t *testing.T) {
	dead := httptest.NewServer(nil)
	url := dead.URL
	dead.Close() // refuses connections
	path := filepath.Join(t.TempDir(), "q")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "BAILIWICK_WEBHOOK_JOURNAL="+path, "BAILIWICK_WEBHOOK_URL="+url, "BAILIWICK_WEBHOOK_SECRET="+secretFile(t, secretOne))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patient, func() { cmd.Process.Kill() }).Stop()
	ready := false
	for s := bufio.NewScanner(out); s.Scan(); {
		if ready = s.Text() == "on disk"; ready {
			break
		}
	}
	cmd.Process.Kill() // SIGKILL
	cmd.Wait()
	if !ready {
		t.Fatal("the process did not get as far")
	}
	// What a crash of the machine may leave behind the last whole line.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"id":"msg_cut","type":"consult.le`)
	f.Close()

	b := newBackend(t)
	r := open(t, b.server.URL, path, nil).run()
	got := b.wait(100)
	for i, d := range got {
		if d.Participant != string(who(i)) {
			t.Fatalf("event %d is of %s", i, d.Participant)
		}
	}
	r.until("all are delivered", func(s Stats) bool { return s.Queued == 0 })
	if !strings.Contains(r.log.String(), "lines=1") {
		t.Errorf("log:\n%s", r.log)
	}
	r.stop()
	// Nothing is told a third time.
	again := open(t, b.server.URL, path, nil)
	if s := again.Stats(); s.Queued != 0 {
		t.Errorf("%d events are queued again", s.Queued)
	}
	again.Close()
}

// A queue that was stopped goes on where it was, and stops though its backend hangs.
func TestStopWithAHangingBackend(t *testing.T) {
	hang, arrived := make(chan struct{}), make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-hang }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hang) })
	path := filepath.Join(t.TempDir(), "q")
	r := open(t, server.URL, path, nil).run()
	begin := time.Now()
	for i := range 10 {
		r.Put(of(consult.ID(fmt.Sprint("c", i))).Joined(time.Now(), who(i), "patient"))
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Put waited: %v", took)
	}
	<-arrived
	r.stop()
	again := open(t, server.URL, path, nil)
	defer again.Close()
	if s := again.Stats(); s.Queued != 10 {
		t.Errorf("%d events are queued: want 10", s.Queued)
	}
}

func TestDayOldEventsAreGivenUp(t *testing.T) {
	b := newBackend(t)
	path := filepath.Join(t.TempDir(), "q")
	var text bytes.Buffer
	for i, age := range []time.Duration{25 * time.Hour, 23 * time.Hour} {
		p := &pending{Event: of("c1").Joined(time.Now(), who(i), "patient"), at: time.Now().Add(-age)}
		p.line(&text)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, b.server.URL, path, nil).run()
	if got := b.wait(1); got[0].Participant != "p1" {
		t.Errorf("got %v", got)
	}
	r.until("one is expired", func(s Stats) bool {
		return s.Queued == 0 && s.Events[joined] == [Outcomes]uint64{Delivered: 1, Expired: 1}
	})
	if !strings.Contains(r.log.String(), "given up") {
		t.Errorf("log:\n%s", r.log)
	}
	r.stop()
	again := open(t, b.server.URL, path, nil) // what is done with is in the journal still, and that it is
	defer again.Close()
	if s := again.Stats(); s.Queued != 0 {
		t.Errorf("%d events are queued again", s.Queued)
	}
}

// One tenant whose backend is dead leaves others room, and memory is bounded.
func TestQueueIsBounded(t *testing.T) {
	r := open(t, "http://127.0.0.1:1/", "", nil) // not run: nothing is delivered
	put := func(tenant string, n int) (taken int) {
		before := r.Stats().Queued
		for i := range n {
			c := of("c1")
			c.Tenant = tenant
			r.Put(c.Joined(time.Now(), who(i), "patient"))
		}
		return r.Stats().Queued - before
	}
	a, b, none := put("a", 2*maxEvents), put("b", 2*maxEvents), put("nobody", 10)
	s := r.Stats()
	if a != maxEvents/2 || b != maxEvents/4 || none != 0 || s.Events[joined][Full] != uint64(4*maxEvents-a-b) || s.Bytes > maxBytes {
		t.Errorf("a has %d places, b %d, nobody %d; %+v", a, b, none, s)
	}
}

func TestSecrets(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"one":        {secretOne + "\n", ""},
		"two":        {secretOne + "\n\n" + secretTwo, ""},
		"none":       {"\n", "0 secrets: want 1 to 4"},
		"five":       {strings.Repeat(secretOne+"\n", 5), "5 secrets"},
		"no prefix":  {"c2VjcmV0LXRoYXQtaXMtbG9uZy1lbm91Z2gh", ":1: want whsec_"},
		"short":      {secretOne + "\nwhsec_c2hvcnQ=", ":2: want whsec_"},
		"not base64": {"whsec_this is secret", ":1: want whsec_"},
		"long":       {strings.Repeat("x", 5000), "more than 4096 bytes"},
	} {
		_, err := Secrets(secretFile(t, row.text))
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v: want %q", name, err, row.want)
		}
		if err != nil && (strings.Contains(err.Error(), "c2hvcnQ") || strings.Contains(err.Error(), "secret-") || strings.Contains(err.Error(), "this is")) {
			t.Errorf("%s: the error says the secret: %v", name, err)
		}
	}
	if _, err := Secrets("/nowhere/secret"); err == nil || !strings.Contains(err.Error(), "/nowhere/secret") {
		t.Errorf("no file: %v", err)
	}
}

// A secret that is changed signs what is sent from then on; while the file has both, either
// verifies. Without the file nothing is sent, and nothing lost.
func TestSecretIsReadAgain(t *testing.T) {
	b := newBackend(t)
	r := open(t, b.server.URL, "", nil).run()
	say := func(n int, backend, file string) {
		t.Helper()
		b.mu.Lock()
		b.secret = backend
		b.mu.Unlock()
		if err := os.WriteFile(r.file, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Put(of("c1").Joined(time.Now(), who(n), "patient"))
		b.wait(n)
	}
	say(1, secretOne, secretOne)
	say(2, secretOne, secretOne+"\n"+secretTwo)
	say(3, secretTwo, secretOne+"\n"+secretTwo)
	say(4, secretTwo, secretTwo)
	r.until("all are delivered", func(s Stats) bool { return s.Queued == 0 })
	os.Remove(r.file)
	r.Put(of("c1").Joined(time.Now(), who(5), "patient"))
	r.until("it cannot be signed", func(s Stats) bool { return s.Failures[Secret] > 0 })
	os.WriteFile(r.file, []byte(secretTwo), 0o600)
	b.wait(5)
	if strings.Contains(r.log.String(), "whsec_") {
		t.Errorf("a secret in the log:\n%s", r.log)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newBackend(t)
	b := newBackend(t)
	b.answer = func(n int, w http.ResponseWriter) {
		if n == 1 {
			w.Header().Set("Location", elsewhere.server.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	r := open(t, b.server.URL, "", nil).run()
	r.Put(of("c1").Ended(time.Now(), "done"))
	b.wait(2)
	r.until("it is delivered", func(s Stats) bool { return s.Queued == 0 && s.Failures[Status] == 1 })
	if got := elsewhere.wait(0); len(got) > 0 {
		t.Errorf("the redirect was followed: %v", got)
	}
}

// An answer without end is read no further than it has to be.
func TestAnswersAreBounded(t *testing.T) {
	b, cut := newBackend(t), false
	b.answer = func(_ int, w http.ResponseWriter) {
		for range 1 << 8 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				cut = true
				return
			}
		}
	}
	r := open(t, b.server.URL, "", nil).run()
	r.Put(of("c1").Ended(time.Now(), "done"))
	b.wait(1)
	r.until("it is delivered", func(s Stats) bool { return s.Queued == 0 && s.Events[ended][Delivered] == 1 })
	if !cut {
		t.Error("256 MiB of answer were read")
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	b := newBackend(t)
	server := httptest.NewTLSServer(b) // its certificate nobody signed
	t.Cleanup(server.Close)
	r := open(t, server.URL, "", nil).run()
	r.Put(of("c1").Ended(time.Now(), "done"))
	r.until("the certificate is refused", func(s Stats) bool { return s.Failures[Network] > 0 })
	if got := b.wait(0); len(got) > 0 {
		t.Errorf("delivered: %v", got)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	trusting := open(t, server.URL, "", func(c *Config) { c.Roots = roots }).run()
	trusting.Put(of("c1").Ended(time.Now(), "done"))
	b.wait(1)
}

// What the law does not let be written here is told from memory.
func TestUnstoredEventsStayOffTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	b := newBackend(t)
	b.answer = func(_ int, w http.ResponseWriter) { w.WriteHeader(500) }
	r := open(t, b.server.URL, path, nil).run()
	c := of("c-here")
	r.Put(c.Joined(time.Now(), "p1", "patient"))
	c = of("c-abroad")
	c.Unstored = true
	r.Put(c.Joined(time.Now(), "p2", "patient"))
	b.wait(4)
	r.stop()
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "c-here") || strings.Contains(string(text), "c-abroad") {
		t.Errorf("%v; journal:\n%s", err, text)
	}
}

// A disk that takes nothing costs no event while the process lives.
func TestJournalThatCannotBeWritten(t *testing.T) {
	b := newBackend(t)
	path := filepath.Join(t.TempDir(), "q")
	r := open(t, b.server.URL, path, nil)
	r.journal.file.Close()
	r.journal.path = filepath.Join(t.TempDir(), "gone", "q")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	r.Put(of("c1").Ended(time.Now(), "done"))
	b.wait(1)
	r.until("it was told", func(s Stats) bool { return s.Queued == 0 && s.Undurable > 0 })
	cancel()
	<-done
	if text := r.log.String(); strings.Count(text, "not on disk") != 1 {
		t.Errorf("log:\n%s", text)
	}
}

// FuzzReplay: whatever is in the file, replay ends, and what it gives can be written and read
// again.
func FuzzReplay(f *testing.F) {
	var whole bytes.Buffer
	(&pending{Event: of("c1").Joined(time.Unix(0, 0), "p1", "patient"), at: time.Unix(0, 0)}).line(&whole)
	write(&whole, line{Done: "msg_x"})
	f.Add(whole.Bytes())
	f.Add(append(bytes.Repeat([]byte{'x'}, 2*maxLine), '\n'))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, _, err := replay(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		short := true
		for _, p := range list {
			before := b.Len()
			p.line(&b)
			short = short && b.Len()-before <= maxLine // escapes may lengthen what nobody of us wrote
		}
		again, skipped, err := replay(&b)
		if short && (err != nil || skipped != 0 || len(again) != len(list)) {
			t.Fatalf("%d of %d, %d skipped, %v", len(again), len(list), skipped, err)
		}
	})
}

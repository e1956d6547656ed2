package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy leads to Consul's agent, a connection for a connection, and counts connections and
// requests.
type proxy struct {
	addr string

	mu       sync.Mutex
	open     int
	most     int
	requests map[string]int // by kind
	fault    error          // something that was no request
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), requests: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); l.Close(); running.Wait() })
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
				p.opened(1)
				defer p.opened(-1)
				running.Go(func() { io.Copy(in, out); in.Close() })
				read, write := io.Pipe()
				running.Go(func() { p.count(read) })
				io.Copy(io.MultiWriter(out, write), in)
				write.Close()
			})
		}
	})
	return p
}

func (p *proxy) opened(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open += n
	p.most = max(p.most, p.open)
}

// count reads the requests of one connection.
func (p *proxy) count(r io.Reader) {
	defer io.Copy(io.Discard, r) // else the connection would stop
	for b := bufio.NewReader(r); ; {
		q, err := http.ReadRequest(b)
		if err == nil {
			_, err = io.Copy(io.Discard, q.Body)
		}
		p.mu.Lock()
		switch {
		case err == nil:
			p.requests[kind(q)]++
		case err != io.EOF && err != io.ErrUnexpectedEOF:
			p.fault = fmt.Errorf("a request that cannot be read: %w", err)
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// kind is what a request to Consul is for.
func kind(q *http.Request) string {
	path := q.URL.Path
	switch {
	case q.URL.Query().Has("index"):
		return "watches"
	case strings.HasPrefix(path, "/v1/agent/"):
		return "lease"
	case q.Method == http.MethodGet:
		return "reads"
	}
	return "writes"
}

// seen is what was counted so far.
func (p *proxy) seen() (requests map[string]int, most int, fault error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.requests), p.most, p.fault
}

// since is what was counted since an earlier count, and in all.
func since(before, now map[string]int) (all int, kinds string) {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(now)) {
		if n := now[k] - before[k]; n > 0 {
			all += n
			words = append(words, fmt.Sprintf("%d %s", n, k))
		}
	}
	return all, strings.Join(words, ", ")
}

// The proxy is the witness of the bound, so it must count right.
func TestProxyCounts(t *testing.T) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Write(b)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	defer serving.Wait()
	defer server.Close()
	p := newProxy(t, l.Addr().String())
	client := http.Client{Transport: &http.Transport{}}
	ask := func(method, path, body string) {
		q, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if got, err := io.ReadAll(r.Body); string(got) != body || err != nil {
			t.Fatalf("%s %s: %d octets back, %v; want %d", method, path, len(got), err, len(body))
		}
	}
	ask("GET", "/v1/kv/a", "")
	ask("GET", "/v1/kv/a?index=7&wait=1s", "")
	ask("PUT", "/v1/kv/a", strings.Repeat("x", 100_000))
	ask("PUT", "/v1/agent/check/update/b", "{}")
	ask("PUT", "/v1/kv/a", "y")
	client.CloseIdleConnections()
	want := map[string]int{"reads": 1, "watches": 1, "writes": 2, "lease": 1}
	var got map[string]int
	var most int
	var fault error
	for range 1000 { // a request is counted beside its way
		if got, most, fault = p.seen(); maps.Equal(got, want) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !maps.Equal(got, want) || most != 1 || fault != nil {
		t.Errorf("got %v over %d connections (%v), want %v over 1", got, most, fault, want)
	}
	if all, kinds := since(map[string]int{"writes": 1}, got); all != 4 || kinds != "1 lease, 1 reads, 1 watches, 1 writes" {
		t.Errorf("since: %d, %q", all, kinds)
	}
}

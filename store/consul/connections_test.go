package consul

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"bailiwick/store/consultest"
)

// counting is an address that leads to another, and counts the connections open at once.
type counting struct {
	addr  string
	close func() // with all its connections

	mu         sync.Mutex
	open, most int
	all        int
}

func count(t *testing.T, network, addr, to string) *counting {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	c := &counting{addr: l.Addr().String(), close: func() { l.Close(); cancel(); wg.Wait() }}
	t.Cleanup(c.close)
	add := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open += n
		c.all += max(n, 0)
		c.most = max(c.most, c.open)
	}
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			add(1)
			wg.Go(func() {
				defer add(-1)
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				context.AfterFunc(ctx, func() { in.Close() }) // else it idles on in its pool
				wg.Go(func() { io.Copy(in, out); in.Close() })
				io.Copy(out, in)
			})
		}
	})
	return c
}

func (c *counting) counts() (most, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most, c.all
}

// Ten watches, a waiter for a lock and 500 writers at once have eight connections
// between them: no write waits for a watch, and none of the watches misses a write.
func TestConnections(t *testing.T) {
	server := consultest.Start(t)
	proxy := count(t, "tcp", "127.0.0.1:0", server.Addr())
	s, err := New(proxy.addr, "") // with the waits of production
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	lock, err := s.Lock(ctx, "test/lock")
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		l, err := s.Lock(ctx, "test/lock")
		if err == nil {
			err = l.Unlock(ctx)
		}
		waited <- err
	}()

	const watches, writes = 10, 500
	prefix := func(i int) string { return fmt.Sprintf("test/%d/", i%watches) }
	var followed []*watching
	for i := range watches {
		w := follow(t, s, prefix(i))
		w.until("its first snapshot", func() bool { return len(w.snaps) > 0 })
		followed = append(followed, w)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		took []time.Duration
		revs = make([]uint64, watches) // the newest write under each prefix
	)
	for i := range writes {
		wg.Go(func() {
			began := time.Now()
			e, err := s.Put(ctx, fmt.Sprint(prefix(i), i), []byte("x"))
			if err != nil {
				t.Errorf("write %d: %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			revs[i%watches] = max(revs[i%watches], e.Rev)
		})
	}
	wg.Wait()
	written := time.Now()
	for i, w := range followed {
		w.until("the last write", func() bool {
			last := w.snaps[len(w.snaps)-1]
			return last.Rev >= revs[i] && len(last.Entries) == writes/watches
		})
	}
	seen := time.Since(written)

	// One write after the other, beside watches that all wait.
	var alone []time.Duration
	for i := range 50 {
		began := time.Now()
		put(t, s, fmt.Sprint(prefix(i), "alone"), fmt.Sprint(i))
		alone = append(alone, time.Since(began))
	}
	if err := lock.Unlock(ctx); err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("the waiter for the lock: %v", err)
	}
	slices.Sort(took)
	slices.Sort(alone)
	most, all := proxy.counts()
	t.Logf("%d connections at most, %d in all; %d writes at once: %s at the median, %s at most; the last of them seen by all after %s; one alone: %s at the median, %s at most",
		most, all, writes, took[writes/2], took[writes-1], seen, alone[len(alone)/2], alone[len(alone)-1])
	if most > connections {
		t.Errorf("%d connections to the agent at once, want at most %d", most, connections)
	}
	// A write that had to wait for a blocking query to end took up to 30 s.
	if worst := max(took[writes-1], alone[len(alone)-1]); worst > 15*time.Second {
		t.Errorf("a write took %s beside %d watches", worst, watches)
	}
}

// A store on a Unix socket keeps its connections too.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "") // t.TempDir may be too long for sockaddr_un
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	proxy := count(t, "unix", dir+"/consul.sock", consultest.Start(t).Addr())
	s, err := New("unix://"+proxy.addr, "")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := s.Put(t.Context(), fmt.Sprint("test/", i), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most, all := proxy.counts(); most > connections || all > 2*connections {
		t.Errorf("%d connections at once and %d in all, want at most %d, kept", most, all, connections)
	}
}

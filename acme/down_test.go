package acme

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/acme/certtest"
	"bailiwick/store"
	"bailiwick/tools/logtest"
)

// metric reads one value of the registry.
func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		m := f.GetMetric()[0]
		if l := m.GetLabel(); len(l) != 1 || l[0].GetName() != "region" || l[0].GetValue() != "de-fra" {
			t.Errorf("labels of %s: got %v, want the region alone", name, l)
		}
		return m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// keep puts a certificate of that life where a node of the region would have.
func keep(t *testing.T, k *Keeper, life time.Duration) {
	t.Helper()
	pair := certtest.SelfSigned(t, time.Now().Add(-time.Second), time.Now().Add(life), k.names...)
	b, err := json.Marshal(storedCertificate{Key: string(pair.KeyPEM), Chain: string(pair.CertPEM)})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.storage.Store(t.Context(), k.key, b); err != nil {
		t.Fatal(err)
	}
}

// The CA is away for weeks: the old certificate goes on being served, beyond its end,
// and metrics and log say so; the first new one ends that.
func TestCADownForWeeks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			day      = 24 * time.Hour
			notAfter = "bailiwick_certificate_not_after_timestamp_seconds"
			overdue  = "bailiwick_certificate_renewal_overdue_seconds"
			failures = "bailiwick_certificate_renewal_failures_total"
		)
		var log logtest.Buffer
		reg := prometheus.NewRegistry()
		k := newKeeper(t, Config{Store: store.NewMemory(), Names: []string{"join.media.example"}, Region: "de-fra",
			CA: "https://127.0.0.1:1/dir", Secret: secret(t, 1), Registry: reg, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if got := metric(t, reg, notAfter); got != 0 {
			t.Errorf("%s without a certificate: got %v, want 0", notAfter, got)
		}
		keep(t, k, 90*day)
		begun := time.Now()
		stop := running(t, k.Run)
		serial := func() string {
			pair, err := k.GetCertificate(nil)
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(begun), err)
			}
			return pair.Leaf.SerialNumber.String()
		}
		time.Sleep(59 * day)
		first := serial()
		if got := metric(t, reg, overdue); got != 0 {
			t.Errorf("%s before it is due: got %v, want 0", overdue, got)
		}
		if got := metric(t, reg, notAfter); int64(got) != begun.Add(90*day).Unix() {
			t.Errorf("%s: got %v, want %v", notAfter, got, begun.Add(90*day).Unix())
		}
		time.Sleep(15 * day)
		if got := metric(t, reg, overdue) / day.Seconds(); got < 13.9 || got > 14.1 {
			t.Errorf("%s after two weeks: got %.2f days, want 14", overdue, got)
		}
		if got := metric(t, reg, failures); got < 14*20 || got > 14*26 {
			t.Errorf("%s after two weeks: got %v, want about one an hour", failures, got)
		}
		if serial() != first {
			t.Error("another certificate is served")
		}
		if !strings.Contains(log.String(), "the old one is served") || strings.Contains(log.String(), "has expired") {
			t.Errorf("log: got %.600s", log.String())
		}
		time.Sleep(26 * day)
		if serial() != first || !strings.Contains(log.String(), "certificate has expired and is not renewed: it is served all the same") {
			t.Error("an expired certificate is not served and told of")
		}
		keep(t, k, 90*day)
		synctest.Wait()
		if serial() == first {
			t.Error("a new certificate is not taken over")
		}
		if got := metric(t, reg, overdue); got != 0 {
			t.Errorf("%s after it: got %v, want 0", overdue, got)
		}
		stop()
	})
}

// A store that was emptied, or restored from an old copy, gets the newest certificate
// that a node of the region has; no order is made.
func TestStoreForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		c := Config{Store: st, Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://127.0.0.1:1/dir", Secret: secret(t, 1)}
		k := newKeeper(t, c)
		keep(t, k, 2000*time.Hour)
		full := k.storage.prefix() + k.key
		older, err := st.Get(t.Context(), full)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		keep(t, k, 2000*time.Hour)
		stop := running(t, k.Run)
		time.Sleep(time.Minute) // the CA is asked a few times for its window
		want := k.current.Load()
		for _, row := range []struct {
			name   string
			change func() error
		}{
			{"emptied", func() error { _, err := st.Delete(t.Context(), full, 0); return err }},
			{"restored", func() error { _, err := st.Put(t.Context(), full, older.Value); return err }},
		} {
			if err := row.change(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if b, err := k.storage.Load(t.Context(), k.key); err != nil || string(b) != string(want.kept) {
				t.Errorf("%s: the store has another certificate, %v", row.name, err)
			}
			if k.current.Load() != want || k.failed.Load() != nil {
				t.Errorf("%s: another certificate is served, or a failure: %v", row.name, k.failed.Load())
			}
		}
		stop()
	})
}

// A certificate without all the names is not put in force, whoever stored it.
func TestCertificateOfOtherNames(t *testing.T) {
	c := Config{Store: store.NewMemory(), Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://127.0.0.1:1/dir", Secret: secret(t, 1)}
	few := newKeeper(t, c)
	c.Names = append(c.Names, "de.join.media.example")
	k := newKeeper(t, c)
	few.key = k.key
	keep(t, few, time.Hour)
	if err := k.load(t.Context()); err == nil || !strings.Contains(err.Error(), "name de.join.media.example is not on it") || k.current.Load() != nil {
		t.Errorf("got %v, want it refused for the name that it lacks", err)
	}
}

// A secret that is not the one of the other nodes is told of, and orders nothing.
func TestWrongSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		c := Config{Store: st, Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://127.0.0.1:1/dir", Secret: secret(t, 1)}
		keep(t, newKeeper(t, c), time.Hour)
		before, err := st.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		c.Secret = secret(t, 2)
		k := newKeeper(t, c)
		stop := running(t, k.Run)
		time.Sleep(24 * time.Hour)
		if _, err := k.GetCertificate(nil); err == nil || !strings.Contains(err.Error(), "does not open with this secret") {
			t.Errorf("GetCertificate: got %v, want one that names the secret", err)
		}
		stop()
		after, err := st.List(t.Context(), "")
		if err != nil || len(after.Entries) != len(before.Entries) || after.Entries[0].Rev != before.Entries[0].Rev {
			t.Errorf("the store: got %v, %v, want it as it was", after, err)
		}
	})
}

// Another CA's certificate, or one for other names, is never taken for this one.
func TestAnotherSetIsAnotherCertificate(t *testing.T) {
	st := store.NewMemory()
	c := Config{Store: st, Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://ca.example/dir", Secret: secret(t, 1)}
	same := newKeeper(t, c)
	c.Names = []string{"JOIN.media.example.", "join.media.example"}
	if k := newKeeper(t, c); k.key != same.key {
		t.Errorf("the same names otherwise spelled: got key %s, want %s", k.key, same.key)
	}
	for _, row := range []struct {
		name   string
		change func(*Config)
	}{
		{"staging", func(c *Config) { c.CA = "https://ca.example/staging" }},
		{"another name", func(c *Config) { c.Names = []string{"join.media.example", "de.join.media.example"} }},
	} {
		c := c
		row.change(&c)
		if k := newKeeper(t, c); k.key == same.key {
			t.Errorf("%s: got the same key %s", row.name, k.key)
		}
	}
	for _, row := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no names", func(c *Config) { c.Names = nil }, "no names"},
		{"a path as name", func(c *Config) { c.Names = []string{"a/b.example"} }, "want a host name"},
		{"two wildcards", func(c *Config) { c.Names = []string{"*.*.example"} }, "want a host name"},
		{"plain HTTP", func(c *Config) { c.CA = "http://ca.example/dir" }, "want an https URL"},
		{"no region", func(c *Config) { c.Region = "" }, "region"},
		{"a region of two segments", func(c *Config) { c.Region = "de/fra" }, "region"},
		{"no secret", func(c *Config) { c.Secret = nil }, "openssl rand"},
	} {
		c := c
		row.change(&c)
		c.Log = quiet()
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got error %v, want one with %q", row.name, err, row.want)
		}
	}
}

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	loopback = "127.97" // of the deployment, away from tests' and developers' own
	away     = "de-ber" // the region that is toggled
	program  = "bin/bailiwick"
)

// clients are in Germany by the map of the run.
var clients = netip.MustParsePrefix("192.0.2.0/24")

// deployment is what serves while modes change.
type deployment struct {
	b      *bench
	procs  []*process
	consul string
	dns    netip.AddrPort
	edges  [2]netip.Addr // the nearest of clients, and the next
}

func (d *deployment) stop() {
	for _, p := range slices.Backward(d.procs) {
		p.stop()
	}
}

func (b *bench) deploy() (*deployment, error) {
	consul, err := findConsul()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "modes-")
	if err != nil {
		return nil, err
	}
	self, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	m, err := os.ReadFile(mapFile)
	if err != nil {
		return nil, err
	}
	text := strings.Replace(string(m), "\ngeo: []\n", "\ngeo:\n  - {prefix: "+clients.String()+", country: DE, at: [52.52, 13.405]}\n", 1)
	host := loopback + ".9.1"
	if err := put(dir, map[string]string{
		"regions.yaml": text,
		"keys.txt":     "bench\n",
		"consul.hcl": fmt.Sprintf(`server = true
bootstrap_expect = 1
data_dir = %q
bind_addr = %q
client_addr = %q
log_level = "warn"
disable_update_check = true
performance { raft_multiplier = 1 }
ports { serf_wan = -1  dns = -1  grpc = -1  grpc_tls = -1 }
`, dir+"/consul", host, host)}); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir+"/keys.txt", 0o600); err != nil {
		return nil, err
	}
	d := &deployment{b: b, consul: host + ":8500", dns: netip.MustParseAddrPort(loopback + ".0.1:8053")}
	common := []string{"--consul", d.consul, "--state", dir, "--map", dir + "/regions.yaml", "--probe-interval", "250ms"}
	if err := d.run(b.load, consul, "agent", "-config-file", dir+"/consul.hcl"); err != nil {
		return d, err
	}
	if err := d.until("consul takes no write", func() error { return d.put("bailiwick/regions/"+away, "serving") }); err != nil {
		return d, err
	}
	if err := d.run(b.core, append([]string{self, "dns", "--node", "dns-1", "--listen", d.dns.String(), "--rate", "0"}, common...)...); err != nil {
		return d, err
	}
	for i, id := range []string{away + "-1", "de-fra-1"} {
		at := fmt.Sprintf("%s.%d.1", loopback, i+1)
		d.edges[i] = netip.MustParseAddr(at)
		if err := d.run(b.load, append([]string{self, "edge", "--id", id, "--region", strings.TrimSuffix(id, "-1"), "--listen", at + ":8080", "--media", at + ":7882",
			"--turn", at + ":3478", "--api-keys", dir + "/keys.txt"}, common...)...); err != nil {
			return d, err
		}
	}
	for _, step := range []struct {
		mode string
		edge int
	}{{"serving", 0}, {"down", 1}, {"serving", 0}} { // both edges pass their probes
		if err := d.put("bailiwick/regions/"+away, step.mode); err != nil {
			return d, err
		}
		if err := d.until("no answer "+d.edges[step.edge].String(), func() error { return d.answers(d.edges[step.edge]) }); err != nil {
			return d, err
		}
	}
	return d, nil
}

func (d *deployment) run(core int, argv ...string) error {
	p, err := d.b.spawn(argv, nil, core, false)
	if err == nil {
		d.procs = append(d.procs, p)
	}
	return err
}

// until polls until f succeeds.
func (d *deployment) until(what string, f func() error) error {
	var err error
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(10 * tick) {
		if err = f(); err == nil {
			return nil
		}
		if d.b.ctx.Err() != nil {
			return errors.New("interrupted")
		}
		for _, p := range d.procs {
			select {
			case <-p.exited:
				return fmt.Errorf("%s ended: %s", p.cmd.Args[3], lastLine(p.log.String()))
			default:
			}
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (d *deployment) answers(want netip.Addr) error {
	q, err := wire(clients, false)
	if err != nil {
		return err
	}
	got, err := answers(d.dns, [][]byte{q})
	if err == nil && got[0].addr != want {
		err = fmt.Errorf("answer %s", got[0].addr)
	}
	return err
}

func (d *deployment) put(key, value string) error {
	q, err := http.NewRequestWithContext(d.b.ctx, http.MethodPut, "http://"+d.consul+"/v1/kv/"+key, strings.NewReader(value))
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("consul: writing %s: %s", key, r.Status)
	}
	return nil
}

// findConsul takes $BAILIWICK_CONSUL, as the tests do: `make bench-dns` sets it.
func findConsul() (string, error) {
	path := os.Getenv("BAILIWICK_CONSUL")
	if path == "" {
		return "", errors.New("no Consul: set BAILIWICK_CONSUL, or run make consul and make bench-dns")
	}
	return exec.LookPath(path)
}

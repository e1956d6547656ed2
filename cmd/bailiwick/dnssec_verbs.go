package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/nameserver"
	"bailiwick/store"
)

// dnssecFlags make a node sign.
type dnssecFlags struct {
	DNSSEC    bool          `help:"Sign the zone, with keys that the nodes share in Consul; bailiwick dns ds prints the DS." name:"dnssec"`
	Algorithm uint8         `help:"Algorithm of the zone's first keys: 13 (ECDSA P-256) or 15 (Ed25519); later see bailiwick dns roll." name:"dnssec-algorithm" default:"13" placeholder:"N"`
	Split     bool          `help:"Make the first keys a KSK and a ZSK, in place of one CSK." name:"dnssec-split"`
	Lifetime  time.Duration `help:"Roll the CSK or KSK when it is that old, e.g. 8760h; the same on every node. Without it: by hand, with bailiwick dns roll." name:"dnssec-lifetime"`
	Parent    []serverAddr  `help:"Authoritative server of the parent zone, asked for the DS; repeat it for each. Without it a roll waits for bailiwick dns ds --confirm." placeholder:"ADDR"`
}

// config checks the flags; nil without --dnssec.
func (f *dnssecFlags) config() (*nameserver.Signing, error) {
	s := &nameserver.Signing{Policy: dnssec.DefaultPolicy(), Algorithm: dnssec.Algorithm(f.Algorithm), Split: f.Split, Parent: addrPorts(f.Parent)}
	s.Policy.Lifetime = f.Lifetime
	switch {
	case !f.DNSSEC && (f.Split || f.Lifetime != 0 || len(f.Parent) > 0 || s.Algorithm != dnssec.ECDSAP256):
		return nil, errors.New("--dnssec-algorithm, --dnssec-split, --dnssec-lifetime and --parent want --dnssec")
	case s.Algorithm != dnssec.ECDSAP256 && s.Algorithm != dnssec.Ed25519:
		return nil, fmt.Errorf("--dnssec-algorithm %d: want 13 (ECDSA P-256) or 15 (Ed25519)", f.Algorithm)
	case f.Lifetime != 0 && f.Lifetime < s.Policy.Shortest():
		return nil, fmt.Errorf("--dnssec-lifetime %s: a roll takes longer: want at least %s", f.Lifetime, s.Policy.Shortest())
	case !f.DNSSEC:
		return nil, nil
	}
	return s, nil
}

// keysFlags reach the keys of a zone.
type keysFlags struct {
	Consul string `help:"Address of the Consul agent; its token comes from CONSUL_HTTP_TOKEN. Default: the agents that the map names under consul, else 127.0.0.1:8500." placeholder:"ADDR"`
	Map    string `help:"The region map, which names the zone." default:"regions.yaml" placeholder:"FILE"`
}

// open gives the zone's name and the store.
func (f *keysFlags) open() (zone string, st store.Store, err error) {
	m, err := readMap(f.Map)
	if err != nil {
		return "", nil, err
	}
	set, err := openStores(f.Consul, m)
	if err != nil {
		return "", nil, err
	}
	st = set[m.Datacenter("")]
	f.Consul = fmt.Sprint(st) // for away: the map may have named it
	return m.Zone, st, nil
}

// storeTimeout is how long a verb waits for the store.
const storeTimeout = 10 * time.Second

func (f *keysFlags) load(ctx context.Context) (dnssec.Set, error) {
	zone, st, err := f.open()
	if err != nil {
		return dnssec.Set{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	set, err := dnssec.Load(ctx, st, zone)
	return set, f.away(noKeys(err))
}

// away says what to look at when the store did not answer.
func (f *keysFlags) away(err error) error {
	if errors.As(err, new(*net.OpError)) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: is a Consul agent well at %s? --consul names another", err, f.Consul)
	}
	return err
}

func noKeys(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: run a node with bailiwick dns --dnssec first", err)
	}
	return err
}

// change writes what f makes of the stored set.
func (f *keysFlags) change(ctx context.Context, change func(dnssec.Set) (dnssec.Set, []dnssec.Event, error)) (dnssec.Set, error) {
	zone, st, err := f.open()
	if err != nil {
		return dnssec.Set{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	set, _, err := dnssec.Step(ctx, st, zone, func() (dnssec.Set, error) {
		return dnssec.Set{}, noKeys(fmt.Errorf("dnssec keys of %s: %w", zone, store.ErrNotFound))
	}, change)
	return set, f.away(err)
}

type dsCmd struct {
	keysFlags
	Confirm bool `help:"Say that every server of the parent has this DS and no other now: a roll counts from here."`
}

func (dsCmd) Help() string {
	return `Prints the DS records that the parent zone should have, with both digests: one is
enough. Nodes that run with --dnssec make the keys. Nodes with --parent see for
themselves when the parent has them; for others say so with --confirm. Look first:
dig +norecurse @EACH-SERVER-OF-THE-PARENT ZONE DS

Example:
  bailiwick dns ds --consul 127.0.0.1:8500 --map regions.yaml
  bailiwick dns ds --confirm`
}

func (c *dsCmd) Run(e *env) error {
	if c.Confirm {
		set, err := c.change(e.ctx, func(s dnssec.Set) (dnssec.Set, []dnssec.Event, error) { return confirm(s, time.Now(), actor()) })
		if err != nil {
			return err
		}
		return writeKeys(e, set)
	}
	set, err := c.load(e.ctx)
	if err != nil {
		return err
	}
	text, err := dsRecords(set)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, text)
	return err
}

// confirm is an operator's word that the parent has the DS that is wanted.
func confirm(s dnssec.Set, now time.Time, by string) (dnssec.Set, []dnssec.Event, error) {
	p := dnssec.DefaultPolicy()
	for _, k := range s.Keys {
		switch {
		case k.Role != dnssec.ZSK && (k.State == dnssec.Published || k.State == dnssec.Signing):
			state, due := p.Due(k)
			return s, nil, fmt.Errorf("dnssec %s: key %d: its DS is not for the parent yet: it becomes %s at %s", s.Zone, k.Tag, state, due.UTC().Format(time.RFC3339))
		case k.State == dnssec.Ready && !k.DSSeen.IsZero():
			return s, nil, fmt.Errorf("dnssec %s: key %d: its DS was seen at %s by %s already", s.Zone, k.Tag, k.DSSeen.Format(time.RFC3339), k.DSBy)
		case k.State == dnssec.Ready:
			ds, err := s.DS(k, dns.SHA256)
			if err != nil {
				return s, nil, err
			}
			if by == "" {
				by = "operator"
			}
			return dnssec.Next(s, now, p, &dnssec.Parent{DS: []*dns.DS{ds}, By: by})
		}
	}
	return s, nil, fmt.Errorf("dnssec %s: no key waits for its DS: bailiwick dns keys shows them", s.Zone)
}

// dsRecords are lines of a zone file. While caches may hold unsigned answers they say
// until when.
func dsRecords(set dnssec.Set) (string, error) {
	var b strings.Builder
	wanted := set.Wanted()
	if len(wanted) == 0 {
		for _, k := range set.Keys {
			if k.Role == dnssec.ZSK || k.State != dnssec.Published {
				continue
			}
			wanted = append(wanted, k)
			_, ready := dnssec.DefaultPolicy().Due(k)
			fmt.Fprintf(&b, "; not for the parent before %s: caches may hold unsigned answers\n", ready.UTC().Format(time.RFC3339))
		}
	}
	for _, k := range wanted {
		for _, digest := range []uint8{dns.SHA256, dns.SHA384} {
			ds, err := set.DS(k, digest)
			if err != nil {
				return "", err
			}
			// Without the TTL, which is the parent's to choose.
			fmt.Fprintf(&b, "%s\tIN\tDS\t%d %d %d %s\n", ds.Hdr.Name, ds.KeyTag, ds.Algorithm, ds.DigestType, strings.ToUpper(ds.Digest))
		}
	}
	return b.String(), nil
}

type keysCmd struct {
	keysFlags
	JSON bool `help:"Print JSON."`
}

func (keysCmd) Help() string {
	return `Lists the zone's keys: what each is, since when, and what happens next and when.

Example:
  bailiwick dns keys --consul 127.0.0.1:8500`
}

func (c *keysCmd) Run(e *env) error {
	set, err := c.load(e.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e.stdout, listed(set))
	}
	return writeKeys(e, set)
}

// keyList is a zone's keys as they print.
type keyList struct {
	Zone   string    `json:"zone"`
	Serial uint64    `json:"serial"`
	Keys   []keyLine `json:"keys"`
}

type keyLine struct {
	Tag       uint16           `json:"tag"`
	Role      dnssec.Role      `json:"role"`
	Algorithm dnssec.Algorithm `json:"algorithm"`
	State     dnssec.State     `json:"state"`
	Since     time.Time        `json:"since"`
	Next      string           `json:"next,omitempty"`
	At        *time.Time       `json:"at,omitempty"` // not before; a node takes the step within a minute
	DSSeen    *time.Time       `json:"ds_seen,omitempty"`
	DSBy      string           `json:"ds_by,omitempty"`
}

func listed(set dnssec.Set) keyList {
	p := dnssec.DefaultPolicy()
	l := keyList{Zone: set.Zone, Serial: set.Serial, Keys: []keyLine{}}
	for _, k := range set.Keys {
		line := keyLine{Tag: k.Tag, Role: k.Role, Algorithm: k.Algorithm, State: k.State, Since: k.Since(), DSBy: k.DSBy}
		if !k.DSSeen.IsZero() {
			line.DSSeen = &k.DSSeen
		}
		state, due := p.Due(k)
		switch {
		case state != "":
			line.Next, line.At = string(state), &due
		case k.State == dnssec.Ready:
			line.Next = "waits until the parent has its DS and no other"
		case k.State == dnssec.Active && k.Role == dnssec.ZSK && p.ZoneLifetime > 0:
			due = k.Active.Add(p.ZoneLifetime - p.Propagation - p.KeyTTL)
			line.Next, line.At = "a successor", &due
		case k.State == dnssec.Active:
			line.Next = "stays until it is rolled"
		}
		l.Keys = append(l.Keys, line)
	}
	return l
}

func writeKeys(e *env, set dnssec.Set) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tROLE\tALGORITHM\tSTATE\tSINCE\tNEXT")
	for _, k := range listed(set).Keys {
		next := k.Next
		if k.At != nil {
			next += " at " + k.At.UTC().Format(time.RFC3339)
		}
		if k.State == dnssec.Ready && k.DSSeen != nil {
			next += "; DS seen by " + k.DSBy
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\t%s\n", k.Tag, k.Role, k.Algorithm, k.State, k.Since.Format(time.RFC3339), next)
	}
	t.Flush()
	for line := range bytes.Lines(b.Bytes()) {
		if _, err := fmt.Fprintf(e.stdout, "%s\n", bytes.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

type rollCmd struct {
	keysFlags
	Algorithm uint8  `help:"Roll a CSK to this algorithm: 13 (ECDSA P-256) or 15 (Ed25519). Without it, the same." placeholder:"N"`
	Role      string `help:"Which key of a split zone: ksk or zsk." enum:"csk,ksk,zsk," default:"" placeholder:"ROLE"`
}

func (rollCmd) Help() string {
	return `Starts a roll now: a successor is made, and the nodes do the rest, step by step, as
bailiwick dns keys shows. A CSK or KSK waits for the parent to have its DS; see
bailiwick dns ds. A second roll is refused until the first is over.

Example:
  bailiwick dns roll
  bailiwick dns roll --algorithm 15`
}

func (c *rollCmd) Run(e *env) error {
	if c.Algorithm != 0 && c.Algorithm != uint8(dnssec.ECDSAP256) && c.Algorithm != uint8(dnssec.Ed25519) {
		return misuse{fmt.Errorf("--algorithm %d: want 13 (ECDSA P-256) or 15 (Ed25519)", c.Algorithm)}
	}
	set, err := c.change(e.ctx, func(s dnssec.Set) (dnssec.Set, []dnssec.Event, error) {
		role := dnssec.Role(c.Role)
		if role == "" {
			role = s.Entry()
		}
		next, events, err := dnssec.Roll(s, time.Now(), role, dnssec.Algorithm(c.Algorithm))
		if err != nil {
			err = fmt.Errorf("%w: bailiwick dns keys shows what each waits for", err)
		}
		return next, events, err
	})
	if err != nil {
		return err
	}
	return writeKeys(e, set)
}

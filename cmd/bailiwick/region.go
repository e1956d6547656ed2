package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"bailiwick/edge"
	"bailiwick/exact"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store/consul"
)

// apiFlags reach a running node.
type apiFlags struct {
	API string `help:"Base URL of a running node; the API key comes from BAILIWICK_API_KEY, dev when it is not set." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Key string `help:"API key; better in the environment than here." env:"BAILIWICK_API_KEY" default:"dev" hidden:""`
}

// maxAnswer bounds what is read of a node's answer.
const maxAnswer = 16 << 20

// call makes one API request, its body bytes or what JSON makes of it, and decodes its answer into out, unless out is nil.
// A problem document becomes an error in words.
func (f *apiFlags) call(ctx context.Context, method, path string, body, out any) error {
	if err := baseURL(f.API); err != nil {
		return misuse{fmt.Errorf("--api: %w", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var send io.Reader
	switch body := body.(type) {
	case nil:
	case []byte:
		send = bytes.NewReader(body)
	default:
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.API, "/")+path, send)
	if err != nil {
		return misuse{err}
	}
	q.Header.Set("Authorization", "Bearer "+f.Key)
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the path, which is ours
		}
		if errors.As(err, new(*tls.CertificateVerificationError)) {
			return fmt.Errorf("%s: %w: name the node as its certificate does with --api, and its CA in SSL_CERT_FILE", f.API, err)
		}
		return fmt.Errorf("%s: %w: is a node running there? --api names another", f.API, err)
	}
	defer r.Body.Close()
	if r.StatusCode >= 400 {
		return refused(r, method+" "+q.URL.Redacted())
	}
	if out == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
	if err == nil {
		err = exact.Known(b, out)
	}
	if err != nil {
		return fmt.Errorf("%s: answer: %w: is that a bailiwick node? --api names another", f.API, err)
	}
	return nil
}

// refused words a problem document. What another command line would mend is
// misuse; a conflict and the node's own trouble are findings.
func refused(r *http.Response, what string) error {
	var p problem.Document
	if b, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer)); err != nil || exact.Known(b, &p) != nil || p.Code == "" {
		return fmt.Errorf("%s: %s: is that a bailiwick node? --api names another", what, r.Status)
	}
	err := errors.New(p.Code + ": " + cmp.Or(p.Detail, p.Title))
	switch p.Code {
	case "unauthorized":
		return misuse{fmt.Errorf("%w: put the key into BAILIWICK_API_KEY", err)}
	case "bad_request", "not_found":
		return misuse{err}
	}
	return err
}

// baseURL checks what a person typed as a node's address.
func baseURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q: want a base URL such as http://127.0.0.1:8080", s)
	}
	return nil
}

type regionCmd struct {
	List  regionListCmd  `cmd:"" help:"Show every region with its mode and edges."`
	Serve regionServeCmd `cmd:"" help:"Put a region into service."`
	Drain regionDrainCmd `cmd:"" help:"Give a region no new consult and move the running ones."`
	Down  regionDownCmd  `cmd:"" help:"Take a region out at once; its consults move."`
}

func (regionCmd) Help() string {
	return "Example:\n  bailiwick region list\n  bailiwick region drain de-fra --for 1h --reason 'kernel update'"
}

type regionListCmd struct {
	apiFlags
	JSON bool `help:"Print JSON."`
}

func (regionListCmd) Help() string { return "Example:\n  bailiwick region list" }

func (c *regionListCmd) Run(e *env) error {
	var s edge.Status
	if err := c.call(e.ctx, http.MethodGet, "/v1/status", nil, &s); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e.stdout, s)
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REGION\tMODE\tUNTIL\tBY\tEDGES UP\tCONSULTS\tCITY\tREASON")
	for _, r := range s.Regions {
		up, holds, admits := 0, 0, 0
		for _, ed := range r.Edges {
			holds, admits = holds+ed.Consults, admits+ed.Admits
			if ed.Health == "up" {
				up++
			}
		}
		until, by := "-", cmp.Or(r.Actor, "-")
		if r.Until != nil {
			until = r.Until.UTC().Format("2006-01-02 15:04Z")
		}
		if r.Drill != "" {
			by += ", drill " + r.Drill
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d of %d\t%d of %d\t%s, %s\t%s\n", r.ID, r.Mode, until, by, up, len(r.Edges), holds, admits, r.City, r.Country, r.Reason)
	}
	t.Flush()
	for line := range bytes.Lines(b.Bytes()) {
		fmt.Fprintf(e.stdout, "%s\n", bytes.TrimRight(line, " \n")) // no blanks where there is no reason
	}
	store := s.Store
	if store == "stale" {
		store += ": the last known good is served"
	}
	_, err := fmt.Fprintf(e.stdout, "\ngeneration %d, store %s\n", s.Generation, store)
	return err
}

// setFlags are shared by the verbs that write a mode.
type setFlags struct {
	apiFlags
	ID     string        `arg:"" help:"Region, e.g. de-fra."`
	Reason string        `help:"Why; shown to everybody who looks."`
	For    time.Duration `help:"Back to serving after this long, e.g. 1h; without it, until changed."`
	Consul string        `help:"Write to this Consul instead of a node's API." placeholder:"ADDR"`
}

type regionServeCmd struct{ setFlags }
type regionDrainCmd struct{ setFlags }
type regionDownCmd struct{ setFlags }

func (regionServeCmd) Help() string { return "Example:\n  bailiwick region serve de-fra" }
func (regionDrainCmd) Help() string {
	return "Example:\n  bailiwick region drain de-fra --for 1h --reason 'kernel update'"
}
func (regionDownCmd) Help() string {
	return "Example:\n  bailiwick region down de-fra --reason 'fibre cut'"
}

func (c *regionServeCmd) Run(e *env) error { return c.set(e, "serving") }
func (c *regionDrainCmd) Run(e *env) error { return c.set(e, "draining") }
func (c *regionDownCmd) Run(e *env) error  { return c.set(e, "down") }

func (c *setFlags) set(e *env, mode string) error {
	rec := steer.ModeRecord{Mode: mode, Reason: c.Reason, Actor: actor()}
	if c.For < 0 {
		return misuse{fmt.Errorf("--for %s: want a time ahead", c.For)}
	}
	if c.For > 0 {
		rec.ExpiresAt = time.Now().Add(c.For).UTC().Truncate(time.Second)
	}
	wish := rec
	wish.Actor = "" // the node's to set: it knows whose key it was
	if c.Consul != "" {
		st, err := consul.New(c.Consul, "")
		if err != nil {
			return misuse{err}
		}
		ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
		defer cancel()
		if err := world.SetMode(ctx, st, region.ID(c.ID), rec); err != nil {
			return fmt.Errorf("region %s: %w", c.ID, err)
		}
	} else if err := c.call(e.ctx, http.MethodPut, "/v1/regions/"+url.PathEscape(c.ID), wish, nil); err != nil {
		return err
	}
	until := ""
	if c.For > 0 {
		until = " until " + rec.ExpiresAt.Format(time.RFC3339)
	}
	fmt.Fprintf(e.stdout, "%s is %s%s\n", c.ID, mode, until)
	return nil
}

// actor names who typed the command, for the record.
func actor() string {
	if u := os.Getenv("SUDO_USER"); u != "" {
		return u
	}
	return os.Getenv("USER")
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

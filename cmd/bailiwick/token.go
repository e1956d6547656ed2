package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bailiwick/exact"
)

type tokenCmd struct {
	JSON bool `help:"Print JSON."`
}

func (tokenCmd) Help() string {
	return `Reads a join token, or a whole join link, from standard input: a token in the command
line would be in everybody's process list. It shows what the token says; only an edge can
tell whether its signature is good. Exits 1 when the token has expired.

Example:
  bailiwick token < link.txt`
}

func (c *tokenCmd) Run(e *env) error {
	in, err := io.ReadAll(io.LimitReader(e.stdin, 8<<10))
	if err != nil {
		return misuse{err}
	}
	word := strings.TrimSpace(string(in))
	if _, fragment, isLink := strings.Cut(word, "#"); isLink {
		word = fragment
	}
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return misuse{errors.New("standard input: not a join token: want three parts with dots between, or a link that ends in #TOKEN")}
	}
	var claims map[string]any
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = exact.Known(b, &claims)
	}
	if err != nil {
		return misuse{fmt.Errorf("standard input: token claims: %w", err)}
	}
	exp, ok := claims["exp"].(float64)
	if !ok {
		return misuse{errors.New("standard input: not a join token: it names no time at which it expires")}
	}
	expires := time.Unix(int64(exp), 0).UTC()
	if c.JSON {
		err = printJSON(e.stdout, claims)
	} else {
		err = printClaims(e.stdout, claims)
		fmt.Fprintf(e.stdout, "%-13s %s\n", "good until", expires.Format(time.RFC3339))
	}
	if err == nil && time.Now().After(expires) {
		fmt.Fprintln(e.stderr, "bailiwick: the token has expired")
		return errFinding
	}
	return err
}

// claimNames are the claims in words, in print order.
var claimNames = []struct{ claim, name string }{{"consult", "consult"}, {"sub", "participant"}, {"role", "role"}, {"jurisdictions", "jurisdictions"},
	{"priority", "priority"}, {"edge", "edge"}, {"standby", "standby"}, {"epoch", "epoch"}, {"e2ee", "e2ee"}, {"tenant", "tenant"}, {"tags", "tags"}}

func printClaims(w io.Writer, claims map[string]any) error {
	for _, n := range claimNames {
		v, ok := claims[n.claim]
		if !ok {
			continue
		}
		if list, is := v.([]any); is {
			words := make([]string, 0, len(list))
			for _, x := range list {
				words = append(words, fmt.Sprint(x))
			}
			v = strings.Join(slices.Compact(words), ", ")
		}
		if _, err := fmt.Fprintf(w, "%-13s %v\n", n.name, v); err != nil {
			return err
		}
	}
	return nil
}

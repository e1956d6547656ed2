package main

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"bailiwick": main}) }

// Each file of testdata is a session at a shell.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits CODE COMMAND... runs a command that must end with that very code: "!" does
// not tell a finding from misuse.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func TestEveryHelpHasItsExample(t *testing.T) {
	parser, err := kong.New(new(cli), defaults(), addressFlags())
	if err != nil {
		t.Fatal(err)
	}
	for verb := range verbs(parser.Model.Node, nil) {
		t.Run(verb, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := run(context.Background(), append(strings.Fields(verb), "--help"), strings.NewReader(""), &stdout, &stderr)
			if code != 0 || stderr.Len() > 0 {
				t.Errorf("exit code %d, stderr %q", code, stderr.String())
			}
			_, example, ok := strings.Cut(stdout.String(), "\nExample:\n")
			if !ok || !strings.Contains(example, " bailiwick "+verb) {
				t.Errorf("no example of bailiwick %s in\n%s", verb, stdout.String())
			}
		})
	}
}

// verbs gives every command line that --help explains, groups included.
func verbs(n *kong.Node, path []string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, c := range n.Children {
			at := append(path[:len(path):len(path)], c.Name)
			if !yield(strings.Join(at, " ")) {
				return
			}
			verbs(c, at)(yield)
		}
	}
}

// Command bailiwick is the whole product in one binary: media edge, DNS node,
// both at once for a laptop, and the operator's verbs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "dev"

// Exit codes of every verb.
const (
	exitFinding = 1 // the verb ran and found something wrong
	exitMisuse  = 2 // the verb could not run as asked
)

// errFinding is returned once what is wrong has been printed.
var errFinding = errors.New("finding")

// cli is the command line: a struct a verb.
type cli struct {
	Log string `help:"Log format on stderr: text or json." enum:"text,json" default:"text"`

	Dev     devCmd     `cmd:"" help:"Run everything on this machine: embedded store, DNS, one edge a region, console and API."`
	Edge    edgeCmd    `cmd:"" help:"Run one media edge."`
	DNS     dnsVerbs   `cmd:"" name:"dns" help:"Run a DNS node, check it, and look after the keys of its zone."`
	Check   checkCmd   `cmd:"" help:"Lint a region map; every error at once, with file:line."`
	Why     whyCmd     `cmd:"" help:"Explain a steering decision, with every rejected region and its citation."`
	Region  regionCmd  `cmd:"" help:"List regions, or put one in or out of service."`
	Probe   probeCmd   `cmd:"" help:"Probe an edge as the health checks do."`
	Geo     geoCmd     `cmd:"" help:"Make and query geo databases."`
	Token   tokenCmd   `cmd:"" help:"Say what a join token says; reads the token from standard input."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// env is what every verb gets.
type env struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	code := -1
	parser, err := kong.New(&c, kong.Name("bailiwick"),
		kong.Description("Regional media gateway for telehealth: every consult stays where the law lets it be."),
		kong.UsageOnError(), kong.Writers(stdout, stderr), kong.Exit(func(n int) { code = n }),
		defaults(), addressFlags(), numberFlags(), kong.ValueFormatter(withDefault), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if err != nil {
		fmt.Fprintln(stderr, "bailiwick:", err)
		return exitMisuse
	}
	if len(args) > 0 && args[0] == "help" { // what many type first
		args = append(args[1:len(args):len(args)], "--help")
	}
	k, err := parser.Parse(args)
	if code >= 0 { // --help printed
		return code
	}
	if err == nil {
		err = onceEach(k)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bailiwick: %v\nRun bailiwick --help, or bailiwick VERB --help for an example.\n", err)
		return exitMisuse
	}
	e := &env{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, log: newLog(c.Log, stderr)}
	switch err := k.Run(e); {
	case err == nil:
		return 0
	case errors.Is(err, errFinding):
		return exitFinding
	default:
		fmt.Fprintln(stderr, "bailiwick:", err)
		var m misuse
		if errors.As(err, &m) {
			return exitMisuse
		}
		return exitFinding
	}
}

// onceEach refuses a flag of one value that is given twice: kong would drop the first.
func onceEach(k *kong.Context) error {
	seen := map[*kong.Flag]bool{}
	for _, p := range k.Path {
		if p.Flag == nil || p.Flag.IsCumulative() {
			continue
		}
		if seen[p.Flag] {
			return fmt.Errorf("--%s is given twice: it takes one value", p.Flag.Name)
		}
		seen[p.Flag] = true
	}
	return nil
}

// defaults are what flags have by the machine.
func defaults() kong.Vars {
	host, _ := os.Hostname() // without one, as without a usable one
	return kong.Vars{"host": nodeOf(host)}
}

// withDefault words a flag's help with the default that a placeholder hides.
func withDefault(v *kong.Value) string {
	help := kong.DefaultHelpValueFormatter(v)
	if v.Flag == nil || v.Flag.PlaceHolder == "" || !v.HasDefault || v.Default == "" {
		return help
	}
	return help + " Default: " + v.Default + "."
}

// misuse marks an error as the caller's: exit 2.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

func newLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

type versionCmd struct{}

func (versionCmd) Help() string { return "Example:\n  bailiwick version" }

func (versionCmd) Run(e *env) error {
	fmt.Fprintln(e.stdout, "bailiwick", version)
	return nil
}

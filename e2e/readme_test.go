package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bailiwick/tools/exectest"
)

// fence is one block of code in a Markdown file.
type fence struct {
	line   int // of the opening ```
	lang   string
	marked bool // <!-- run --> stands right above it
	text   string
}

const runMark = "<!-- run -->"

// fences reads the blocks of a Markdown file; a mark that marks nothing, and a
// block that never ends, fail the test.
func fences(t *testing.T, path string) []fence {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []fence
	open, marked := false, false
	for i, line := range strings.Split(string(b), "\n") {
		lang, tick := strings.CutPrefix(line, "```")
		switch {
		case open && tick:
			open = false
		case open:
			all[len(all)-1].text += line + "\n"
		case tick:
			all = append(all, fence{i + 1, lang, marked, ""})
			open = true
		case marked:
			t.Errorf("%s:%d: %s stands above no block", path, i, runMark)
		}
		marked = !open && line == runMark
	}
	if open {
		t.Fatalf("%s:%d: block without an end", path, all[len(all)-1].line)
	}
	return all
}

// commands splits a block at the ends of lines that are in no quotation.
func commands(text string) []string {
	var all []string
	cmd := ""
	for line := range strings.Lines(text) {
		cmd += line
		if strings.Count(cmd, "'")%2 == 0 {
			if cmd = strings.TrimSpace(cmd); cmd != "" {
				all = append(all, cmd)
			}
			cmd = ""
		}
	}
	return append(all, strings.Fields(cmd)...) // an open quotation fails when it is run
}

// reaches are the verbs that ask a node, and so need to be told of this one.
var reaches = regexp.MustCompile(`^bin/bailiwick (why|region (list|serve|drain|down)) `)

// The README's commands are run as they stand, with the addresses and files of
// this test in place of the reader's.
func TestReadmeCommands(t *testing.T) {
	d := startDev(t)
	country := filepath.Join(t.TempDir(), "country.mmdb")
	ran := 0
	for _, f := range fences(t, "../README.md") {
		if !f.marked {
			continue
		}
		t.Run(fmt.Sprintf("line %d", f.line), func(t *testing.T) {
			if strings.Contains(f.text, "geo import") {
				if _, err := os.Stat("/usr/share/tor/geoip"); err != nil {
					exectest.Absent(t, "no country addresses: install tor-geoipdb")
				}
			}
			for _, cmd := range commands(f.text) {
				word, _, _ := strings.Cut(cmd, " ")
				if word != "bin/bailiwick" {
					if _, err := exec.LookPath(word); err != nil {
						exectest.Absent(t, "no "+word)
					}
				}
				if reaches.MatchString(cmd + " ") {
					cmd += " --api " + d.api()
				}
				shell(t, strings.NewReplacer("127.0.", d.net+".", "bin/bailiwick", binary, "bin/country.mmdb", country).Replace(cmd))
				ran++
			}
		})
	}
	if ran == 0 && !t.Failed() {
		t.Error("no command was run")
	}
}

// shell runs one command, which must succeed and say something.
func shell(t *testing.T, cmd string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", cmd)
	c.Dir = ".."
	out, err := c.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) == "" {
		t.Errorf("%s\n%s\n%v", cmd, out, err)
	}
}

// A command in the README is run by the test above, or is make.
func TestReadmeBlocksAreRun(t *testing.T) {
	marked := 0
	for _, f := range fences(t, "../README.md") {
		switch {
		case f.marked && f.lang != "sh":
			t.Errorf("README.md:%d: %s marks a block of %q", f.line, runMark, f.lang)
		case f.marked:
			marked++
		case f.lang == "sh":
			for _, cmd := range commands(f.text) {
				if !strings.HasPrefix(cmd, "make ") {
					t.Errorf("README.md:%d: %q is run by no test: mark the block %s", f.line, cmd, runMark)
				}
			}
		}
	}
	if marked == 0 {
		t.Errorf("README.md: no block is marked %s", runMark)
	}
}

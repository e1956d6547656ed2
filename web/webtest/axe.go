package webtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"bailiwick/tools/exectest"
)

// rules run WCAG 2.0, 2.1 and 2.2, levels A and AA; each violation is a line.
const rules = `axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}).then(({violations}) =>
  violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary)))`

// Axe fails the test for each accessibility violation of the tab as it is now. The
// rules come in over the DevTools protocol, so that the page's own policy stays on.
// They are the pinned axe-core of tools/web; without it the test is skipped, or
// fails where CI is true.
func Axe(t testing.TB, ctx context.Context) {
	t.Helper()
	for _, v := range violations(t, ctx) {
		t.Errorf("axe: %s", strings.ReplaceAll(v, "\n", " "))
	}
}

func violations(t testing.TB, ctx context.Context) []string {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatalf("axe: %v", err)
	}
	source, err := os.ReadFile(filepath.Join(dir, "tools", "web", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		exectest.Absent(t, fmt.Sprintf("axe: %v: run npm --prefix tools/web ci", err))
	}
	if err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](string(source)+"\n;0")); err != nil {
		t.Fatalf("axe: load: %v", err)
	}
	return Eval[[]string](t, ctx, rules)
}

// root is the folder of the module, above the running test's own.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above the test's folder")
		}
	}
}

package web_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"

	"bailiwick/web/webtest"
)

// tree is the accessibility tree as lines: role "name" state.
func (p tab) tree() []string {
	p.t.Helper()
	got, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		p.t.Fatalf("page: accessibility tree: %v", err)
	}
	text := func(v *accessibility.Value) string {
		if v == nil {
			return ""
		}
		return strings.Trim(string(v.Value), `"`)
	}
	var lines []string
	for _, n := range got.Nodes {
		if n.Ignored {
			continue
		}
		line := text(n.Role) + " " + text(n.Name)
		for _, property := range n.Properties {
			switch property.Name {
			case "checked", "expanded", "live":
				line += " " + string(property.Name) + "=" + text(property.Value)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// What a screen reader is told of the call.
func TestTree(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	p.call(e, "tree")
	p.click("#mic")
	webtest.Wait(t, p.ctx, `document.getElementById("mic").ariaChecked === "false"`)
	got := p.tree()
	for _, want := range []string{
		"heading In call", "toolbar Call controls",
		"switch Mic checked=false", "switch Camera checked=true", "switch Sound only checked=false",
		"button More expanded=false", "button Leave", "button Move my picture",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("tree: no %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
	for _, live := range []string{"live=polite", "live=assertive"} {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, live) }) {
			t.Errorf("tree: no region %s in\n%s", live, strings.Join(got, "\n"))
		}
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// folder has files by their paths.
func folder(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRun(t *testing.T) {
	var tab strings.Builder
	for _, c := range []string{"AX", "CN", "FI", "FR", "HK", "NL", "PF", "RE"} {
		fmt.Fprintf(&tab, "%s\tname\n", c)
	}
	for i := range 250 { // as many as there are
		fmt.Fprintf(&tab, "%c%c\tname\n", 'a'+i/26, 'a'+i%26)
	}
	cldr := map[string]string{
		"LICENSE":      "terms",
		"package.json": `{"version":"99.1.0"}`,
		"supplemental/subdivisionContainment.json": `{"supplemental":{"subdivisionContainment":{
			"EU":{"_contains":["FR","NL"]},"CN":{"_contains":["cnhk","cngd"]},"FI":{"_contains":["fi01","fi02"]},
			"FR":{"_contains":["frpf","frcp","frara","fr971","fr972","fr973","fr974","fr976"]},"frara":{"_contains":["fr01"]},
			"NL":{"_contains":["nlbq1","nlbq2","nlbq3"]},"NO":{"_contains":["no21","no22"]}}}}`,
		"supplemental/aliases.json": `{"supplemental":{"metadata":{"alias":{"subdivisionAlias":{
			"cn91":{"_reason":"overlong","_replacement":"HK"},"fi01":{"_reason":"overlong","_replacement":"AX"},
			"frre":{"_reason":"overlong","_replacement":"RE"},"frpf":{"_reason":"overlong","_replacement":"PF"},
			"frcp":{"_reason":"overlong","_replacement":"CP"},"fra":{"_reason":"deprecated","_replacement":"frges"}}}}}}`,
	}
	out := filepath.Join(t.TempDir(), "codes.txt")
	zones := folder(t, map[string]string{"iso3166.tab": tab.String()})
	if err := run(folder(t, cldr), zones, "2099-01-02", out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := "edition CLDR 99.1.0 of 2099-01-02\nCN GD HK=HK\nFI 01=AX 02\nFR 01 971=GP 972=MQ 973=GF 974=RE 976=YT ARA CP PF=PF RE=RE\nNL BQ1=BQ BQ2=BQ BQ3=BQ\nNO 21=SJ 22=SJ\n"
	if !strings.HasSuffix(string(b), want) {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
	if l, err := os.ReadFile(strings.TrimSuffix(out, ".txt") + ".LICENSE"); err != nil || string(l) != "terms" {
		t.Errorf("licence %q, %v", l, err)
	}
	cldr["supplemental/subdivisionContainment.json"] = `{}`
	if err := run(folder(t, cldr), zones, "2099-01-02", out); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("codes that went: got %v", err)
	}
}

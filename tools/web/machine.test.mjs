import assert from "node:assert/strict";
import {readFileSync, readdirSync, writeFileSync} from "node:fs";
import {test} from "node:test";
import {run} from "./machine.mjs";

const dir = new URL("../../web/testdata/machine/", import.meta.url);
const scripts = readdirSync(dir).filter((name) => !name.endsWith(".out.jsonl"));

for (const name of scripts) {
  test(`script ${name}`, () => {
    const got = run(readFileSync(new URL(name, dir), "utf8"));
    const out = new URL(name.replace(/\.jsonl$/, ".out.jsonl"), dir);
    if (process.env.UPDATE) writeFileSync(out, `${got.join("\n")}\n`);
    const want = readFileSync(out, "utf8").trimEnd().split("\n");
    for (const [i, line] of got.entries()) assert.deepEqual(JSON.parse(line), JSON.parse(want[i] ?? "null"), `${name}, event ${i + 1}`);
    assert.equal(got.length, want.length, name);
  });
}

import assert from "node:assert/strict";
import {test} from "node:test";
import {keyIn, refusal, row, stale, summary} from "./status.js";

const edge = {id: "de-fra-1", health: "up", consults: 3, admits: 1600, rooms: [{id: "c1", participants: 2}, {id: "c2", participants: 3}]};
const region = {id: "de-fra", city: "Frankfurt am Main", country: "DE", mode: "serving", edges: [edge, {...edge, id: "de-fra-2", health: "down", rooms: null}]};

test("a region's row", () => {
  assert.deepEqual(row(region), ["de-fra", "● serving", "1 of 2", "6 of 3200", "5", "Frankfurt am Main, DE", "", ""]);
  assert.deepEqual(row({...region, mode: "draining", reason: "kernel", actor: "oncall", drill: "q4", until: "2026-11-27T13:00:00Z", edges: null}).slice(1),
    ["▼ draining", "0 of 0", "0 of 0", "0", "Frankfurt am Main, DE", "2026-11-27 13:00 UTC", "kernel – by oncall, drill q4"]);
  assert.deepEqual(row({...region, mode: "down", actor: "oncall"}).slice(1, 2).concat(row({...region, mode: "down", actor: "oncall"}).slice(6)), ["■ down", "until changed", "by oncall"]);
  assert.equal(row({...region, mode: ""})[1], "○ unknown");
});

test("a key in the link", () => {
  assert.equal(keyIn("#key=s3cret"), "s3cret");
  assert.equal(keyIn("#key=a%20b"), "a b");
  assert.equal(keyIn("#key=50%"), "50%");
  assert.equal(keyIn("#other"), "");
  assert.equal(keyIn(""), "");
});

test("what a refusal says", () => {
  assert.match(refusal(401, false), /needs an API key/);
  assert.match(refusal(401, true), /not one of this node's/);
  assert.match(refusal(403, true), /role viewer or operator/);
});

test("the world's line and its fault", () => {
  assert.equal(summary({node: "n1", generation: 12, store: "live", regions: []}), "n1. Generation 12. Store live.");
  assert.match(summary({node: "n1", generation: 12, store: "stale", regions: []}), /cannot be written/);
  assert.match(stale(null), /No status yet/);
  assert.match(stale(new Date(2026, 0, 1, 14, 2, 3)), /Stale since 14:02:03/);
});

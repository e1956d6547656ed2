import assert from "node:assert/strict";
import {test} from "node:test";
import {row, stale, summary} from "./status.js";

const edge = {id: "de-fra-1", health: "up", used: 3, seats: 1600, rooms: [{id: "c1", participants: 2}]};
const region = {id: "de-fra", city: "Frankfurt am Main", country: "DE", mode: "serving", reason: "", edges: [edge, {...edge, id: "de-fra-2", health: "down", rooms: null}]};

test("a region's row", () => {
  assert.deepEqual(row(region), ["de-fra", "Frankfurt am Main", "DE", "● serving", "1 of 2", "6 of 3200", "1"]);
  assert.deepEqual(row({...region, mode: "draining", reason: "kernel", edges: null}).slice(3), ["▼ draining (kernel)", "0 of 0", "0 of 0", "0"]);
  assert.equal(row({...region, mode: "down"})[3], "■ down");
  assert.equal(row({...region, mode: ""})[3], "○ unknown");
});

test("the world's line and its fault", () => {
  assert.equal(summary({node: "n1", generation: 12, store: "live", regions: []}), "n1. Generation 12. Store live.");
  assert.match(summary({node: "n1", generation: 12, store: "stale", regions: []}), /cannot be written/);
  assert.match(stale(null), /No status yet/);
  assert.match(stale(new Date(2026, 0, 1, 14, 2, 3)), /Stale since 14:02:03/);
});

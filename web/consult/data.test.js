import assert from "node:assert/strict";
import {test} from "node:test";
import {frame, parse} from "./data.js";

test("a message says whom it is of, and what it is", () => {
  const says = Uint8Array.of(1, 2, 3);
  assert.deepEqual([...frame("", 1, says)], [0, 1, 1, 2, 3]);
  for (const who of ["", "p7", "pé"]) assert.deepEqual(parse(frame(who, 9, says)), {from: who, kind: 9, says});
  assert.deepEqual(parse(frame("a", 1, new Uint8Array())), {from: "a", kind: 1, says: new Uint8Array()});
});

test("what is cut short is none", () => {
  for (const bad of [[], [0], [1, 97], [5, 97, 1], [255]]) assert.equal(parse(Uint8Array.from(bad)), null, String(bad));
});

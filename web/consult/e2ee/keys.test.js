import assert from "node:assert/strict";
import {test} from "node:test";
import {GRACE, makeKeys} from "./keys.js";
import {makeKey} from "./sframe.js";

const key = (n) => makeKey(new Uint8Array(16).fill(n), BigInt(n));
const frame = Uint8Array.of(1, 2, 3);

test("without a key nothing is sent, in the clear least of all", async () => {
  assert.equal(await makeKeys().seal("audio", frame), null);
});

test("a frame opens as what it is, of whom it is, once", async () => {
  const [a, b] = [makeKeys(), makeKeys()];
  a.use(await key(1));
  b.take("a", await key(1), 0);
  b.take("c", await key(2), 0);
  const sealed = await a.seal("audio", frame);
  assert.equal(await b.open("c", "audio", sealed, 0), null);
  assert.equal(await b.open("a", "video", sealed, 0), null);
  assert.equal(await b.open("nobody", "audio", sealed, 0), null);
  assert.deepEqual(await b.open("a", "audio", sealed, 0), frame);
  assert.equal(await b.open("a", "audio", sealed, 0), null);
  assert.equal(await b.open("a", "audio", frame, 0), null, "in the clear");
});

test("the old key is taken for a while after the new one came, and none of who is gone", async () => {
  const [a, b] = [makeKeys(), makeKeys()];
  a.use(await key(1));
  b.take("a", await key(1), 0);
  b.take("a", await key(2), 1_000);
  assert.deepEqual(await b.open("a", "audio", await a.seal("audio", frame), 1_000 + GRACE - 1), frame);
  assert.equal(await b.open("a", "audio", await a.seal("audio", frame), 1_000 + GRACE), null);
  a.use(await key(2));
  assert.deepEqual(await b.open("a", "audio", await a.seal("audio", frame), 1_000 + GRACE), frame);
  // Each new one bounds the last: none is kept for ever.
  b.take("a", await key(3), 10_000);
  b.take("a", await key(4), 11_000);
  assert.deepEqual(await b.open("a", "audio", await a.seal("audio", frame), 10_000 + GRACE - 1), frame);
  assert.equal(await b.open("a", "audio", await a.seal("audio", frame), 10_000 + GRACE), null);
  b.gone("a");
  a.use(await key(4));
  assert.equal(await b.open("a", "audio", await a.seal("audio", frame), 11_000), null);
});

import assert from "node:assert/strict";
import {test} from "node:test";
import {WINDOW, header, makeKey, makeOpener, makeSealer, parse, seal} from "./sframe.js";

const hex = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const text = (bytes) => Buffer.from(bytes).toString("hex");

// RFC 9605 appendix C.1. Every pair of these lengths is there; what the numbers are is the
// same in each.
const NUMBERS = [
  [0n, ""], [1n, ""], [0xffn, "ff"], [0x100n, "0100"], [0xffffn, "ffff"], [0x10000n, "010000"], [0xffffffn, "ffffff"],
  [0x1000000n, "01000000"], [0xffffffffn, "ffffffff"], [0x100000000n, "0100000000"], [0xffffffffffn, "ffffffffff"],
  [0x10000000000n, "010000000000"], [0xffffffffffffn, "ffffffffffff"], [0x1000000000000n, "01000000000000"],
  [0xffffffffffffffn, "ffffffffffffff"], [0x100000000000000n, "0100000000000000"], [0xffffffffffffffffn, "ffffffffffffffff"],
];
// Rows of the appendix as they are printed there.
const PRINTED = [
  [0n, 0n, "00"], [0n, 255n, "08ff"], [0n, 65536n, "0a010000"], [1n, 1n, "11"], [1n, 256n, "190100"],
  [255n, 0n, "80ff"], [255n, 255n, "88ffff"], [256n, 1n, "910100"], [65535n, 65535n, "99ffffffff"],
  [65536n, 281474976710656n, "ae01000001000000000000"], [16777215n, 4294967295n, "abffffffffffffff"],
  [16777216n, 255n, "b801000000ff"], [4294967295n, 18446744073709551615n, "bfffffffffffffffffffffffff"],
  [4294967296n, 72057594037927936n, "cf01000000000100000000000000"], [1099511627775n, 0n, "c0ffffffffff"],
];

test("headers are those of RFC 9605 appendix C.1", () => {
  for (const [kid, ctr, want] of PRINTED) assert.equal(text(header(kid, ctr)), want, `${kid} ${ctr}`);
  for (const [kid, k] of NUMBERS) {
    for (const [ctr, c] of NUMBERS) {
      const config = ((kid < 8n ? Number(kid) : 8 | (k.length / 2 - 1)) << 4) | (ctr < 8n ? Number(ctr) : 8 | (c.length / 2 - 1));
      const want = config.toString(16).padStart(2, "0") + k + c;
      assert.equal(text(header(kid, ctr)), want, `${kid} ${ctr}`);
      assert.deepEqual(parse(hex(`${want}ab`)), {kid, ctr, length: want.length / 2}, want);
      for (let cut = 0; cut < want.length; cut += 2) assert.equal(parse(hex(want.slice(0, cut))), null, `${want} cut at ${cut}`);
    }
  }
});

// RFC 9605 appendix C.3, suite 4.
const C3 = {
  kid: 0x123n, ctr: 0x4567n, base: "000102030405060708090a0b0c0d0e0f", salt: "75234edefe07819026751816",
  metadata: "4945544620534672616d65205747", pt: "64726166742d696574662d736672616d652d656e63",
  ct: "9901234567b7412c2513a1b66dbb48841bbaf17f598751176ad847681a69c6d0b091c07018ce4adb34eb",
};

test("a frame is that of RFC 9605 appendix C.3", async () => {
  const key = await makeKey(hex(C3.base), C3.kid);
  assert.equal(text(key.salt), C3.salt);
  assert.equal(text(await makeSealer(key, C3.ctr).seal(hex(C3.metadata), hex(C3.pt))), C3.ct);
  assert.equal(text(await makeOpener(key).open(hex(C3.metadata), hex(C3.ct))), C3.pt);
  // sframe_key is not to be had of a key that cannot be exported: it encrypts as the RFC's does.
  const theirs = {...key, key: await crypto.subtle.importKey("raw", hex("d34f547f4ca4f9a7447006fe7fcbf768"), "AES-GCM", false, ["encrypt", "decrypt"])};
  assert.equal(text(await seal(theirs, C3.ctr, hex(C3.metadata), hex(C3.pt))), C3.ct);
});

const none = new Uint8Array();
const frame = (n) => Uint8Array.of(n >> 8, n & 255);

test("whatever is changed opens to nothing", async () => {
  const key = await makeKey(hex(C3.base), C3.kid);
  const ct = hex(C3.ct);
  for (let i = 0; i < ct.length; i++) {
    const changed = ct.slice();
    changed[i] ^= 1;
    assert.equal(await makeOpener(key).open(hex(C3.metadata), changed), null, `octet ${i}`);
  }
  for (let n = 0; n < ct.length; n++) assert.equal(await makeOpener(key).open(hex(C3.metadata), ct.slice(0, n)), null, `cut at ${n}`);
  assert.equal(await makeOpener(key).open(none, ct), null, "other metadata");
  assert.equal(await makeOpener(await makeKey(hex(C3.base), C3.kid + 1n)).open(hex(C3.metadata), ct), null, "another KID");
  assert.equal(await makeOpener(await makeKey(hex(C3.salt), C3.kid)).open(hex(C3.metadata), ct), null, "another key");
});

test("no counter is used twice, and none after the last", async () => {
  const s = makeSealer(await makeKey(hex(C3.base), 1n));
  const all = await Promise.all(Array.from({length: 300}, (_, i) => s.seal(none, frame(i)))); // none waits for another
  assert.deepEqual(all.map((f) => parse(f)?.ctr), Array.from({length: 300}, (_, i) => BigInt(i)));
  const last = makeSealer(await makeKey(hex(C3.base), 1n), 2n ** 64n - 1n);
  await last.seal(none, none);
  await assert.rejects(last.seal(none, none), /used up/);
});

test("a replay opens to nothing, and frames may overtake each other", async () => {
  const key = await makeKey(hex(C3.base), 1n);
  const s = makeSealer(key);
  const o = makeOpener(key);
  const frames = [];
  for (let i = 0; i < 3 * WINDOW; i++) frames.push(await s.seal(none, frame(i)));
  for (const i of [2, 0, 1]) assert.equal(text(await o.open(none, frames[i])), text(frame(i)));
  assert.equal(await o.open(none, frames[1]), null);
  const twice = await Promise.all([o.open(none, frames[3]), o.open(none, frames[3])]);
  assert.equal(twice.filter((f) => f !== null).length, 1, "two at once");
  for (let i = 10; i < 3 * WINDOW; i++) assert.notEqual(await o.open(none, frames[i]), null);
  for (const i of [0, 5, 10, 2 * WINDOW, 3 * WINDOW - 1]) assert.equal(await o.open(none, frames[i]), null, `frame ${i}`);
  // One that is forged moves no window.
  const forged = await makeSealer(await makeKey(hex(C3.salt), 1n), 2n ** 40n).seal(none, frame(1));
  assert.equal(await o.open(none, forged), null);
  assert.notEqual(await o.open(none, await s.seal(none, frame(1))), null);
});

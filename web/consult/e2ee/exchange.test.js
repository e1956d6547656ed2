import assert from "node:assert/strict";
import {test} from "node:test";
import {AGAIN, SWITCH, makeExchange} from "./exchange.js";
import {makeOpener, makeSealer} from "./sframe.js";

const K = new Uint8Array(32).fill(7);
const none = new Uint8Array();
const bytes = (text) => new TextEncoder().encode(text);

/** A room: an honest edge in the middle, unless a test says otherwise. */
function makeRoom() {
  const all = new Map();
  const wire = []; // what is on its way
  const log = []; // all that ever was
  const room = {
    all, wire, log, now: 0,
    deaf: new Set(),
    async join(id, {k = K, consult = "c1"} = {}) {
      const me = {id, sealer: null, keys: new Map(), news: [], used: [], data: [], here: true};
      me.x = await makeExchange({
        k, consult, self: id, tag: 0x010000 + all.size,
        send: (to, says) => { wire.push({from: id, to, says}); log.push({from: id, to, says}); },
        use: (key) => { me.used.push(key); me.sealer = makeSealer(key); },
        take: (who, key) => me.keys.set(who, [makeOpener(key), ...(me.keys.get(who) ?? [])]),
        gone: (who) => me.keys.delete(who),
        hear: (from, says) => me.data.push(`${from}: ${new TextDecoder().decode(says)}`),
        tell: (others) => me.news.push(others.join(" ")),
      });
      all.set(id, me);
      return me;
    },
    /** Everybody is told who is there. */
    async peers() {
      for (const me of all.values()) {
        if (me.here) await me.x.peers([...all.values()].filter((p) => p !== me && p.here).map((p) => ({participant: p.id, connected: true})), room.now);
      }
      await room.settle();
    },
    async settle() {
      while (wire.length > 0) {
        const {from, to, says} = wire.shift();
        const them = all.get(to);
        if (them?.here && !room.deaf.has(to)) await them.x.message(from, says, room.now);
      }
    },
    async pass(ms) {
      for (const end = room.now + ms; room.now < end;) {
        room.now += 100;
        for (const me of all.values()) if (me.here) await me.x.tick(room.now);
        await room.settle();
      }
    },
  };
  return room;
}

/** What `to` makes of what `from` says now. */
async function hears(to, from, says = "hello") {
  const frame = await from.sealer.seal(none, bytes(says));
  for (const o of to.keys.get(from.id) ?? []) {
    const plain = await o.open(none, frame);
    if (plain) return new TextDecoder().decode(plain);
  }
  return null;
}

test("three people hear each other, and who comes late has no older key", async () => {
  const room = makeRoom();
  const [a, b] = [await room.join("a"), await room.join("b")];
  await room.peers();
  assert.equal(await hears(b, a), "hello");
  assert.equal(await hears(a, b), "hello");
  assert.deepEqual(a.news, [""]);
  const before = await a.sealer.seal(none, bytes("before"));
  const c = await room.join("c");
  await room.peers();
  for (const [to, from] of [[a, b], [a, c], [b, a], [b, c], [c, a], [c, b]]) assert.equal(await hears(to, from), "hello", `${to.id} of ${from.id}`);
  for (const o of c.keys.get("a")) assert.equal(await o.open(none, before), null);
});

test("what one says to another beside keys that one alone hears, and nobody else's word passes for it", async () => {
  const room = makeRoom();
  const [a, b, c] = [await room.join("a"), await room.join("b"), await room.join("c")];
  await a.x.say("b", bytes("too early"));
  await room.settle();
  await room.peers();
  await a.x.say("b", bytes("a photo"));
  const {says} = room.wire.at(-1);
  assert.equal(new TextDecoder("latin1").decode(says).includes("photo"), false);
  await room.settle();
  await a.x.say("nobody", bytes("x"));
  await c.x.message("a", says, room.now); // to another
  await b.x.message("c", says, room.now); // of another
  await a.x.message("b", says, room.now); // back
  const changed = says.slice();
  changed[20] ^= 1;
  await b.x.message("a", changed, room.now);
  assert.deepEqual([a.data, b.data, c.data], [[], ["a: a photo"], []]);
  assert.equal(await hears(b, a), "hello", "and the keys are as they were");
});

test("who left reads nothing more, with all that it ever had and saw", async () => {
  const room = makeRoom();
  const [a, b, c] = [await room.join("a"), await room.join("b"), await room.join("c")];
  await room.peers();
  assert.equal(await hears(c, a), "hello");
  c.here = false;
  await room.peers();
  assert.equal(await hears(b, a), "hello");
  for (const from of [a, b]) assert.equal(await hears(c, from), null, from.id);
  // The edge hands it everything that is said to the others.
  const seen = room.log.slice();
  for (const {from, says} of seen) await c.x.message(from, says, room.now);
  for (const from of [a, b]) assert.equal(await hears(c, from), null, from.id);
});

test("keys are new at each join and leave, of everybody, and at nothing else", async () => {
  const room = makeRoom();
  const [a, b] = [await room.join("a"), await room.join("b")];
  await room.peers();
  const count = () => a.used.length;
  let n = count();
  await room.peers();
  await room.pass(10_000);
  assert.equal(count(), n, "nothing happened");
  const c = await room.join("c");
  await room.peers();
  assert.ok(count() > n, "join");
  n = count();
  c.here = false;
  await room.peers();
  assert.equal(count(), n + 1, "leave");
  // A page that is loaded anew has the same ID and another key.
  room.all.delete("b");
  const again = await room.join("b");
  n = count();
  await room.peers();
  await room.pass(AGAIN);
  assert.ok(count() > n, "reload");
  assert.equal(await hears(again, a), "hello");
  assert.equal(await hears(b, a), null);
  const kids = a.used.map((k) => k.kid);
  assert.equal(new Set(kids).size, kids.length);
  for (const kid of kids) assert.equal(kid >> 8n, 0x010000n);
});

test("a sender goes on with its key until all have the next, or for a second", async () => {
  const room = makeRoom();
  const [a, b] = [await room.join("a"), await room.join("b")];
  await room.peers();
  const n = a.used.length;
  const c = await room.join("c");
  room.deaf.add("b");
  await room.peers();
  assert.equal(a.used.length, n, "b has not taken it");
  assert.equal(await hears(b, a), "hello");
  await room.pass(SWITCH + 100);
  assert.equal(a.used.length, n + 1);
  assert.equal(await hears(c, a), "hello");
  assert.equal(await hears(b, a), null);
  room.deaf.delete("b");
  await room.pass(AGAIN + 100);
  assert.equal(await hears(b, a), "hello");
});

test("messages that are lost are said again, and then no more", async () => {
  const room = makeRoom();
  const [a, b] = [await room.join("a"), await room.join("b")];
  room.deaf.add("a").add("b");
  await room.peers();
  await room.pass(2_000);
  assert.equal(await hears(b, a), null);
  room.deaf.clear();
  await room.pass(2_000);
  assert.equal(await hears(b, a), "hello");
  assert.equal(await hears(a, b), "hello");
  const n = room.log.length;
  await room.pass(10_000);
  assert.equal(room.log.length, n);
});

test("another k is heard by nobody, and both are told", async () => {
  const room = makeRoom();
  const a = await room.join("a");
  const b = await room.join("b", {k: new Uint8Array(32).fill(8)});
  await room.peers();
  await room.pass(1_000);
  assert.equal(await hears(b, a), null);
  assert.equal(await hears(a, b), null);
  assert.deepEqual([a.news, b.news], [["", "b"], ["", "a"]]);
  b.here = false;
  await room.peers();
  assert.deepEqual(a.news, ["", "b", ""]);
});

test("another consult's messages are nobody's", async () => {
  const room = makeRoom();
  const a = await room.join("a");
  const b = await room.join("b", {consult: "c2"});
  await room.peers();
  assert.equal(await hears(b, a), null);
});

test("who says to be another is found out, whatever the edge does", async () => {
  const room = makeRoom();
  const [a, b, c] = [await room.join("a"), await room.join("b"), await room.join("c")];
  await room.peers();
  // The edge tells a that what c says is b's: hello, keys and all.
  const before = a.keys.get("b").length;
  await c.x.peers([{participant: "a", connected: true}], 0);
  for (const {from, says} of room.log.filter((m) => m.from === "c")) {
    assert.equal(from, "c");
    await a.x.message("b", says, room.now);
  }
  await room.settle();
  assert.equal(a.keys.get("b").length, before);
  const frame = await c.sealer.seal(none, bytes("I am b"));
  for (const o of a.keys.get("b")) assert.equal(await o.open(none, frame), null);
  assert.equal(await hears(a, b), "hello");
  // A message that was a's to b is not b's to a.
  for (const {says} of room.log.filter((m) => m.from === "a" && m.to === "b")) await a.x.message("b", says, room.now);
  assert.equal(await hears(a, b), "hello");
});

test("a key that is said again is not taken again, nor one from before", async () => {
  const room = makeRoom();
  const [a, b] = [await room.join("a"), await room.join("b")];
  await room.peers();
  await room.join("c");
  await room.peers();
  const n = b.keys.get("a").length;
  for (const {says} of room.log.filter((m) => m.from === "a" && m.to === "b")) await b.x.message("a", says, room.now);
  assert.equal(b.keys.get("a").length, n);
  assert.equal(await hears(b, a), "hello");
});

test("what strangers send breaks nothing", async () => {
  const room = makeRoom();
  const [a, b] = [await room.join("a"), await room.join("b")];
  await room.peers();
  const real = room.log.filter((m) => m.from === "b" && m.to === "a").map((m) => m.says);
  for (const says of real) {
    for (let n = 0; n <= says.length; n += 7) await a.x.message("b", says.slice(0, n), room.now);
    for (let i = 0; i < says.length; i += 5) {
      const changed = says.slice();
      changed[i] ^= 0x55;
      await a.x.message("b", changed, room.now);
    }
    await a.x.message("nobody", says, room.now);
  }
  assert.equal(await hears(a, b), "hello");
  assert.equal(await hears(b, a), "hello");
});

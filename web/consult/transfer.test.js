import assert from "node:assert/strict";
import {test} from "node:test";
import {LIMIT, PATIENCE, SIZE, WINDOW, makeInbox, makeOutbox, read, write} from "./transfer.js";

const photo = (length, seed = 1) => Uint8Array.from({length}, (_, i) => (i * 31 + seed) & 255);
const part = (id, at, total, octets) => read(write("part", id, at, total, octets));

test("a message comes back as it was written, wherever it lies", () => {
  for (const [is, at, total, octets] of [["ask", 0, 0, 0], ["no", 0, 0, 0], ["stop", 0, 0, 0], ["got", 0xfffffffe, 0, 0], ["part", 8, 20, 3], ["part", 0, 1, 0]]) {
    const bytes = write(is, 0xdeadbeef, at, total, photo(octets));
    const within = new Uint8Array(bytes.length + 5);
    within.set(bytes, 5);
    for (const says of [bytes, within.subarray(5)]) {
      assert.deepEqual(read(says), {is, id: 0xdeadbeef, at, total, part: photo(octets)}, is);
    }
  }
});

test("what is cut short, too long or of no kind is none", () => {
  const good = write("part", 1, 2, 3);
  for (const bad of [[], [0], [1], [1, 0, 0, 0], [1, 0, 0, 0, 1, 9], [6, 0, 0, 0, 1], [255, 0, 0, 0, 1], [4, 0, 0, 0, 1], [...good.subarray(0, 12)]]) {
    assert.equal(read(Uint8Array.from(bad)), null, String(bad));
  }
});

/** Sends a photo from one to the other; gives what came and the most that was on its way. */
function pass(out, inbox, from) {
  let most = 0, waiting = out.next(0);
  for (;;) {
    most = Math.max(most, waiting.reduce((n, p) => n + read(p).part.length, 0));
    const is = inbox.take(from, read(waiting.shift()), 0);
    if (is.is !== "some") return {is, most};
    waiting.push(...out.next(is.got));
  }
}

test("a photo arrives whole, and little of it is on its way at once", () => {
  for (const length of [1, SIZE, SIZE + 1, WINDOW, 10 * WINDOW - 1]) {
    const inbox = makeInbox(), out = makeOutbox(7, photo(length));
    assert.equal(inbox.ask("p1", 7, 0), true);
    const {is, most} = pass(out, inbox, "p1");
    assert.deepEqual(is, {is: "whole", photo: photo(length)}, `${length} octets`);
    assert.ok(most <= WINDOW, `${most} on their way`);
    assert.equal(out.share < 1, true, "until it is acknowledged");
    assert.deepEqual(out.next(length), []);
    assert.equal(out.share, 1);
    assert.equal(inbox.take("p1", part(7, 0, 1, photo(1)), 0), null, "what comes after it is not wanted");
  }
});

test("each participant's photo is its own, and one at a time", () => {
  const inbox = makeInbox();
  for (const [who, id] of [["p1", 1], ["p2", 2]]) inbox.ask(who, id, 0);
  assert.equal(inbox.ask("p1", 3, 0), false);
  const [a, b] = [photo(2 * SIZE, 1), photo(2 * SIZE, 2)];
  for (const at of [0, SIZE]) {
    for (const [who, id, all] of [["p1", 1, a], ["p2", 2, b]]) {
      const is = inbox.take(who, part(id, at, all.length, all.subarray(at, at + SIZE)), 0);
      assert.deepEqual(is, at === 0 ? {is: "some", got: SIZE, total: 2 * SIZE} : {is: "whole", photo: all});
    }
  }
  assert.equal(inbox.ask("p1", 3, 0), true);
});

test("what nobody asked for grows nothing", () => {
  const inbox = makeInbox();
  inbox.ask("p1", 1, 0);
  assert.equal(inbox.take("p2", part(1, 0, 10, photo(5)), 0), null, "of another");
  assert.equal(inbox.take("p1", part(2, 0, 10, photo(5)), 0), null, "by another number");
  assert.equal(inbox.take("p2", read(write("no", 1)), 0), null);
  assert.equal(inbox.take("p1", read(write("got", 1, 5)), 0), null);
  assert.equal(inbox.take("p1", read(write("ask", 1)), 0), null);
  assert.equal(inbox.drop("p1"), 1);
  assert.equal(inbox.drop("p1"), 0);
  assert.equal(inbox.take("p1", part(1, 0, 10, photo(5)), 0), null, "after it was given up");
});

test("a photo that does not go on as it began is over", () => {
  for (const [what, second] of [
    ["a gap", part(1, 6, 10, photo(2))], ["a part that came before", part(1, 0, 10, photo(5))], ["another total", part(1, 5, 11, photo(5))],
    ["more than there is", part(1, 5, 10, photo(6))], ["a part of nothing", part(1, 5, 10, photo(0))], ["stopped", read(write("stop", 1))],
  ]) {
    const inbox = makeInbox();
    inbox.ask("p1", 1, 0);
    assert.deepEqual(inbox.take("p1", part(1, 0, 10, photo(5)), 0), {is: "some", got: 5, total: 10});
    assert.deepEqual(inbox.take("p1", second, 0), {is: "broken"}, what);
    assert.equal(inbox.take("p1", part(1, 5, 10, photo(5)), 0), null, `after ${what}`);
  }
  for (const [what, first] of [["nothing", part(1, 0, 0, photo(0))], ["too much", part(1, 0, LIMIT + 1, photo(1))], ["its middle", part(1, 5, 10, photo(5))]]) {
    const inbox = makeInbox();
    inbox.ask("p1", 1, 0);
    assert.deepEqual(inbox.take("p1", first, 0), {is: "broken"}, what);
  }
  const inbox = makeInbox();
  inbox.ask("p1", 1, 0);
  assert.deepEqual(inbox.take("p1", read(write("no", 1)), 0), {is: "no"});
});

test("what is not answered, stands still or never ends is given up", () => {
  const inbox = makeInbox();
  inbox.ask("p1", 1, 0);
  assert.deepEqual(inbox.unanswered(), [{who: "p1", id: 1}]);
  assert.deepEqual([inbox.late(PATIENCE.answer - 1), inbox.late(PATIENCE.answer)], [[], ["p1"]]);
  let now = PATIENCE.answer - 1;
  const began = now;
  inbox.take("p1", part(1, 0, LIMIT, photo(1)), now);
  assert.deepEqual(inbox.unanswered(), []);
  assert.deepEqual([inbox.late(now + PATIENCE.part - 1), inbox.late(now + PATIENCE.part)], [[], ["p1"]]);
  for (let at = 1; now - began < PATIENCE.whole; at++) {
    assert.deepEqual(inbox.late(now), [], `an octet at a time, at ${now - began}`);
    now += PATIENCE.part - 1;
    inbox.take("p1", part(1, at, LIMIT, photo(1)), now);
  }
  assert.deepEqual(inbox.late(now), ["p1"]);
});

test("an acknowledgement of what was not sent, or that goes back, ends the sending", () => {
  const out = makeOutbox(1, photo(10 * WINDOW));
  assert.equal(out.next(0).length, WINDOW / SIZE);
  assert.deepEqual(out.next(0), [], "said twice");
  assert.equal(out.next(WINDOW + 1), null);
  assert.equal(out.next(SIZE).length, 1);
  assert.equal(out.next(0), null);
});

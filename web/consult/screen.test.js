import assert from "node:assert/strict";
import {test} from "node:test";
import {canShare, makeScreen} from "./screen.js";

/** A browser whose picker answers with this. @param {() => Promise<any>} answer */
function picker(answer) {
  Object.defineProperty(globalThis, "navigator", {value: {mediaDevices: {getDisplayMedia: answer}}, configurable: true});
  /** @type {[boolean, boolean][]} */
  const told = [];
  return {told, screen: makeScreen((on, failed) => told.push([on, failed]))};
}

const track = () => ({contentHint: "", stopped: false, onended: null, stop() { this.stopped = true; }});
const stream = (/** @type {any} */ t) => ({getVideoTracks: () => [t]});

test("a screen is shared until it is stopped here, or by the browser's own button", async () => {
  const shown = [track(), track()];
  const {told, screen} = picker(async () => stream(shown[told.length / 2]));
  await screen.start();
  assert.equal(screen.track, shown[0]);
  assert.equal(shown[0].contentHint, "detail");
  await screen.start();
  assert.deepEqual(told, [[true, false]], "it is shared already");
  screen.stop();
  screen.stop();
  assert.deepEqual([screen.track, shown[0].stopped, told.length], [null, true, 2]);
  await screen.start();
  shown[1].onended();
  assert.equal(screen.track, null);
  assert.deepEqual(told, [[true, false], [false, false], [true, false], [false, false]]);
});

test("who closes the picker shares nothing; what fails is told", async () => {
  for (const [name, failed] of [["NotAllowedError", false], ["NotReadableError", true]]) {
    const {told, screen} = picker(async () => { throw new DOMException("", name); });
    await screen.start();
    assert.deepEqual(told, [[false, failed]], name);
  }
});

test("the picker is opened once at a time", async () => {
  let opened = 0, pick = (/** @type {any} */ _) => {};
  const {told, screen} = picker(() => (opened++, new Promise((resolve) => { pick = resolve; })));
  const first = screen.start();
  await screen.start();
  pick(stream(track()));
  await first;
  assert.deepEqual([opened, told], [1, [[true, false]]]);
});

test("phones cannot", () => {
  assert.equal(canShare({navigator: {}}), false);
  assert.equal(canShare({navigator: {mediaDevices: {}}}), false);
  assert.equal(canShare({navigator: {mediaDevices: {getDisplayMedia() {}}}}), true);
});

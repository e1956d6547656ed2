import assert from "node:assert/strict";
import {test} from "node:test";
import {counters, makeUplink} from "./leg.js";

const remotes = [
  {participant: "p2", kind: "audio", track: {id: "t1"}}, {participant: "p2", kind: "video", track: {id: "t2"}},
  {participant: "p3", kind: "audio", track: {id: "t3"}},
];
const inbound = (trackIdentifier, packetsReceived) => [`in-${trackIdentifier}`, {type: "inbound-rtp", kind: "audio", trackIdentifier, packetsReceived}];
const pair = (bytesReceived) => ["pair", {type: "candidate-pair", bytesReceived}];

test("any byte from the edge is life; a voice counts for a second after its last packet", () => {
  const look = counters();
  assert.deepEqual(look([], remotes, 0), {grew: false, heard: 0, sends: 0}, "nothing yet");
  assert.deepEqual(look([pair(100), inbound("t1", 5), inbound("t3", 0)], remotes, 100), {grew: true, heard: 1, sends: 0});
  assert.deepEqual(look([pair(200), inbound("t1", 5), inbound("t3", 2)], remotes, 600), {grew: true, heard: 2, sends: 0});
  assert.deepEqual(look([pair(200), inbound("t1", 5), inbound("t3", 2)], remotes, 1_100), {grew: false, heard: 1, sends: 0}, "p2 fell silent");
  assert.deepEqual(look([pair(201), inbound("t1", 5), inbound("t3", 2)], remotes, 1_600), {grew: true, heard: 0, sends: 0}, "RTCP alone");
});

test("one participant's sound and picture are one voice; a stranger's track is none", () => {
  const look = counters();
  assert.deepEqual(look([pair(1), inbound("t1", 1), inbound("t2", 1), inbound("t9", 1)], remotes, 0), {grew: true, heard: 1, sends: 0});
});

test("a picture that stands still is not heard for a screen that does not", () => {
  const look = counters();
  const shared = [{participant: "p2", kind: "video", track: {id: "t1"}}, {participant: "p2", kind: "screen", track: {id: "t2"}}];
  const video = (/** @type {string} */ id, /** @type {number} */ n) => [id, {type: "inbound-rtp", kind: "video", trackIdentifier: id, packetsReceived: n}];
  assert.equal(look([video("t1", 900), video("t2", 1)], shared, 0).heard, 1);
  assert.equal(look([video("t1", 900), video("t2", 2)], shared, 1_500).heard, 1, "the screen goes on below the count of the camera");
  assert.equal(look([video("t1", 900), video("t2", 2)], shared, 3_000).heard, 0);
});

test("what the browser estimates of the pair in use is told", () => {
  const look = counters();
  const {sends} = look([["a", {type: "candidate-pair", availableOutgoingBitrate: 9}], ["b", {type: "candidate-pair", nominated: true, availableOutgoingBitrate: 7}]], remotes, 0);
  assert.equal(sends, 7);
});

test("a fall from much to almost nothing is the edge's word: no video from then on", () => {
  const uplink = makeUplink();
  for (const [at, sends, held] of [[0, 1_800_000, false], [250, 88_000, true], [5_200, 60_000, true], [5_250, 60_000, false], [5_500, 60_000, false], [7_000, 60_000, true]]) {
    uplink.look(Number(sends), Number(at));
    assert.equal(uplink.held, held, `at ${at}`);
  }
});

test("a poor connection thins the voice at once, and holds video back after three seconds", () => {
  const uplink = makeUplink();
  let told = "";
  const is = () => `${uplink.thin ? "thin" : "full"} ${uplink.held ? "held" : "sent"}`;
  for (const [at, sends, changed, want] of [
    [0, 0, false, "full sent"], [100, 300_000, false, "full sent"],
    [1_000, 90_000, false, "full sent"], [2_000, 70_000, true, "thin sent"], [3_900, 90_000, false, "thin sent"],
    [4_000, 90_000, true, "thin held"], // three seconds below 100 kbit/s
    [8_900, 129_000, false, "thin held"], [9_000, 129_000, true, "thin sent"], // tried again after five
    [9_500, 131_000, true, "full sent"], [10_000, 90_000, false, "full sent"],
    [13_000, 90_000, true, "full held"], [22_900, 90_000, false, "full held"], [23_000, 90_000, true, "full sent"], // it did not last: ten
    [30_000, 90_000, false, "full sent"], [31_000, 200_000, false, "full sent"], [40_000, 90_000, false, "full sent"],
    [43_000, 90_000, true, "full held"], [48_000, 90_000, true, "full sent"], // that lasted: five again
    [60_000, 200_000, false, "full sent"], [61_000, 50_000, true, "thin sent"], [62_500, 50_000, true, "thin held"], // so little waits for less
    [67_500, 200_000, true, "full sent"], [77_499, 200_000, false, "full sent"], [77_500, 200_000, false, "full sent"],
  ]) {
    assert.equal(uplink.look(Number(sends), Number(at)), changed, `at ${at}`);
    assert.equal(is(), want, `at ${at}`);
    if (uplink.told !== told.endsWith("+")) told += ` ${at}${uplink.told ? "+" : "-"}`;
  }
  assert.equal(told, " 4000+ 40000- 43000+ 60000- 62500+ 77500-", "its user hears of it at once, and that it is over when it has lasted");
});

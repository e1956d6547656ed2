import assert from "node:assert/strict";
import {test} from "node:test";
import {counters} from "./leg.js";

const remotes = [
  {participant: "p2", kind: "audio", track: {id: "t1"}}, {participant: "p2", kind: "video", track: {id: "t2"}},
  {participant: "p3", kind: "audio", track: {id: "t3"}},
];
const inbound = (trackIdentifier, packetsReceived) => [`in-${trackIdentifier}`, {type: "inbound-rtp", kind: "audio", trackIdentifier, packetsReceived}];
const pair = (bytesReceived) => ["pair", {type: "candidate-pair", bytesReceived}];

test("any byte from the edge is life; a voice counts for a second after its last packet", () => {
  const look = counters();
  assert.deepEqual(look([], remotes, 0), {grew: false, heard: 0}, "nothing yet");
  assert.deepEqual(look([pair(100), inbound("t1", 5), inbound("t3", 0)], remotes, 100), {grew: true, heard: 1});
  assert.deepEqual(look([pair(200), inbound("t1", 5), inbound("t3", 2)], remotes, 600), {grew: true, heard: 2});
  assert.deepEqual(look([pair(200), inbound("t1", 5), inbound("t3", 2)], remotes, 1_100), {grew: false, heard: 1}, "p2 fell silent");
  assert.deepEqual(look([pair(201), inbound("t1", 5), inbound("t3", 2)], remotes, 1_600), {grew: true, heard: 0}, "RTCP alone");
});

test("one participant's sound and picture are one voice; a stranger's track is none", () => {
  const look = counters();
  assert.deepEqual(look([pair(1), inbound("t1", 1), inbound("t2", 1), inbound("t9", 1)], remotes, 0), {grew: true, heard: 1});
});

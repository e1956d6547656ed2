import assert from "node:assert/strict";
import {test} from "node:test";
import {makeJudge, makeMeter, opinion, reportOf} from "./meter.js";

test("the opinion is that of edge/sfu/mos", () => {
  for (const [name, ms, lost, want] of [ // as TestEstimate has them
    ["nothing wrong", 50, 0, 4.41], ["up to 100 ms is no impairment", 100, 0, 4.41], ["G.114's limit", 150, 0, 4.40],
    ["a satellite: Idd 24.1", 400, 0, 3.56], ["5 % lost: Ie 15.8", 50, 0.05, 3.92], ["15 % lost: Ie 35.5", 50, 0.15, 2.97],
    ["nothing comes: Ie 75.9", 0, 1, 1.18], ["less than nothing is lost", 0, -1, 4.41],
  ]) {
    const got = opinion(ms, lost);
    assert.ok(Math.abs(got - want) <= 0.015, `${name}: ${got}, want ${want}`);
  }
});

const remotes = [
  {participant: "p2", kind: "audio", track: {id: "a2"}}, {participant: "p2", kind: "video", track: {id: "v2"}},
  {participant: "p3", kind: "audio", track: {id: "a3"}},
];
const audio = (id, packetsReceived, more = {}) => [id, {type: "inbound-rtp", kind: "audio", trackIdentifier: id, packetsReceived, ...more}];
const video = (id, packetsReceived, more = {}) => [id, {type: "inbound-rtp", kind: "video", trackIdentifier: id, packetsReceived, ...more}];

test("a look is of what grew since the last", () => {
  const look = makeMeter();
  const sound = {concealedSamples: 9_000, silentConcealedSamples: 5_000, totalSamplesReceived: 96_000, packetsLost: 10, jitterBufferDelay: 4_800, jitterBufferEmittedCount: 96_000};
  const first = look([audio("a2", 100, sound), video("v2", 50, {framesDecoded: 30, frameHeight: 720})], remotes, 1_000);
  assert.deepEqual(first.people, [], "of the first nothing is known");
  const m = look([
    ["pair", {type: "candidate-pair", nominated: true, currentRoundTripTime: 0.08}], ["old", {type: "candidate-pair", currentRoundTripTime: 9}],
    ["ria", {type: "remote-inbound-rtp", kind: "audio", fractionLost: 0.02, timestamp: 5}], ["riv", {type: "remote-inbound-rtp", kind: "video", fractionLost: 0.9, timestamp: 5}],
    audio("a2", 190, {concealedSamples: 16_200, silentConcealedSamples: 7_400, totalSamplesReceived: 192_000, packetsLost: 20, jitterBufferDelay: 12_480, jitterBufferEmittedCount: 192_000, jitter: 0.012}),
    video("v2", 150, {framesDecoded: 80, frameHeight: 360, totalFreezesDuration: 0.5, retransmittedPacketsReceived: 4}),
    audio("a3", 10), audio("a9", 10),
  ], remotes, 3_000);
  const {mos, ...p2} = m.people[0];
  assert.deepEqual({...m, people: m.people.length}, {rtt: 80, lost: 0.02, again: 0.04, seconds: 2, people: 1});
  assert.deepEqual(p2, {participant: "p2", height: 360, frozen: 0.25, concealed: 0.05, lost: 0.1, jitter: 12});
  assert.equal(mos, opinion(40 + 80 + 20, 0.05));
  assert.deepEqual(reportOf(m), {type: "stats", participants: [{participant: "p2", height: 360, frozen_s: 0.5, concealed: 0.05, mos: Math.round(1000 * mos) / 1000}]});
});

test("the round trip is that of the pair in use, or else of what is sent", () => {
  const rtt = (...stats) => makeMeter()(stats.map((s, i) => [`s${i}`, s]), remotes, 0).rtt;
  const sent = {type: "remote-inbound-rtp", kind: "video", roundTripTime: 0.2};
  assert.equal(rtt({type: "candidate-pair", nominated: true, currentRoundTripTime: 0.1}, sent), 100);
  assert.equal(rtt({type: "candidate-pair", nominated: true}, sent), 200);
  assert.equal(rtt(), 0);
});

test("what does not come is not judged, and an old report of loss is none", () => {
  const look = makeMeter();
  const stats = [["ri", {type: "remote-inbound-rtp", kind: "audio", fractionLost: 0.5, timestamp: 7}], audio("a2", 10), video("v2", 10, {frameHeight: 720, framesDecoded: 9})];
  look(stats, remotes, 0);
  const m = look(stats, remotes, 2_000);
  assert.deepEqual([m.lost, m.people], [0, [{participant: "p2", height: 0, frozen: 0, concealed: 0, lost: 0, jitter: 0, mos: 0}]]);
});

test("a level takes three looks to come and five to go", () => {
  const judge = makeJudge();
  const steps = [[100, 0], [2_000, 0], [2_000, 0], [500, 1], [2_000, 1], [2_000, 1], [2_000, 2], [100, 2], [100, 2], [100, 2], [100, 2], [500, 1], [100, 1], [100, 1], [100, 1], [100, 1], [100, 0]];
  for (const [i, [rtt, want]] of steps.entries()) assert.equal(judge({rtt, lost: 0, again: 0, seconds: 2, people: []}).own, want, `look ${i}`);
});

test("each cause has its level, and each participant", () => {
  const played = (participant, mos, frozen = 0) => ({participant, height: 0, frozen, concealed: 0, lost: 0, jitter: 0, mos});
  for (const [more, want] of [
    [{}, [0, 0]], [{lost: 0.1}, [1, 0]], [{again: 0.3}, [2, 0]], [{rtt: 399}, [0, 0]],
    [{people: [played("p2", 3.61)]}, [0, 0]], [{people: [played("p2", 3.6)]}, [0, 1]], [{people: [played("p2", 2.5)]}, [0, 2]],
    [{people: [played("p2", 0)]}, [0, 0]], [{people: [played("p2", 4.4, 0.25)]}, [0, 1]], [{people: [played("p2", 4.4, 0.5)]}, [0, 2]],
  ]) {
    const judge = makeJudge();
    let is;
    for (let i = 0; i < 3; i++) is = judge({rtt: 20, lost: 0, again: 0, seconds: 2, people: [played("p2", 4.4)], ...more});
    assert.deepEqual([is.own, is.people.p2], want, JSON.stringify(more));
  }
});

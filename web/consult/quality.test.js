import assert from "node:assert/strict";
import {test} from "node:test";
import {initial} from "./machine.js";
import {link} from "./quality.js";

/** A call of two or three, and how it does. */
function call({own = 0, p2 = 0, p3 = undefined, quality = [], held = false, camera = true, sound = false}) {
  const peer = (participant) => ({participant, role: "patient", mic: true, camera: true, connected: true});
  const people = {p2, ...(p3 !== undefined && {p3})};
  return {...initial, name: "call", wish: {mic: true, camera, sound}, devices: {...initial.devices, camera: true},
    legs: [{id: 1, role: "current", peers: Object.keys(people).map(peer), quality, levels: {own, people}, held}]};
}
const q = (participant, video, cause) => ({participant, video, cause});

test("whose connection it is, and how it does", () => {
  for (const [name, is, want] of [
    ["all well", {}, "net 0"],
    ["the own", {own: 1}, "net.own 1"],
    ["the own, and what comes by it is worse", {own: 1, p2: 2}, "net.own 2"],
    ["of one that comes badly nobody knows", {p2: 1}, "net 1"],
    ["but the edge", {p2: 1, quality: [q("p2", "reduced", "peer")]}, "net.peer 1 p2"],
    ["which may know alone", {quality: [q("p2", "off", "peer")]}, "net.peer 2 p2"],
    ["or that it is the own", {quality: [q("p2", "reduced", "own")]}, "net.own 1"],
    ["what the edge or somebody chose is no connection", {quality: [q("p2", "off", "edge"), q("p2", "off", "chosen")]}, "net 0"],
    ["one of two comes badly", {p2: 0, p3: 2}, "net.peer 2 p3"],
    ["both come badly", {p2: 1, p3: 2}, "net.own 2"],
    ["the own video is held back", {held: true}, "net.own 2"],
    ["or would be", {held: true, camera: false}, "net 0"],
    ["without video", {sound: true, quality: [q("p2", "off", "own")]}, "net 0"],
  ]) {
    const {key, params} = link(call(is));
    assert.equal([key, params.level, params.who].filter((x) => x !== undefined).join(" "), want, name);
  }
  assert.deepEqual(link(initial), {key: "net", params: {level: "0"}});
});

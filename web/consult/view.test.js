import assert from "node:assert/strict";
import {readFile, readdir} from "node:fs/promises";
import {test} from "node:test";
import {i18n} from "../shared/i18n.js";
import {initial} from "./machine.js";
import {ACTIONS, banners, clock, message, support, tiles, view} from "./view.js";

const root = new URL("..", import.meta.url);
const dictionary = JSON.parse(await readFile(new URL("i18n/en.json", root), "utf8"));
const texts = i18n(dictionary);
const peer = (participant, role, more = {}) => ({participant, role, mic: true, camera: true, connected: true, ...more});
const leg = {id: 1, role: "current", place: {region: "de-fra", city: "Frankfurt am Main", country: "DE"}, peers: [], quality: [], profile: "face"};
const call = {...initial, name: "call", legs: [leg]};

test("each text's buttons have their actions", () => {
  for (const key of Object.keys(dictionary)) {
    assert.equal(ACTIONS[key]?.length ?? 0, texts.buttons(key).length, key);
  }
});

test("every text is used, and every key that is used exists", async () => {
  let source = "";
  for (const dir of ["consult", "shared"]) {
    for (const name of await readdir(new URL(dir, root))) {
      if (name.endsWith(".js") && !name.endsWith(".test.js")) source += await readFile(new URL(`${dir}/${name}`, root), "utf8");
    }
  }
  // Keys that are put together from closed sets.
  const built = /^(title|role|name|control|device|mic|camera|denied|picture|level)\./;
  for (const key of Object.keys(dictionary)) assert.ok(source.includes(`"${key}"`) || built.test(key), `unused text ${key}`);
  for (const [, key] of source.matchAll(/(?:\bt|buttons)\("([^"]+)"/g)) assert.ok(dictionary[key], `no text ${key}`);
  for (const [, key] of source.matchAll(/key: "([^"]+)"/g)) assert.ok(dictionary[key], `no text ${key}`);
});

test("which page a state shows", () => {
  const rows = [
    ["the check", initial, "link", "title.link"],
    ["joining", {...initial, step: "joining"}, "link", "title.joining"],
    ["a bad link", {...initial, step: "stopped", text: "link.bad"}, "message", "title.stopped"],
    ["a call", call, "call", "title.call"],
    ["sound only", {...call, name: "audio-only"}, "call", "title.audio-only"],
    ["moving", {...call, name: "moving"}, "call", "title.moving"],
    ["reconnecting", {...call, name: "reconnecting", gap: 2}, "call", "title.reconnecting"],
    ["failed", {...call, name: "reconnecting", gap: 3}, "message", "title.reconnecting"],
    ["a join that failed", {...initial, step: "joining", gap: 3}, "message", "title.joining"],
    ["ended", {...initial, name: "ended", text: "ended.left"}, "message", "title.ended"],
    ["refused", {...initial, name: "refused", text: "refused.place"}, "message", "title.refused"],
  ];
  for (const [what, state, page, title] of rows) {
    const v = view(state);
    assert.deepEqual([v.page, v.title], [page, title], what);
    assert.ok(texts.t(title), what);
  }
  assert.equal(view({...call, gap: 3}).text, "lost.failed");
});

test("banners, most urgent first", () => {
  const s = {...call, gap: 1, away: ["p2"], troubles: [{key: "no.sound"}], devices: {mic: false, camera: false, failures: {mic: {key: "paused"}, camera: {key: "busy"}}}, notice: {key: "moved"}, wish: {mic: true, camera: true, sound: true}};
  assert.deepEqual(banners(s).map((b) => b.key), ["lost", "lost.peer", "no.sound", "paused", "busy", "moved", "audio.chosen"]);
  const denied = {key: "denied.chrome"};
  assert.deepEqual(banners({...call, devices: {mic: false, camera: false, failures: {mic: denied, camera: denied}}}), [denied], "one sentence for both");
  assert.deepEqual(banners({...call, moving: true}).map((b) => b.key), ["moving"]);
  assert.deepEqual(banners({...call, moving: true, gap: 2}).map((b) => b.key), ["lost.long"]);
});

test("banners of paused video: the own connection, then the edge, then the others'", () => {
  const off = (participant, cause) => ({participant, video: "off", cause});
  const s = {...call, legs: [{...leg, quality: [off("p2", "peer"), off("p3", "edge"), off("p4", "edge"), off("p5", "own"), off("p6", "peer"), off("p7", "chosen")]}]};
  assert.deepEqual(banners(s).map((b) => b.key), ["audio.own", "audio.edge", "audio.peer", "audio.peer"]);
  assert.deepEqual(banners({...s, wish: {...s.wish, sound: true}}).map((b) => b.key), ["audio.chosen"]);
  for (const key of ["audio.own", "audio.edge", "audio.peer"]) assert.deepEqual(message(s, {key, params: {who: "p2"}}, texts).buttons, [], key);
});

test("the picture that is shown is one that this page has words for", () => {
  const of = (profile) => view({...call, legs: [{...leg, profile}]}).picture;
  assert.deepEqual(["face", "detail", "sign", "", "x-ray"].map(of), ["face", "detail", "sign", "", ""]);
  assert.equal(message(call, {key: "picture.changed", params: {picture: "sign"}}, texts).sentences.join(" "), "The picture is now set for: Sign language.");
});

test("sentences name the place, the person and the country", () => {
  const peers = [peer("p2", "clinician"), peer("p3", "companion"), peer("p4", "companion")];
  const s = {...call, legs: [{...leg, peers}], seen: ["p2", "p3", "p4"]};
  const say = (key, params, state = s) => message(state, {key, params}, texts).sentences.join(" ");
  assert.equal(say("check.place"), "Your call is handled in Frankfurt am Main, Germany.");
  assert.equal(say("moved"), "Your call moved. It is still handled in Germany.");
  assert.equal(say("moved.abroad"), "Your call moved to Frankfurt am Main, Germany. The rules allow this.");
  assert.equal(say("call.started", {who: "p2"}), "The clinician is here. The call has started.");
  assert.equal(say("call.started", {who: "p4"}), "Companion 2 is here. The call has started.");
  const refusal = {code: "home_only", jurisdiction: "AE", citation: ["Art. 13"], id: "3f"};
  const r = {...initial, name: "refused", refusal};
  assert.equal(say("refused.place", {}, r), "We cannot start this call. The rules for United Arab Emirates need a server that is not available now. No sound or video was sent.");
  assert.equal(say("refused.place", {}, {...r, refusal: {...refusal, jurisdiction: ""}}), "We cannot start this call. No sound or video was sent.");
  assert.equal(say("refused.place", {}, {...r, refusal: {...refusal, jurisdiction: "US-TX"}}).includes("United States"), true);
  assert.equal(support(r, texts), "For support: home_only, Art. 13, reference 3f.");
  assert.equal(support({...r, refusal: {...refusal, citation: [], id: ""}}, texts), "For support: home_only, none, reference none.");
});

test("a link that is early names both clocks", () => {
  const refusal = {code: "token_early", jurisdiction: "", citation: [], id: "", valid_from: "2026-11-27T12:00:00Z", clock: "2026-11-27T10:00:00Z"};
  const said = (r) => message({...initial, refusal: r}, {key: "link.early"}, texts);
  assert.match(said(refusal).sentences.join(" "), /^This link is not valid yet. It is valid from .*27.*2026.*. The clock of the server says .*2026.*\.$/);
  assert.deepEqual(said({...refusal, valid_from: undefined, clock: "x"}).sentences, ["This link is not valid yet."]);
  assert.deepEqual(said(refusal).buttons, [{action: "rejoin", label: "Try again"}]);
});

test("the law's countdown, as a clock and in words", () => {
  const s = {...call, legs: [{...leg, withdrawal: {code: "fact_missing", citation: [], endsAt: 900_000}}]};
  for (const [now, want] of [[0, "15:00"], [500, "15:00"], [1_000, "14:59"], [840_000, "1:00"], [891_000, "0:09"], [999_000, "0:00"]]) assert.equal(clock(s, now), want, String(now));
  assert.deepEqual([clock(call, 0), clock({...s, name: "ended"}, 0)], ["", ""]);
  const say = (ms) => message(s, {key: "withdrawal", params: {left: String(ms)}}, texts).sentences.at(-1);
  assert.deepEqual([900_000, 60_000, 10_000].map(say), ["It ends in 15 minutes.", "It ends in 1 minute.", "It ends in 10 seconds."]);
});

test("a button that makes no sense now is not offered", () => {
  const labels = (s, key) => message(s, {key}, texts).buttons.map((b) => b.label);
  const quiet = {...call, gap: 2, wish: {mic: true, camera: true, sound: true}};
  assert.deepEqual(labels({...call, gap: 2}, "lost.long"), ["Try now", "Sound only"]);
  assert.deepEqual(labels(quiet, "lost.long"), ["Try now"]);
  assert.deepEqual(labels(quiet, "audio.chosen"), ["Turn video on"]);
  assert.deepEqual(labels({...initial, step: "ready"}, "none.mic"), ["Try again", "Listen"]);
  assert.deepEqual(labels(call, "none.mic"), ["Try again"]);
  assert.deepEqual(message(call, {key: "none.mic"}, texts).sentences, ["No microphone found.", "The others do not hear you.", "Connect one."], "who is in the call does not join to listen");
});

test("tiles: who speaks, and a screen, while they are to be seen", () => {
  const of = (more, leg1 = {}) => tiles({...call, ...more, legs: [{...leg, peers: [peer("p2", "clinician", {screen: true}), peer("p3", "patient")], speaker: "p3", ...leg1}]}, texts)
    .map((t) => [t.screen, t.speaks]);
  assert.deepEqual(of({}), [["Clinician: screen", ""], ["", "speaking"]]);
  assert.deepEqual(of({wish: {mic: true, camera: true, sound: true}}), [["", ""], ["", "speaking"]], "sound only");
  assert.deepEqual(of({gap: 1}), [["", ""], ["", ""]], "what stands still");
  assert.deepEqual(of({}, {speaker: ""}), [["Clinician: screen", ""], ["", ""]]);
});

test("tiles: a picture that is not there is a name and a state", () => {
  const s = {
    ...call, seen: ["p2", "p3", "p4"],
    legs: [{...leg, peers: [
      peer("p2", "clinician"), peer("p3", "interpreter", {camera: false, mic: false}),
      peer("p4", "companion", {connected: false}), peer("p5", "companion", {connected: false}), peer("p6", "surgeon"),
    ]}],
  };
  assert.deepEqual(tiles(s, texts).map((t) => [t.name, t.state, t.video, t.note]), [
    ["Clinician", "", true, ""],
    ["Interpreter", "Camera is off", false, "microphone off"],
    ["Companion", "Connection lost", false, ""],
    ["Participant", "", true, ""],
  ]);
  const quiet = {...s, wish: {mic: true, camera: true, sound: true}};
  assert.equal(tiles(quiet, texts)[0].state, "Sound only");
  assert.equal(tiles({...s, gap: 1}, texts)[0].state, "Reconnecting", "a frozen picture is hidden");
  const told = (participant, video, cause) => tiles({...s, legs: [{...s.legs[0], quality: [{participant, video, cause}]}]}, texts);
  assert.deepEqual(told("p2", "off", "edge")[0].state, "Video is paused");
  assert.deepEqual(told("p2", "off", "chosen")[0].state, "", "what is off by choice peers say");
  const [first] = told("p2", "reduced", "edge");
  assert.deepEqual([first.state, first.video, first.note], ["", true, "reduced picture"]);
  assert.deepEqual(told("p3", "reduced", "edge")[1].note, "microphone off", "there is no picture");
});

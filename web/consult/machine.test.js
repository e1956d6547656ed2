import assert from "node:assert/strict";
import {test} from "node:test";
import {GAPS, MEDIA, WELCOME, backoff, initial, step} from "./machine.js";

const EDGE = {url: "wss://a/v1/join", token: "t"};
const STANDBY = {url: "wss://b/v1/join", token: "t"};
const FRANKFURT = {region: "de-fra", city: "Frankfurt am Main", country: "DE"};
const BERLIN = {region: "de-ber", city: "Berlin", country: "DE"};
const PARIS = {region: "fr-par", city: "Paris", country: "FR"};
const OPEN = {type: "open", problem: "", granted: true, addresses: [EDGE], session: "", sound: false};
const BOTH = {type: "devices", mic: true, camera: true, failure: null};
const PEER = {participant: "p2", role: "clinician", mic: true, camera: true, connected: true};

/** A page under the machine: the state, all effects since the last look, a clock. */
function page(from = initial) {
  let state = from;
  let now = 1_000;
  let effects = [];
  return {
    get state() { return state; },
    get name() { return state.name; },
    /** @returns what the event itself asked for */
    on(event) {
      const r = step(state, event, now);
      state = r.state;
      effects.push(...r.effects);
      return r.effects;
    },
    after(ms, event) {
      now += ms;
      return this.on(event);
    },
    did(kind) {
      const found = effects.filter((e) => e.do === kind);
      effects = effects.filter((e) => e.do !== kind);
      return found;
    },
  };
}

const welcome = (leg, place = FRANKFURT) => ({type: "welcome", leg, session: `s${leg}`, place, standby: [STANDBY.url]});
const pulse = (leg, alive = true, heard = 0) => ({type: "pulse", leg, alive, heard});
const timer = (name) => ({type: "timer", name, dice: 0.5});
const closed = (leg) => ({type: "closed", leg, dice: 0.5});
const refused = (leg, code) => ({type: "refused", leg, refusal: {code, jurisdiction: "AE", citation: ["Art. 13"], id: "3f"}, dice: 0.5});

/** A page in the call on leg 1, with one peer heard. */
function calling() {
  const p = page();
  for (const e of [OPEN, BOTH, {type: "join"}, welcome(1), {type: "peers", leg: 1, peers: [PEER]}, pulse(1, true, 1)]) p.on(e);
  assert.equal(p.name, "call");
  for (const kind of ["connect", "send", "say", "timer", "save", "adopt", "drop", "devices"]) p.did(kind);
  return p;
}

/** A page in the call whose media stopped 1.5 s ago. */
function lost() {
  const p = calling();
  p.after(GAPS[0], timer("gap"));
  assert.equal(p.name, "reconnecting");
  return p;
}

test("link: a bad link or browser stops, and asks for nothing", () => {
  for (const problem of ["link.bad", "browser.old", "browser.inapp"]) {
    const p = page();
    const fx = p.on({...OPEN, problem});
    assert.deepEqual([p.name, p.state.step, p.state.text, fx], ["link", "stopped", problem, []], problem);
  }
});

test("link: devices are asked for at once only when they are granted", () => {
  const p = page();
  p.on({...OPEN, granted: false});
  assert.equal(p.state.step, "ask");
  assert.deepEqual(p.did("devices"), []);
  p.on({type: "ask", sound: true});
  assert.equal(p.state.step, "opening");
  assert.deepEqual(p.did("devices"), [{do: "devices", video: false}]);

  const q = page();
  q.on(OPEN);
  assert.deepEqual([q.state.step, q.did("devices")], ["opening", [{do: "devices", video: true}]]);
});

test("link → call: join needs the check, then connects, and the first sign of life is the call", () => {
  const p = page();
  p.on(OPEN);
  p.on({type: "join"});
  assert.deepEqual(p.did("connect"), [], "before the devices are known");
  p.on(BOTH);
  assert.equal(p.state.step, "ready");
  p.on({type: "join"});
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 1, address: EDGE, session: ""}]);
  p.on(welcome(1));
  assert.deepEqual(p.did("save"), [{do: "save"}]);
  assert.deepEqual(p.state.addresses, [EDGE, STANDBY]);
  assert.equal(p.name, "link", "welcomed is not yet connected");
  p.on(pulse(1, false));
  assert.equal(p.name, "link");
  p.on(pulse(1));
  assert.equal(p.name, "call");
  assert.deepEqual(p.did("adopt"), [{do: "adopt", leg: 1}]);
  assert.deepEqual(p.state.place, FRANKFURT);
});

test("link: joining without devices is allowed, to listen", () => {
  const p = page();
  p.on(OPEN);
  p.on({type: "devices", mic: false, camera: false, failure: {key: "none.mic"}});
  p.on({type: "join"});
  assert.equal(p.did("connect").length, 1);
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: false, camera: false, receive: true});
});

test("link: a join that gets nowhere shows help, then failure, while attempts go on", () => {
  const p = page();
  for (const e of [OPEN, BOTH, {type: "join"}]) p.on(e);
  p.after(GAPS[0], timer("gap"));
  assert.equal(p.state.gap, 0, "no banner: the join itself takes a moment");
  p.after(GAPS[1], timer("gap"));
  assert.deepEqual([p.name, p.state.gap], ["link", 2]);
  p.on(closed(1));
  p.on(timer("retry"));
  p.after(GAPS[2], timer("gap"));
  assert.deepEqual([p.name, p.state.gap, p.state.next], ["link", 3, 2]);
});

test("reload: a kept session takes the seat again without the check", () => {
  const p = page();
  p.on({...OPEN, session: "s1", sound: true});
  assert.deepEqual(p.did("devices"), [{do: "devices", video: false}]);
  p.on({...BOTH, camera: false});
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 1, address: EDGE, session: "s1"}]);
  p.on(welcome(1));
  p.on(pulse(1));
  assert.equal(p.name, "audio-only");
});

test("call: a lost socket with flowing media shows nothing and resumes in the background", () => {
  const p = calling();
  p.on(closed(1));
  assert.equal(p.name, "call");
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 2, address: EDGE, session: "s1"}]);
  p.after(500, pulse(1, true, 1));
  p.on(welcome(2));
  p.on(pulse(2, true, 1));
  assert.deepEqual([p.name, p.state.current, p.state.next], ["call", 2, 0]);
  assert.deepEqual(p.did("drop"), [{do: "drop", leg: 1}]);
  assert.equal(p.state.notice, null);
  assert.deepEqual(p.did("say"), []);
});

test("call: a killed edge is left for its standby within one round, at once", () => {
  const p = calling();
  p.on(closed(1));
  p.on(closed(2));
  const retry = p.did("timer").find((t) => t.name === "retry");
  assert.equal(retry.ms, 0);
  p.on(timer("retry"));
  assert.deepEqual(p.did("connect").at(-1).address, STANDBY);
  p.on(welcome(3, BERLIN));
  p.on(pulse(3, true, 1));
  assert.deepEqual([p.name, p.state.place, p.state.addresses], ["call", BERLIN, [STANDBY]]);
  assert.equal(p.state.notice, null, "a failover that succeeds shows nothing");
});

test("call: a failover over a border is said", () => {
  const p = calling();
  p.on(closed(1));
  p.on(welcome(2, PARIS));
  p.on(pulse(2, true, 1));
  assert.equal(p.state.notice.key, "moved.abroad");
});

test("call → reconnecting → call: silence of 1.5 s, 10 s, 60 s; attempts go on throughout", () => {
  const p = calling();
  p.after(GAPS[0] - 1, timer("gap"));
  assert.deepEqual([p.name, p.did("timer").at(-1)], ["call", {do: "timer", name: "gap", ms: 1}]);
  p.after(1, timer("gap"));
  assert.deepEqual([p.name, p.state.gap], ["reconnecting", 1]);
  assert.deepEqual(p.did("say"), [{do: "say", key: "lost", loud: false}]);
  assert.equal(p.did("connect").length, 1, "the socket may be open and dead");
  p.after(GAPS[1] - GAPS[0], timer("gap"));
  assert.deepEqual(p.did("say"), [{do: "say", key: "lost.long", loud: true}]);
  p.after(GAPS[2] - GAPS[1], timer("gap"));
  assert.equal(p.state.gap, 3);
  p.on(closed(2));
  p.on(timer("retry"));
  assert.equal(p.state.next, 3);
  p.on(welcome(3));
  p.on(pulse(3));
  assert.deepEqual([p.name, p.state.gap], ["call", 0]);
});

test("reconnecting → call: the old leg comes back by itself", () => {
  const p = lost();
  p.on(closed(2));
  assert.equal(p.state.retrying, true);
  p.did("timer");
  p.on(pulse(1, true, 1));
  assert.deepEqual([p.name, p.state.retrying], ["call", false]);
  assert.deepEqual(p.did("timer"), [{do: "timer", name: "gap", ms: GAPS[0]}], "silence is watched again");
});

test("reconnecting: Try now starts a new round at the seat's edge; in a running call it does nothing", () => {
  const p = lost();
  p.on(closed(2));
  p.did("connect");
  p.on({type: "retry"});
  assert.deepEqual(p.did("connect").map((c) => c.address), [EDGE]);
  const q = calling();
  q.on({type: "retry"});
  assert.deepEqual(q.did("connect"), []);
});

test("a leg that is not welcomed, or welcomed and mute, is given up for the next address", () => {
  const p = lost();
  assert.equal(p.did("timer").find((t) => t.name === "attempt").ms, WELCOME);
  p.after(WELCOME, timer("attempt"));
  p.on(timer("retry"));
  assert.deepEqual(p.did("connect").at(-1).address, STANDBY);
  p.on(welcome(3, BERLIN));
  assert.equal(p.did("timer").findLast((t) => t.name === "attempt").ms, MEDIA);
  p.after(MEDIA, timer("attempt"));
  assert.equal(p.did("drop").at(-1).leg, 3);
  assert.equal(p.state.retrying, true);
});

test("an edge that welcomes and then breaks is tried ever more slowly", () => {
  const p = calling();
  p.on(closed(1));
  const pauses = [];
  for (let leg = 2; leg < 8; leg++) {
    p.on(welcome(leg));
    p.did("timer");
    p.on(closed(leg));
    pauses.push(p.did("timer").find((t) => t.name === "retry").ms);
    p.on(timer("retry"));
  }
  assert.deepEqual(pauses, [0, 250, 0, 500, 0, 1000]);
});

test("backoff: none within a round, then 0.25 s doubling to 5 s, spread by a half", () => {
  assert.deepEqual([1, 2, 3, 4, 6, 8, 20].map((n) => backoff(n, 2, 0.5)), [0, 250, 0, 500, 1000, 2000, 5000]);
  assert.deepEqual([backoff(1, 1, 0), backoff(1, 1, 0.999)], [125, 375]);
  assert.equal(backoff(0, 1, 0.5), 0);
});

test("call → moving → call: the old leg plays until as many are heard on the new one", () => {
  const p = calling();
  p.on({type: "move", leg: 1, url: STANDBY.url, token: "t2"});
  assert.equal(p.name, "moving");
  assert.deepEqual(p.did("connect")[0].address, {url: STANDBY.url, token: "t2"});
  p.on(welcome(2, BERLIN));
  p.on(pulse(1, true, 1));
  p.on(pulse(2, true, 0));
  assert.deepEqual([p.name, p.state.current], ["moving", 1], "the peer has not arrived there");
  p.on(pulse(2, true, 1));
  assert.deepEqual([p.name, p.state.current, p.did("drop")], ["call", 2, [{do: "drop", leg: 1}]]);
  assert.equal(p.state.notice.key, "moved");
  p.on(timer("notice"));
  assert.equal(p.state.notice, null);
});

test("moving: the old edge closes first, so the new leg is taken as it is", () => {
  const p = calling();
  p.on({type: "move", leg: 1, url: STANDBY.url, token: "t2"});
  p.on(welcome(2, PARIS));
  p.on(closed(1));
  p.on(pulse(1, false, 0));
  p.on(pulse(2, true, 0));
  assert.deepEqual([p.name, p.state.current, p.state.notice.key], ["call", 2, "moved.abroad"]);
});

test("moving: a target that fails is retried, then the old addresses", () => {
  const p = calling();
  p.on({type: "move", leg: 1, url: "wss://c/v1/join", token: "t2"});
  p.on(closed(2));
  assert.equal(p.name, "moving");
  p.on(timer("retry"));
  assert.deepEqual(p.did("connect").map((c) => c.address.url), ["wss://c/v1/join", EDGE.url]);
});

test("moving: without media it is reconnecting that people need to know", () => {
  const p = calling();
  p.on({type: "move", leg: 1, url: STANDBY.url, token: "t2"});
  p.after(GAPS[0], timer("gap"));
  assert.equal(p.name, "reconnecting");
});

test("a move asked for by a leg not yet heard waits until it is", () => {
  const p = page();
  for (const e of [OPEN, BOTH, {type: "join"}, welcome(1, BERLIN)]) p.on(e);
  p.did("connect");
  p.on({type: "move", leg: 1, url: "wss://c/v1/join", token: "t2"});
  assert.deepEqual(p.did("connect"), []);
  p.on(pulse(1));
  assert.deepEqual([p.name, p.did("connect")[0].address.url], ["moving", "wss://c/v1/join"]);
});

test("call ⇄ audio-only: chosen by the user, camera and incoming video both off", () => {
  const p = calling();
  p.on({type: "sound"});
  assert.equal(p.name, "audio-only");
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: true, camera: false, receive: false});
  p.on({type: "sound"});
  assert.deepEqual([p.name, p.did("devices"), p.state.notice.key], ["call", [{do: "devices", video: true}], "audio.back"]);
  p.on(BOTH);
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: true, camera: true, receive: true});
});

test("audio-only: a camera that its user switched off stays off, and Camera ends sound only", () => {
  const p = calling();
  p.on({type: "camera"});
  p.on({type: "sound"});
  p.on({type: "sound"});
  assert.deepEqual(p.did("devices"), []);
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: true, camera: false, receive: true});
  p.on({type: "sound"});
  p.on({type: "camera"});
  assert.deepEqual([p.name, p.did("devices")], ["call", [{do: "devices", video: true}]]);
});

test("a switch turns what is: a device that failed is asked for again", () => {
  const p = calling();
  p.on({type: "devices", mic: false, camera: false, failure: {key: "denied.chrome"}});
  assert.deepEqual(p.did("say"), [{do: "say", key: "denied.chrome", loud: true}], "a lost microphone is assertive");
  p.on({type: "mic"});
  assert.equal(p.did("devices").length, 1);
  p.on(BOTH);
  p.on({type: "mic"});
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: false, camera: true, receive: true});
  assert.deepEqual(p.did("say").at(-1), {do: "say", key: "mic.off", loud: false});
});

test("again asks for the devices that are wished", () => {
  const p = calling();
  p.on({type: "again"});
  assert.deepEqual(p.did("devices"), [{do: "devices", video: true}]);
});

test("troubles stand until they are over, each once", () => {
  const p = calling();
  p.on({type: "trouble", key: "paused"});
  p.on({type: "trouble", key: "paused"});
  p.on({type: "trouble", key: "no.sound"});
  assert.deepEqual(p.state.troubles.map((t) => t.key), ["paused", "no.sound"]);
  assert.deepEqual(p.did("say").map((s) => s.loud), [true, true, false]);
  p.on({type: "calm", key: "paused"});
  assert.deepEqual(p.state.troubles.map((t) => t.key), ["no.sound"]);
});

test("peers: greeted once, lost after 1.5 s, back", () => {
  const p = calling();
  p.on({type: "peers", leg: 1, peers: [{...PEER, connected: false}]});
  assert.deepEqual([p.state.away, p.did("timer")], [[], [{do: "timer", name: "peers", ms: 1_500}]]);
  p.on(timer("peers"));
  assert.deepEqual([p.state.away, p.did("say")], [["p2"], [{do: "say", key: "lost.peer", who: "p2", loud: false}]]);
  p.on({type: "peers", leg: 1, peers: [PEER]});
  assert.deepEqual([p.state.away, p.did("say")], [[], [{do: "say", key: "peer.back", who: "p2", loud: false}]]);
});

test("peers: one who never came is not lost, and greeted on arrival", () => {
  const p = page();
  for (const e of [OPEN, BOTH, {type: "join"}, welcome(1), pulse(1)]) p.on(e);
  p.did("timer");
  p.on({type: "peers", leg: 1, peers: [{...PEER, connected: false}]});
  assert.deepEqual(p.did("timer"), []);
  p.did("say");
  p.on({type: "peers", leg: 1, peers: [PEER]});
  assert.deepEqual(p.did("say"), [{do: "say", key: "call.started", who: "p2", loud: false}]);
});

test("peers of the leg being built wait until it is heard", () => {
  const p = calling();
  p.on(closed(1));
  p.on({type: "peers", leg: 2, peers: []});
  assert.equal(p.state.peers.length, 1);
  p.on(welcome(2));
  p.on(pulse(2, true, 1));
  assert.equal(p.state.peers.length, 0);
});

test("call → ended: left, and Rejoin takes a fresh seat without the check", () => {
  const p = calling();
  p.on({type: "leave"});
  assert.deepEqual([p.name, p.state.text], ["ended", "ended.left"]);
  assert.deepEqual([p.did("leave"), p.did("stop"), p.did("forget")], [[{do: "leave", leg: 1}], [{do: "stop"}], [{do: "forget", token: false}]]);
  p.on({type: "rejoin"});
  p.on(BOTH);
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 2, address: EDGE, session: ""}]);
  p.on(pulse(1, true, 1));
  assert.equal(p.name, "link", "an old leg is heard no more");
});

test("devices that open after the call was left are let go", () => {
  const p = calling();
  p.on({type: "leave"});
  assert.deepEqual(p.on(BOTH), [{do: "stop"}]);
});

test("call → ended: what the edge says", () => {
  const cases = {done: ["ended", "ended.done", true], replaced: ["ended", "link.elsewhere", false], expired: ["link", "link.expired", false]};
  for (const [reason, [name, text, token]] of Object.entries(cases)) {
    const p = calling();
    p.on({type: "ended", leg: 1, reason});
    assert.deepEqual([p.name, p.state.text, p.did("forget")], [name, text, [{do: "forget", token}]], reason);
    assert.equal(p.did("say").at(-1).loud, true, reason);
    p.after(GAPS[2], timer("gap"));
    assert.equal(p.name, name, `${reason}: no timer wakes it`);
  }
});

test("replaced by our own next leg is not the end", () => {
  const p = calling();
  p.on({type: "move", leg: 1, url: STANDBY.url, token: "t2"});
  p.on(welcome(2, BERLIN));
  p.on({type: "ended", leg: 1, reason: "replaced"});
  assert.equal(p.name, "moving");
});

test("refused by law: from the link, and from a call without media; never from a running one", () => {
  const p = page();
  for (const e of [OPEN, BOTH, {type: "join"}, refused(1, "home_only")]) p.on(e);
  assert.deepEqual([p.name, p.state.text, p.state.refusal.code], ["refused", "refused.place", "home_only"]);
  p.on({type: "rejoin"});
  assert.deepEqual([p.name, p.state.step], ["link", "joining"]);

  const q = lost();
  q.on(refused(2, "denied_country"));
  assert.deepEqual([q.name, q.state.text], ["refused", "refused.person"]);

  const r = calling();
  r.on(closed(1));
  r.on(refused(2, "region_draining"));
  assert.deepEqual([r.name, r.state.retrying], ["call", true]);

  const s = calling();
  s.on(refused(1, "home_only"));
  assert.equal(s.name, "refused", "the edge itself withdraws the seat");
});

test("refused for the link's sake", () => {
  const cases = {token_invalid: ["link", "link.bad"], not_found: ["link", "link.bad"], token_expired: ["link", "link.expired"], consult_ended: ["ended", "ended.done"]};
  for (const [code, want] of Object.entries(cases)) {
    const p = page();
    for (const e of [OPEN, BOTH, {type: "join"}, refused(1, code)]) p.on(e);
    assert.deepEqual([p.name, p.state.text], want, code);
  }
});

test("refused for an edge's own trouble is a failed attempt", () => {
  for (const code of ["wrong_edge", "store_unavailable", "internal", "a code of tomorrow"]) {
    const p = page();
    for (const e of [OPEN, BOTH, {type: "join"}, refused(1, code)]) p.on(e);
    assert.deepEqual([p.name, p.state.retrying], ["link", true], code);
  }
});

test("a step changes no earlier state", () => {
  const freeze = (o) => {
    if (o && typeof o === "object") Object.values(Object.freeze(o)).forEach(freeze);
    return o;
  };
  const p = page(freeze(initial));
  for (const e of [OPEN, BOTH, {type: "join"}, welcome(1), {type: "peers", leg: 1, peers: [PEER]}, pulse(1, true, 1), {type: "sound"}, {type: "leave"}]) {
    freeze(p.state);
    p.on(e);
  }
  assert.equal(p.name, "ended");
});

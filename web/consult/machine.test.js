import assert from "node:assert/strict";
import {test} from "node:test";
import {BESIDE, STALL, attempts, current, pause} from "./legs.js";
import {GAPS, MEDIA, QUIET, REMIND, WELCOME, cameraOn, initial, micOn, step} from "./machine.js";

const EDGE = {edge: "", url: "wss://a/v1/join", token: "t", session: ""};
const STANDBY = {edge: "de-ber-1", url: "wss://b/v1/join", token: "tb", session: ""};
const THIRD = {edge: "de-ham-1", url: "wss://c/v1/join", token: "tc", session: ""};
const FRANKFURT = {region: "de-fra", city: "Frankfurt am Main", country: "DE"};
const BERLIN = {region: "de-ber", city: "Berlin", country: "DE"};
const PARIS = {region: "fr-par", city: "Paris", country: "FR"};
const OPEN = {type: "open", problem: "", granted: true, addresses: [EDGE], mic: true, camera: true, sound: false};
const BOTH = {type: "devices", mic: true, camera: true, failures: {mic: null, camera: null}, news: null};
const PEER = {participant: "p2", role: "clinician", mic: true, camera: true, connected: true};

/** A page under the machine: the state, all effects since the last look, a clock. */
function page(from = initial) {
  let state = from;
  let now = 1_000;
  let effects = [];
  return {
    get state() { return state; },
    get name() { return state.name; },
    get now() { return now; },
    get next() { return attempts(state).map((l) => l.id); },
    get current() { return current(state)?.id; },
    /** @returns the URLs tried since the last look */
    tried() { return this.did("connect").map((c) => c.address.url); },
    /** Lets the time pass until the attempt timer is over. */
    wait() { return this.after(state.due - now, timer("attempt")); },
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

const named = ({edge, url, token}) => ({edge, url, token});
const welcome = (leg, place = FRANKFURT, epoch = 1, standby = [STANDBY]) =>
  ({type: "welcome", leg, session: `s${leg}`, place, epoch, standby: standby.map(named)});
const pulse = (leg, alive = true, heard = 0) => ({type: "pulse", leg, alive, heard});
const timer = (name, late = 0) => ({type: "timer", name, late, dice: 0.5});
const move = (leg, to, epoch = 2) => ({type: "move", leg, ...named(to), epoch, dice: 0.5});
const closed = (leg) => ({type: "closed", leg, dice: 0.5});
const refused = (leg, code) => ({type: "refused", leg, refusal: {code, jurisdiction: "AE", citation: ["Art. 13"], id: "3f"}, dice: 0.5});

/** A page in the call on leg 1, with one peer heard. */
function calling() {
  const p = page();
  for (const e of [OPEN, BOTH, {type: "join"}, welcome(1), {type: "peers", leg: 1, peers: [PEER]}, pulse(1, true, 1)]) p.on(e);
  assert.equal(p.name, "call");
  for (const kind of ["connect", "send", "say", "timer", "cancel", "save", "adopt", "drop", "devices"]) p.did(kind);
  return p;
}

/** A page that joins, knowing both edges, with one attempt. */
function joining(addresses = [EDGE, STANDBY]) {
  const p = page();
  for (const e of [{...OPEN, addresses}, BOTH, {type: "join"}]) p.on(e);
  assert.deepEqual(p.tried(), [EDGE.url]);
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
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 1, address: EDGE, stranded: false}]);
  p.on(welcome(1));
  assert.deepEqual(p.did("save"), [{do: "save"}]);
  assert.deepEqual(p.state.addresses, [{...EDGE, session: "s1"}, STANDBY]);
  assert.equal(p.name, "link", "welcomed is not yet connected");
  p.on(pulse(1, false));
  assert.equal(p.name, "link");
  p.on(pulse(1));
  assert.equal(p.name, "call");
  assert.deepEqual(p.did("adopt"), [{do: "adopt", leg: 1}]);
  assert.deepEqual(current(p.state).place, FRANKFURT);
});

test("link: joining without devices is allowed, to listen", () => {
  const p = page();
  p.on(OPEN);
  p.on({type: "devices", mic: false, camera: false, failures: {mic: {key: "none.mic"}, camera: null}, news: {key: "none.mic"}});
  p.on({type: "join"});
  assert.equal(p.did("connect").length, 1);
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: false, camera: false, hold: true, receive: true});
});

test("link: a join that gets nowhere shows help, then failure, while attempts go on", () => {
  const p = page();
  for (const e of [OPEN, BOTH, {type: "join"}]) p.on(e);
  p.after(GAPS[0], timer("gap"));
  assert.equal(p.state.gap, 0, "no banner: the join itself takes a moment");
  p.after(GAPS[1], timer("gap"));
  assert.deepEqual([p.name, p.state.gap], ["link", 2]);
  p.on(closed(1));
  p.wait();
  assert.deepEqual(p.next, [2]);
  p.after(GAPS[2], timer("gap"));
  p.wait();
  assert.deepEqual([p.name, p.state.gap, p.next], ["link", 3, [3]]);
});

test("reload: a kept session takes the seat again without the check", () => {
  const p = page();
  p.on({...OPEN, addresses: [{...EDGE, session: "s1"}], sound: true});
  assert.deepEqual(p.did("devices"), [{do: "devices", video: false}]);
  p.on({...BOTH, camera: false});
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 1, address: {...EDGE, session: "s1"}, stranded: false}]);
  p.on(welcome(1));
  p.on(pulse(1));
  assert.equal(p.name, "audio-only");
});

test("call: a lost socket with flowing media shows nothing and resumes in the background", () => {
  const p = calling();
  p.on(closed(1));
  assert.equal(p.name, "call");
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 2, address: {...EDGE, session: "s1"}, stranded: false}]);
  p.after(500, pulse(1, true, 1));
  p.on(welcome(2));
  p.on(pulse(2, true, 1));
  assert.deepEqual([p.name, p.current, p.next, p.state.due], ["call", 2, [], 0]);
  assert.deepEqual(p.did("drop"), [{do: "drop", leg: 1}]);
  assert.equal(p.state.notice, null);
  assert.deepEqual(p.did("say"), []);
});

test("call: a killed edge is left for its standby within one round, at once", () => {
  const p = calling();
  p.on(closed(1));
  p.on(closed(2));
  assert.deepEqual(p.did("connect").at(-1).address, STANDBY, "in the same step");
  p.on(welcome(3, BERLIN));
  p.on(pulse(3, true, 1));
  assert.deepEqual([p.name, current(p.state).place, p.state.addresses], ["call", BERLIN, [{...STANDBY, session: "s3"}]]);
  assert.deepEqual(p.did("leave"), [{do: "leave", leg: 1}], "no seat stays behind");
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
  while (p.next.length === 0) p.wait();
  const [leg] = p.next;
  p.on(welcome(leg));
  p.on(pulse(leg));
  assert.deepEqual([p.name, p.state.gap], ["call", 0]);
});

test("reconnecting → call: the old leg comes back by itself, and attempts elsewhere are left", () => {
  const p = lost();
  p.on(closed(2));
  assert.deepEqual(p.next, [3]);
  p.did("timer");
  p.on(pulse(1, true, 1));
  assert.deepEqual([p.name, p.next, p.did("leave"), p.state.due], ["call", [], [{do: "leave", leg: 3}], 0]);
  assert.deepEqual(p.did("timer"), [{do: "timer", name: "gap", ms: GAPS[0]}], "silence is watched again");

  const q = lost();
  q.on(pulse(1, true, 1));
  assert.deepEqual([q.name, q.next], ["call", [2]], "one at the same edge may have the seat: it goes on");
  q.on(closed(1));
  assert.deepEqual([q.next, q.state.due - q.now], [[2], WELCOME], "and is the first to be waited for");
});

test("reconnecting: Try now starts a new round at the seat's edge; in a running call it does nothing", () => {
  const p = lost();
  p.on(closed(2));
  p.did("connect");
  p.after(WELCOME, {type: "retry"});
  assert.deepEqual(p.tried(), [EDGE.url]);
  assert.deepEqual(p.did("leave"), [{do: "leave", leg: 3}], "what stands still is given up");
  const q = calling();
  q.on({type: "retry"});
  assert.deepEqual(q.did("connect"), []);
});

test("an attempt without a welcome, or without media, is kept, and another runs beside it", () => {
  const p = joining();
  assert.deepEqual(p.did("timer").find((t) => t.name === "attempt"), {do: "timer", name: "attempt", ms: WELCOME});
  p.wait();
  assert.deepEqual([p.tried(), p.next, p.did("drop"), p.did("leave")], [[STANDBY.url], [1, 2], [], []]);
  p.on(welcome(1));
  assert.deepEqual(p.did("timer").at(-1), {do: "timer", name: "attempt", ms: MEDIA});
  p.on(welcome(2, BERLIN));
  p.on(pulse(1));
  assert.deepEqual([p.name, p.current, p.next], ["call", 1, []]);
  assert.deepEqual([p.did("leave"), p.did("drop")], [[{do: "leave", leg: 2}], []], "the loser leaves its seat");
});

test("the first that carries media wins, also the later one", () => {
  const p = joining();
  p.on(welcome(1));
  p.wait();
  assert.deepEqual(p.next, [1, 2]);
  p.on(welcome(2, BERLIN));
  p.on(pulse(2));
  assert.deepEqual([p.current, p.did("leave")], [2, [{do: "leave", leg: 1}]]);
});

test("no edge is tried twice at once, and no more than three run beside each other", () => {
  const p = joining([EDGE]);
  for (let t = 0; t < STALL - 1_000; t += 1_000) p.after(1_000, timer("attempt"));
  assert.deepEqual([p.next, p.tried()], [[1], []], "there is one edge");
  const fourth = {...THIRD, edge: "de-x-1", url: "wss://d/v1/join"};
  const q = joining([EDGE, STANDBY, THIRD, fourth]);
  for (let i = 0; i < 10; i++) {
    q.after(1_000, timer("attempt"));
    for (const leg of q.next) q.on({type: "progress", leg});
  }
  assert.deepEqual([q.next.length, q.tried()], [BESIDE, [STANDBY.url, THIRD.url]]);
  assert.deepEqual([q.did("drop"), q.did("leave")], [[], []]);
});

test("an attempt that comes no further for long is given up, and its edge is tried anew", () => {
  const p = joining([EDGE]);
  p.after(WELCOME, {type: "opened", leg: 1});
  p.after(STALL - 1, timer("attempt"));
  assert.deepEqual(p.next, [1]);
  p.wait();
  assert.deepEqual(p.did("leave"), [{do: "leave", leg: 1}]);
  p.wait(); // the pause after a round of one
  assert.deepEqual([p.next, p.tried()], [[2], [EDGE.url]]);
});

test("a dead edge does not keep a refusal elsewhere from being said", () => {
  const p = joining();
  p.wait();
  p.on(refused(2, "home_only"));
  assert.equal(p.name, "link", "the first may still get through");
  for (let i = 0; p.name === "link" && i < 20; i++) {
    p.wait();
    for (const leg of p.next) if (leg !== 1) p.on(refused(leg, "home_only"));
  }
  assert.deepEqual([p.name, p.state.text], ["refused", "refused.place"]);
});

test("while the page did not run nothing stood still", () => {
  const p = joining([EDGE]);
  p.after(STALL + 5_000, timer("attempt", STALL + 5_000 - WELCOME));
  assert.deepEqual([p.next, p.did("leave")], [[1], []], "its events wait behind the timer");
  const q = calling();
  q.after(20_000, timer("gap", 20_000 - GAPS[0] + 100));
  assert.equal(q.name, "call");
  q.after(100, timer("gap"));
  assert.equal(q.name, "reconnecting");
});

test("an edge that welcomes and then breaks is tried ever more slowly", () => {
  const p = calling();
  p.on(closed(1));
  const pauses = [];
  for (let leg = 2; leg < 8; leg++) {
    p.on(welcome(leg));
    p.on(closed(leg));
    const pause = p.next.length > 0 ? 0 : p.state.due - p.now;
    pauses.push(pause);
    if (pause) p.wait();
  }
  assert.deepEqual(pauses, [0, 250, 250, 500, 500, 1000]);
});

test("pause: none while an address is untried, then 0.25 s doubling to 5 s, spread by a half", () => {
  const at = (failures, dice, addresses = [EDGE, STANDBY]) => pause({...initial, addresses, tried: addresses.map((a) => a.url), failures}, dice);
  assert.deepEqual([1, 2, 3, 4, 6, 8, 20].map((n) => at(n, 0.5)), [250, 250, 250, 500, 1000, 2000, 5000]);
  assert.deepEqual([at(1, 0, [EDGE]), at(1, 0.999, [EDGE])], [125, 375]);
  assert.equal(pause({...initial, addresses: [EDGE, STANDBY], tried: [EDGE.url], failures: 9}, 0.5), 0);
});

test("each standby has a token of its own; an older edge's takes the welcome's", () => {
  const p = joining([EDGE]);
  const standby = [STANDBY, {edge: THIRD.edge, url: THIRD.url}, {...named(EDGE), token: "other"}];
  p.on({type: "welcome", leg: 1, session: "s1", place: FRANKFURT, epoch: 1, standby});
  assert.deepEqual(p.state.addresses.map((a) => a.token), ["t", "tb", "t"]);
  p.on(pulse(1));
  assert.deepEqual(p.state.addresses.map((a) => [a.url, a.token, a.session]), [
    [EDGE.url, "t", "s1"], [STANDBY.url, "tb", ""], [THIRD.url, "t", ""],
  ]);
});

test("each edge has a session of its own to resume", () => {
  const p = joining();
  p.on(welcome(1));
  p.wait();
  p.on(welcome(2, BERLIN));
  p.on(closed(1));
  p.on({type: "retry"});
  assert.deepEqual(p.did("connect").map((c) => [c.address.url, c.address.session]), [[STANDBY.url, ""], [EDGE.url, "s1"]]);
});

test("call → moving → call: the old leg plays until as many are heard on the new one", () => {
  const p = calling();
  p.on(move(1, {...STANDBY, token: "t2"}));
  assert.equal(p.name, "moving");
  assert.deepEqual(p.did("connect")[0].address, {...STANDBY, token: "t2"});
  p.on(welcome(2, BERLIN, 2, [THIRD]));
  p.on(pulse(1, true, 1));
  p.on(pulse(2, true, 0));
  assert.deepEqual([p.name, p.current], ["moving", 1], "the peer has not arrived there");
  for (let i = 0; i < 20; i++) {
    p.after(1_000, pulse(2, true, 0));
    p.on(timer("attempt"));
  }
  assert.deepEqual([p.next, p.tried()], [[2], []], "it waits for as long as it lives");
  p.on(pulse(2, true, 1));
  assert.deepEqual([p.name, p.current, p.did("leave")], ["call", 2, [{do: "leave", leg: 1}]]);
  assert.equal(p.state.notice.key, "moved");
  p.on(timer("notice"));
  assert.equal(p.state.notice, null);
});

test("moving: the old edge closes first, so the new leg is taken as it is", () => {
  const p = calling();
  p.on(move(1, STANDBY));
  p.on(welcome(2, PARIS, 2));
  p.on(closed(1));
  p.on(pulse(1, false, 0));
  p.on(pulse(2, true, 0));
  assert.deepEqual([p.name, p.current, p.state.notice.key], ["call", 2, "moved.abroad"]);
});

test("moving: a target that fails strands the page, which says so wherever it comes next", () => {
  const p = calling();
  p.on(move(1, THIRD));
  p.on(closed(2));
  assert.equal(p.name, "moving");
  assert.deepEqual(p.did("connect").map((c) => [c.address.url, c.stranded]), [[THIRD.url, false], [STANDBY.url, true]]);
  p.on(closed(1));
  p.on(closed(3));
  assert.deepEqual(p.did("connect").map((c) => [c.address.url, c.stranded]), [[EDGE.url, true]], "the old edge once it is gone");
  p.on(closed(4));
  p.wait();
  assert.deepEqual(p.did("connect").map((c) => [c.address.url, c.stranded]), [[THIRD.url, false]], "not to the target itself");
  p.on(closed(5));
  p.wait();
  p.on(welcome(p.next[0], BERLIN));
  p.on(pulse(p.next[0], true, 1));
  assert.equal(p.state.stranded, "", "over once it plays");
});

test("moving: where the call is well is not tried again beside the target", () => {
  const p = calling();
  p.on(move(1, THIRD));
  p.did("connect");
  p.wait();
  assert.deepEqual(p.tried(), [STANDBY.url]);
  p.wait();
  assert.deepEqual(p.tried(), []);
});

test("moving: without media it is reconnecting that people need to know", () => {
  const p = calling();
  p.on(move(1, STANDBY));
  p.after(GAPS[0], timer("gap"));
  assert.equal(p.name, "reconnecting");
});

test("a move of an older epoch than the one followed is ignored; of the same it is not", () => {
  const p = calling();
  p.on(move(1, STANDBY, 3));
  p.on(welcome(2, BERLIN, 3));
  p.on(pulse(2, true, 1));
  p.did("connect");
  p.on(move(2, THIRD, 2));
  assert.deepEqual([p.name, p.tried()], ["call", []]);
  p.on(move(2, THIRD, 3));
  assert.deepEqual([p.name, p.tried()], ["moving", [THIRD.url]]);
  p.on(move(2, EDGE, 2));
  assert.deepEqual(p.tried(), []);
});

test("the move of a running call ends attempts elsewhere, and keeps one that is on its way there", () => {
  const p = calling();
  p.on(closed(1));
  p.on({type: "closed", leg: 2, dice: 0.5});
  assert.deepEqual(p.next, [3], "on the standby");
  p.did("connect");
  p.on(move(1, STANDBY));
  assert.deepEqual([p.next, p.tried(), p.did("leave")], [[3], [], []]);
  p.on(move(1, THIRD, 3));
  assert.deepEqual([p.next, p.tried(), p.did("leave")], [[4], [THIRD.url], [{do: "leave", leg: 3}]]);
});

test("a newer epoch that plays is not left for an older one", () => {
  const p = calling();
  p.on(move(1, STANDBY));
  p.on(welcome(2, BERLIN, 2, [EDGE]));
  p.on(pulse(2, true, 1));
  p.on(closed(2));
  p.on(closed(3));
  p.on(welcome(4, FRANKFURT, 1, []));
  assert.deepEqual([p.name, p.current, p.did("leave").at(-1)], ["call", 2, {do: "leave", leg: 4}]);
});

test("an attempt of a newer epoch goes on when an older one plays first", () => {
  const p = joining();
  p.on(welcome(1));
  p.wait();
  p.on(welcome(2, BERLIN, 2));
  p.on(pulse(1));
  assert.deepEqual([p.name, p.current, p.next], ["moving", 1, [2]]);
  p.on(pulse(2));
  assert.deepEqual([p.name, p.current, p.did("leave")], ["call", 2, [{do: "leave", leg: 1}]]);
});

test("a move before the welcome answers the hello: at once, and what plays goes on", () => {
  const p = calling();
  p.on(closed(1));
  p.on(closed(2));
  p.did("connect");
  p.did("drop");
  p.on(move(3, {...THIRD, token: "t9"}, 1));
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 4, address: {...THIRD, token: "t9"}, stranded: false}]);
  assert.deepEqual([p.name, p.current, p.next, p.did("drop")], ["call", 1, [4], [{do: "drop", leg: 3}]]);
  p.on(pulse(1, true, 1));
  p.on(welcome(4, BERLIN));
  p.on(pulse(4, true, 1));
  assert.equal(p.current, 4);
});

test("a standby that sends back to an attempt in progress does not restart it, nor is it asked again", () => {
  const p = joining();
  p.wait();
  assert.deepEqual(p.tried(), [STANDBY.url]);
  p.on(move(2, EDGE, 1));
  assert.deepEqual([p.next, p.tried(), p.did("leave")], [[1], [], []]);
  p.on({type: "progress", leg: 1});
  p.wait();
  p.on({type: "progress", leg: 1});
  p.wait();
  assert.deepEqual([p.next, p.tried()], [[1], []]);
  p.on(closed(1));
  p.wait();
  assert.deepEqual(p.did("connect").map((c) => [c.address.url, c.stranded]), [[STANDBY.url, true]], "stranded: now it may take us");
});

test("an attempt that is told to move after its welcome runs on until one of the two is heard", () => {
  const p = joining();
  p.on(welcome(1, BERLIN));
  p.on(move(1, THIRD, 1));
  assert.deepEqual([p.tried(), p.next], [[THIRD.url], [1, 2]]);
  p.on(pulse(1));
  assert.deepEqual([p.name, p.current, p.next], ["moving", 1, [2]]);
  p.on(welcome(2));
  p.on(pulse(2));
  assert.deepEqual([p.name, p.current, p.did("leave")], ["call", 2, [{do: "leave", leg: 1}]]);

  const q = joining();
  q.on(welcome(1, BERLIN));
  q.on(move(1, THIRD, 1));
  q.on(pulse(2));
  assert.deepEqual([q.name, q.current, q.next, q.did("leave")], ["call", 2, [], [{do: "leave", leg: 1}]]);

  const r = joining();
  r.on(welcome(1, BERLIN));
  r.on(move(1, THIRD, 1));
  r.on(closed(2));
  r.did("connect");
  r.on(pulse(1));
  assert.deepEqual([r.name, r.tried()], ["moving", [THIRD.url]], "its target is still owed");
});

test("edges that send in a circle are asked again only after a pause", () => {
  const p = joining();
  p.on(move(1, STANDBY, 1));
  assert.deepEqual(p.tried(), [STANDBY.url]);
  p.on(move(2, EDGE, 1));
  assert.deepEqual([p.next, p.state.due - p.now], [[], 250]);
  p.wait();
  assert.deepEqual(p.did("connect").map((c) => [c.address.url, c.stranded]), [[EDGE.url, true]], "stranded: now it may take us");
});

test("an edge that is behind is followed once the call plays no more", () => {
  const p = calling();
  p.on(move(1, STANDBY, 2));
  p.on(welcome(2, BERLIN, 2, []));
  p.on(pulse(2, true, 1));
  assert.equal(p.current, 2);
  p.on(closed(2));
  p.wait();
  p.did("connect");
  const [leg] = p.next;
  p.after(GAPS[0], timer("gap"));
  assert.equal(p.name, "reconnecting");
  // The only edge that knew of epoch 2 died, and came back without a memory.
  p.on(move(leg, THIRD, 1));
  assert.deepEqual(p.tried(), [THIRD.url]);
});

test("sent back to where the call is well, it stays", () => {
  const p = calling();
  p.on(move(1, THIRD, 1));
  p.wait();
  p.on(move(2, EDGE, 1));
  assert.deepEqual([p.name, p.current, p.next, p.state.due], ["call", 1, [], 0]);
  assert.deepEqual(p.did("leave"), [{do: "leave", leg: 3}], "also what ran beside");
});

test("a move to where the leg is, is none", () => {
  const p = calling();
  p.on(move(1, EDGE, 2));
  assert.deepEqual([p.name, p.tried()], ["call", []]);
});

test("call ⇄ audio-only: chosen by the user, camera and incoming video both off", () => {
  const p = calling();
  p.on({type: "sound"});
  assert.equal(p.name, "audio-only");
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: true, camera: false, hold: false, receive: false});
  p.on({type: "sound"});
  assert.deepEqual([p.name, p.did("devices"), p.state.notice.key], ["call", [{do: "devices", video: true}], "audio.back"]);
  p.on(BOTH);
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: true, camera: true, hold: true, receive: true});
});

test("audio-only: a camera that its user switched off stays off, and Camera ends sound only", () => {
  const p = calling();
  p.on({type: "camera"});
  p.on({type: "sound"});
  p.on({type: "sound"});
  assert.deepEqual(p.did("devices"), []);
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: true, camera: false, hold: false, receive: true});
  p.on({type: "sound"});
  p.on({type: "camera"});
  assert.deepEqual([p.name, p.did("devices")], ["call", [{do: "devices", video: true}]]);
});

test("a switch turns what is: a device that failed is asked for again", () => {
  const p = calling();
  p.on({type: "devices", mic: false, camera: false, failures: {mic: {key: "denied.chrome"}, camera: null}, news: {key: "denied.chrome"}});
  assert.deepEqual(p.did("say"), [{do: "say", key: "denied.chrome", loud: true}], "a lost microphone is assertive");
  p.on({type: "mic"});
  assert.equal(p.did("devices").length, 1);
  p.on(BOTH);
  p.on({type: "mic"});
  assert.deepEqual(p.did("send").at(-1), {do: "send", mic: false, camera: true, hold: true, receive: true});
  assert.deepEqual(p.did("say").at(-1), {do: "say", key: "mic.off", loud: false});
});

/** What media.js tells: which devices run, why one does not, and what is new. */
const told = (mic, camera, {failures = {}, news = null} = {}) => ({type: "devices", mic, camera, failures: {mic: null, camera: null, ...failures}, news});
const GONE = {key: "none.mic"};

test("a device that goes is off for everybody, and its switch says so", () => {
  const p = calling();
  p.on(told(false, true));
  assert.deepEqual([micOn(p.state), cameraOn(p.state)], [false, true]);
  assert.deepEqual(p.did("send"), [{do: "send", mic: false, camera: true, hold: true, receive: true}]);
  assert.deepEqual(p.did("say"), []);

  // Another takes its place: passing news, and no trouble that stands.
  const news = {key: "unplugged", params: {old: "Headset", new: "Built-in"}};
  p.on(told(true, true, {news}));
  assert.equal(micOn(p.state), true);
  assert.deepEqual(p.did("say"), [{do: "say", ...news, loud: false}]);
  p.on(timer("notice"));
  assert.equal(p.state.notice, null);

  // None does: loud, and the banner goes with the device's return, which is said.
  p.on(told(false, true, {failures: {mic: GONE}, news: GONE}));
  assert.deepEqual(p.did("say"), [{do: "say", key: "none.mic", loud: true}]);
  assert.deepEqual(p.state.devices.failures.mic, GONE);
  p.on({type: "plugged", mic: false, camera: true});
  assert.deepEqual(p.did("devices"), [], "it is not that one");
  p.on({type: "plugged", mic: true, camera: true});
  assert.deepEqual(p.did("devices"), [{do: "devices", video: true}]);
  p.on(BOTH);
  assert.deepEqual([p.state.devices.failures.mic, micOn(p.state)], [null, true]);
  assert.deepEqual(p.did("say"), [{do: "say", key: "mic.on", loud: false}]);
});

test("a muted microphone stays muted, whatever becomes of the device", () => {
  const p = calling();
  p.on({type: "mic"});
  p.did("say");
  const ways = [
    ["replaced", told(false, true), told(true, true, {news: {key: "unplugged"}})],
    ["gone and back", told(false, true, {failures: {mic: GONE}, news: GONE}), {type: "plugged", mic: true, camera: true}, BOTH],
    ["paused and back", told(false, true, {failures: {mic: {key: "paused"}}, news: {key: "paused"}}), BOTH],
    ["paused and turned on", told(false, true, {failures: {mic: {key: "paused"}}, news: {key: "paused"}}), {type: "again"}, BOTH],
    ["chosen", BOTH],
    ["sound only and video again", {type: "sound"}, {type: "sound"}, BOTH],
    ["left and rejoined", {type: "leave"}, {type: "rejoin"}, BOTH],
  ];
  for (const [what, ...events] of ways) {
    for (const e of events) p.on(e);
    assert.deepEqual(new Set(p.did("send").map((s) => s.mic)), new Set([false]), what);
    assert.equal(p.did("say").some((s) => s.key === "mic.on"), false, what);
  }
  // A reload: what was chosen comes with the seat.
  const q = page();
  q.on({...OPEN, mic: false, camera: false, addresses: [{...EDGE, session: "s"}]});
  assert.deepEqual(q.did("devices"), [{do: "devices", video: false}]);
  q.on(BOTH);
  assert.deepEqual(q.did("send"), [{do: "send", mic: false, camera: false, hold: false, receive: true}]);
});

test("a camera that is held back is off, is not let go, and comes back by itself", () => {
  const p = calling();
  const held = {key: "paused.camera"};
  p.on(told(true, false, {failures: {camera: held}, news: held}));
  assert.deepEqual(p.did("send"), [{do: "send", mic: true, camera: false, hold: true, receive: true}]);
  p.on(BOTH);
  assert.deepEqual(p.did("send"), [{do: "send", mic: true, camera: true, hold: true, receive: true}]);
  // Of a camera that nobody wants no trouble stands.
  p.on(told(true, false, {failures: {camera: held}, news: held}));
  p.on({type: "sound"});
  assert.equal(p.state.devices.failures.camera, null);
});

test("who was denied a device is not asked again for plugging one in", () => {
  const p = calling();
  for (const key of ["denied.chrome", "denied.system", "paused"]) {
    p.on(told(false, true, {failures: {mic: {key}}, news: {key}}));
    p.on({type: "plugged", mic: true, camera: true});
    assert.deepEqual(p.did("devices"), [], key);
  }
});

test("a switch that has to ask says what came of it, not what was wished", () => {
  const p = calling();
  p.on(told(false, true, {failures: {mic: GONE}, news: GONE}));
  p.did("say");
  p.on({type: "mic"});
  assert.deepEqual(p.did("say"), []);
  p.on(told(false, true, {failures: {mic: GONE}, news: GONE}));
  assert.deepEqual(p.did("say").map((s) => s.key), ["none.mic"]);
});

test("a clock that is wrong is that edge's trouble, where there are others", () => {
  const p = joining();
  p.on(refused(1, "token_early"));
  assert.deepEqual([p.name, p.state.step, p.tried()], ["link", "joining", [STANDBY.url]]);
  const q = joining([EDGE]);
  q.on(refused(1, "token_early"));
  assert.deepEqual([q.name, q.state.step, q.state.text], ["link", "stopped", "link.early"]);
  q.on({type: "rejoin"});
  q.on(BOTH);
  assert.deepEqual(q.tried(), [EDGE.url], "[Try again] does");
});

test("again asks for the devices that are wished", () => {
  const p = calling();
  p.on({type: "again"});
  assert.deepEqual(p.did("devices"), [{do: "devices", video: true}]);
});

test("troubles stand until they are over, each once", () => {
  const p = calling();
  p.on({type: "trouble", key: "no.sound"});
  p.on({type: "trouble", key: "no.sound"});
  assert.deepEqual(p.state.troubles.map((t) => t.key), ["no.sound"]);
  p.on({type: "calm", key: "no.sound"});
  assert.deepEqual(p.state.troubles, []);
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
  assert.equal(current(p.state).peers.length, 1);
  p.on(welcome(2));
  p.on(pulse(2, true, 1));
  assert.equal(current(p.state).peers.length, 0);
});

const quality = (leg, video, cause = "", participant = "p2") => ({type: "quality", leg, participant, video, cause});
const said = (p) => p.did("say").map((x) => x.key);

test("paused video: each cause has its sentence, and what the user chose none of these", () => {
  for (const [cause, want] of [["own", ["audio.own"]], ["peer", ["audio.peer"]], ["edge", ["audio.edge"]], ["chosen", []], ["of tomorrow", []]]) {
    const p = calling();
    p.on(quality(1, "off", cause));
    assert.deepEqual(said(p), want, cause);
  }
  const p = calling();
  p.on(quality(1, "reduced", "edge"));
  assert.deepEqual(said(p), [], "a reduced picture is shown, and not read aloud");
  p.on(quality(1, "off", "peer"));
  assert.deepEqual(p.did("say"), [{do: "say", key: "audio.peer", params: {who: "p2"}, loud: false}]);
});

test("paused video is said at most every 30 s, as it is then", () => {
  const p = calling();
  p.on(quality(1, "off", "edge"));
  assert.deepEqual(said(p), ["audio.edge"]);
  p.after(10_000, quality(1, "full"));
  assert.deepEqual([said(p), p.did("timer")], [[], [{do: "timer", name: "quality", ms: QUIET - 10_000}]]);
  p.after(1_000, quality(1, "off", "own"));
  p.after(1_000, quality(1, "full"));
  p.after(1_000, quality(1, "off", "own"));
  assert.deepEqual([said(p), p.did("timer")], [[], []], "one timer is enough");
  p.after(QUIET - 13_000, timer("quality"));
  assert.deepEqual(said(p), ["audio.own"]);
  p.after(QUIET, quality(1, "full"));
  assert.deepEqual([said(p), p.state.notice], [["audio.back"], {key: "audio.back"}]);
});

test("paused video that came back within the 30 s is no news", () => {
  const p = calling();
  p.on(quality(1, "off", "edge"));
  said(p);
  p.after(1_000, quality(1, "full"));
  p.after(1_000, quality(1, "off", "edge"));
  p.after(QUIET, timer("quality"));
  assert.deepEqual(said(p), []);
});

test("paused video: who turned video off is told that alone, until they turn it on", () => {
  const p = calling();
  p.on({type: "sound"});
  p.on(quality(1, "off", "edge"));
  assert.deepEqual(said(p), ["audio.chosen"]);
  p.on({type: "sound"});
  assert.deepEqual(said(p), ["audio.edge"], "and not that it is back");
});

const measured = (leg, own = 0, people = {p2: 0}, held = false) => ({type: "measured", leg, measure: null, levels: {own, people}, held});

test("the own video that is held back: its user is told, unless there is none", () => {
  const p = calling();
  p.on(measured(1, 0, {p2: 0}, true));
  assert.deepEqual(said(p), ["audio.own"], "and not the connection beside it");
  p.on(quality(1, "off", "own"));
  p.after(QUIET, measured(1));
  assert.deepEqual(said(p), [], "what comes is paused still");
  p.on(quality(1, "full"));
  assert.deepEqual([said(p), p.state.notice], [["audio.back"], {key: "audio.back"}]);
  p.after(QUIET, {type: "camera"});
  said(p);
  p.on(measured(1, 0, {p2: 0}, true));
  assert.deepEqual(said(p), []);
});

test("a weak connection is said at most every 30 s, whose it is, and when it is well again", () => {
  const p = calling();
  p.on(measured(1));
  assert.deepEqual(said(p), []);
  p.on(measured(1, 1));
  assert.deepEqual(p.did("say"), [{do: "say", key: "net.own", params: {level: "1"}, loud: false}]);
  p.after(2_000, measured(1, 2));
  assert.deepEqual(said(p), []);
  p.after(QUIET - 2_000, timer("quality"));
  assert.deepEqual(p.did("say"), [{do: "say", key: "net.own", params: {level: "2"}, loud: false}]);
  p.after(QUIET, measured(1));
  assert.deepEqual(p.did("say"), [{do: "say", key: "net", params: {level: "0"}, loud: false}]);
  assert.equal(p.state.notice, null);
  p.after(QUIET, measured(1, 0, {p2: 2}));
  assert.deepEqual(p.did("say"), [{do: "say", key: "net", params: {level: "2"}, loud: false}], "nobody knows whose");
  p.after(QUIET, quality(1, "off", "peer"));
  assert.deepEqual(said(p), ["audio.peer"], "which says it all");
  p.after(QUIET, quality(1, "full"));
  assert.deepEqual(said(p), ["net", "audio.back"]);
});

test("paused video of an attempt is said when it is heard, and that of the last leg no more", () => {
  const p = calling();
  p.on(quality(1, "off", "edge"));
  assert.deepEqual(said(p), ["audio.edge"]);
  p.on(move(1, STANDBY));
  p.on(quality(2, "off", "own"));
  p.on(welcome(2, BERLIN, 2));
  p.after(QUIET, pulse(2, true, 1));
  assert.deepEqual(said(p).filter((k) => k.startsWith("audio.")), ["audio.own"]);
});

test("profile: what this page chose goes to the edge that the call goes on at, unless somebody chose otherwise", () => {
  const profiled = (leg, profile, refused = false) => ({type: "profiled", leg, profile, refused});
  const onward = (p, there) => {
    p.on(move(1, STANDBY));
    p.on({...welcome(2, BERLIN, 2), profile: there});
    p.on(pulse(2, true, 1));
    return p.did("profile");
  };
  const choose = () => {
    const p = calling();
    p.on({type: "profile", profile: "sign"});
    assert.deepEqual(p.did("profile"), [{do: "profile", leg: 1, profile: "sign"}]);
    return p;
  };
  let p = choose();
  p.on(profiled(1, "sign"));
  assert.deepEqual(p.did("say"), [{do: "say", key: "picture.changed", params: {picture: "sign"}, loud: false}]);
  assert.deepEqual(onward(p, "face"), [{do: "profile", leg: 2, profile: "sign"}]);

  p = choose();
  assert.deepEqual(onward(p, "sign"), [], "the new edge knows");
  p = choose();
  assert.deepEqual(onward(p, ""), [], "an edge without profiles");
  p = choose();
  p.on(profiled(1, "detail"));
  assert.deepEqual(onward(p, "face"), [], "somebody else's");
  p = choose();
  p.on(profiled(1, "face", true));
  assert.deepEqual(said(p), ["picture.refused"]);
  assert.deepEqual(onward(p, "detail"), [], "refused");
  assert.deepEqual(onward(calling(), "detail"), [], "nothing was chosen");
});

const withdrawal = (leg, left) => ({type: "withdrawal", leg, code: left === null ? "" : "fact_missing", citation: left === null ? [] : ["Art. 9"], left});
const ending = (p) => current(p.state).withdrawal;

test("screen: shared where the edge takes one, until it ends by itself or with the call", () => {
  const p = calling();
  p.did("screen");
  assert.deepEqual(p.on({type: "screen"}), [], "an edge that knows of no screens");
  p.on({type: "closed", leg: 1, dice: 0.5});
  const again = p.state.made;
  p.on({...welcome(again), screens: true});
  p.on(pulse(again, true, 1));
  assert.deepEqual(p.on({type: "screen"}), [{do: "screen", on: true}]);
  assert.equal(p.state.sharing, false, "the picker is open");
  p.did("send");
  p.on({type: "shares", on: true, failed: false});
  assert.equal(p.state.sharing, true);
  assert.equal(p.did("send").length, 1);
  assert.equal(p.did("say").at(-1).key, "screen.on");
  p.on({type: "shares", on: false, failed: false});
  assert.equal(p.state.sharing, false, "ended by the browser's own button");
  assert.equal(p.did("say").at(-1).key, "screen.off");
  p.on({type: "shares", on: false, failed: false});
  assert.deepEqual(p.did("say"), [], "who closes the picker knows it");
  p.on({type: "shares", on: false, failed: true});
  assert.equal(p.did("say").at(-1).key, "screen.failed");
  p.on({type: "shares", on: true, failed: false});
  assert.deepEqual(p.on({type: "screen"}), [{do: "screen", on: false}]);
  p.on({type: "leave"});
  assert.equal(p.state.sharing, false);
  assert.deepEqual(p.on({type: "shares", on: true, failed: false}), [{do: "screen", on: false}], "chosen too late");
});

test("a screen of somebody's is said once", () => {
  const p = calling();
  p.did("say");
  for (const screen of [true, true, false, true]) p.on({type: "peers", leg: 1, peers: [{...PEER, screen}]});
  assert.deepEqual(p.did("say").map((e) => e.key), ["screen.peer", "screen.peer"]);
});

test("who speaks is the current leg's word, and is not read aloud", () => {
  const p = calling();
  p.did("say");
  p.on({type: "speaker", leg: 1, participant: "p2"});
  assert.equal(current(p.state).speaker, "p2");
  p.on({type: "speaker", leg: 1, participant: ""});
  assert.equal(current(p.state).speaker, "");
  assert.deepEqual(p.did("say"), []);
});

test("the law goes: said at its moments, and no more once it is back", () => {
  const p = calling();
  p.on(withdrawal(1, 900_000));
  assert.deepEqual(ending(p), {code: "fact_missing", citation: ["Art. 9"], endsAt: p.now + 900_000});
  assert.deepEqual(p.did("say"), [{do: "say", key: "withdrawal", params: {left: "900000"}, loud: false}]);
  p.on(withdrawal(1, 899_000));
  assert.deepEqual(p.did("say"), [], "told again is no news");
  let left = 899_000;
  for (const at of REMIND) {
    assert.deepEqual(p.did("timer").at(-1), {do: "timer", name: "withdrawal", ms: left - at});
    p.after(left - at, timer("withdrawal"));
    left = at;
    assert.deepEqual(p.did("say"), [{do: "say", key: "withdrawal.left", params: {left: String(at)}, loud: false}]);
  }
  assert.deepEqual(p.did("timer"), []);
  p.on(withdrawal(1, null));
  assert.deepEqual([ending(p), p.state.notice.key], [null, "withdrawal.over"]);
  assert.deepEqual(p.did("cancel").at(-1), {do: "cancel", name: "withdrawal"});
  p.on(withdrawal(1, 60_000));
  assert.equal(p.state.notice, null, "that it goes on is no longer true");
});

test("the law goes: a move stops the countdown, and an attempt's own is not that of the call", () => {
  const p = calling();
  p.on(withdrawal(1, 60_000));
  p.on(move(1, STANDBY));
  p.on(welcome(2, BERLIN, 2));
  p.on(pulse(2, true, 1));
  assert.deepEqual([ending(p), p.name], [null, "call"]);
  assert.deepEqual(p.did("cancel").filter((c) => c.name === "withdrawal").length > 0, true);
  p.did("say");
  p.on(closed(2));
  p.on(withdrawal(3, 60_000));
  assert.deepEqual([ending(p), p.did("say")], [null, []]);
  p.on(welcome(3, BERLIN, 2));
  p.on(pulse(3, true, 1));
  assert.equal(ending(p).code, "fact_missing");
  assert.equal(p.did("say").some((x) => x.key === "withdrawal"), true);
});

test("the law goes: the end names the rule, by its own word or by the countdown's", () => {
  for (const [told, more, want] of [[true, {}, "fact_missing"], [true, {code: "home_only", citation: ["Art. 1"]}, "home_only"], [false, {code: "home_only", citation: []}, "home_only"], [false, {}, ""]]) {
    const p = calling();
    if (told) p.on(withdrawal(1, 5_000));
    p.on({type: "ended", leg: 1, reason: "law", ...more});
    assert.deepEqual([p.name, p.state.text, p.state.refusal.code], ["ended", "ended.law", want]);
    assert.deepEqual(p.did("forget"), [{do: "forget", token: true}]);
  }
});

test("call → ended: left, and Rejoin takes a fresh seat without the check", () => {
  const p = calling();
  p.on({type: "leave"});
  assert.deepEqual([p.name, p.state.text], ["ended", "ended.left"]);
  assert.deepEqual([p.did("leave"), p.did("stop"), p.did("forget")], [[{do: "leave", leg: 1}], [{do: "stop"}], [{do: "forget", token: false}]]);
  p.on({type: "rejoin"});
  p.on(BOTH);
  assert.deepEqual(p.did("connect"), [{do: "connect", leg: 2, address: EDGE, stranded: false}]);
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
  p.on(move(1, STANDBY));
  p.on(welcome(2, BERLIN, 2));
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
  assert.deepEqual([r.name, r.next], ["call", [3]]);

  const s = calling();
  s.on(refused(1, "home_only"));
  assert.equal(s.name, "refused", "the edge itself withdraws the seat");
});

test("refused for the link's sake", () => {
  const cases = {token_early: ["link", "link.early"], token_invalid: ["link", "link.bad"], not_found: ["link", "link.bad"], token_expired: ["link", "link.expired"], consult_ended: ["ended", "ended.done"]};
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
    assert.deepEqual([p.name, p.state.due > p.now], ["link", true], code);
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

test("whatever happens: one leg is heard, attempts are few and apart, none is lost, and what is missed is sought", () => {
  const places = [FRANKFURT, BERLIN, PARIS];
  const edges = [EDGE, STANDBY, THIRD, {...THIRD, edge: "de-x-1", url: "wss://d/v1/join"}];
  for (let seed = 1; seed <= 400; seed++) {
    let x = seed;
    const random = () => {
      x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
      return x / 2 ** 32;
    };
    const pick = (list) => list[Math.floor(random() * list.length)];
    const p = page();
    const up = new Set();
    const trace = [];
    for (const e of [{...OPEN, addresses: edges.slice(0, 1 + (seed % 4))}, BOTH, {type: "join"}]) p.on(e);
    for (let i = 0; i < 120; i++) {
      for (const l of p.did("connect")) up.add(l.leg);
      for (const l of [...p.did("drop"), ...p.did("leave")]) {
        assert.ok(up.delete(l.leg), `seed ${seed}: leg ${l.leg} ended twice`);
      }
      const s = p.state;
      const what = `seed ${seed}, event ${i}: ${trace.slice(-6).join(" ")}`;
      const next = attempts(s);
      assert.deepEqual([...up].sort(), s.legs.map((l) => l.id).sort(), `${what}: legs`);
      assert.ok(s.legs.length - next.length <= 1 && next.length <= BESIDE, `${what}: ${s.legs.length} legs`);
      assert.equal(new Set(next.map((l) => l.address.url)).size, next.length, `${what}: an edge twice`);
      const playing = s.name !== "link" && s.name !== "ended" && s.name !== "refused";
      assert.equal(playing, current(s) !== undefined, `${what}: ${s.name} and leg ${current(s)?.id}`);
      const missed = playing ? s.gap > 0 || s.moving || current(s).socket !== "open" : s.step === "joining";
      if (missed) assert.ok(s.due > 0, `${what}: nothing is due`);
      if (s.step === "stopped") break;
      const leg = pick(s.legs)?.id ?? 0;
      const met = pick(s.legs.filter((l) => l.place))?.id ?? 0; // a leg has media once it is welcomed
      const e = pick([
        () => ({type: "opened", leg}), () => ({type: "progress", leg}), () => welcome(leg, pick(places), 1 + Math.floor(random() * 3), edges.slice(1, 3)),
        () => pulse(met, random() < 0.7, Math.floor(random() * 2)), () => pulse(met, true, 1), () => move(leg, pick(edges), 1 + Math.floor(random() * 3)),
        () => ({type: "closed", leg, dice: random()}), () => refused(leg, pick(["region_full", "wrong_edge", "store_unavailable"])),
        () => timer("attempt", pick([0, 0, 5_000])), () => timer("gap"), () => timer("gap"), () => ({type: "retry"}),
      ])();
      trace.push(`${e.type}${e.leg ?? e.name ?? ""}`);
      p.after(Math.floor(random() * 3_000), e);
    }
  }
});

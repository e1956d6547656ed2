// The consult page's rule: (state, event, now) → {state, effects}. Nothing here
// touches the DOM, a socket, a device or a clock; the wires around it turn what
// happens into events and carry the effects out. A timer is an effect that comes
// back as the event of its name.
//
// A leg is one WebSocket with its RTCPeerConnection, known here by a number only.
// `current` is the leg that people hear; `next` is the one being built, because of
// a join, a move or a loss. Everything that can go wrong with a leg ends in one
// place, failed(): the next address is tried, and what still plays goes on.
//
// Of docs/protocol.md's states the waiting room, a parked check and the causes of
// paused video other than the user's own choice are not built yet.

import {endText, refusalText} from "./codes.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Effect} Effect */
/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Peer} Peer */
/** @typedef {import("./types.js").TimerName} TimerName */
/** @typedef {import("./types.js").Name} Name */

/** Silence in ms after which the banner, the help and the failure page come. */
export const GAPS = [1_500, 10_000, 60_000];
/** A leg has this long to be welcomed, and then to carry media. */
export const WELCOME = 3_000;
export const MEDIA = 8_000;
const NOTICE = 15_000;
/** A peer that comes back sooner was only moving. */
const PEER = 1_500;

/** @type {State} */
export const initial = {
  name: "link", step: "ask", text: "", refusal: null,
  devices: {mic: false, camera: false, failure: null},
  wish: {mic: true, camera: true, sound: false},
  troubles: [], notice: null,
  addresses: [], standby: [], session: "", legs: 0, current: 0, next: 0, target: null,
  place: null, nextPlace: null, nextPeers: null, heard: 0, socket: false,
  retrying: false, attempt: 0, moving: false, pending: null,
  flowAt: 0, gap: 0, peers: [], seen: [], away: [],
};

/**
 * @param {State} state
 * @param {Event} event
 * @param {number} now  ms, from any monotonic clock
 * @returns {{state: State, effects: Effect[]}}
 */
export function step(state, event, now) {
  const s = {...state};
  /** @type {Effect[]} */
  const fx = [];
  if (inCall(s)) s.name = "call";
  take(s, event, now, fx);
  if (inCall(s)) s.name = callName(s);
  return {state: s, effects: fx};
}

/** @param {State} s */
export const inCall = (s) => s.name !== "link" && s.name !== "ended" && s.name !== "refused";

/** @param {State} s @returns {Name} */
function callName(s) {
  if (s.gap > 0) return "reconnecting";
  if (s.moving) return "moving";
  return s.wish.sound ? "audio-only" : "call";
}

/** @param {State} s @param {Event} e @param {number} now @param {Effect[]} fx */
function take(s, e, now, fx) {
  switch (e.type) {
    case "open": return open(s, e, fx);
    case "ask":
      s.step = "opening";
      s.wish = {...s.wish, sound: e.sound};
      fx.push({do: "devices", video: !e.sound});
      return;
    case "again":
      fx.push({do: "devices", video: s.wish.camera && !s.wish.sound});
      return;
    case "devices": return devices(s, e, now, fx);
    case "join":
      if (s.name !== "link" || s.step !== "ready") return;
      s.step = "joining";
      return begin(s, now, fx);
    case "rejoin":
      s.session = "";
      return rejoin(s, fx);
    case "retry":
      if (!waits(s)) return;
      s.attempt = 0;
      return connect(s, fx);
    case "leave":
      if (inCall(s)) finish(s, fx, "ended.left");
      return;
    case "mic": case "camera": case "sound": return toggle(s, e.type, fx);
    case "trouble":
      s.troubles = [...s.troubles.filter((t) => t.key !== e.key), {key: e.key, params: e.params}];
      fx.push({do: "say", key: e.key, params: e.params, loud: e.key === "paused"});
      return;
    case "calm":
      s.troubles = s.troubles.filter((t) => t.key !== e.key);
      return;
    case "timer": return timer(s, e, now, fx);
    default: return fromLeg(s, e, now, fx);
  }
}

/** What a leg reports; a leg that was dropped is heard no more.
 * @param {State} s @param {Extract<Event, {leg: number}>} e @param {number} now @param {Effect[]} fx */
function fromLeg(s, e, now, fx) {
  if (e.leg !== s.current && e.leg !== s.next) return;
  const isNext = e.leg === s.next;
  switch (e.type) {
    case "welcome":
      if (isNext) welcome(s, e, fx);
      return;
    case "pulse": return pulse(s, e, now, fx);
    case "peers":
      if (isNext) s.nextPeers = e.peers;
      else peers(s, e.peers, fx);
      return;
    case "move": {
      const to = {url: e.url, token: e.token};
      s.addresses = [to, ...s.addresses.filter((a) => a.url !== to.url)];
      if (isNext) s.pending = to;
      else move(s, fx);
      return;
    }
    case "ended":
      // Our own next leg took the seat over from the current one.
      if (e.reason === "replaced" && !isNext && s.nextPlace) return;
      return finish(s, fx, endText(e.reason));
    case "refused": return refused(s, e, fx);
    case "closed":
      if (isNext) return failed(s, e.dice, fx);
      s.socket = false;
      if (!s.next && !s.retrying) {
        s.attempt = 0;
        connect(s, fx);
      }
  }
}

/** @param {State} s @param {Extract<Event, {type: "open"}>} e @param {Effect[]} fx */
function open(s, e, fx) {
  if (e.problem) {
    s.step = "stopped";
    s.text = e.problem;
    return;
  }
  s.addresses = e.addresses;
  s.session = e.session;
  s.wish = {...s.wish, sound: e.sound};
  if (e.session) return rejoin(s, fx);
  if (!e.granted) return;
  s.step = "opening";
  fx.push({do: "devices", video: !e.sound});
}

/** @param {State} s @param {Extract<Event, {type: "devices"}>} e @param {number} now @param {Effect[]} fx */
function devices(s, e, now, fx) {
  // They came after the call was over: let them go, light and all.
  if (s.step === "stopped") {
    fx.push({do: "stop"});
    return;
  }
  s.devices = {mic: e.mic, camera: e.camera, failure: e.failure};
  if (e.failure) fx.push({do: "say", ...e.failure, loud: !e.mic && inCall(s)});
  send(s, fx);
  if (s.name !== "link") return;
  if (s.step === "opening") s.step = "ready";
  // A rejoin waits for the devices and for nothing else.
  if (s.step === "joining" && !s.next && !s.retrying) begin(s, now, fx);
}

/** The first leg of a call.
 * @param {State} s @param {number} now @param {Effect[]} fx */
function begin(s, now, fx) {
  s.flowAt = now;
  s.attempt = 0;
  connect(s, fx);
  fx.push({do: "say", key: "check.joining", loud: false}, {do: "timer", name: "gap", ms: GAPS[1]});
}

/** Takes the seat again without the check: a reload, Rejoin, Use this device.
 * @param {State} s @param {Effect[]} fx */
function rejoin(s, fx) {
  const {addresses, session, wish, legs} = s;
  Object.assign(s, initial, {addresses, session, wish, legs, step: "joining"});
  fx.push({do: "devices", video: wish.camera && !wish.sound});
}

/** Waiting for a leg: joining, or without media.
 * @param {State} s */
const waits = (s) => (inCall(s) ? s.gap > 0 : s.next > 0 || s.retrying);

/** Builds the next leg at the address that is due.
 * @param {State} s @param {Effect[]} fx */
function connect(s, fx) {
  if (s.next) fx.push({do: "drop", leg: s.next});
  s.retrying = false;
  s.legs += 1;
  s.next = s.legs;
  s.nextPlace = s.nextPeers = s.pending = null;
  s.target = s.addresses[s.attempt % s.addresses.length];
  fx.push(
    {do: "cancel", name: "retry"},
    {do: "connect", leg: s.next, address: s.target, session: s.session},
    {do: "timer", name: "attempt", ms: WELCOME},
  );
}

/** The next leg is given up: on to the next address, at once within a round.
 * @param {State} s @param {number} dice @param {Effect[]} fx */
function failed(s, dice, fx) {
  fx.push({do: "drop", leg: s.next}, {do: "cancel", name: "attempt"});
  s.next = 0;
  s.nextPlace = s.nextPeers = s.pending = null;
  s.attempt += 1;
  // The old leg may have come back to life meanwhile; then nothing is missing.
  if (inCall(s) && s.socket && s.gap === 0 && !s.moving) return;
  s.retrying = true;
  fx.push({do: "timer", name: "retry", ms: backoff(s.attempt, s.addresses.length, dice)});
}

/** The pause before an attempt in ms: none within a round of the addresses, then
 * 0.25 s doubling to 5 s between rounds, spread by a half either way below 5 s.
 * @param {number} attempt @param {number} addresses @param {number} dice */
export function backoff(attempt, addresses, dice) {
  const round = Math.floor(attempt / addresses);
  if (attempt % addresses !== 0 || round === 0) return 0;
  return Math.min(5_000, Math.round(250 * 2 ** (round - 1) * (0.5 + dice)));
}

/** @param {State} s @param {Extract<Event, {type: "welcome"}>} e @param {Effect[]} fx */
function welcome(s, e, fx) {
  const {url, token} = /** @type {Address} */ (s.target);
  s.session = e.session;
  s.nextPlace = e.place;
  s.standby = e.standby.filter((u) => u !== url).map((u) => ({url: u, token}));
  // This leg may still fail: its standbys join the round, the count of failures stays.
  s.addresses = [...s.addresses, ...s.standby.filter((b) => s.addresses.every((a) => a.url !== b.url))];
  fx.push({do: "timer", name: "attempt", ms: MEDIA}, {do: "save"});
}

/** Make before break: the next leg is taken once it carries as many voices as the
 * current one. Two people who move reach the new edge at different moments, and
 * each stays audible on the old one until both are there.
 * @param {State} s @param {Extract<Event, {type: "pulse"}>} e @param {number} now @param {Effect[]} fx */
function pulse(s, e, now, fx) {
  if (e.leg === s.current) {
    s.heard = e.heard;
    if (!e.alive) return;
    s.flowAt = now;
    if (s.gap === 0) return;
    s.gap = 0;
    fx.push({do: "timer", name: "gap", ms: GAPS[0]});
    // With signalling as well nothing is missing: no other leg is wanted.
    if (s.socket && s.retrying && !s.moving) {
      s.retrying = false;
      fx.push({do: "cancel", name: "retry"});
    }
    return;
  }
  if (!e.alive || (s.current && s.gap === 0 && e.heard < s.heard)) return;
  adopt(s, e.heard, now, fx);
}

/** @param {State} s @param {number} heard @param {number} now @param {Effect[]} fx */
function adopt(s, heard, now, fx) {
  const {current: old, place: from, pending, moving, nextPeers} = s;
  fx.push({do: "adopt", leg: s.next}, {do: "cancel", name: "attempt"});
  if (old) fx.push({do: "drop", leg: old});
  Object.assign(s, {
    current: s.next, next: 0, place: s.nextPlace ?? from, nextPlace: null, nextPeers: null, pending: null,
    addresses: pending ? s.addresses : [/** @type {Address} */ (s.target), ...s.standby],
    heard, socket: true, attempt: 0, moving: false, gap: 0, flowAt: now, refusal: null,
  });
  if (s.name === "link") s.name = "call";
  fx.push({do: "timer", name: "gap", ms: GAPS[0]}, {do: "save"});
  send(s, fx);
  if (nextPeers) peers(s, nextPeers, fx);
  // Inside a country a failover that succeeds shows nothing; a border is never crossed in silence.
  if (from && s.place && from.country !== s.place.country) notice(s, "moved.abroad", fx);
  else if (moving && from?.region !== s.place?.region) notice(s, "moved", fx);
  if (pending) move(s, fx);
}

/** @param {State} s @param {Effect[]} fx */
function move(s, fx) {
  s.moving = true;
  s.attempt = 0;
  connect(s, fx);
  fx.push({do: "say", key: "moving", loud: false});
}

/** @param {State} s @param {string} key @param {Effect[]} fx */
function notice(s, key, fx) {
  s.notice = {key};
  fx.push({do: "say", key, loud: false}, {do: "timer", name: "notice", ms: NOTICE});
}

/** @param {State} s @param {Extract<Event, {type: "refused"}>} e @param {Effect[]} fx */
function refused(s, e, fx) {
  const {code} = e.refusal;
  s.refusal = e.refusal;
  const text = refusalText(code);
  // A refusal never disturbs a call that runs; only the consult's end does.
  const runs = inCall(s) && s.gap === 0 && e.leg === s.next;
  if (text === "ended.done" || (text !== "" && !runs)) finish(s, fx, text);
  else if (e.leg === s.next) failed(s, e.dice, fx);
}

/** Closes everything and shows the page of this sentence.
 * @param {State} s @param {Effect[]} fx @param {string} text */
function finish(s, fx, text) {
  if (s.next) fx.push({do: "drop", leg: s.next});
  if (s.current) fx.push({do: text === "ended.left" ? "leave" : "drop", leg: s.current});
  for (const name of TIMERS) fx.push({do: "cancel", name});
  fx.push({do: "stop"}, {do: "forget", token: text === "ended.done"});
  const {addresses, wish, legs, refusal} = s;
  Object.assign(s, initial, {addresses, wish, legs, refusal, text, step: "stopped"});
  if (text.startsWith("refused.")) s.name = "refused";
  else if (text === "link.bad" || text === "link.expired") s.name = "link";
  else s.name = "ended";
  fx.push({do: "say", key: text, loud: true});
}

/** @type {TimerName[]} */
const TIMERS = ["gap", "attempt", "retry", "notice", "peers"];

/** @param {State} s */
export const micOn = (s) => s.wish.mic && s.devices.mic;
/** @param {State} s */
export const cameraOn = (s) => s.wish.camera && !s.wish.sound && s.devices.camera;

/** Turns over what is, not what was wished: a device that failed is asked for again.
 * @param {State} s @param {"mic"|"camera"|"sound"} which @param {Effect[]} fx */
function toggle(s, which, fx) {
  const {mic, camera, sound} = s.wish;
  if (which === "mic") s.wish = {mic: !micOn(s), camera, sound};
  // Asking for the camera is asking for video.
  else if (which === "camera") s.wish = {mic, camera: !cameraOn(s), sound: sound && cameraOn(s)};
  else s.wish = {mic, camera, sound: !sound};
  // What kept the camera away matters no more.
  if (s.wish.sound && s.devices.mic) s.devices = {...s.devices, failure: null};
  const video = s.wish.camera && !s.wish.sound;
  if (which === "mic" ? s.wish.mic && !s.devices.mic : video && !s.devices.camera) fx.push({do: "devices", video});
  send(s, fx);
  fx.push({do: "save"});
  if (sound && !s.wish.sound) {
    if (inCall(s)) notice(s, "audio.back", fx);
  } else if (which === "sound") fx.push({do: "say", key: "audio.chosen", loud: false});
  else fx.push({do: "say", key: `${which}.${s.wish[which] ? "on" : "off"}`, loud: false});
}

/** A camera that is off is let go, light and all.
 * @param {State} s @param {Effect[]} fx */
function send(s, fx) {
  const camera = cameraOn(s);
  if (!camera) s.devices = {...s.devices, camera: false};
  fx.push({do: "send", mic: micOn(s), camera, receive: !s.wish.sound});
}

/** @param {State} s @param {Extract<Event, {type: "timer"}>} e @param {number} now @param {Effect[]} fx */
function timer(s, e, now, fx) {
  switch (e.name) {
    case "gap": return gap(s, now, fx);
    case "attempt":
      if (s.next) failed(s, e.dice, fx);
      return;
    case "retry":
      if (s.retrying) connect(s, fx);
      return;
    case "notice":
      s.notice = null;
      return;
    case "peers":
      s.away = s.peers.filter((p) => !p.connected).map((p) => p.participant);
      for (const who of s.away) fx.push({do: "say", key: "lost.peer", who, loud: false});
  }
}

/** @param {State} s @param {number} now @param {Effect[]} fx */
function gap(s, now, fx) {
  if (s.name === "ended" || s.name === "refused" || s.step === "stopped") return;
  const silence = now - s.flowAt;
  const was = s.gap;
  const reached = /** @type {0|1|2|3} */ (GAPS.filter((ms) => silence >= ms).length);
  // While joining, the first seconds are the join itself.
  s.gap = s.name === "link" && reached === 1 ? 0 : reached;
  if (reached < 3) fx.push({do: "timer", name: "gap", ms: Math.max(1, GAPS[reached] - silence)});
  if (s.gap <= was) return;
  fx.push({do: "say", key: ["", "lost", "lost.long", "lost.failed"][s.gap], loud: s.gap === 2});
  if (!s.next && !s.retrying && inCall(s)) {
    s.attempt = 0;
    connect(s, fx);
  }
}

/** @param {State} s @param {Peer[]} list @param {Effect[]} fx */
function peers(s, list, fx) {
  const lost = (/** @type {Peer} */ p) => !p.connected;
  const fresh = list.filter((p) => p.connected && !s.seen.includes(p.participant));
  for (const p of fresh) fx.push({do: "say", key: "call.started", who: p.participant, loud: false});
  for (const who of s.away) {
    if (list.some((p) => p.participant === who && p.connected)) fx.push({do: "say", key: "peer.back", who, loud: false});
  }
  s.peers = list;
  s.seen = [...s.seen, ...fresh.map((p) => p.participant)];
  s.away = s.away.filter((who) => list.some((p) => p.participant === who && lost(p)));
  if (list.some((p) => lost(p) && s.seen.includes(p.participant) && !s.away.includes(p.participant))) {
    fx.push({do: "timer", name: "peers", ms: PEER});
  } else fx.push({do: "cancel", name: "peers"});
}

// The consult page's rule: (state, event, now) → {state, effects}. Nothing here
// touches the DOM, a socket, a device or a clock; the wires around it turn what
// happens into events and carry the effects out. A timer is an effect that comes
// back as the event of its name.
//
// The legs stand in a table (legs.js). People hear the `current` one; each `next` one
// is an attempt, because of a join, a move or a loss. An attempt that comes further is
// kept, however slow; when it carries no media in time another runs beside it at the
// next address (as RFC 8305 does for addresses), and the first that carries media is
// taken. Everything that can go wrong with an attempt ends in one place, fail(), and
// what still plays goes on.
//
// Of docs/protocol.md's states the waiting room and a parked check are not built yet.

import {endText, refusalText} from "./codes.js";
import {BESIDE, STALL, attempts, current, followed, isWell, merge, pause, put, same, slowest, vacancy} from "./legs.js";
import {fresh} from "./link.js";
import {GOOD, PROFILES, linkWords, paused} from "./quality.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Effect} Effect */
/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Leg} Leg */
/** @typedef {import("./types.js").Peer} Peer */
/** @typedef {import("./types.js").TimerName} TimerName */
/** @typedef {import("./types.js").Name} Name */

/** Silence in ms after which the banner, the help and the failure page come. */
export const GAPS = [1_500, 10_000, 60_000];
/** An attempt has this long to be welcomed, and then to carry media, before another
 * runs beside it. */
export const WELCOME = 3_000;
export const MEDIA = 8_000;
/** A timer that is later than this, ms, says that the page itself did not run. */
const LATE = 1_000;
const NOTICE = 15_000;
/** How long before the law ends the call it is said again, ms. */
export const REMIND = [300_000, 60_000, 10_000];
/** What happens to video is said at most so often, ms. */
export const QUIET = 30_000;
/** A peer that comes back sooner was only moving. */
const PEER = 1_500;

/** @type {State} */
export const initial = {
  name: "link", step: "ask", text: "", refusal: null,
  devices: {mic: false, camera: false, failures: {mic: null, camera: null}},
  wish: {mic: true, camera: true, sound: false}, sharing: false,
  troubles: [], notice: null,
  addresses: [], legs: [], made: 0, due: 0, failures: 0, tried: [], sent: [], stranded: "", moving: false,
  flowAt: 0, gap: 0, seen: [], away: [], profile: "", spoken: {words: "[]", at: -QUIET, waits: false},
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
  pursue(s, "dice" in event ? event.dice : 0.5, now, fx);
  if (s.due !== state.due || (s.due && event.type === "timer" && event.name === "attempt")) {
    fx.push(s.due ? {do: "timer", name: "attempt", ms: Math.max(0, s.due - now)} : {do: "cancel", name: "attempt"});
  }
  if (inCall(s)) {
    s.name = callName(s);
    speak(s, now, fx);
  }
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
      fx.push({do: "devices", video: wantsVideo(s)});
      return;
    case "again":
      fx.push({do: "devices", video: wantsVideo(s)});
      return;
    case "devices": return devices(s, e, now, fx);
    case "plugged": return plugged(s, e, fx);
    case "join":
      if (s.name !== "link" || s.step !== "ready") return;
      s.step = "joining";
      return begin(s, now, fx);
    case "rejoin":
      if (s.step !== "stopped") return;
      s.addresses = fresh(s.addresses);
      return rejoin(s, fx);
    case "retry": return retry(s, now, fx);
    case "leave":
      if (inCall(s)) finish(s, fx, "ended.left");
      return;
    case "mic": case "camera": case "sound": return toggle(s, e.type, fx);
    case "screen":
      if (s.sharing || (inCall(s) && current(s)?.screens)) fx.push({do: "screen", on: !s.sharing});
      return;
    case "shares": return shares(s, e, fx);
    case "profile": {
      const leg = current(s);
      if (!leg) return;
      s.profile = e.profile;
      fx.push({do: "profile", leg: leg.id, profile: e.profile});
      return;
    }
    case "trouble":
      s.troubles = [...s.troubles.filter((t) => t.key !== e.key), {key: e.key, params: e.params}];
      fx.push({do: "say", key: e.key, params: e.params, loud: false});
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
  const leg = s.legs.find((l) => l.id === e.leg);
  if (!leg) return;
  const isNext = leg.role === "next";
  if (isNext && (e.type !== "pulse" || e.alive)) put(s, leg.id, {progress: now});
  switch (e.type) {
    case "opened": return put(s, leg.id, {socket: "open"});
    case "welcome":
      if (isNext) welcome(s, e, leg, now, fx);
      return;
    case "pulse": return pulse(s, e, leg, now, fx);
    case "peers":
      if (isNext) put(s, leg.id, {peers: e.peers});
      else peers(s, e.peers, fx);
      return;
    case "move": return move(s, e, leg, now, fx);
    case "ended":
      // Our own next leg took the seat over from the current one.
      if (e.reason === "replaced" && !isNext && attempts(s).some((l) => l.place || (l.socket === "open" && same(l.address, leg.address)))) return;
      if (e.reason === "law") {
        const {code, citation} = leg.withdrawal ?? {code: "", citation: []};
        s.refusal = {code: e.code ?? code, citation: e.citation ?? citation, jurisdiction: "", id: ""};
      }
      return finish(s, fx, endText(e.reason));
    case "withdrawal": return withdrawal(s, e, leg, now, fx);
    case "quality": {
      const {participant, video, cause} = e;
      const others = leg.quality.filter((q) => q.participant !== participant);
      return put(s, leg.id, {quality: video === "full" ? others : [...others, {participant, video, cause}]});
    }
    case "measured": return put(s, leg.id, {measure: e.measure, levels: e.levels, held: e.held});
    case "speaker": return put(s, leg.id, {speaker: e.participant});
    case "profiled": return profiled(s, e, leg, fx);
    case "refused": return refused(s, e, leg, now, fx);
    case "closed":
      if (isNext) return fail(s, leg, e.dice, now, fx);
      put(s, leg.id, {socket: "closed"});
      seek(s, now);
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
  s.wish = {mic: e.mic, camera: e.camera, sound: e.sound};
  if (e.addresses.some((a) => a.session)) return rejoin(s, fx);
  if (!e.granted) return;
  s.step = "opening";
  fx.push({do: "devices", video: wantsVideo(s)});
}

/** @param {State} s @param {Extract<Event, {type: "devices"}>} e @param {number} now @param {Effect[]} fx */
function devices(s, e, now, fx) {
  // They came after the call was over: let them go, light and all.
  if (s.step === "stopped") {
    fx.push({do: "stop"});
    return;
  }
  const on = {mic: micOn(s), camera: cameraOn(s)};
  s.devices = {mic: e.mic, camera: e.camera, failures: e.failures};
  if (e.news?.key === "unplugged") notice(s, e.news, fx);
  else if (e.news) fx.push({do: "say", ...e.news, loud: inCall(s) && !e.mic && e.news.key === e.failures.mic?.key});
  else if (inCall(s)) {
    // A switch that was turned on has its device now, or one is back.
    if (micOn(s) && !on.mic) fx.push({do: "say", key: "mic.on", loud: false});
    if (cameraOn(s) && !on.camera) fx.push({do: "say", key: "camera.on", loud: false});
  }
  send(s, fx);
  if (s.name !== "link") return;
  if (s.step === "opening") s.step = "ready";
  // A rejoin waits for the devices and for nothing else.
  if (s.step === "joining" && s.due === 0) begin(s, now, fx);
}

/** Failures that another device, or the same one again, may end. Who was denied a device
 * must act, and is not asked again for having plugged one in. */
const MAY_RETURN = ["none.mic", "none.camera", "busy"];

/** A device came or went: what is missing, and may be there now, is asked for again.
 * @param {State} s @param {Extract<Event, {type: "plugged"}>} e @param {Effect[]} fx */
function plugged(s, e, fx) {
  const {failures} = s.devices;
  const back = (/** @type {"mic"|"camera"} */ which) => e[which] && !s.devices[which] && MAY_RETURN.includes(failures[which]?.key ?? "");
  if (back("mic") || back("camera")) fx.push({do: "devices", video: wantsVideo(s)});
}

/** The first leg of a call.
 * @param {State} s @param {number} now @param {Effect[]} fx */
function begin(s, now, fx) {
  s.flowAt = now;
  seek(s, now);
  fx.push({do: "say", key: "check.joining", loud: false}, {do: "timer", name: "gap", ms: GAPS[1]});
}

/** Takes the seat again without the check: a reload, Rejoin, Use this device.
 * @param {State} s @param {Effect[]} fx */
function rejoin(s, fx) {
  const {addresses, wish, made} = s;
  Object.assign(s, initial, {addresses, wish, made, step: "joining"});
  fx.push({do: "devices", video: wantsVideo(s)});
}

/** Try now, or the device says that it is online: a new round, and whatever stands
 * still may be waiting for a packet that was lost meanwhile.
 * @param {State} s @param {number} now @param {Effect[]} fx */
function retry(s, now, fx) {
  if (inCall(s) ? s.gap === 0 : s.due === 0) return;
  for (const l of attempts(s)) if (now - l.progress >= WELCOME) quit(s, l, fx);
  anew(s);
  s.due = now;
}

/** Another leg is wanted. @param {State} s @param {number} now */
function seek(s, now) {
  if (s.due > 0) return;
  if (attempts(s).length > 0) s.due = now + WELCOME; // that one first
  else {
    anew(s);
    s.due = now;
  }
}

/** A search begins, or is over. @param {State} s */
function anew(s) {
  s.failures = 0;
  s.tried = s.sent = [];
}

/** Starts the attempt that is due, and gives up those that come no further.
 * @param {State} s @param {number} dice @param {number} now @param {Effect[]} fx */
function pursue(s, dice, now, fx) {
  while (s.due > 0 && now >= s.due) {
    const slow = slowest(attempts(s));
    const to = vacancy(s);
    if (slow && now - slow.progress >= STALL) fail(s, slow, dice, now, fx);
    else if (to) start(s, to, now, fx);
    else if (slow) s.due = slow.progress + STALL;
    else {
      // Whoever could be asked has sent us away: ask them anew, in a while.
      s.sent = [];
      s.due = now + MEDIA;
    }
  }
}

/** @param {State} s @param {Address} address @param {number} now @param {Effect[]} fx @param {Partial<Leg>} more */
function start(s, address, now, fx, more = {}) {
  s.made += 1;
  s.legs = [...s.legs, {
    id: s.made, role: "next", address, sent: false, socket: "connecting", place: null, epoch: 0,
    standby: [], peers: null, heard: 0, progress: now, withdrawal: null, quality: [], measure: null, levels: null, held: false, profile: "", screens: false, speaker: "", to: "", ...more,
  }];
  last(s, address);
  fx.push({do: "connect", leg: s.made, address, stranded: s.stranded !== "" && s.stranded !== address.url});
  s.due = now + WELCOME;
}

/** Others come before this address. @param {State} s @param {Address} address */
function last(s, {url}) {
  s.tried = [...s.tried.filter((t) => t !== url), url];
}

/** Ends the legs for which it holds. Who leaves gives the seat up; who drops may have
 * it in another leg, or has lost it.
 * @param {State} s @param {Effect[]} fx @param {"leave"|"drop"} how @param {(leg: Leg) => boolean} which */
function end(s, fx, how, which) {
  for (const l of s.legs.filter(which)) fx.push({do: how, leg: l.id});
  s.legs = s.legs.filter((l) => !which(l));
}

/** Ends an attempt with its seat, unless that is the current leg's as well.
 * @param {State} s @param {Leg} leg @param {Effect[]} fx */
function quit(s, leg, fx) {
  const cur = current(s);
  end(s, fx, cur && same(cur.address, leg.address) ? "drop" : "leave", (l) => l.id === leg.id);
}

/** An attempt is given up: on to the next address.
 * @param {State} s @param {Leg} leg @param {number} dice @param {number} now @param {Effect[]} fx */
function fail(s, leg, dice, now, fx) {
  quit(s, leg, fx);
  last(s, leg.address);
  s.failures += 1;
  if (leg.sent) {
    s.stranded = leg.address.url;
    s.sent = [];
  }
  // The old leg may have come back to life meanwhile; then nothing is missing.
  const missing = !inCall(s) || !isWell(s) || s.moving;
  s.due = missing ? now + pause(s, dice) : 0;
}

/** @param {State} s @param {Extract<Event, {type: "welcome"}>} e @param {Leg} leg @param {number} now @param {Effect[]} fx */
function welcome(s, e, leg, now, fx) {
  const address = {...leg.address, session: e.session};
  const standby = e.standby.map(({edge, url, token = ""}) => ({edge, url, token, session: ""})).filter((b) => !same(b, address));
  // This leg may still fail: its standbys join the round, the count of failures stays.
  s.addresses = merge(s.addresses.map((a) => (same(a, address) ? {...a, session: e.session} : a)), standby);
  // An older edge has one token for all.
  s.addresses = s.addresses.map((a) => (a.token ? a : {...a, token: address.token}));
  put(s, leg.id, {address, place: e.place, epoch: e.epoch, socket: "open", standby, profile: e.profile ?? "", screens: e.screens ?? false});
  fx.push({do: "save"});
  // Where the call was before it moved is no place to go back to while it plays.
  if (s.gap === 0 && e.epoch < (current(s)?.epoch ?? 0)) return fail(s, leg, 0.5, now, fx);
  if (s.due > 0) s.due = now + MEDIA;
}

/** Make before break: an attempt is taken once it carries as many voices as the
 * current leg. Two people who move reach the new edge at different moments, and
 * each stays audible on the old one until both are there.
 * @param {State} s @param {Extract<Event, {type: "pulse"}>} e @param {Leg} leg @param {number} now @param {Effect[]} fx */
function pulse(s, e, leg, now, fx) {
  if (leg.heard !== e.heard) put(s, leg.id, {heard: e.heard});
  if (!e.alive) return;
  if (leg.role === "current") return flows(s, leg, now, fx);
  const cur = current(s);
  if (!cur || s.gap > 0 || e.heard >= cur.heard) return adopt(s, leg.id, now, fx);
  // It waits for others to arrive, for as long as it lives.
  if (s.due > 0 && s.due < now + MEDIA - 1_000) s.due = now + MEDIA;
}

/** The current leg carries media.
 * @param {State} s @param {Leg} leg @param {number} now @param {Effect[]} fx */
function flows(s, leg, now, fx) {
  s.flowAt = now;
  if (s.gap === 0) return;
  s.gap = 0;
  fx.push({do: "timer", name: "gap", ms: GAPS[0]});
  if (!isWell(s) || s.moving) return;
  // With signalling as well nothing is missing.
  settle(s, leg, fx);
}

/** The call stays on its current leg. An attempt at the same edge may have taken the
 * seat over already: that one goes on.
 * @param {State} s @param {Leg} leg @param {Effect[]} fx */
function settle(s, leg, fx) {
  s.due = 0;
  end(s, fx, "leave", (l) => l.role === "next" && !same(l.address, leg.address));
}

/** @param {State} s @param {number} id @param {number} now @param {Effect[]} fx */
function adopt(s, id, now, fx) {
  const old = current(s);
  const leg = /** @type {Leg} */ (s.legs.find((l) => l.id === id));
  const onward = (/** @type {Leg} */ l) => l.role === "next" && (l.address.url === leg.to || l.epoch > leg.epoch);
  fx.push({do: "adopt", leg: id});
  // On the same edge the seat is this leg's now.
  end(s, fx, "drop", (l) => l.id !== id && same(l.address, leg.address));
  end(s, fx, "leave", (l) => l.id !== id && !onward(l));
  put(s, id, {role: "current", socket: "open", peers: old?.peers ?? []});
  const {moving} = s;
  const on = s.addresses.find((a) => a.url === leg.to);
  Object.assign(s, {
    addresses: [...(on ? [on] : []), leg.address, ...leg.standby.map((b) => s.addresses.find((a) => same(a, b)) ?? b)],
    moving: s.legs.length > 1 || on !== undefined,
    stranded: "", gap: 0, flowAt: now, refusal: null,
  });
  anew(s);
  s.due = s.moving ? now + (s.legs.length > 1 ? MEDIA : 0) : 0;
  if (s.name === "link") s.name = "call";
  fx.push({do: "timer", name: "gap", ms: GAPS[0]}, {do: "save"});
  send(s, fx);
  // The placement of a call may not know what was chosen in it.
  if (s.profile && leg.profile && leg.profile !== s.profile) fx.push({do: "profile", leg: id, profile: s.profile});
  if (leg.peers) peers(s, leg.peers, fx);
  countdown(s, old?.withdrawal ?? null, leg.withdrawal, now, fx);
  const from = old?.place;
  // Inside a country a failover that succeeds shows nothing; a border is never crossed in silence.
  if (from && leg.place && from.country !== leg.place.country) notice(s, {key: "moved.abroad"}, fx);
  else if (moving && from?.region !== leg.place?.region) notice(s, {key: "moved"}, fx);
  if (s.moving) fx.push({do: "say", key: "moving", loud: false});
}

/** An edge says where the call is. Before the welcome that answers the hello, and the
 * leg is over; later its media go on until the call is heard there.
 * @param {State} s @param {Extract<Event, {type: "move"}>} e @param {Leg} leg @param {number} now @param {Effect[]} fx */
function move(s, e, leg, now, fx) {
  const to = {edge: e.edge, url: e.url, token: e.token, session: ""};
  const over = leg.place === null;
  const old = e.epoch < followed(s);
  if (over) {
    // Old news, or edges that send us in a circle: no better than a failure.
    if (old || s.sent.includes(to.url) || same(to, leg.address)) return fail(s, leg, e.dice, now, fx);
    end(s, fx, "drop", (l) => l.id === leg.id);
    s.sent = [...s.sent, leg.address.url];
  } else if (old || same(to, leg.address)) return;
  else if (leg.role === "next") put(s, leg.id, {to: to.url});

  to.session = s.addresses.find((a) => same(a, to))?.session ?? "";
  s.addresses = [to, ...s.addresses.filter((a) => !same(a, to))];
  const cur = current(s);
  if (over && cur && isWell(s) && same(cur.address, to)) { // back to where we are
    s.moving = false;
    return settle(s, cur, fx);
  }
  if (leg.role === "current") {
    s.moving = true;
    anew(s);
    end(s, fx, "leave", (l) => l.role === "next" && !same(l.address, to));
    fx.push({do: "say", key: "moving", loud: false});
  }
  const there = attempts(s).find((l) => same(l.address, to));
  if (there) {
    if (s.due === 0) s.due = now + WELCOME;
    return put(s, there.id, {sent: true, epoch: Math.max(there.epoch, e.epoch)});
  }
  if (attempts(s).length >= BESIDE) {
    const slow = slowest(attempts(s).filter((l) => l.id !== leg.id));
    end(s, fx, "leave", (l) => l.id === slow?.id);
  }
  start(s, to, now, fx, {sent: true, epoch: e.epoch});
}

/** What an attempt is told counts once it is heard: it may be at a lawful place.
 * @param {State} s @param {Extract<Event, {type: "withdrawal"}>} e @param {Leg} leg @param {number} now @param {Effect[]} fx */
function withdrawal(s, e, leg, now, fx) {
  const ends = e.left === null ? null : {code: e.code, citation: e.citation, endsAt: now + e.left};
  put(s, leg.id, {withdrawal: ends});
  if (leg.role === "current") countdown(s, leg.withdrawal, ends, now, fx);
}

/** The countdown begins, goes on or is over: for the law is back, or the call moved.
 * @param {State} s @param {import("./types.js").Withdrawal|null} was @param {import("./types.js").Withdrawal|null} is
 * @param {number} now @param {Effect[]} fx */
function countdown(s, was, is, now, fx) {
  if (!was && !is) return;
  if (is && s.notice?.key === "withdrawal.over") s.notice = null;
  if (is && !was) fx.push({do: "say", key: "withdrawal", params: {left: String(is.endsAt - now)}, loud: false});
  if (was && !is) notice(s, {key: "withdrawal.over"}, fx);
  remind(is, now, fx);
}

/** @param {import("./types.js").Withdrawal|null|undefined} ends @param {number} now @param {Effect[]} fx */
function remind(ends, now, fx) {
  const left = ends ? ends.endsAt - now : 0;
  const next = REMIND.find((ms) => ms < left);
  fx.push(next ? {do: "timer", name: "withdrawal", ms: left - next} : {do: "cancel", name: "withdrawal"});
}

/** What the edge says of the profile. A choice of somebody else's ends that of this page.
 * @param {State} s @param {Extract<Event, {type: "profiled"}>} e @param {Leg} leg @param {Effect[]} fx */
function profiled(s, e, leg, fx) {
  put(s, leg.id, {profile: e.profile});
  if (leg.role !== "current") return;
  if (e.refused || e.profile !== s.profile) s.profile = "";
  if (e.refused) fx.push({do: "say", key: "picture.refused", loud: false});
  else if (e.profile !== leg.profile && PROFILES.includes(e.profile)) fx.push({do: "say", key: "picture.changed", params: {picture: e.profile}, loud: false});
}

/** Says what is new of video that is paused and of connections that are weak, or that it is over,
 * not too often: what was so for a moment in between is never said.
 * @param {State} s @param {number} now @param {Effect[]} fx */
function speak(s, now, fx) {
  const isVideo = (/** @type {import("./types.js").Sentence} */ w) => w.key.startsWith("audio.");
  // Who turned video off has been told so.
  const was = /** @type {import("./types.js").Sentence[]} */ (JSON.parse(s.spoken.words)).filter((w) => !s.wish.sound || !isVideo(w));
  const list = [...paused(s), ...linkWords(s)];
  const words = JSON.stringify(list);
  if (words === JSON.stringify(was)) s.spoken = {...s.spoken, words};
  else if (now - s.spoken.at < QUIET) {
    if (!s.spoken.waits) fx.push({do: "timer", name: "quality", ms: s.spoken.at + QUIET - now});
    s.spoken = {...s.spoken, waits: true};
  } else {
    s.spoken = {words, at: now, waits: false};
    const old = was.map((w) => JSON.stringify(w));
    for (const w of list) if (!old.includes(JSON.stringify(w))) fx.push({do: "say", ...w, loud: false});
    if (was.some(isVideo) && !list.some(isVideo)) notice(s, {key: "audio.back"}, fx);
    else if (list.length === 0) fx.push({do: "say", ...GOOD, loud: false});
  }
}

/** @param {State} s @param {import("./types.js").Sentence} news @param {Effect[]} fx */
function notice(s, news, fx) {
  s.notice = news;
  fx.push({do: "say", ...news, loud: false}, {do: "timer", name: "notice", ms: NOTICE});
}

/** @param {State} s @param {Extract<Event, {type: "refused"}>} e @param {Leg} leg @param {number} now @param {Effect[]} fx */
function refused(s, e, leg, now, fx) {
  s.refusal = e.refusal;
  let text = refusalText(e.refusal.code);
  // A wrong clock is the trouble of one edge, where there are others.
  if (text === "link.early" && s.addresses.length > 1) text = "";
  // A refusal never disturbs a call that runs, nor an attempt elsewhere; only the
  // consult's end does.
  const runs = leg.role === "next" && (attempts(s).length > 1 || (inCall(s) && s.gap === 0));
  if (text === "ended.done" || (text !== "" && !runs)) finish(s, fx, text);
  else if (leg.role === "next") fail(s, leg, e.dice, now, fx);
}

/** Closes everything and shows the page of this sentence.
 * @param {State} s @param {Effect[]} fx @param {string} text */
function finish(s, fx, text) {
  end(s, fx, "leave", (l) => l.role === "next" || text === "ended.left");
  end(s, fx, "drop", () => true);
  for (const name of TIMERS) fx.push({do: "cancel", name});
  fx.push({do: "stop"}, {do: "forget", token: text === "ended.done" || text === "ended.law"});
  const {addresses, wish, made, refusal} = s;
  Object.assign(s, initial, {addresses, wish, made, refusal, text, step: "stopped"});
  if (text.startsWith("refused.")) s.name = "refused";
  else if (text.startsWith("link.") && text !== "link.elsewhere") s.name = "link";
  else s.name = "ended";
  fx.push({do: "say", key: text, loud: true});
}

/** Those that finish() cancels; `attempt` goes with `due`, and `quality` finds nothing to say.
 * @type {TimerName[]} */
const TIMERS = ["gap", "notice", "peers", "withdrawal"];

/** What is sent: what is wished and runs. @param {State} s */
export const micOn = (s) => s.wish.mic && s.devices.mic;
/** @param {State} s */
export const cameraOn = (s) => wantsVideo(s) && s.devices.camera;
/** @param {State} s */
export const wantsVideo = (s) => s.wish.camera && !s.wish.sound;

/** Turns over what is, not what was wished: a device that failed is asked for again.
 * @param {State} s @param {"mic"|"camera"|"sound"} which @param {Effect[]} fx */
function toggle(s, which, fx) {
  const {mic, camera, sound} = s.wish;
  if (which === "mic") s.wish = {mic: !micOn(s), camera, sound};
  // Asking for the camera is asking for video.
  else if (which === "camera") s.wish = {mic, camera: !cameraOn(s), sound: sound && cameraOn(s)};
  else s.wish = {mic, camera, sound: !sound};
  const asks = which === "mic" ? s.wish.mic && !s.devices.mic : wantsVideo(s) && !s.devices.camera;
  if (asks) fx.push({do: "devices", video: wantsVideo(s)});
  send(s, fx);
  fx.push({do: "save"});
  if (sound && !s.wish.sound) {
    if (inCall(s) && paused(s).length === 0) notice(s, {key: "audio.back"}, fx);
  } else if (which === "sound") fx.push({do: "say", key: "audio.chosen", loud: false});
  // What is asked for is said when it is there.
  else if (!asks) fx.push({do: "say", key: `${which}.${s.wish[which] ? "on" : "off"}`, loud: false});
}

/** Whatever is sent is said here, and nowhere else. A camera that nobody wants is let go, and
 * what kept it away matters no more.
 * @param {State} s @param {Effect[]} fx */
function send(s, fx) {
  const hold = wantsVideo(s);
  if (!hold) s.devices = {...s.devices, camera: false, failures: {...s.devices.failures, camera: null}};
  fx.push({do: "send", mic: micOn(s), camera: cameraOn(s), hold, receive: !s.wish.sound});
}

/** The screen is shared from now on, or is not.
 * @param {State} s @param {Extract<Event, {type: "shares"}>} e @param {Effect[]} fx */
function shares(s, e, fx) {
  // It was chosen after the call was over.
  if (!inCall(s)) return void (e.on && fx.push({do: "screen", on: false}));
  if (e.failed) fx.push({do: "say", key: "screen.failed", loud: false});
  if (e.on === s.sharing) return;
  s.sharing = e.on;
  fx.push({do: "say", key: e.on ? "screen.on" : "screen.off", loud: false});
  send(s, fx);
}

/** @param {State} s @param {Extract<Event, {type: "timer"}>} e @param {number} now @param {Effect[]} fx */
function timer(s, e, now, fx) {
  if (e.late > LATE) {
    // While the page did not run, nothing could be seen to come further.
    s.legs = s.legs.map((l) => ({...l, progress: Math.min(now, l.progress + e.late)}));
    s.flowAt = Math.min(now, s.flowAt + e.late);
  }
  switch (e.name) {
    case "gap": return gap(s, now, fx);
    case "attempt": return; // pursue does the rest
    case "quality": // and speak
      s.spoken = {...s.spoken, waits: false};
      return;
    case "notice":
      s.notice = null;
      return;
    case "withdrawal": {
      const ends = current(s)?.withdrawal;
      if (ends) fx.push({do: "say", key: "withdrawal.left", params: {left: String(ends.endsAt - now)}, loud: false});
      return remind(ends, now, fx);
    }
    case "peers":
      s.away = (current(s)?.peers ?? []).filter((p) => !p.connected).map((p) => p.participant);
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
  if (inCall(s)) seek(s, now);
}

/** @param {State} s @param {Peer[]} list @param {Effect[]} fx */
function peers(s, list, fx) {
  const lost = (/** @type {Peer} */ p) => !p.connected;
  const fresh = list.filter((p) => p.connected && !s.seen.includes(p.participant));
  for (const p of fresh) fx.push({do: "say", key: "call.started", who: p.participant, loud: false});
  for (const who of s.away) {
    if (list.some((p) => p.participant === who && p.connected)) fx.push({do: "say", key: "peer.back", who, loud: false});
  }
  const shared = (current(s)?.peers ?? []).filter((p) => p.screen).map((p) => p.participant);
  for (const p of list) if (p.screen && !shared.includes(p.participant)) fx.push({do: "say", key: "screen.peer", who: p.participant, loud: false});
  put(s, current(s)?.id ?? 0, {peers: list});
  s.seen = [...s.seen, ...fresh.map((p) => p.participant)];
  s.away = s.away.filter((who) => list.some((p) => p.participant === who && lost(p)));
  if (list.some((p) => lost(p) && s.seen.includes(p.participant) && !s.away.includes(p.participant))) {
    fx.push({do: "timer", name: "peers", ms: PEER});
  } else fx.push({do: "cancel", name: "peers"});
}

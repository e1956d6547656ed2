// The wires of the consult page: events of the DOM, devices and legs go into the
// machine, its effects come out here.
//
// `?relay=1` in the page's address forces media through TURN: for support, and for
// tests of the relay.

import {byId} from "../shared/dom.js";
import {i18n} from "../shared/i18n.js";
import {sayer} from "../shared/say.js";
import {renderConnection} from "./connection.js";
import {KIND} from "./data.js";
import {deviceForm} from "./devices.js";
import {makeCalls, octetsOf, problemOf as secretProblem} from "./e2ee/call.js";
import {makeLeg} from "./leg.js";
import {current} from "./legs.js";
import {claims, fragmentOf, fresh, keepSeat, seatOf, storageOf} from "./link.js";
import {cameraOn, initial, micOn, step, wantsVideo} from "./machine.js";
import {isGranted, makeMedia, problemOf} from "./media.js";
import {makePage} from "./page.js";
import {makeScreen} from "./screen.js";
import {tileStage} from "./tiles.js";
import {message} from "./view.js";

/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Effect} Effect */

const say = sayer(byId("say"), byId("alert"));
const storage = storageOf(globalThis);
const relay = new URLSearchParams(location.search).get("relay") === "1";
// The deployment's telephone numbers are not configurable yet: their sentences are left out.
const texts = i18n(await (await fetch("/web/i18n/en.json")).json(), {contact: undefined, emergency: undefined});

let state = initial;
/** What encrypts a leg end to end; null: nothing is to.
 * @type {ReturnType<typeof makeCalls>|null} */
let secrets = null;
/** @type {Map<number, ReturnType<typeof makeLeg>>} */
const legs = new Map();
/** @type {Map<string, ReturnType<typeof setTimeout>>} */
const timers = new Map();

/** @param {Event} event */
function dispatch(event) {
  const result = step(state, event, performance.now());
  state = result.state;
  for (const effect of result.effects) perform(effect);
  page.render(state, stage);
  renderConnection(state, texts);
  page.tick(state, performance.now());
}

setInterval(() => page.tick(state, performance.now()), 500);

const media = makeMedia((now) => {
  dispatch({type: "devices", ...now});
  void listDevices();
});
const screen = makeScreen((on, failed) => dispatch({type: "shares", on, failed}));
const stage = tileStage(byId("tiles"), {
  sized: () => {
    for (const leg of legs.values()) leg.sync();
  },
  blocked: () => dispatch({type: "trouble", key: "no.sound"}),
  playing: () => {
    if (state.troubles.some((t) => t.key === "no.sound")) dispatch({type: "calm", key: "no.sound"});
  },
});
const seat = seatOf(location, storage);
const clinician = claims(seat?.token ?? "")?.role === "clinician";
const page = makePage(texts, act, clinician ? {choose: (profile) => dispatch({type: "profile", profile}), ask: (who) => withPhotos((p) => p.ask(who))} : null);

/** Fetched when the call runs: nobody waits for it to join, and it is there if the edge that the
 * page came from is not any more.
 * @type {Promise<ReturnType<typeof import("./photo.js").makePhotos>>|null} */
let photos = null;
/** @param {(photos: ReturnType<typeof import("./photo.js").makePhotos>) => void} use */
function withPhotos(use) {
  photos ??= import("./photo.js").then(({makePhotos}) => makePhotos({
    words: (key, who) => message(state, {key, params: {who}}, texts),
    say,
    send: (to, says) => legs.get(current(state)?.id ?? 0)?.say(to, KIND.photo, says),
    camera: () => media.tracks.video,
  }));
  photos.then(use, (err) => {
    photos = null; // the next use tries again
    console.error("photo", err);
  });
}
/** @param {string} participant */
const roleOf = (participant) => current(state)?.peers?.find((p) => p.participant === participant)?.role;

/** @param {Effect} fx */
function perform(fx) {
  switch (fx.do) {
    case "devices": return void media.open(fx);
    case "screen": return fx.on ? void screen.start() : screen.stop();
    case "stop":
      media.stop();
      screen.stop();
      stage.clear();
      void photos?.then((p) => p.clear(), () => {});
      return preview();
    case "send":
      media.apply(fx);
      for (const leg of legs.values()) leg.sync();
      return preview();
    case "connect": return connect(fx);
    case "adopt":
      withPhotos(() => {});
      return legs.get(fx.leg)?.adopt(stage.show);
    case "drop": case "leave":
      legs.get(fx.leg)?.[fx.do === "leave" ? "leave" : "close"]();
      legs.delete(fx.leg);
      strangers.delete(fx.leg);
      return;
    case "profile": return legs.get(fx.leg)?.choose(fx.profile);
    case "save": return keep(state.addresses);
    case "forget": return fx.token ? void keepSeat(location.pathname, null, storage) : keep(fresh(state.addresses));
    case "cancel": return clearTimeout(timers.get(fx.name));
    case "timer":
      clearTimeout(timers.get(fx.name));
      timers.set(fx.name, setTimeout(wake, fx.ms, fx.name, performance.now() + fx.ms));
      return;
    case "say": {
      const params = fx.who ? {who: fx.who} : fx.params;
      return say(message(state, {key: fx.key, params}, texts).sentences.join(" "), fx.loud);
    }
  }
}

/** @param {import("./types.js").TimerName} name @param {number} due */
function wake(name, due) {
  dispatch({type: "timer", name, late: performance.now() - due, dice: Math.random()});
}

/** @param {Extract<Effect, {do: "connect"}>} fx */
function connect({leg, address, stranded}) {
  legs.set(leg, makeLeg(leg, address, {
    stranded, relay, emit: dispatch, secret: secrets && secrets((others) => meet(leg, others)),
    hear: (from, kind, says) => {
      if (kind === KIND.photo && leg === current(state)?.id) withPhotos((p) => p.hear(from, says, roleOf(from) === "clinician"));
    },
    shares: clinician,
    local: () => ({...media.tracks, screen: screen.track}),
    wanted: () => ({mic: micOn(state), camera: cameraOn(state), receive_video: !state.wish.sound, screen: state.sharing}),
    shown: stage.shown,
  }));
}

/** Who is on a leg with another k than ours: neither hears the other.
 * @type {Map<number, string[]>} */
const strangers = new Map();

/** @param {number} leg @param {string[]} others */
function meet(leg, others) {
  if (legs.has(leg)) strangers.set(leg, others);
  const [who] = [...strangers.values()].flat();
  const shown = state.troubles.find((t) => t.key === "e2ee.other");
  if (who && shown?.params?.who !== who) dispatch({type: "trouble", key: "e2ee.other", params: {who}});
  if (!who && shown) dispatch({type: "calm", key: "e2ee.other"});
}

/** @param {import("./types.js").Address[]} addresses */
function keep(addresses) {
  if (addresses.length === 0) return;
  keepSeat(location.pathname, {token: addresses[0].token, k: seat?.k ?? "", addresses, wish: state.wish}, storage);
}

function preview() {
  const track = media.tracks.video;
  for (const id of ["preview", "self-video"]) {
    const el = /** @type {HTMLVideoElement} */ (byId(id));
    const shown = /** @type {MediaStream|null} */ (el.srcObject)?.getTracks()[0] ?? null;
    if (shown !== track) el.srcObject = track ? new MediaStream([track]) : null;
  }
}

let speaker = "";
const forms = ["link-devices", "call-devices"].map((id) => deviceForm(/** @type {HTMLFormElement} */ (byId(id)), {
  texts,
  list: media.list,
  choose: (slot, device) => {
    if (slot === "audiooutput") {
      speaker = device;
      stage.speak(device);
      return;
    }
    if (slot === "audioinput") void media.choose("audio", device);
    else void media.choose("video", device, wantsVideo(state));
  },
}));

async function listDevices() {
  const used = {
    audioinput: media.tracks.audio?.getSettings().deviceId ?? "",
    videoinput: media.tracks.video?.getSettings().deviceId ?? media.chosen.video,
    audiooutput: speaker,
  };
  for (const refresh of forms) await refresh(used);
}

/** @param {string} action */
function act(action) {
  switch (action) {
    case "ask": return dispatch({type: "ask", sound: false});
    case "ask-sound": return dispatch({type: "ask", sound: true});
    case "join": case "again": case "rejoin": case "retry": case "leave":
    case "mic": case "camera": case "sound": case "screen":
      return dispatch({type: action});
    case "hear": return stage.play();
    case "reload": return location.reload();
    case "copy": return void copyLink();
  }
}

/** The address goes to the clipboard, or back into the address bar for copying by hand. */
async function copyLink() {
  const fragment = seat ? fragmentOf(seat) : "";
  try {
    await navigator.clipboard.writeText(`${location.origin}${location.pathname}${fragment}`);
  } catch {
    history.replaceState(null, "", fragment || location.pathname);
  }
}

// A link that cannot be kept stays in the address bar, for a reload.
const kept = seat !== null && keepSeat(location.pathname, seat, storage);
if (location.hash !== "" && (kept || !seat)) history.replaceState(null, "", location.pathname + location.search);
// Clinicians see a refusal's support line at once.
/** @type {HTMLDetailsElement} */ (byId("message-details")).open = clinician;

/** A duplicated tab has a copy of the seat. One page at a time may resume it, or two
 * would take it from each other for ever.
 * @param {string} name @returns {Promise<boolean>} */
const holds = (name) => new Promise((resolve) => {
  // A page that is being reloaded lets go in a moment.
  const patience = new AbortController();
  setTimeout(() => patience.abort(), 500);
  const held = navigator.locks?.request(name, {signal: patience.signal}, () => {
    resolve(true);
    return new Promise(() => {});
  });
  // Where there are no locks, or none for a page without storage, there is no copy either.
  if (held) held.catch(() => resolve(!patience.signal.aborted));
  else resolve(true);
});

navigator.mediaDevices?.addEventListener("devicechange", async () => {
  void listDevices();
  dispatch({type: "plugged", ...await media.present()});
});
addEventListener("online", () => dispatch({type: "retry"}));
addEventListener("hashchange", () => location.reload());

/** What keeps this link, or this browser, from a call that is encrypted end to end. Where
 * link and token do not say the same of that, somebody has changed one.
 * @param {import("./link.js").Seat} s */
function secrecyProblem(s) {
  const wanted = claims(s.token)?.e2ee === true;
  if (s.k === "") return wanted ? "link.key" : "";
  if (!wanted || !octetsOf(s.k)) return "link.bad";
  return secretProblem(globalThis);
}

const mine = await holds(`bailiwick:${location.pathname}:${claims(seat?.token ?? "")?.sub}`);
const problem = problemOf(globalThis) || (seat ? secrecyProblem(seat) : "link.bad");
const k = octetsOf(seat?.k ?? "");
if (problem === "" && k) secrets = makeCalls(k);
byId("e2ee").hidden = secrets === null;
const {mic, camera, sound} = seat?.wish ?? initial.wish;
dispatch({
  type: "open", problem, mic, camera, sound,
  granted: problem === "" && await isGranted(),
  addresses: mine ? seat?.addresses ?? [] : fresh(seat?.addresses ?? []),
});
// From here on the page speaks for itself (shared/last.js).
byId("last").remove();

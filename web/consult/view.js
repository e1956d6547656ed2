// What the page shows for a state: pure, so that every sentence, button and tile
// is tested without a browser.

import {current} from "./legs.js";
import {GAPS, cameraOn, inCall, micOn} from "./machine.js";
import {PROFILES, paused, qualityOf} from "./quality.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Sentence} Sentence */
/** @typedef {ReturnType<typeof import("../shared/i18n.js").i18n>} Texts */

/** @typedef {"ask"|"ask-sound"|"join"|"again"|"rejoin"|"retry"|"sound"|"copy"|"reload"|"hear"
 *   |"photo-send"|"photo-no"|"photo-stop"|"photo-show"|"photo-save"|"photo-close"} Action */
/** @typedef {{action: Action, label: string}} Button */
/** @typedef {{key: string, sentences: string[], buttons: Button[]}} Message */
/** @typedef {{participant: string, name: string, state: string, video: boolean, note: string, speaks: string, screen: string}} Tile */

/** The buttons of each text, in the order of its square brackets.
 * @type {Record<string, Action[]>} */
export const ACTIONS = {
  "link.early": ["rejoin"], "link.elsewhere": ["rejoin"],
  "browser.old": ["copy"], "browser.inapp": ["copy"], "browser.e2ee": ["copy"],
  "check.ask": ["ask", "ask-sound"], "check.join": ["join"],
  "lost.long": ["retry", "sound"], "lost.failed": ["retry"],
  "audio.chosen": ["sound"],
  "ended.left": ["rejoin"], "refused.place": ["rejoin"], "refused.e2ee": ["reload"],
  "denied.chrome": ["again", "sound"], "denied.firefox": ["again"], "denied.safari": ["reload"],
  "denied.ios": ["reload"], "denied.system": ["again"],
  "none.camera": ["sound"], "none.mic": ["again", "join"], "gone.camera": ["sound"], "gone.mic": ["again"], "busy": ["again", "sound"],
  "paused": ["again"], "paused.camera": ["again"], "no.sound": ["hear"],
  "photo.asked": ["photo-send", "photo-no"], "photo.waits": ["photo-stop"], "photo.sends": ["photo-stop"], "photo.comes": ["photo-stop"],
  "photo.here": ["photo-show", "photo-close"], "photo.view": ["photo-save", "photo-close"], "photo.sent": ["photo-close"],
  "photo.no": ["photo-close"], "photo.failed": ["photo-close"], "photo.camera": ["photo-close"],
};

/** What is said otherwise to who is in the call.
 * @type {Record<string, string>} */
const IN_CALL = {"none.camera": "gone.camera", "none.mic": "gone.mic"};

const ROLES = new Set(["patient", "clinician", "interpreter", "companion", "captioner"]);

/** @param {State} s */
export function view(s) {
  /** @type {"link"|"call"|"message"} */
  let page = "message";
  if (s.gap < GAPS.length) {
    if (inCall(s)) page = "call";
    else if (s.name === "link" && s.step !== "stopped") page = "link";
  }
  return {
    page,
    text: s.gap === GAPS.length ? "lost.failed" : s.text,
    title: titleOf(s),
    mic: micOn(s), camera: cameraOn(s), sound: s.wish.sound,
    sharing: s.sharing, screens: s.sharing || Boolean(current(s)?.screens),
    picture: PROFILES.find((p) => p === current(s)?.profile) ?? "",
  };
}

/** @param {State} s */
function titleOf(s) {
  if (s.name !== "link") return `title.${s.name}`;
  if (s.step === "stopped") return "title.stopped";
  return s.step === "joining" ? "title.joining" : "title.link";
}

/** The banners, most urgent first. @param {State} s @returns {Sentence[]} */
export function banners(s) {
  /** @type {Sentence[]} */
  const list = [];
  if (s.gap === 1) list.push({key: "lost"});
  if (s.gap === 2) list.push({key: "lost.long"});
  if (s.moving && s.gap === 0) list.push({key: "moving"});
  for (const who of s.away) list.push({key: "lost.peer", params: {who}});
  list.push(...s.troubles);
  const {mic, camera} = s.devices.failures;
  if (mic) list.push(mic);
  if (camera && camera.key !== mic?.key) list.push(camera);
  if (inCall(s)) list.push(...paused(s));
  if (s.notice) list.push(s.notice);
  if (inCall(s) && s.wish.sound) list.push({key: "audio.chosen"});
  return list;
}

/** A text with its placeholders filled from the state. `who` names a participant.
 * @param {State} s @param {Sentence} sentence @param {Texts} texts @returns {Message} */
export function message(s, {key: cause, params = {}}, texts) {
  const key = (inCall(s) && IN_CALL[cause]) || cause;
  const {who, ...rest} = params;
  const filled = {...placeOf(s, key), ...(who && {name: nameOf(s, who, texts)}), ...rest, ...(rest.left && {left: duration(Number(rest.left))}),
    ...(rest.picture && {picture: texts.t(`picture.${rest.picture}`)}), ...(rest.level && {level: texts.t(`level.${rest.level}`)})};
  const buttons = texts.buttons(key).map((label, i) => ({action: ACTIONS[key][i], label}));
  return {
    key,
    sentences: texts.sentences(key, filled),
    buttons: buttons.filter(({action}) => offered(s, key, action)),
  };
}

/** A button that would undo what is chosen, or join who has joined, is left out.
 * @param {State} s @param {string} key @param {Action} action */
function offered(s, key, action) {
  if (action === "join") return s.name === "link" && s.step !== "joining";
  return action !== "sound" || key === "audio.chosen" || !s.wish.sound;
}

/** @param {State} s @param {string} key @returns {Record<string, string|undefined>} */
function placeOf(s, key) {
  if (key.startsWith("refused.")) {
    const r = s.refusal;
    return {country: country(r?.jurisdiction ?? ""), code: r?.code, id: r?.id};
  }
  if (key === "link.early") return {from: moment(s.refusal?.valid_from), clock: moment(s.refusal?.clock)};
  const place = current(s)?.place;
  if (!place) return {};
  // A move inside a country is said by country: the city did change.
  const land = country(place.country);
  return {place: key === "moved" || !place.city ? land : `${place.city}, ${land}`};
}

/** @param {string} code ISO 3166-1 or -2 @returns {string|undefined} */
function country(code) {
  if (!/^[A-Za-z]{2}(-|$)/.test(code)) return undefined;
  return new Intl.DisplayNames(["en"], {type: "region"}).of(code.slice(0, 2).toUpperCase());
}

/** So long, in words: whole minutes, and seconds below one. @param {number} ms */
function duration(ms) {
  const [unit, n] = ms < 59_500 ? ["second", Math.round(ms / 1000)] : ["minute", Math.round(ms / 60_000)];
  return new Intl.NumberFormat("en", {style: "unit", unit, unitDisplay: "long"}).format(n);
}

/** What is left of a call that the law ends, as minutes:seconds; "" where it does not end.
 * @param {State} s @param {number} now @returns {string} */
export function clock(s, now) {
  const ends = inCall(s) ? current(s)?.withdrawal : null;
  if (!ends) return "";
  const left = Math.max(0, Math.ceil((ends.endsAt - now) / 1000));
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}

/** A moment in words, where the reader is. @param {string|undefined} time @returns {string|undefined} */
function moment(time) {
  const at = new Date(time ?? "");
  return Number.isNaN(at.getTime()) ? undefined : new Intl.DateTimeFormat("en", {dateStyle: "long", timeStyle: "short"}).format(at);
}

/** @param {State} s */
const peersOf = (s) => current(s)?.peers ?? [];

/** The people of the room: those who are there and those who were lost.
 * @param {State} s @param {Texts} texts @returns {Tile[]} */
export function tiles(s, texts) {
  const shown = peersOf(s).filter((p) => p.connected || s.seen.includes(p.participant));
  return shown.map((p) => {
    let state = "";
    const quality = qualityOf(s, p.participant);
    const notes = [];
    if (p.connected && !p.mic) notes.push(texts.t("peer.mic"));
    if (s.gap > 0) state = texts.t("title.reconnecting");
    else if (!p.connected) state = texts.t("peer.lost");
    else if (s.wish.sound) state = texts.t("control.sound");
    else if (!p.camera) state = texts.t("peer.camera");
    else if (quality?.video === "off" && quality.cause !== "chosen") state = texts.t("peer.paused");
    else if (quality?.video === "reduced") notes.push(texts.t("peer.reduced"));
    const name = labelOf(s, p.participant, texts);
    const there = p.connected && s.gap === 0;
    return {
      participant: p.participant,
      name,
      speaks: there && current(s)?.speaker === p.participant ? texts.t("peer.speaks") : "",
      screen: there && p.screen && !s.wish.sound ? texts.t("screen.of", {name}) : "",
      state,
      video: state === "",
      note: notes.join(", "),
    };
  });
}

/** Whom a clinician may ask for a photo, with their names. @param {State} s @param {Texts} texts */
export const photographers = (s, texts) => peersOf(s).filter((p) => p.connected && (p.role === "patient" || p.role === "companion"))
  .map(({participant}) => ({participant, name: labelOf(s, participant, texts)}));

/** The support line of a refusal. @param {State} s @param {Texts} texts @returns {string} */
export function support(s, texts) {
  if (!s.refusal) return "";
  const none = texts.t("none");
  const {code, citation, id} = s.refusal;
  return texts.t("refused.support", {code, citation: citation.join("; ") || none, id: id || none});
}

/** @param {State} s @param {string} participant @returns {{role: string, number: number}} */
function personOf(s, participant) {
  const peers = peersOf(s);
  const role = peers.find((p) => p.participant === participant)?.role ?? "";
  const same = s.seen.filter((id) => peers.find((p) => p.participant === id)?.role === role);
  return {role: ROLES.has(role) ? role : "other", number: same.indexOf(participant) + 1};
}

/** @param {State} s @param {string} participant @param {Texts} texts */
function labelOf(s, participant, texts) {
  const {role, number} = personOf(s, participant);
  return number > 1 ? `${texts.t(`role.${role}`)} ${number}` : texts.t(`role.${role}`);
}

/** @param {State} s @param {string} participant @param {Texts} texts */
function nameOf(s, participant, texts) {
  const {role, number} = personOf(s, participant);
  return number > 1 ? labelOf(s, participant, texts) : texts.t(`name.${role}`);
}

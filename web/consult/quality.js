// What is said of pictures that do not come, or not whole: pure, for machine.js and view.js.

import {current} from "./legs.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Sentence} Sentence */
/** @typedef {import("./types.js").Quality} Quality */

/** What the video can be looked at for. */
export const PROFILES = ["face", "detail", "sign"];

/** @param {State} s @param {string} participant @returns {Quality|undefined} */
export const qualityOf = (s, participant) => current(s)?.quality.find((q) => q.participant === participant);

/** The sentences of video that is paused and that nobody chose to pause: the own connection
 * first, then the edge, then each of the others' connections.
 * @param {State} s @returns {Sentence[]} */
export function paused(s) {
  if (s.wish.sound) return [];
  const leg = current(s);
  const off = (leg?.quality ?? []).filter((q) => q.video === "off");
  const by = (/** @type {string} */ cause) => off.filter((q) => q.cause === cause);
  return [
    ...(by("own").length > 0 || isHeld(s) ? [{key: "audio.own"}] : []),
    ...by("edge").slice(0, 1).map(() => ({key: "audio.edge"})),
    ...by("peer").map((q) => ({key: "audio.peer", params: {who: q.participant}})),
  ];
}

/** The own video is held back by the own connection. @param {State} s */
const isHeld = (s) => s.wish.camera && s.devices.camera && current(s)?.held === true;

/** The words of connections with which all is well. */
export const GOOD = {key: "net", params: {level: "0"}};

/** How the connections do, in one sentence: the own one, else the worst of the others. What comes
 * badly of everybody is the own one's; of one alone where nobody knows, it is nobody's.
 * @param {State} s @returns {Sentence} */
export function link(s) {
  const leg = current(s);
  const quality = s.wish.sound ? [] : (leg?.quality ?? []);
  const by = (/** @type {string} */ cause, who = "") => Math.max(0, ...quality.filter((q) => q.cause === cause && (!who || q.participant === who)).map((q) => (q.video === "off" ? 2 : 1)));
  const people = Object.entries(leg?.levels?.people ?? {});
  const least = people.length > 1 ? Math.min(...people.map(([, level]) => level)) : 0;
  const own = Math.max(leg?.levels?.own ?? 0, by("own"), isHeld(s) ? 2 : 0, least);
  let [who, worst, known] = ["", 0, false];
  for (const p of leg?.peers ?? []) {
    if (!p.connected) continue;
    const says = by("peer", p.participant);
    const level = Math.max(leg?.levels?.people[p.participant] ?? 0, says);
    if (level > worst) [who, worst, known] = [p.participant, level, says > 0 || people.length > 1];
  }
  const level = String(Math.max(own, worst));
  if (own > 0) return {key: "net.own", params: {level}};
  return known ? {key: "net.peer", params: {level, who}} : {key: "net", params: {level}};
}

/** The same where something is to be said of it that paused() does not.
 * @param {State} s @returns {Sentence[]} */
export function linkWords(s) {
  const l = link(s);
  const own = paused(s).some((w) => w.key === "audio.own" && l.key === "net.own");
  const peer = paused(s).some((w) => w.key === "audio.peer" && w.params?.who === l.params?.who);
  return l.params?.level === "0" || own || peer ? [] : [l];
}

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
  const off = (current(s)?.quality ?? []).filter((q) => q.video === "off");
  const by = (/** @type {string} */ cause) => off.filter((q) => q.cause === cause);
  return [
    ...by("own").slice(0, 1).map(() => ({key: "audio.own"})),
    ...by("edge").slice(0, 1).map(() => ({key: "audio.edge"})),
    ...by("peer").map((q) => ({key: "audio.peer", params: {who: q.participant}})),
  ];
}

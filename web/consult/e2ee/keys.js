// The keys of one leg's media, and what is done to a frame with them. Pure but for
// WebCrypto: the time comes in.

import {makeOpener, makeSealer} from "./sframe.js";

/** @typedef {import("./sframe.js").Key} Key */
/** @typedef {import("./sframe.js").Bytes} Bytes */

/** A sender's old key is taken for so long after its next one came, ms: that sender changes
 * over within a second, and its last packets may be late. */
export const GRACE = 5_000;

/** What the frame is goes into its tag, so that no edge passes one kind for another.
 * @type {Record<string, Uint8Array>} */
const METADATA = {audio: Uint8Array.of(1), video: Uint8Array.of(2)};

export function makeKeys() {
  /** @type {ReturnType<typeof makeSealer>|null} */
  let sealer = null;
  /** @type {Map<string, {opener: ReturnType<typeof makeOpener>, until: number}[]>} newest first */
  const openers = new Map();

  return {
    /** @param {Key} key */
    use(key) {
      sealer = makeSealer(key);
    },
    /** @param {string} participant @param {Key} key @param {number} now */
    take(participant, key, now) {
      const old = (openers.get(participant) ?? []).filter((o) => o.until > now);
      for (const o of old) o.until = Math.min(o.until, now + GRACE);
      openers.set(participant, [{opener: makeOpener(key), until: Infinity}, ...old]);
    },
    /** @param {string} participant */
    gone(participant) {
      openers.delete(participant);
    },
    /** null before there is a key: nothing is sent in the clear.
     * @param {string} kind @param {BufferSource} frame @returns {Promise<Bytes|null>} */
    async seal(kind, frame) {
      return sealer ? sealer.seal(METADATA[kind], frame) : null;
    },
    /** null for what does not come of that participant, or came before.
     * @param {string} participant @param {string} kind @param {Bytes} frame @param {number} now @returns {Promise<Bytes|null>} */
    async open(participant, kind, frame, now) {
      for (const {opener, until} of openers.get(participant) ?? []) {
        if (until <= now) continue;
        const plain = await opener.open(METADATA[kind], frame);
        if (plain) return plain;
      }
      return null;
    },
  };
}

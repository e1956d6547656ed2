// A photo on its way between two participants (docs/protocol.md, Data, kind 2): one asks, the
// other sends it in parts, no more of them at once than are acknowledged. Pure: messages and
// the time come in. What was not asked for, or does not continue what came, grows nothing.

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */
/** `at` is how much came before a part, or is there, and `total` how much there will be.
 * @typedef {{is: string, id: number, at: number, total: number, part: Bytes}} Message */

/** The largest photo, in octets. */
export const LIMIT = 12_000_000;
/** Octets of a part. */
export const SIZE = 8_000;
/** So much is on its way at once: keys go by the same channel, and are to wait for no more. */
export const WINDOW = 4 * SIZE;
/** How long an answer may take, a next part, and all of it, ms. */
export const PATIENCE = {answer: 120_000, part: 30_000, whole: 600_000};

/** What a message is, by its first octet less one, and how many numbers follow. */
const KINDS = ["ask", "no", "part", "got", "stop"];
const numbersOf = (/** @type {string} */ is) => ({part: 3, got: 2}[is] ?? 1);
const NONE = new Uint8Array();

/** @param {string} is @param {number} id @param {number} [at] @param {number} [total] @param {Bytes} [part] @returns {Bytes} */
export function write(is, id, at = 0, total = 0, part = NONE) {
  const n = numbersOf(is);
  const all = new Uint8Array(1 + 4 * n + part.length);
  const view = new DataView(all.buffer);
  all[0] = KINDS.indexOf(is) + 1;
  for (const [i, v] of [id, at, total].slice(0, n).entries()) view.setUint32(1 + 4 * i, v);
  all.set(part, 1 + 4 * n);
  return all;
}

/** null: it is none. @param {Bytes} says @returns {Message|null} */
export function read(says) {
  const is = KINDS[says[0] - 1] ?? "";
  const n = numbersOf(is);
  const head = 1 + 4 * n;
  if (is === "" || says.length < head || (is !== "part" && says.length > head)) return null;
  const view = new DataView(says.buffer, says.byteOffset);
  const [id, at, total] = [0, 1, 2].map((i) => (i < n ? view.getUint32(1 + 4 * i) : 0));
  return {is, id, at, total, part: says.subarray(head)};
}

/** Photos that were asked for, one a participant. */
export function makeInbox() {
  /** @type {Map<string, {id: number, photo: Bytes|null, got: number, began: number, moved: number}>} */
  const asked = new Map();
  return {
    /** false: another of theirs is on its way. @param {string} from @param {number} id @param {number} now */
    ask(from, id, now) {
      if (asked.has(from)) return false;
      asked.set(from, {id, photo: null, got: 0, began: now, moved: now});
      return true;
    },
    /** @param {string} from */
    pending: (from) => asked.has(from),
    /** Asks for it no more; gives its number, or 0. @param {string} from */
    drop(from) {
      const {id = 0} = asked.get(from) ?? {};
      asked.delete(from);
      return id;
    },
    /** What a message makes of a photo; null: nothing.
     * @param {string} from @param {Message} m @param {number} now
     * @returns {{is: "no"|"broken"} | {is: "some", got: number, total: number} | {is: "whole", photo: Bytes}|null} */
    take(from, {is, id, at, total, part}, now) {
      const t = asked.get(from);
      if (!t || t.id !== id || is === "ask" || is === "got") return null;
      if (is === "part" && !t.photo && total > 0 && total <= LIMIT) {
        t.photo = new Uint8Array(total);
        t.began = now;
      }
      if (is === "part" && t.photo?.length === total && at === t.got && part.length > 0 && at + part.length <= total) {
        t.photo.set(part, at);
        t.got += part.length;
        t.moved = now;
        if (t.got < total) return {is: "some", got: t.got, total};
        asked.delete(from);
        return {is: "whole", photo: t.photo};
      }
      asked.delete(from);
      return {is: is === "no" ? "no" : "broken"};
    },
    /** Who has not answered yet, with the number of the question. */
    unanswered: () => [...asked].flatMap(([who, t]) => (t.photo ? [] : [{who, id: t.id}])),
    /** Of whom something was asked that takes too long. @param {number} now @returns {string[]} */
    late(now) {
      return [...asked].filter(([, t]) => now - t.moved >= (t.photo ? PATIENCE.part : PATIENCE.answer) || (t.photo && now - t.began >= PATIENCE.whole)).map(([who]) => who);
    },
  };
}

/** One photo that is sent. @param {number} id @param {Bytes} photo */
export function makeOutbox(id, photo) {
  let sent = 0, got = 0;
  return {
    id,
    /** What is to be sent when so much of it is there; null: that cannot be.
     * @param {number} at @returns {Bytes[]|null} */
    next(at) {
      if (at < got || at > sent) return null;
      got = at;
      const parts = [];
      for (; sent < photo.length && sent - got < WINDOW; sent = Math.min(sent + SIZE, photo.length)) {
        parts.push(write("part", id, sent, photo.length, photo.subarray(sent, sent + SIZE)));
      }
      return parts;
    },
    /** 1: it is there. */
    get share() { return got / photo.length; },
  };
}

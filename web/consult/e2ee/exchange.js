// The key exchange of an end-to-end encrypted call (docs/adr/0021): each sender draws a
// fresh key whenever somebody comes or goes and hands it to each who is there, over an
// ECDH of the two that k, which the edges never have, goes into. Nothing here touches a
// socket, a worker or a clock: messages, the room and the time come in, messages and keys
// go out. Calls are to be made one after the other, each when the last is done.
//
// A message is a hello, which says a public key (a leg draws its own) and proves k, or is
// sealed under what two hellos make. Whoever says to be another is found out: who sends,
// who receives, their public keys and the consult all go into what seals.

import {join, makeKey} from "./sframe.js";

/** @typedef {import("./sframe.js").Key} Key */
/** @typedef {import("./sframe.js").Bytes} Bytes */

/** A sender goes on with its old key until everybody has the new one, or for so long, ms. */
export const SWITCH = 1_000;
/** What nobody has answered is said again after so long, ms. */
export const AGAIN = 500;

const HELLO = 1;
const SEALED = 2;
// What is sealed.
const FRESH = 1; // a key: its number, KID and base
const TOOK = 2; // the number of a key that arrived
const DATA = 3; // what one participant says to another, as it would be in the clear

const CURVE = {name: "ECDH", namedCurve: "P-256"};
const POINT = 65; // octets of an uncompressed one
const MAC = 32;
const NONCE = 12;
const utf8 = new TextEncoder();

/**
 * @typedef {object} Peer
 * @property {boolean} here
 * @property {string} point       of its hello, "" before
 * @property {CryptoKey|null} to  seals what goes to it
 * @property {CryptoKey|null} from
 * @property {boolean} knows      it has our hello
 * @property {number} took        the number of our key that it has
 * @property {number} got         the number of its key that is here
 * @property {number} said        when it was last sent something unasked, ms
 * @property {boolean} other      it has another k
 */

/**
 * @param {object} room
 * @param {Bytes} room.k              32 octets
 * @param {string} room.consult
 * @param {string} room.self          this participant
 * @param {number} room.tag           the first three octets of this sender's KIDs
 * @param {(to: string, says: Bytes) => void} room.send
 * @param {(key: Key) => void} room.use                       encrypt with this from now on
 * @param {(participant: string, key: Key) => void} room.take a participant's next key
 * @param {(participant: string) => void} room.gone           its keys are of no use any more
 * @param {(from: string, says: Bytes) => void} room.hear     what a participant says beside its keys
 * @param {(others: string[]) => void} room.tell  who is here with another k; first, and whenever it changes
 */
export async function makeExchange({k, consult, self, tag, send, use, take, gone, hear, tell}) {
  const pair = await crypto.subtle.generateKey(CURVE, false, ["deriveBits"]);
  const point = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const prover = await macOf(k);
  const hello = join([HELLO], point, new Uint8Array(await crypto.subtle.sign("HMAC", prover, claim(consult, self, point))));

  /** @type {Map<string, Peer>} */
  const peers = new Map();
  let number = 0; // of the newest key of ours
  let base = new Uint8Array(16);
  /** @type {Key|null} not in use yet */
  let next = null;
  let since = 0; // when it was drawn
  let members = "";

  const kid = () => BigInt(tag) * 256n + BigInt(number % 256);
  /** @returns {[string, Peer][]} those who are there and have said hello */
  const paired = () => [...peers].filter(([, p]) => p.here && p.to);

  /** @type {string|undefined} */
  let told;
  const report = () => {
    const others = [...peers].filter(([, p]) => p.here && p.other).map(([who]) => who);
    if (told === others.join("\n")) return;
    told = others.join("\n");
    tell(others);
  };

  /** @param {string} to @param {Peer} p @param {Uint8Array} says */
  const sealed = async (to, p, says) => {
    if (!p.to) return;
    const iv = crypto.getRandomValues(new Uint8Array(NONCE));
    send(to, join([SEALED], iv, new Uint8Array(await crypto.subtle.encrypt({name: "AES-GCM", iv}, p.to, new Uint8Array(says)))));
  };

  /** @param {string} to @param {Peer} p */
  const sendKey = (to, p) => sealed(to, p, join([FRESH], uint32(number), uint32(Number(kid())), base));

  // Whoever is there now, by their own keys: a page that was loaded anew is somebody else.
  /** @param {number} now */
  const refresh = async (now) => {
    const are = paired().map(([who, p]) => `${who} ${p.point}`).sort().join("\n");
    if (number > 0 && are === members) return;
    members = are;
    number += 1;
    base = crypto.getRandomValues(new Uint8Array(16));
    next = await makeKey(base, kid());
    since = now;
    for (const [who, p] of paired()) {
      p.said = now;
      await sendKey(who, p);
    }
    settle(now);
  };

  /** @param {number} now */
  const settle = (now) => {
    if (!next || (now - since < SWITCH && paired().some(([, p]) => p.took !== number))) return;
    use(next);
    next = null;
  };

  /** @param {string} from @param {Bytes} says @param {number} now */
  const greeted = async (from, says, now) => {
    const p = peers.get(from);
    if (!p || says.length !== 1 + POINT + MAC) return;
    const theirs = says.slice(1, 1 + POINT);
    if (!await crypto.subtle.verify("HMAC", prover, says.slice(1 + POINT), claim(consult, from, theirs))) {
      p.other = p.to === null;
      return report();
    }
    const is = hex(theirs);
    if (is === p.point) {
      // It may not have heard ours.
      if (now - p.said < AGAIN) return;
      p.said = now;
      send(from, hello);
      return sendKey(from, p);
    }
    let shared;
    try {
      const key = await crypto.subtle.importKey("raw", theirs, CURVE, false, []);
      const bits = await crypto.subtle.deriveBits({name: "ECDH", public: key}, pair.privateKey, 256);
      shared = await crypto.subtle.importKey("raw", bits, "HKDF", false, ["deriveKey"]);
    } catch {
      return; // no point of the curve
    }
    const derive = (/** @type {Uint8Array} */ info, /** @type {KeyUsage} */ usage) =>
      crypto.subtle.deriveKey({name: "HKDF", hash: "SHA-256", salt: k, info: new Uint8Array(info)}, shared, {name: "AES-GCM", length: 128}, false, [usage]);
    const to = await derive(direction(consult, self, point, from, theirs), "encrypt");
    const back = await derive(direction(consult, from, theirs, self, point), "decrypt");
    Object.assign(p, {point: is, to, from: back, knows: false, took: 0, got: 0, said: now, other: false});
    gone(from);
    report();
    send(from, hello);
    return refresh(now);
  };

  /** @param {string} from @param {Bytes} says @param {number} now */
  const unseal = async (from, says, now) => {
    const p = peers.get(from);
    if (!p?.from || says.length < 1 + NONCE) return;
    let plain;
    try {
      plain = new Uint8Array(await crypto.subtle.decrypt({name: "AES-GCM", iv: says.slice(1, 1 + NONCE)}, p.from, says.slice(1 + NONCE)));
    } catch {
      return; // of a leg that is over, or of nobody
    }
    p.knows = true;
    const view = new DataView(plain.buffer);
    if (plain[0] === TOOK && plain.length === 5) {
      p.took = Math.max(p.took, view.getUint32(1));
      return settle(now);
    }
    if (plain[0] === DATA && plain.length > 1) return hear(from, plain.subarray(1));
    if (plain[0] !== FRESH || plain.length !== 25) return;
    const n = view.getUint32(1);
    if (n < p.got) return; // said before, and again by somebody else
    if (n > p.got) {
      p.got = n;
      take(from, await makeKey(plain.slice(9), BigInt(view.getUint32(5))));
    }
    await sealed(from, p, join([TOOK], uint32(n)));
  };

  return {
    /** The room as the edge has it. Somebody who has lost the connection may come back with
     * the same keys; who is not in the room any more has left.
     * @param {{participant: string, connected: boolean}[]} list @param {number} now */
    async peers(list, now) {
      for (const who of [...peers.keys()]) {
        if (list.some((p) => p.participant === who)) continue;
        peers.delete(who);
        gone(who);
      }
      for (const {participant, connected} of list) {
        const p = peers.get(participant);
        if (p) p.here = connected;
        else peers.set(participant, {here: connected, point: "", to: null, from: null, knows: false, took: 0, got: 0, said: -AGAIN, other: false});
      }
      report();
      await refresh(now);
      await this.tick(now);
    },
    /** @param {string} from @param {Bytes} says @param {number} now */
    async message(from, says, now) {
      if (says[0] === HELLO) await greeted(from, says, now);
      if (says[0] === SEALED) await unseal(from, says, now);
    },
    /** Says something that the other alone can read, or nothing before it has said hello.
     * @param {string} to @param {Uint8Array} says */
    async say(to, says) {
      const p = peers.get(to);
      if (p) await sealed(to, p, join([DATA], says));
    },
    /** Says again what is not known to have arrived: a channel opens when it opens.
     * @param {number} now */
    async tick(now) {
      settle(now);
      for (const [who, p] of peers) {
        if (!p.here || (p.knows && p.took === number) || now - p.said < AGAIN) continue;
        p.said = now;
        if (!p.knows) send(who, hello);
        await sendKey(who, p);
      }
    },
  };
}

/** What proves k. @param {Bytes} k */
async function macOf(k) {
  const secret = await crypto.subtle.importKey("raw", k, "HKDF", false, ["deriveKey"]);
  const params = {name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: utf8.encode("bailiwick e2ee 1 hello")};
  return crypto.subtle.deriveKey(params, secret, {name: "HMAC", hash: "SHA-256", length: 256}, false, ["sign", "verify"]);
}

/** @param {string} consult @param {string} who @param {Uint8Array} point */
const claim = (consult, who, point) => join(field(utf8.encode(consult)), field(utf8.encode(who)), field(point));

/** @param {string} consult @param {string} from @param {Uint8Array} fromPoint @param {string} to @param {Uint8Array} toPoint */
const direction = (consult, from, fromPoint, to, toPoint) =>
  join(utf8.encode("bailiwick e2ee 1 pair"), claim(consult, from, fromPoint), field(utf8.encode(to)), field(toPoint));

/** With its length before it, so that no two lists read the same. @param {Uint8Array} part */
const field = (part) => join([part.length >> 8, part.length & 255], part);

/** @param {number} n */
const uint32 = (n) => Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n);

/** @param {Uint8Array} bytes */
const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

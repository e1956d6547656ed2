// SFrame (RFC 9605) with the suite AES_128_GCM_SHA256_128, on WebCrypto. No key
// exchange, no worker, no clock: bytes in, bytes out.

/** One key, by which one sender encrypts: base is never used twice.
 * @typedef {{kid: bigint, key: CryptoKey, salt: Uint8Array<ArrayBuffer>}} Key */
/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

/** AES_128_GCM_SHA256_128 (section 8.1). */
const SUITE = 0x0004;
/** Octets of its key, nonce and tag. */
const [NK, NN, TAG] = [16, 12, 16];
/** A counter has at most 64 bits; that far nobody comes. */
const LAST = 2n ** 64n - 1n;
/** Frames may overtake each other by so many; what is older is taken for a replay. */
export const WINDOW = 1024;

const utf8 = new TextEncoder();

/** @param {...Uint8Array|number[]} parts @returns {Bytes} */
export function join(...parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

/** The least octets of a number, big-endian. @param {bigint} v */
function octets(v) {
  const all = [];
  for (let rest = v; rest > 0n || all.length === 0; rest >>= 8n) all.unshift(Number(rest & 0xffn));
  return all;
}

/** A number and what of it the config octet has (section 4.3).
 * @param {bigint} v @returns {[number, number[]]} */
function field(v) {
  if (v < 8n) return [Number(v), []];
  const all = octets(v);
  return [8 | (all.length - 1), all];
}

/** @param {bigint} kid @param {bigint} ctr @returns {Bytes} */
export function header(kid, ctr) {
  const [k, kidOctets] = field(kid);
  const [c, ctrOctets] = field(ctr);
  return join([(k << 4) | c], kidOctets, ctrOctets);
}

/** The header that a frame begins with, and its length; null where there is none.
 * @param {Uint8Array} frame @returns {{kid: bigint, ctr: bigint, length: number}|null} */
export function parse(frame) {
  if (frame.length === 0) return null;
  let at = 1;
  const read = (/** @type {number} */ bits) => {
    if (bits < 8) return BigInt(bits);
    let v = 0n;
    for (const end = at + (bits & 7) + 1; at < end; at++) v = (v << 8n) | BigInt(frame[at] ?? 0);
    return v;
  };
  const kid = read(frame[0] >> 4);
  const ctr = read(frame[0] & 15);
  return at > frame.length ? null : {kid, ctr, length: at};
}

/** Derives what is used of a base key (section 4.4.2).
 * @param {Bytes} base @param {bigint} kid @returns {Promise<Key>} */
export async function makeKey(base, kid) {
  const secret = await crypto.subtle.importKey("raw", base, "HKDF", false, ["deriveBits"]);
  const derive = async (/** @type {string} */ label, /** @type {number} */ length) => {
    const info = new Uint8Array(10);
    new DataView(info.buffer).setBigUint64(0, kid);
    new DataView(info.buffer).setUint16(8, SUITE);
    const params = {name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: join(utf8.encode(label), info)};
    return new Uint8Array(await crypto.subtle.deriveBits(params, secret, 8 * length));
  };
  const key = await crypto.subtle.importKey("raw", await derive("SFrame 1.0 Secret key ", NK), "AES-GCM", false, ["encrypt", "decrypt"]);
  return {kid, key, salt: await derive("SFrame 1.0 Secret salt ", NN)};
}

/** @param {Key} key @param {bigint} ctr @param {Uint8Array} head @param {Uint8Array} metadata */
function params({salt}, ctr, head, metadata) {
  const iv = salt.slice();
  const low = new DataView(iv.buffer, NN - 8);
  low.setBigUint64(0, low.getBigUint64(0) ^ ctr);
  return {name: "AES-GCM", iv, additionalData: join(head, metadata), tagLength: 8 * TAG};
}

/** @param {Key} key @param {bigint} ctr @param {Uint8Array} metadata @param {BufferSource} plain @returns {Promise<Bytes>} */
export async function seal(key, ctr, metadata, plain) {
  const head = header(key.kid, ctr);
  return join(head, new Uint8Array(await crypto.subtle.encrypt(params(key, ctr, head, metadata), key.key, plain)));
}

/** Encrypts under one key, and never twice under one counter: whoever has a key to encrypt by
 * has it here, once.
 * @param {Key} key @param {bigint} [first] */
export function makeSealer(key, first = 0n) {
  let next = first;
  return {
    kid: key.kid,
    /** @param {Uint8Array} metadata @param {BufferSource} plain @returns {Promise<Bytes>} */
    async seal(metadata, plain) {
      if (next > LAST) throw new Error("sframe: the counter of this key is used up");
      const ctr = next++; // before anything is awaited
      return seal(key, ctr, metadata, plain);
    },
  };
}

/** Decrypts what came under one key; of a replay, and of what is too old to tell, nothing.
 * @param {Key} key */
export function makeOpener(key) {
  /** @type {Set<bigint>} */
  const seen = new Set();
  let top = -1n;
  const old = (/** @type {bigint} */ ctr) => ctr + BigInt(WINDOW) <= top || seen.has(ctr);
  return {
    kid: key.kid,
    /** @param {Uint8Array} metadata @param {Bytes} frame @returns {Promise<Bytes|null>} */
    async open(metadata, frame) {
      const head = parse(frame);
      if (!head || head.kid !== key.kid || old(head.ctr)) return null;
      try {
        const is = params(key, head.ctr, frame.subarray(0, head.length), metadata);
        const plain = await crypto.subtle.decrypt(is, key.key, frame.subarray(head.length));
        if (old(head.ctr)) return null; // came twice meanwhile
        seen.add(head.ctr);
        if (head.ctr > top) top = head.ctr;
        if (seen.size > 2 * WINDOW) for (const ctr of seen) if (ctr + BigInt(WINDOW) <= top) seen.delete(ctr);
        return new Uint8Array(plain);
      } catch {
        return null; // another key, or changed on the way
      }
    },
  };
}

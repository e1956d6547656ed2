// The page's side of an end-to-end encrypted call: the worker, and what a leg hands it.

import {KIND} from "../data.js";

/** "" when this browser can encrypt a call end to end. @param {any} g @returns {string} */
export const problemOf = (g) => (g.RTCRtpScriptTransform && g.Worker && g.crypto?.subtle ? "" : "browser.e2ee");

/** The octets of k, as links have it; null where they are not 32.
 * @param {string} k base64url @returns {Uint8Array<ArrayBuffer>|null} */
export function octetsOf(k) {
  if (!/^[A-Za-z0-9_-]{43}$/.test(k)) return null;
  return Uint8Array.from(atob(k.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
}

const WORKER = "/web/consult/e2ee/worker.js";

/** The worker's address, as pages with our policy must give it. @param {any} g @returns {any} */
const trusted = (g) => g.trustedTypes?.createPolicy("bailiwick-worker", {createScriptURL: () => WORKER}).createScriptURL("") ?? WORKER;

/** @typedef {(from: string, kind: number, says: Uint8Array<ArrayBuffer>) => void} Hear */

/** Makes the calls of this page, by k.
 * @param {Uint8Array<ArrayBuffer>} k */
export function makeCalls(k) {
  const worker = new Worker(trusted(globalThis), {type: "module", name: "e2ee"});
  /** @type {Map<number, {send: (to: string, says: Uint8Array) => void, hear: Hear, tell: (others: string[]) => void}>} */
  const calls = new Map();
  let made = 0;
  worker.onmessage = ({data}) => {
    const call = calls.get(data.call);
    if (data.do === "send") call?.send(data.to, data.says);
    if (data.do === "hear") call?.hear(data.from, data.says[0], data.says.subarray(1));
    if (data.do === "tell") call?.tell(data.others);
  };

  /** One leg's. @param {(others: string[]) => void} tell  who is here with another k */
  return (tell) => {
    const call = ++made;
    // The first three octets of the KIDs of this leg: not 0, so that every KID has four.
    const tag = 0x010000 + (crypto.getRandomValues(new Uint32Array(1))[0] % 0xff0000);
    /** @param {import("./worker.js").Order} order */
    const say = (order) => worker.postMessage(order);
    const transform = (/** @type {object} */ options) => new RTCRtpScriptTransform(worker, {call, ...options});

    return {
      tag,
      /** Before anything is negotiated.
       * @param {(to: string, kind: number, says: Uint8Array) => void} data  what passes the edge
       * @param {Hear} hear  what is opened of it
       * @param {string} consult @param {string} self */
      begin(data, hear, consult, self) {
        calls.set(call, {send: (to, says) => data(to, KIND.keys, says), hear, tell});
        say({do: "begin", call, k, consult, self, tag});
      },
      /** What came by the edge: of data in the clear nothing is taken. @type {Hear} */
      hear(from, kind, says) {
        if (kind === KIND.keys) say({do: "message", call, from, says});
      },
      /** Seals what one participant is told. @param {string} to @param {number} kind @param {Uint8Array} says */
      say(to, kind, says) {
        say({do: "say", call, to, says: Uint8Array.of(kind, ...says)});
      },
      /** What is sent and heard, and whose each m-line is: before any of it carries anything.
       * @param {RTCRtpSender[]} senders  of audio first, the others of video
       * @param {{mid: string, participant: string, kind: string, receiver: RTCRtpReceiver}[]} lines */
      joins(senders, lines) {
        for (const [i, sender] of senders.entries()) sender.transform ??= transform({kind: i === 0 ? "audio" : "video"});
        for (const {receiver, mid, kind} of lines) receiver.transform ??= transform({mid, kind: kind === "audio" ? "audio" : "video"});
        say({do: "lines", call, lines: lines.map(({mid, participant}) => ({mid, participant}))});
      },
      /** @param {{participant: string, connected: boolean}[]} list */
      peers(list) {
        say({do: "peers", call, peers: list.map(({participant, connected}) => ({participant, connected}))});
      },
      end() {
        if (calls.delete(call)) say({do: "end", call});
      },
    };
  };
}

// The worker of an end-to-end encrypted call: frames of media and messages of the key
// exchange come in, and no key leaves it. One worker serves every leg of the page, for a
// leg may be made when the edge that the page came from is gone.

import {makeExchange} from "./exchange.js";
import {makeKeys} from "./keys.js";

/** What the page says; see call.js.
 * @typedef {{do: "begin", call: number, k: import("./sframe.js").Bytes, consult: string, self: string, tag: number}
 *   | {do: "peers", call: number, peers: {participant: string, connected: boolean}[]}
 *   | {do: "message", call: number, from: string, says: import("./sframe.js").Bytes}
 *   | {do: "say", call: number, to: string, says: Uint8Array}
 *   | {do: "lines", call: number, lines: {mid: string, participant: string}[]}
 *   | {do: "end", call: number}} Order */

/** How often messages are looked after, ms. */
const TICK = 250;

const scope = /** @type {any} */ (globalThis);

/** @typedef {ReturnType<typeof makeCall>} Call */
/** @type {Map<number, Call>} */
const calls = new Map();
/** What is sent of video: its transformers, which may be here before their call is.
 * @type {{call: number, transformer: any}[]} */
let pictures = [];

/** @param {Extract<Order, {do: "begin"}>} order */
function makeCall({call, k, consult, self, tag}) {
  const keys = makeKeys();
  /** @type {Map<string, string>} who is on each m-line */
  const lines = new Map();
  const exchange = makeExchange({
    k, consult, self, tag,
    send: (to, says) => scope.postMessage({do: "send", call, to, says}),
    use: (key) => {
      keys.use(key);
      // Who has just come can show nothing until a keyframe comes under this key.
      for (const p of pictures) if (p.call === call) p.transformer.generateKeyFrame?.().catch(() => {}); // none is sent now
    },
    take: (who, key) => keys.take(who, key, performance.now()),
    gone: keys.gone,
    hear: (from, says) => scope.postMessage({do: "hear", call, from, says}),
    tell: (others) => scope.postMessage({do: "tell", call, others}),
  });
  // One at a time: each step of the exchange waits for WebCrypto.
  let work = Promise.resolve();
  const then = (/** @type {(x: Awaited<typeof exchange>, now: number) => Promise<void>} */ step) => {
    work = work.then(async () => step(await exchange, performance.now())).catch((err) => console.error("e2ee", err));
  };
  const timer = setInterval(() => then((x, now) => x.tick(now)), TICK);
  return {keys, lines, then, end: () => clearInterval(timer)};
}

scope.onmessage = (/** @type {MessageEvent<Order>} */ {data: order}) => {
  if (order.do === "begin") return void calls.set(order.call, makeCall(order));
  const call = calls.get(order.call);
  switch (order.do) {
    case "peers": return call?.then((x, now) => x.peers(order.peers, now));
    case "message": return call?.then((x, now) => x.message(order.from, order.says, now));
    case "say": return call?.then((x) => x.say(order.to, order.says));
    case "lines":
      call?.lines.clear();
      for (const {mid, participant} of order.lines) call?.lines.set(mid, participant);
      return;
    case "end":
      call?.end();
      pictures = pictures.filter((p) => p.call !== order.call);
      return void calls.delete(order.call);
  }
};

// Whatever does not become a frame that is sealed, or opened, goes no further.
scope.onrtctransform = (/** @type {any} */ {transformer}) => {
  const {call: id, kind, mid} = transformer.options;
  if (mid === undefined && kind === "video") pictures.push({call: id, transformer});
  /** @param {{data: ArrayBuffer}} frame @param {TransformStreamDefaultController} on */
  const transform = async (frame, on) => {
    const call = calls.get(id);
    if (!call) return;
    const done = mid === undefined
      ? await call.keys.seal(kind, frame.data)
      : await call.keys.open(call.lines.get(mid) ?? "", kind, new Uint8Array(frame.data), performance.now());
    if (!done) return;
    frame.data = done.buffer;
    on.enqueue(frame);
  };
  // It ends with its track.
  transformer.readable.pipeThrough(new TransformStream({transform})).pipeTo(transformer.writable).catch(() => {});
};

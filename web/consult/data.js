// Messages between the participants of a room, over the data channels of
// docs/protocol.md section 3, Data: whom it is for or from, then what kind of message it
// is, in an octet, then what it says. Who does not know a kind ignores it.

/** The kinds of message. */
export const KIND = {keys: 1, photo: 2};

const utf8 = new TextEncoder();
const read = new TextDecoder();

/** @param {string} to  a participant; "" is everybody else
 * @param {number} kind @param {Uint8Array} says */
export function frame(to, kind, says) {
  const id = utf8.encode(to);
  const all = new Uint8Array(1 + id.length + 1 + says.length);
  all[0] = id.length;
  all.set(id, 1);
  all[1 + id.length] = kind;
  all.set(says, 2 + id.length);
  return all;
}

/** @param {Uint8Array<ArrayBuffer>} message
 * @returns {{from: string, kind: number, says: Uint8Array<ArrayBuffer>}|null} null: it is none */
export function parse(message) {
  const end = 1 + message[0];
  if (!(message.length > end)) return null;
  return {from: read.decode(message.subarray(1, end)), kind: message[end], says: message.subarray(end + 1)};
}

/** Opens the reliable channel of a connection, before anything is negotiated; gives what says
 * something on it. What is said while it is not open is lost.
 * @param {RTCPeerConnection} pc
 * @param {(from: string, kind: number, says: Uint8Array<ArrayBuffer>) => void} hear */
export function openData(pc, hear) {
  const channel = pc.createDataChannel("reliable", {negotiated: true, id: 0});
  channel.binaryType = "arraybuffer";
  channel.onmessage = ({data}) => {
    const m = data instanceof ArrayBuffer ? parse(new Uint8Array(data)) : null;
    if (m) hear(m.from, m.kind, m.says);
  };
  return (/** @type {string} */ to, /** @type {number} */ kind, /** @type {Uint8Array} */ says) => {
    if (channel.readyState === "open") channel.send(frame(to, kind, says));
  };
}

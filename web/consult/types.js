// What the machine and its wires say to each other. Types only: this file is
// read by the checker and is not served.

/** @typedef {"link"|"call"|"moving"|"reconnecting"|"audio-only"|"ended"|"refused"} Name */

/** @typedef {{url: string, token: string}} Address where a join may land: ws(s)://…/v1/join */

/** @typedef {{region: string, city: string, country: string}} Place */

/** @typedef {{participant: string, role: string, mic: boolean, camera: boolean, connected: boolean}} Peer */

/** @typedef {{code: string, jurisdiction: string, citation: string[], id: string}} Refusal */

/** @typedef {{key: string, params?: Record<string, string>}} Sentence */

/**
 * @typedef {object} State
 * @property {Name} name
 * @property {"ask"|"opening"|"ready"|"joining"|"stopped"} step  how far the state `link` is
 * @property {string} text            the page's sentence when stopped, ended or refused
 * @property {Refusal|null} refusal   what the edge last refused, for support
 * @property {{mic: boolean, camera: boolean, failure: Sentence|null}} devices  what was obtained
 * @property {{mic: boolean, camera: boolean, sound: boolean}} wish  what the user chose; `sound` is sound only
 * @property {Sentence[]} troubles    standing faults of sound and devices
 * @property {Sentence|null} notice   passing news: moved, video is back
 * @property {Address[]} addresses    the seat's edge first, then its standbys
 * @property {Address[]} standby      what the last welcome named beside its own edge
 * @property {string} session
 * @property {number} legs            legs made so far
 * @property {number} current         0: none
 * @property {number} next            0: none
 * @property {Address|null} target    where `next` goes
 * @property {Place|null} place       of the current leg
 * @property {Place|null} nextPlace
 * @property {number} heard           participants heard on the current leg
 * @property {boolean} socket         the current leg's signalling is open
 * @property {Peer[]|null} nextPeers
 * @property {boolean} retrying       the timer `retry` runs
 * @property {number} attempt         failed attempts since media last flowed
 * @property {boolean} moving         the edge asked for a move that is not done
 * @property {Address|null} pending   a move asked for by `next` before people heard it
 * @property {number} flowAt          when media last arrived, ms
 * @property {0|1|2|3} gap            0 flows, 1 banner, 2 help, 3 failed
 * @property {Peer[]} peers
 * @property {string[]} seen          participants in the order they first appeared
 * @property {string[]} away          participants whose loss is shown
 */

/**
 * @typedef {{type: "open", problem: string, granted: boolean, addresses: Address[], session: string, sound: boolean}
 *   | {type: "ask", sound: boolean}
 *   | {type: "devices", mic: boolean, camera: boolean, failure: Sentence|null}
 *   | {type: "join"} | {type: "again"} | {type: "rejoin"} | {type: "retry"} | {type: "leave"}
 *   | {type: "mic"} | {type: "camera"} | {type: "sound"}
 *   | {type: "trouble", key: string, params?: Record<string, string>} | {type: "calm", key: string}
 *   | {type: "welcome", leg: number, session: string, place: Place, standby: string[]}
 *   | {type: "pulse", leg: number, alive: boolean, heard: number}
 *   | {type: "peers", leg: number, peers: Peer[]}
 *   | {type: "move", leg: number, url: string, token: string}
 *   | {type: "ended", leg: number, reason: string}
 *   | {type: "refused", leg: number, refusal: Refusal, dice: number}
 *   | {type: "closed", leg: number, dice: number}
 *   | {type: "timer", name: TimerName, dice: number}} Event  `dice` is a random number in [0, 1)
 */

/** @typedef {"gap"|"attempt"|"retry"|"notice"|"peers"} TimerName */

/**
 * @typedef {{do: "devices", video: boolean} | {do: "stop"}
 *   | {do: "send", mic: boolean, camera: boolean, receive: boolean}
 *   | {do: "connect", leg: number, address: Address, session: string}
 *   | {do: "adopt", leg: number} | {do: "drop", leg: number} | {do: "leave", leg: number}
 *   | {do: "save"} | {do: "forget", token: boolean}
 *   | {do: "timer", name: TimerName, ms: number} | {do: "cancel", name: TimerName}
 *   | {do: "say", key: string, params?: Record<string, string>, who?: string, loud: boolean}} Effect
 */

export {};

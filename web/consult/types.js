// What the machine and its wires say to each other. Types only: this file is
// read by the checker and is not served.

/** @typedef {"link"|"call"|"moving"|"reconnecting"|"audio-only"|"ended"|"refused"} Name */

/** Where a join may land: ws(s)://…/v1/join. `edge` is "" where only the URL is known,
 * `session` what the edge gave when it last welcomed this page, "" before.
 * @typedef {{edge: string, url: string, token: string, session: string}} Address */

/** @typedef {{region: string, city: string, country: string}} Place */

/** @typedef {{participant: string, role: string, mic: boolean, camera: boolean, screen?: boolean, connected: boolean}} Peer */

/** `valid_from` and `clock` (RFC 3339) are of token_early.
 * @typedef {{code: string, jurisdiction: string, citation: string[], id: string, valid_from?: string, clock?: string}} Refusal */

/** @typedef {{key: string, params?: Record<string, string>}} Sentence */

/** How a participant's video comes here, when it does not come whole.
 * @typedef {{participant: string, video: string, cause: string}} Quality */

/** What the user chose; `sound` is sound only.
 * @typedef {{mic: boolean, camera: boolean, sound: boolean}} Wish */

/** What runs of microphone and camera, why not, and what is new of it, in words.
 * @typedef {{mic: boolean, camera: boolean, failures: {mic: Sentence|null, camera: Sentence|null}, news: Sentence|null}} DeviceNews */

/** The law leaves the call no place: by which rule, and when it ends, ms.
 * @typedef {{code: string, citation: string[], endsAt: number}} Withdrawal */

/** One WebSocket with its RTCPeerConnection. People hear the one `current` leg; a `next`
 * one is an attempt to carry the call; a `parked` one will carry nothing until it must.
 * @typedef {object} Leg
 * @property {number} id
 * @property {"current"|"next"|"parked"} role
 * @property {Address} address
 * @property {boolean} sent           a move named this address
 * @property {"connecting"|"open"|"closed"} socket
 * @property {Place|null} place       null until welcomed
 * @property {number} epoch           of the placement that it is made for; 0 until known
 * @property {Address[]} standby      what its welcome named beside its own edge
 * @property {Peer[]|null} peers      null until told
 * @property {number} heard           participants heard on it
 * @property {number} progress        when it last came further, ms
 * @property {Withdrawal|null} withdrawal  it ends by the law, unless it moves
 * @property {Quality[]} quality      of those whose video is not full
 * @property {import("./meter.js").Measure|null} measure  of the last seconds, while it is current
 * @property {import("./meter.js").Levels|null} levels
 * @property {boolean} held           the own video is held back: the connection carries none
 * @property {string} profile         what the video is looked at for; "" until known
 * @property {boolean} screens        its edge takes a screen
 * @property {string} speaker         who speaks, "" nobody
 * @property {string} to              URL to which it was told to move, "" else
 */

/**
 * @typedef {object} State
 * @property {Name} name
 * @property {"ask"|"opening"|"ready"|"joining"|"stopped"} step  how far the state `link` is
 * @property {string} text            the page's sentence when stopped, ended or refused
 * @property {Refusal|null} refusal   what the edge last refused, for support
 * @property {Omit<DeviceNews, "news">} devices  what runs
 * @property {Wish} wish
 * @property {boolean} sharing        the screen is shared
 * @property {Sentence[]} troubles    standing faults of sound
 * @property {Sentence|null} notice   passing news: moved, video is back
 * @property {Address[]} addresses    the seat's edge first, then its standbys
 * @property {Leg[]} legs             in the order they were made
 * @property {number} made            legs made so far
 * @property {number} due             when another attempt may start, ms; 0: none is wanted
 * @property {number} failures        failed attempts since media last flowed
 * @property {string[]} tried         URLs in the order they were last tried or failed, in this search
 * @property {string[]} sent          URLs that answered a hello with a move, in this search
 * @property {string} stranded        URL that a move named and that carried no media, "" else
 * @property {boolean} moving         the edge asked for a move that is not done
 * @property {number} flowAt          when media last arrived, ms
 * @property {0|1|2|3} gap            0 flows, 1 banner, 2 help, 3 failed
 * @property {string[]} seen          participants in the order they first appeared
 * @property {string} profile         what this page's user chose for the video, "" else
 * @property {{words: string, at: number, waits: boolean}} spoken  what was last said of video, when, and whether more waits
 * @property {string[]} away          participants whose loss is shown
 */

/**
 * @typedef {{type: "open", problem: string, granted: boolean, addresses: Address[]} & Wish
 *   | {type: "ask", sound: boolean}
 *   | {type: "devices"} & DeviceNews | {type: "plugged", mic: boolean, camera: boolean}
 *   | {type: "join"} | {type: "again"} | {type: "rejoin"} | {type: "retry"} | {type: "leave"}
 *   | {type: "mic"} | {type: "camera"} | {type: "sound"} | {type: "screen"}
 *   | {type: "shares", on: boolean, failed: boolean}
 *   | {type: "trouble", key: string, params?: Record<string, string>} | {type: "calm", key: string}
 *   | {type: "opened", leg: number} | {type: "progress", leg: number}
 *   | {type: "welcome", leg: number, session: string, place: Place, epoch: number, standby: {edge: string, url: string, token?: string}[], profile: string, screens?: boolean}
 *   | {type: "pulse", leg: number, alive: boolean, heard: number}
 *   | {type: "peers", leg: number, peers: Peer[]}
 *   | {type: "quality", leg: number} & Quality
 *   | {type: "measured", leg: number, measure: import("./meter.js").Measure, levels: import("./meter.js").Levels, held: boolean}
 *   | {type: "speaker", leg: number, participant: string}
 *   | {type: "profile", profile: string} | {type: "profiled", leg: number, profile: string, refused: boolean}
 *   | {type: "move", leg: number, edge: string, url: string, token: string, epoch: number, dice: number}
 *   | {type: "ended", leg: number, reason: string, code?: string, citation?: string[]}
 *   | {type: "withdrawal", leg: number, code: string, citation: string[], left: number|null}
 *   | {type: "refused", leg: number, refusal: Refusal, dice: number}
 *   | {type: "closed", leg: number, dice: number}
 *   | {type: "timer", name: TimerName, late: number, dice: number}} Event  `dice` is a random
 *   number in [0, 1), `late` by how many ms the timer came too late,
 *   `left` ms until the law ends the call, null when it goes on after all
 */

/** @typedef {"gap"|"attempt"|"notice"|"peers"|"withdrawal"|"quality"} TimerName */

/**
 * @typedef {{do: "devices", video: boolean} | {do: "stop"} | {do: "screen", on: boolean}
 *   | {do: "send", mic: boolean, camera: boolean, hold: boolean, receive: boolean}
 *   | {do: "connect", leg: number, address: Address, stranded: boolean}
 *   | {do: "adopt", leg: number} | {do: "drop", leg: number} | {do: "leave", leg: number}
 *   | {do: "profile", leg: number, profile: string}
 *   | {do: "save"} | {do: "forget", token: boolean}
 *   | {do: "timer", name: TimerName, ms: number} | {do: "cancel", name: TimerName}
 *   | {do: "say", key: string, params?: Record<string, string>, who?: string, loud: boolean}} Effect
 */

export {};

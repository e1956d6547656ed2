// One leg of a call: a WebSocket of docs/protocol.md section 3 and its
// RTCPeerConnection. The edge offers, this side answers; m-lines 0 and 1, and 3 for
// a screen, carry what is sent here, `tracks` says whom every other one shows.

import {openData} from "./data.js";
import {claims} from "./link.js";
import {makeJudge, makeMeter, reportOf} from "./meter.js";

/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Address} Address */
/** @typedef {{participant: string, kind: string, track: MediaStreamTrack}} Remote */
/** @typedef {ReturnType<ReturnType<typeof import("./e2ee/call.js").makeCalls>>} Secret */

/** A voice counts as heard this long after its last packet, ms: Opus sends one
 * packet in 400 ms of silence. */
const HEARD = 1_000;
/** How often a leg looks at its counters, ms: the one being built waits for its
 * first packet, the running one for the lack of them. */
const POLL = {next: 50, current: 250};
/** How often the call is measured for its user, and for the edge, ms. */
const MEASURE = 2_000, REPORT = 10_000;
/** What this page can do beyond the protocol's first day: a hello may be answered by
 * a move, the law's countdown, the profile and the cause of paused video are shown, and layers
 * that nobody watches are not sent. */
const FEATURES = ["move-first", "withdrawal", "layers", "profile", "quality"];
/** The m-line of the own screen, of an edge that has the feature of that name. */
const SCREEN = "3";
/** The simulcast layers that the edge's offers name: how much smaller than the camera's
 * picture each is, and what it takes at most, bit/s.
 * @type {Record<string, {smaller: number, rate: number}>} */
const LAYERS = {
  l: {smaller: 4, rate: 150_000},
  m: {smaller: 2, rate: 500_000},
  h: {smaller: 1, rate: 1_500_000},
};

/** What the own connection must carry, bit/s: with less than `thin` the voice takes less, until
 * it is `thick`; with less than `film` for a while, ms, a `little` one with less than `thin`, no video is
 * sent, and at once after a fall from more than `fall`: the edge has told the browser that the
 * path is flooded, and its own word for the page comes later. It is tried again after another, longer each time that it does not last. */
const UPLINK = {thin: 80_000, thick: 130_000, film: 100_000, fall: 400_000, patience: 3_000, little: 1_500, pause: 5_000, longest: 15_000, lasting: 10_000};
/** A voice that takes less, bit/s: wideband speech still; and the length of its packets, ms. The
 * headers of fifty packets a second would take more than what is said. */
const THIN_VOICE = 16_000;
const THIN_FRAME = 60;

/**
 * @param {number} leg
 * @param {Address} address
 * @param {object} options
 * @param {boolean} options.stranded            a move sent us where no media came, and now we come here
 * @param {boolean} options.relay               TURN only, by `?relay=1`
 * @param {boolean} options.shares              a screen may be sent
 * @param {() => Record<"audio"|"video"|"screen", MediaStreamTrack|null>} options.local  what is sent
 * @param {() => {mic: boolean, camera: boolean, receive_video: boolean, screen: boolean}} options.wanted
 * @param {() => import("./tiles.js").Shown[]} options.shown
 * @param {Secret|null} options.secret           what encrypts it end to end; null: nothing does
 * @param {import("./e2ee/call.js").Hear} options.hear  what another participant says by the data channel
 * @param {(event: Event) => void} options.emit
 */
export function makeLeg(leg, address, {stranded, relay, shares, local, wanted, shown, secret, hear, emit}) {
  const ws = new WebSocket(address.url, "bailiwick.v1");
  /** @type {RTCPeerConnection|null} */
  let pc = null;
  /** @type {Remote[]} */
  let remotes = [];
  /** @type {Record<"audio"|"video"|"screen", RTCRtpSender|null>} */
  const senders = {audio: null, video: null, screen: null};
  /** What the edge asked the screen to take at most, bit/s; 0: as it likes. */
  let framed = 0;
  /** The edge takes a screen. */
  let screens = false;
  /** The layers that somebody watches. @type {string[]} */
  let watched = Object.keys(LAYERS);
  /** The edge's last offer, and whether the voice is thin in it. */
  let offered = "";
  let thin = false;
  /** The last message of each type that is sent as it changes. @type {Map<string, string>} */
  const last = new Map();
  let expects = false;
  let current = false;
  let closed = false;
  let work = Promise.resolve();
  const pulse = counters();
  const uplink = makeUplink();
  const [meter, judge, reporter] = [makeMeter(), makeJudge(), makeMeter()];
  let measured = 0, reported = 0;
  /** Says something to another participant by the data channel. @type {(to: string, kind: number, says: Uint8Array) => void} */
  let data = () => {};
  /** What the edge asked the voice to take at most, bit/s; 0: as it likes. */
  let asked = 0;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let poll;
  /** @type {(remotes: Remote[]) => void} */
  let onRemotes = () => {};

  /** @param {object} message */
  const send = (message) => {
    if (ws.readyState === WebSocket.OPEN) ws.send(JSON.stringify(message));
  };
  /** @param {Event} event */
  const tell = (event) => {
    if (!closed) emit(event);
  };
  const lost = () => tell({type: "closed", leg, dice: Math.random()});
  const further = () => tell({type: "progress", leg});

  const look = async () => {
    clearTimeout(poll);
    if (closed || !pc) return;
    const stats = /** @type {any} */ (await pc.getStats());
    const now = performance.now();
    const {grew, heard, sends} = pulse(stats, remotes, now);
    if (uplink.look(sends, now)) work = work.then(shape).then(speak);
    if (current) measure(stats, now);
    const up = pc.connectionState === "connected";
    // What a leg receives before it is up are handshakes.
    const alive = current ? grew || (up && !expects) : up && (grew || !expects);
    if (grew && !alive) further();
    tell({type: "pulse", leg, alive, heard});
    if (!closed) poll = setTimeout(look, current ? POLL.current : POLL.next);
  };

  /** @param {Iterable<[string, any]>} stats @param {number} now */
  const measure = (stats, now) => {
    if (now - measured >= MEASURE) {
      measured = now;
      const m = meter(stats, remotes, now);
      // Who sends a single stream goes on with it.
      const held = uplink.told && (senders.video?.getParameters().encodings?.length ?? 0) > 1;
      tell({type: "measured", leg, measure: m, levels: judge(m), held});
    }
    if (now - reported >= REPORT) {
      const m = reportOf(reporter(stats, remotes, now));
      if (reported > 0 && m.participants.length > 0) send(m);
      reported = now;
    }
  };

  /** @param {any} m */
  const welcome = (m) => {
    pc = new RTCPeerConnection({
      iceServers: m.ice_servers ?? [],
      iceTransportPolicy: relay ? "relay" : "all",
      bundlePolicy: "max-bundle",
    });
    screens = (m.features ?? []).includes("screen");
    data = openData(pc, secret?.hear ?? hear);
    secret?.begin(data, hear, m.consult, m.participant);
    // The first packet ends the wait for the next poll.
    pc.ontrack = ({track}) => { track.onunmute = () => void look(); };
    pc.onconnectionstatechange = () => {
      if (pc?.connectionState === "failed" && !current) return lost();
      further();
      void look();
    };
    pc.oniceconnectionstatechange = further;
    tell({type: "welcome", leg, session: m.session, place: m.place, epoch: m.epoch, standby: m.standby ?? [], profile: m.profile ?? "", screens});
    sync();
    void look();
  };

  // Level-triggered: brings the senders and what the edge knows to what is wanted now.
  const sync = () => {
    for (const kind of /** @type {const} */ (["audio", "video", "screen"])) {
      const sender = senders[kind];
      const track = local()[kind];
      if (sender && sender.track !== track) sender.replaceTrack(track).catch((err) => console.error(kind, err));
    }
    if (!pc) return;
    for (const message of [{type: "state", ...wanted(), ...(secret && {kid: secret.tag})}, {type: "view", videos: shown()}]) {
      const text = JSON.stringify(message);
      if (text === last.get(message.type)) continue;
      last.set(message.type, text);
      if (ws.readyState === WebSocket.OPEN) ws.send(text);
    }
  };

  /** @param {{sdp: string, seq: number, tracks?: {mid: string, participant: string, kind: string}[]}} m */
  const answer = async (m) => {
    if (closed || !pc) return;
    further();
    offered = m.sdp;
    await describe(pc);
    const lines = pc.getTransceivers();
    const hears = (m.tracks ?? []).flatMap(({mid, participant, kind}) => {
      const line = lines.find((t) => t.mid === mid);
      return line ? [{mid, participant, kind, receiver: line.receiver}] : [];
    });
    // Before anything is awaited: what has no transform by then Chromium sends, and plays, as it is.
    const screen = shares && screens ? lines.find((t) => t.mid === SCREEN) : undefined;
    secret?.joins([lines[0].sender, lines[1].sender, ...(screen ? [screen.sender] : [])], hears);
    await attach({audio: lines[0], video: lines[1], screen});
    remotes = hears.map(({participant, kind, receiver}) => ({participant, kind, track: receiver.track}));
    await pc.setLocalDescription(await pc.createAnswer());
    send({type: "answer", sdp: pc.localDescription?.sdp, seq: m.seq});
    further();
    onRemotes(remotes);
  };

  // The m-lines stay sendonly without a track, so that a device that is switched
  // on later needs no new offer.
  const attach = async (/** @type {Record<"audio"|"video"|"screen", RTCRtpTransceiver|undefined>} */ lines) => {
    for (const kind of /** @type {const} */ (["audio", "video", "screen"])) {
      const line = lines[kind];
      if (senders[kind] || !line) continue;
      line.direction = "sendonly";
      senders[kind] = line.sender;
      await line.sender.replaceTrack(local()[kind]);
      if (kind === "video") await shape();
    }
  };

  // What of the video is sent. A browser that sends one stream goes on with that.
  const shape = async () => {
    const parameters = senders.video?.getParameters();
    if (closed || !parameters || (parameters.encodings?.length ?? 0) < 2) return;
    for (const encoding of parameters.encodings) {
      const layer = LAYERS[encoding.rid ?? ""];
      if (!layer) continue;
      encoding.active = watched.includes(encoding.rid ?? "") && !uplink.held;
      encoding.scaleResolutionDownBy = layer.smaller;
      encoding.maxBitrate = layer.rate;
    }
    await senders.video?.setParameters(parameters).catch((err) => console.error("layers", err));
  };

  // What the edge offers, and for a thin voice the page itself: browsers send packets as long as
  // is asked of them (a=ptime, RFC 8866 section 6.4), and an edge takes them as they come.
  const describe = async (/** @type {RTCPeerConnection} */ pc) => {
    thin = thins();
    await pc.setRemoteDescription({type: "offer", sdp: thin ? offered.replace(/m=audio [^]*?(?=\r\na=)/, `$&\r\na=ptime:${THIN_FRAME}`) : offered});
  };
  const thins = () => uplink.thin || asked > 0;

  // How much one stream takes.
  const bound = async (/** @type {"audio"|"screen"} */ kind, /** @type {number} */ rate) => {
    const parameters = senders[kind]?.getParameters();
    if (closed || !parameters?.encodings?.length) return;
    if (rate > 0) parameters.encodings[0].maxBitrate = rate;
    else delete parameters.encodings[0].maxBitrate;
    await senders[kind]?.setParameters(parameters).catch((err) => console.error(kind, err));
  };
  const speak = async () => {
    await bound("audio", uplink.thin ? THIN_VOICE : asked);
    if (closed || !pc || offered === "" || thin === thins()) return;
    try {
      await describe(pc);
      await pc.setLocalDescription(); // as it was: the edge need not hear of it
    } catch (err) {
      console.error("voice", err);
    }
  };

  ws.onopen = () => {
    const {token, session} = address;
    send({type: "hello", token, features: secret ? [...FEATURES, "e2ee"] : FEATURES, ...(session && {session}), ...(stranded && {stranded})});
    tell({type: "opened", leg});
  };
  ws.onclose = lost;
  ws.onmessage = ({data}) => {
    const m = JSON.parse(data);
    switch (m.type) {
      case "welcome": return welcome(m);
      case "offer":
        // One at a time: an offer may arrive while the last one is being answered.
        work = work.then(() => answer(m)).catch((err) => {
          if (closed) return;
          console.error("offer", err);
          ws.close();
        });
        return;
      case "layers":
        watched = m.video ?? [];
        work = work.then(shape);
        return;
      case "voice":
        asked = m.rate ?? 0;
        work = work.then(speak);
        return;
      case "screen":
        framed = m.rate ?? 0;
        work = work.then(() => bound("screen", framed));
        return;
      case "speaker": return tell({type: "speaker", leg, participant: m.participant ?? ""});
      case "peers":
        expects = m.peers.some((/** @type {import("./types.js").Peer} */ p) => p.connected && (p.mic || p.camera));
        secret?.peers(m.peers);
        return tell({type: "peers", leg, peers: m.peers});
      case "quality": return tell({type: "quality", leg, participant: m.participant, video: m.video, cause: m.cause ?? ""});
      case "profile": return tell({type: "profiled", leg, profile: m.profile, refused: m.refused !== undefined});
      case "move": {
        const edge = claims(m.token)?.edge ?? "";
        return tell({type: "move", leg, edge, url: m.url, token: m.token, epoch: m.epoch, dice: Math.random()});
      }
      case "withdrawal": {
        const {code = "", citation = [], ends_at, seconds} = m;
        // Seconds first: the clock of this device may be wrong.
        const left = ends_at === undefined ? null : Number.isFinite(seconds) ? seconds * 1000 : Math.max(0, Date.parse(ends_at) - Date.now());
        return tell({type: "withdrawal", leg, code, citation, left});
      }
      case "ended": return tell({type: "ended", leg, reason: m.reason, code: m.code, citation: m.citation});
      case "refused": {
        const {code = "internal", jurisdiction = "", citation = [], id = "", valid_from, clock} = m;
        return tell({type: "refused", leg, refusal: {code, jurisdiction, citation, id, valid_from, clock}, dice: Math.random()});
      }
    }
  };

  return {
    sync,
    /** This leg is heard from now on. @param {(remotes: Remote[]) => void} show */
    adopt(show) {
      current = true;
      onRemotes = show;
      show(remotes);
    },
    /** @param {string} profile */
    choose(profile) {
      send({type: "profile", profile});
    },
    /** @param {string} to @param {number} kind @param {Uint8Array} says */
    say: (to, kind, says) => (secret ? secret.say(to, kind, says) : data(to, kind, says)),
    leave() {
      send({type: "leave"});
      this.close();
    },
    close() {
      closed = true;
      clearTimeout(poll);
      ws.close();
      pc?.close();
      secret?.end();
    },
  };
}

/** Judges what the own connection carries, by what the browser estimates. */
export function makeUplink() {
  let last = 0, low = 0, until = 0, tried = -Infinity, pause = UPLINK.pause;
  return {
    thin: false,
    held: false,
    /** What its user is told: that it is held back, until it is sent again for a while. */
    told: false,
    /** Takes one estimate, bit/s, 0 where there is none; says whether something changed.
     * @param {number} sends @param {number} now */
    look(sends, now) {
      const {thin, held} = this;
      const fell = last >= UPLINK.fall;
      last = sends || last;
      if (sends > 0) this.thin = sends < (thin ? UPLINK.thick : UPLINK.thin);
      if (held) {
        if (now >= until) [this.held, low, tried] = [false, 0, now];
      } else if (sends <= 0 || sends >= UPLINK.film) {
        low = 0;
      } else if (low === 0 && !fell) {
        low = now;
      } else if (fell || now - low >= (sends < UPLINK.thin ? UPLINK.little : UPLINK.patience)) {
        pause = now - tried < UPLINK.lasting ? Math.min(2 * pause, UPLINK.longest) : UPLINK.pause;
        [this.held, until] = [true, now + pause];
      }
      this.told = this.held || (this.told && now - tried < UPLINK.lasting);
      return thin !== this.thin || held !== this.held;
    },
  };
}

/** Watches growth between two looks at the counters. Any byte from the edge says
 * that the own connection lives: a peer that went silent is not our loss.
 * (WebRTC statistics: candidate-pair bytesReceived holds RTP and RTCP, not STUN.) */
export function counters() {
  let bytes = 0;
  /** @type {Map<string, {packets: number, at: number}>} */
  const voices = new Map();
  return (/** @type {Iterable<[string, any]>} */ stats, /** @type {Remote[]} */ remotes, /** @type {number} */ now) => {
    let received = 0, sends = 0;
    for (const [, s] of stats) {
      if (s.type === "candidate-pair") {
        received += s.bytesReceived ?? 0;
        if (s.nominated) sends = Math.max(sends, s.availableOutgoingBitrate ?? 0);
      }
      if (s.type !== "inbound-rtp") continue;
      const of = remotes.find((r) => r.track.id === s.trackIdentifier)?.participant;
      if (!of) continue;
      const key = `${of} ${s.trackIdentifier}`;
      const last = voices.get(key);
      if (s.packetsReceived > (last?.packets ?? 0)) voices.set(key, {packets: s.packetsReceived, at: now});
    }
    const grew = received > bytes;
    bytes = received;
    const heard = new Set();
    for (const [key, {at}] of voices) if (now - at < HEARD) heard.add(key.split(" ")[0]);
    return {grew, heard: heard.size, sends};
  };
}

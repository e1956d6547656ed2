// What the browser's own statistics say of a call: numbers for the page's details and for the
// edge, and from them three levels, 0 good, 1 weak, 2 poor. Pure: statistics and the time come in.

/** @typedef {import("./leg.js").Remote} Remote */
/** How one of the others was heard and seen since the last look: lines of the picture, 0 for none;
 * shares of the time that it stood, of the sound that was made up, and of its packets; and the
 * opinion of the sound (ITU-T G.107), 0 where none came.
 * @typedef {{participant: string, height: number, frozen: number, concealed: number, lost: number, jitter: number, mos: number}} Played */
/** `rtt` in ms; `lost` is of what is sent here, `again` of what comes: that the edge had to send twice.
 * @typedef {{rtt: number, lost: number, again: number, seconds: number, people: Played[]}} Measure */
/** @typedef {{own: number, people: Record<string, number>}} Levels */

/** From where on it is weak, and poor. The opinions are R = 70 and R = 50 of G.107. */
const RTT = [400, 1_000], LOST = [0.1, 0.3], MOS = [3.6, 2.58], FROZEN = [0.25, 0.5];
/** So many looks in a row make it worse, and better. */
const WORSE = 3, BETTER = 5;
/** What a device adds to what its player holds back, ms. */
const DEVICE = 20;

/** The mean opinion score of speech that is heard so many ms after it was said, of which that
 * share never comes: edge/sfu/mos in this language (G.107 sections 7.4 and B.4, G.113 for 25.1).
 * @param {number} ms @param {number} lost */
export function opinion(ms, lost) {
  const x = Math.log2(ms / 100);
  const delay = ms <= 100 ? 0 : 25 * ((1 + x ** 6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2);
  const percent = 100 * Math.min(Math.max(lost, 0), 1);
  const r = 93.2 - delay - 95 * percent / (percent + 25.1);
  return r <= 0 ? 1 : Math.max(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, 1);
}

/** Takes the statistics of a connection; each look is of what grew since the last, and the first of nothing. */
export function makeMeter() {
  /** @type {Map<string, any>} */
  let was = new Map();
  let at = 0;
  return (/** @type {Iterable<[string, any]>} */ stats, /** @type {Remote[]} */ remotes, /** @type {number} */ now) => {
    const is = new Map(stats);
    const seconds = Math.max((now - at) / 1000, 0.001);
    const most = (/** @type {(s: any) => number|undefined} */ of) => 1000 * Math.max(0, ...[...is.values()].map((s) => of(s) ?? 0));
    // Firefox says of its checks nothing, and of what it sends it knows.
    const rtt = most((s) => (s.type === "candidate-pair" && s.nominated ? s.currentRoundTripTime : 0)) ||
      most((s) => (s.type === "remote-inbound-rtp" ? s.roundTripTime : 0));
    let lost = 0, again = 0;
    /** @type {Map<string, Played>} */
    const people = new Map();
    for (const [id, s] of is) {
      const old = was.get(id);
      const grew = (/** @type {string} */ name) => Math.max(0, (s[name] ?? 0) - (old?.[name] ?? 0));
      const share = (/** @type {number} */ of, /** @type {number} */ all) => (all > 0 ? Math.min(of / all, 1) : 0);
      if (s.type === "remote-inbound-rtp" && s.kind === "audio" && grew("timestamp") > 0) lost = Math.max(lost, s.fractionLost ?? 0);
      const participant = remotes.find((r) => r.track.id === s.trackIdentifier)?.participant;
      if (s.type !== "inbound-rtp" || !participant || !old) continue;
      const p = people.get(participant) ?? {participant, height: 0, frozen: 0, concealed: 0, lost: 0, jitter: 0, mos: 0};
      people.set(participant, p);
      const came = grew("packetsReceived");
      again = Math.max(again, share(grew("retransmittedPacketsReceived"), came));
      if (s.kind === "video") {
        p.height = grew("framesDecoded") > 0 ? s.frameHeight ?? 0 : 0;
        p.frozen = share(grew("totalFreezesDuration"), seconds);
      } else if (came > 0) {
        p.concealed = share(grew("concealedSamples") - grew("silentConcealedSamples"), grew("totalSamplesReceived"));
        p.lost = share(grew("packetsLost"), grew("packetsLost") + came);
        p.jitter = 1000 * (s.jitter ?? 0);
        const held = grew("jitterBufferDelay") / (grew("jitterBufferEmittedCount") || Infinity);
        p.mos = opinion(rtt / 2 + 1000 * held + DEVICE, p.concealed);
      }
    }
    [was, at] = [is, now];
    return {rtt, lost, again, seconds, people: [...people.values()]};
  };
}

/** @param {number} v @param {number[]} steps */
const above = (v, [weak, poor]) => (v >= poor ? 2 : v >= weak ? 1 : 0);
/** @param {Played} p */
const heard = ({mos, frozen}) => Math.max(mos === 0 ? 0 : above(-mos, [-MOS[0], -MOS[1]]), above(frozen, FROZEN));

/** Judges measures as they come: what lasts a moment is no level. */
export function makeJudge() {
  const own = steady();
  /** @type {Map<string, ReturnType<typeof steady>>} */
  const people = new Map();
  return (/** @type {Measure} */ m) => {
    /** @type {Levels} */
    const levels = {own: own(Math.max(above(m.rtt, RTT), above(m.lost, LOST), above(m.again, LOST))), people: {}};
    for (const who of people.keys()) if (!m.people.some((p) => p.participant === who)) people.delete(who);
    for (const p of m.people) {
      const judge = people.get(p.participant) ?? steady();
      people.set(p.participant, judge);
      levels.people[p.participant] = judge(heard(p));
    }
    return levels;
  };
}

/** A level that goes when the last looks all say so. */
function steady() {
  let is = 0;
  /** @type {number[]} */
  let last = [];
  return (/** @type {number} */ now) => {
    last = [now, ...last].slice(0, BETTER);
    const worse = last.length < WORSE ? 0 : Math.min(...last.slice(0, WORSE));
    if (worse > is) is = worse;
    else if (last.length === BETTER) is = Math.min(is, Math.max(...last));
    return is;
  };
}

/** What the edge is told of it. @param {Measure} m */
export const reportOf = ({people, seconds}) => ({type: "stats", participants: people.map(({participant, height, frozen, concealed, mos}) =>
  ({participant, height, frozen_s: round(frozen * seconds), concealed: round(concealed), mos: round(mos)}))});

/** @param {number} v */
const round = (v) => Math.round(1000 * v) / 1000;

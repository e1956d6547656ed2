// The table of legs, and which address is tried next: pure, for machine.js.

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Leg} Leg */

/** So many attempts run side by side. */
export const BESIDE = 3;
/** An attempt that comes no further for so long, ms, is given up. TCP itself tries
 * again after 1, 3 and 7 s, and a handshake over a satellite takes four. */
export const STALL = 15_000;

/** The leg that people hear. @param {State} s @returns {Leg|undefined} */
export const current = (s) => s.legs.find((l) => l.role === "current");

/** The attempts in progress. @param {State} s @returns {Leg[]} */
export const attempts = (s) => s.legs.filter((l) => l.role === "next");

/** The newest epoch that this page follows. That of a call which plays no more binds
 * nobody: its edge may have died with it before anybody else heard of it.
 * @param {State} s */
export const followed = (s) => Math.max(0, ...s.legs.filter((l) => l.role === "next" || s.gap === 0).map((l) => l.epoch));

/** The call goes on and signalling is open: no other leg is missed.
 * @param {State} s */
export const isWell = (s) => s.gap === 0 && current(s)?.socket === "open";

/** @param {Address} a @param {Address} b */
export const same = (a, b) => a.url === b.url || (a.edge !== "" && a.edge === b.edge);

/** Changes one leg. @param {State} s @param {number} id @param {Partial<Leg>} change */
export function put(s, id, change) {
  s.legs = s.legs.map((l) => (l.id === id ? {...l, ...change} : l));
}

/** The address for another attempt: the first that was not tried yet, else the one that
 * was tried the longest ago. A seat has one holder on an edge, so no edge is
 * tried twice at once, nor the one where the call is well, nor one that sends us away.
 * @param {State} s @returns {Address|undefined} */
export function vacancy(s) {
  if (attempts(s).length >= BESIDE) return undefined;
  const legs = isWell(s) ? s.legs : attempts(s);
  const free = s.addresses.filter((a) => !s.sent.includes(a.url) && !legs.some((l) => same(l.address, a)));
  return free.sort((a, b) => s.tried.indexOf(a.url) - s.tried.indexOf(b.url))[0];
}

/** The attempt that came no further for the longest. @param {Leg[]} list @returns {Leg|undefined} */
export const slowest = (list) => [...list].sort((a, b) => a.progress - b.progress)[0];

/** Adds addresses; one that is known takes a token of its own, and keeps its session.
 * @param {Address[]} list @param {Address[]} more */
export function merge(list, more) {
  const kept = list.map((a) => {
    const news = more.find((m) => same(m, a));
    return news ? {...a, edge: a.edge || news.edge, token: news.token || a.token} : a;
  });
  return [...kept, ...more.filter((m) => !list.some((a) => same(a, m)))];
}

/** The pause before an attempt, ms: none while an address is left that was not tried;
 * then 0.25 s, doubling to 5 s from round to round, spread by a half either way below 5 s.
 * @param {State} s @param {number} dice */
export function pause(s, dice) {
  const to = vacancy(s);
  if (to && !s.tried.includes(to.url)) return 0;
  const round = Math.max(1, Math.floor(s.failures / s.addresses.length));
  return Math.min(5_000, Math.round(250 * 2 ** (round - 1) * (0.5 + dice)));
}

// What the console says of GET /v1/status. Pure.

/** @typedef {{id: string, participants: number}} Room */
/** @typedef {{id: string, health: string, consults: number, admits: number, rooms: Room[]|null}} Edge */
/** @typedef {{id: string, city: string, country: string, mode: string, reason?: string, actor?: string, drill?: string, until?: string, edges: Edge[]|null}} Region */
/** @typedef {{node: string, generation: number, store: string, regions: Region[]}} Status */

/** @type {Record<string, string>} */
const SHAPES = {serving: "●", draining: "▼", down: "■"};

/** One region's cells: region, mode, edges up, consults, people here, place, until, why.
 * @param {Region} r @returns {string[]} */
export function row(r) {
  const edges = r.edges ?? [];
  const up = edges.filter((e) => e.health === "up").length;
  const consults = edges.reduce((sum, e) => sum + e.consults, 0);
  const admits = edges.reduce((sum, e) => sum + e.admits, 0);
  const people = edges.reduce((sum, e) => sum + (e.rooms ?? []).reduce((n, room) => n + room.participants, 0), 0);
  const mode = `${SHAPES[r.mode] ?? "○"} ${r.mode || "unknown"}`;
  return [r.id, mode, `${up} of ${edges.length}`, `${consults} of ${admits}`, String(people), `${r.city}, ${r.country}`, until(r), why(r)];
}

/** When a mode goes by itself, in UTC, as operators in several countries read it.
 * @param {Region} r */
function until(r) {
  if (!r.until) return r.mode === "serving" ? "" : "until changed";
  return `${r.until.slice(0, 16).replace("T", " ")} UTC`;
}

/** @param {Region} r */
function why(r) {
  const by = [r.actor && `by ${r.actor}`, r.drill && `drill ${r.drill}`].filter(Boolean).join(", ");
  return [r.reason, by].filter(Boolean).join(" – ");
}

/** The key of a link that ends in #key=KEY; empty where there is none. @param {string} hash */
export function keyIn(hash) {
  const given = /^#key=(.+)$/.exec(hash)?.[1] ?? "";
  try {
    return decodeURIComponent(given);
  } catch {
    return given;
  }
}

/** Why the status is not shown. @param {number} status @param {boolean} given a key was sent */
export function refusal(status, given) {
  if (status === 403) return "That key may not read the status. It needs the role viewer or operator.";
  return given ? "That key is not one of this node's. Try another." : "This page needs an API key with the role viewer or operator.";
}

/** @param {Status} s */
export function summary(s) {
  const store = s.store === "live" ? "Store live." : "Store stale: routing continues on this generation, modes cannot be written.";
  return `${s.node}. Generation ${s.generation}. ${store}`;
}

/** The fault's text, by the time of the last answer and not by its age: an age that
 * ticks would be read aloud each time. @param {Date|null} at */
export function stale(at) {
  return at === null
    ? "No status yet. Trying again each two seconds."
    : `Stale since ${at.toLocaleTimeString("en", {hour12: false})}. Trying again each two seconds.`;
}

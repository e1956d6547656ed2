// What the console says of GET /v1/status. Pure.

/** @typedef {{id: string, participants: number}} Room */
/** @typedef {{id: string, health: string, used: number, seats: number, rooms: Room[]|null}} Edge */
/** @typedef {{id: string, city: string, country: string, mode: string, reason: string, edges: Edge[]|null}} Region */
/** @typedef {{node: string, generation: number, store: string, regions: Region[]}} Status */

/** @type {Record<string, string>} */
const SHAPES = {serving: "●", draining: "▼", down: "■"};

/** One region's cells: region, city, country, mode, edges up, seats used, rooms.
 * @param {Region} r @returns {string[]} */
export function row(r) {
  const edges = r.edges ?? [];
  const up = edges.filter((e) => e.health === "up").length;
  const used = edges.reduce((sum, e) => sum + e.used, 0);
  const seats = edges.reduce((sum, e) => sum + e.seats, 0);
  const rooms = edges.reduce((sum, e) => sum + (e.rooms ?? []).length, 0);
  const mode = `${SHAPES[r.mode] ?? "○"} ${r.mode || "unknown"}${r.reason ? ` (${r.reason})` : ""}`;
  return [r.id, r.city, r.country, mode, `${up} of ${edges.length}`, `${used} of ${seats}`, String(rooms)];
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
    ? "No status yet. Is this address on the list that may read it? Trying again each two seconds."
    : `Stale since ${at.toLocaleTimeString("en", {hour12: false})}. Trying again each two seconds.`;
}

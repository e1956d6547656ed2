// The join link: its token, its edge and the seat that a reload keeps. Pure but
// for the storage that is handed in.

/** @typedef {import("./types.js").Address} Address */
/** @typedef {{token: string, addresses: Address[], sound: boolean}} Seat */

/** The payload of a join token, unverified: for what is shown, never for a decision.
 * @param {string} token @returns {{role?: string, sub?: string, edge?: string}|null} */
export function claims(token) {
  const parts = token.split(".");
  if (parts.length !== 3) return null;
  try {
    const bytes = Uint8Array.from(atob(parts[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const payload = JSON.parse(new TextDecoder("utf-8", {fatal: true}).decode(bytes));
    return payload !== null && typeof payload === "object" ? payload : null;
  } catch {
    return null;
  }
}

/** The WebSocket of an edge, given its page, its base URL or the join URL itself.
 * @param {string} url */
export function joinURL(url) {
  const u = new URL(url);
  u.protocol = u.protocol.replace(/^http/, "ws");
  if (!u.pathname.endsWith("/v1/join")) u.pathname = "/v1/join";
  u.search = u.hash = "";
  return u.href;
}

/** @param {string} path */
const keyOf = (path) => `bailiwick:${path}`;

/** Reads the token of the fragment, else the seat of an earlier load of this page.
 * A fresh link is a fresh seat: another person may hold it.
 * @param {{pathname: string, origin: string, hash: string}} where
 * @param {Pick<Storage, "getItem">} storage @returns {Seat|null} */
export function seatOf(where, storage) {
  const token = decodeURIComponent(where.hash.replace(/^#/, ""));
  if (token !== "") {
    // The name that led here may have been another edge's, or nobody's in particular.
    return claims(token) && {token, addresses: [{edge: "", url: joinURL(where.origin), token, session: ""}], sound: false};
  }
  try {
    const seat = JSON.parse(storage.getItem(keyOf(where.pathname)) ?? "null");
    return seat && claims(seat.token) && seat.addresses.length > 0 ? seat : null;
  } catch {
    return null;
  }
}

/** The addresses for who takes the seat anew.
 * @param {Address[]} addresses */
export const fresh = (addresses) => addresses.map((a) => ({...a, session: ""}));

/** @param {string} path @param {Seat|null} seat @param {Pick<Storage, "setItem"|"removeItem">} storage */
export function keepSeat(path, seat, storage) {
  if (seat) storage.setItem(keyOf(path), JSON.stringify(seat));
  else storage.removeItem(keyOf(path));
}

// The join link: its token, the key of an end-to-end encrypted consult, its edge and the
// seat that a reload keeps. The key, k, is the backend's to draw and the page's to keep: no
// server is told of it. Pure but
// for the storage that is handed in.

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Wish} Wish */
/** @typedef {{token: string, k: string, addresses: Address[], wish: Wish}} Seat  k is "" where the link has none */
/** @typedef {Pick<Storage, "getItem"|"setItem"|"removeItem">} Store */

/** The payload of a join token, unverified: for what is shown, never for a decision.
 * @param {string} token @returns {{role?: string, sub?: string, edge?: string, nbf?: number, e2ee?: boolean}|null} */
export function claims(token) {
  if (typeof token !== "string") return null;
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

/** The tab's storage, or null: where site data are blocked its very name throws, and some
 * web views have none. The page goes on without; a reload then is a new join.
 * @param {{sessionStorage: Store}} g @returns {Store|null} */
export function storageOf(g) {
  try {
    return g.sessionStorage ?? null;
  } catch {
    return null;
  }
}

/** @param {string} path */
const keyOf = (path) => `bailiwick:${path}`;

/** Reads the token of the fragment, else the seat of an earlier load of this page.
 * A fresh link is a fresh seat: another person may hold it.
 * @param {{pathname: string, origin: string, hash: string}} where
 * @param {Store|null} storage @returns {Seat|null} */
export function seatOf(where, storage) {
  try {
    // Some messengers write a link's dots as %2E; one that was cut short is no URI.
    const [token, ...rest] = decodeURIComponent(where.hash.replace(/^#/, "")).split("&");
    if (token !== "") {
      const k = rest.find((part) => part.startsWith("k="))?.slice(2) ?? "";
      // The name that led here may have been another edge's, or nobody's in particular.
      const addresses = [{edge: "", url: joinURL(where.origin), token, session: ""}];
      return claims(token) && {token, k, addresses, wish: {mic: true, camera: true, sound: false}};
    }
    return kept(JSON.parse(storage?.getItem(keyOf(where.pathname)) ?? "null"));
  } catch {
    return null;
  }
}

/** A kept seat may be of another version of this page.
 * @param {any} seat @returns {Seat|null} */
function kept(seat) {
  if (!claims(seat?.token) || !Array.isArray(seat.addresses)) return null;
  const {mic, camera, sound} = seat.wish ?? {};
  const addresses = seat.addresses.filter((/** @type {Address} */ a) => [a.edge, a.url, a.token, a.session].every((x) => typeof x === "string"));
  if (addresses.length === 0) return null;
  return {token: seat.token, k: typeof seat.k === "string" ? seat.k : "", addresses, wish: {mic: mic !== false, camera: camera !== false, sound: sound === true}};
}

/** The link of a seat, as it came. @param {Seat} seat */
export const fragmentOf = ({token, k}) => `#${token}${k === "" ? "" : `&k=${k}`}`;

/** The addresses for who takes the seat anew.
 * @param {Address[]} addresses */
export const fresh = (addresses) => addresses.map((a) => ({...a, session: ""}));

/** Keeps the seat for a reload, or forgets it; false where that cannot be done.
 * @param {string} path @param {Seat|null} seat @param {Store|null} storage */
export function keepSeat(path, seat, storage) {
  try {
    if (!storage) return false;
    if (seat) storage.setItem(keyOf(path), JSON.stringify(seat));
    else storage.removeItem(keyOf(path));
    return true;
  } catch {
    return false; // full, or taken away meanwhile
  }
}

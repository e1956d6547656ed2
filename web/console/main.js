// The console's first page: a read-only table of the regions, from GET /v1/status.

import {byId, make, setText} from "../shared/dom.js";
import {keyIn, refusal, row, stale, summary} from "./status.js";

/** @typedef {import("./status.js").Status} Status */

const EVERY = 2_000;
const KEPT = "bailiwick-api-key";
/** @type {Date|null} */
let at = null;
/** @type {Map<string, HTMLTableRowElement>} */
const rows = new Map();
let key = keyIn(location.hash) || kept();
if (location.hash) history.replaceState(null, "", location.pathname); // a key is not for the address bar

/** The key that this tab was given; storage may be blocked. */
function kept() {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} given */
function keep(given) {
  key = given;
  try {
    sessionStorage.setItem(KEPT, given);
  } catch {
    // then it is asked for again
  }
}

/** @param {Status} status */
function render(status) {
  setText(byId("world"), summary(status));
  const ids = new Set(status.regions.map((r) => r.id));
  for (const [id, tr] of rows) {
    if (ids.has(id)) continue;
    tr.remove();
    rows.delete(id);
  }
  for (const region of status.regions) {
    let tr = rows.get(region.id);
    if (!tr) {
      tr = make("tr", {}, [make("th", {attrs: {scope: "row"}}), ...Array.from({length: 7}, () => make("td"))]);
      rows.set(region.id, tr);
      byId("regions").append(tr);
    }
    row(region).forEach((text, i) => setText(/** @type {Element} */ (tr.children[i]), text));
    tr.children[1].className = `mode mode-${region.mode}`;
    for (const i of [2, 3, 4]) tr.children[i].className = "number";
    tr.children[7].className = "reason";
  }
}

async function poll() {
  try {
    /** @type {Record<string, string>} */
    const headers = key ? {Authorization: `Bearer ${key}`} : {};
    const response = await fetch("/v1/status", {headers, signal: AbortSignal.timeout(5_000)});
    if (response.status === 401 || response.status === 403) {
      ask(refusal(response.status, key !== ""));
      return;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    render(await response.json());
    at = new Date();
    byId("door").hidden = true;
    byId("table").hidden = false;
    setText(byId("fault"), "");
  } catch (err) {
    console.error("status", err);
    setText(byId("fault"), stale(at));
  }
  setTimeout(poll, EVERY);
}

/** Asks for a key, and goes on once there is one. @param {string} why */
function ask(why) {
  setText(byId("world"), "");
  setText(byId("fault"), why);
  byId("table").hidden = true;
  byId("door").hidden = false;
  byId("key").focus();
}

byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("key"));
  keep(field.value.trim());
  field.value = "";
  setText(byId("fault"), "");
  void poll();
});

void poll();
// From here on the page speaks for itself (shared/last.js).
byId("last").remove();

// The console's first page: a read-only table of the regions, from GET /v1/status.

import {byId, make, setText} from "../shared/dom.js";
import {row, stale, summary} from "./status.js";

/** @typedef {import("./status.js").Status} Status */

const EVERY = 2_000;
/** @type {Date|null} */
let at = null;
/** @type {Map<string, HTMLTableRowElement>} */
const rows = new Map();

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
      tr = make("tr", {}, [make("th", {attrs: {scope: "row"}}), ...Array.from({length: 6}, () => make("td"))]);
      rows.set(region.id, tr);
      byId("regions").append(tr);
    }
    row(region).forEach((text, i) => setText(/** @type {Element} */ (tr.children[i]), text));
    tr.children[3].className = `mode mode-${region.mode}`;
    for (const i of [4, 5, 6]) tr.children[i].className = "number";
  }
}

async function poll() {
  try {
    const response = await fetch("/v1/status", {signal: AbortSignal.timeout(5_000)});
    if (!response.ok) throw new Error(`status ${response.status}`);
    render(await response.json());
    at = new Date();
    setText(byId("fault"), "");
  } catch (err) {
    console.error("status", err);
    setText(byId("fault"), stale(at));
  }
  setTimeout(poll, EVERY);
}

void poll();
// From here on the page speaks for itself (shared/last.js).
byId("last").remove();

// How the connections do, on the page: a word, and behind it the numbers. No live region: what
// is to be read aloud of it the machine says.

import {byId, make, setText} from "../shared/dom.js";
import {current} from "./legs.js";
import {link} from "./quality.js";
import {message, tiles} from "./view.js";

/** @param {import("./types.js").State} s @param {import("./view.js").Texts} texts */
export function renderConnection(s, texts) {
  const box = /** @type {HTMLDetailsElement} */ (byId("net"));
  const m = current(s)?.measure;
  box.hidden = !m;
  if (!m) return;
  const word = link(s);
  box.dataset.level = word.params?.level;
  setText(byId("net-word"), message(s, word, texts).sentences.join(" "));
  if (!box.open) return;
  const percent = (/** @type {number} */ v) => (100 * v).toFixed(1);
  const rows = [[texts.t("self"), texts.t("net.you", {rtt: m.rtt.toFixed(0), lost: percent(m.lost)})]];
  for (const {participant, name} of tiles(s, texts)) {
    const p = m.people.find((x) => x.participant === participant);
    if (p) rows.push([name, texts.t("net.them", {
      concealed: p.mos ? percent(p.concealed) : undefined, lost: percent(p.lost), jitter: p.jitter.toFixed(0), mos: p.mos.toFixed(1),
      height: p.height ? String(p.height) : undefined, frozen: percent(p.frozen),
    })]);
  }
  const list = byId("net-numbers");
  if (list.children.length !== 2 * rows.length) list.replaceChildren(...rows.flatMap(() => [make("dt"), make("dd")]));
  for (const [i, text] of rows.flat().entries()) setText(list.children[i], text);
}

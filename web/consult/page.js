// The page's DOM: a state in, elements out. Focus goes to the heading of a new page;
// banners push content and never take focus (WCAG 2.4.3, 2.4.11).

import {byId, make, setText} from "../shared/dom.js";
import {PROFILES} from "./quality.js";
import {canShare} from "./screen.js";
import {toolbar} from "./toolbar.js";
import {banners, clock, message, photographers, support, tiles, view} from "./view.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./view.js").Message} Message */
/** @typedef {import("./view.js").Texts} Texts */

/** @param {Texts} texts @param {(action: string) => void} act
 * @param {{choose: (profile: string) => void, ask: (who: string) => void}|null} clinician  what clinicians alone may: say what
 *   the video is looked at for, and ask somebody for a photo */
export function makePage(texts, act, clinician) {
  let shown = "";
  fillWords(texts);
  fillPictures(texts, clinician?.choose ?? null);
  wireKeys(act);

  return {
    /** The countdown: a timer that readers find and that nothing reads aloud each second;
     * the machine says it at its moments.
     * @param {State} s @param {number} now */
    tick(s, now) {
      const left = clock(s, now);
      byId("ends").hidden = left === "";
      setText(byId("ends-clock"), left);
    },
    /** @param {State} s @param {ReturnType<typeof import("./tiles.js").tileStage>} stage */
    render(s, stage) {
      const v = view(s);
      document.title = texts.t("title.page", {state: texts.t(v.title)});
      document.documentElement.dataset.state = s.name;
      for (const id of ["message", "link", "call"]) byId(id).hidden = id !== v.page;
      if (v.page === "message") renderMessage(s, message(s, {key: v.text}, texts), texts);
      if (v.page === "link") renderLink(s, texts);
      if (v.page === "call") renderCall(s, texts, stage);
      if (v.page === "call" && clinician) renderAsks(s, texts, clinician.ask);
      renderSwitches(v);
      byId("screen").hidden = clinician === null || !v.screens || !canShare(globalThis);
      setText(/** @type {Element} */ (byId("screen").querySelector(".word")), texts.t(v.sharing ? "control.unshare" : "control.share"));
      const now = `${v.page} ${v.page === "message" ? v.text : ""} ${v.page === "link" ? s.step : ""}`;
      if (shown !== "" && shown !== now) byId(`${v.page}-title`).focus();
      shown = now;
    },
  };
}

/** @param {Texts} texts */
function fillWords(texts) {
  setText(byId("link-title"), texts.t("check.title"));
  setText(byId("join"), texts.buttons("check.join")[0]);
  setText(byId("link-sound"), texts.t("control.sound"));
  setText(byId("joining"), texts.t("check.joining"));
  setText(byId("e2ee"), texts.t("e2ee.on"));
  setText(byId("ends-text"), texts.t("withdrawal"));
  setText(byId("ends-word"), texts.t("withdrawal.clock"));
  setText(byId("alone"), texts.t("call.alone"));
  setText(byId("self-name"), texts.t("self"));
  setText(byId("self-move"), texts.t("self.move"));
  byId("self-move").setAttribute("aria-label", texts.t("self.move.label"));
  for (const id of ["self-off", "preview-off"]) setText(byId(id), texts.t("peer.camera"));
  setText(byId("panel-title"), texts.t("panel.title"));
  setText(byId("panel-close"), texts.t("device.close"));
  setText(byId("message-summary"), texts.t("refused.details"));
  byId("toolbar").setAttribute("aria-label", texts.t("control.label"));
  for (const id of ["mic", "camera", "sound", "more", "leave"]) {
    setText(/** @type {Element} */ (byId(id).querySelector(".word")), texts.t(`control.${id}`));
  }
  for (const id of ["mic", "camera", "sound"]) {
    const mode = /** @type {HTMLElement} */ (byId(id).querySelector(".mode"));
    mode.append(make("span", {class: "is-on", text: texts.t("control.on")}), make("span", {class: "is-off", text: texts.t("control.off")}));
  }
}

/** @param {Texts} texts @param {((profile: string) => void)|null} choose */
function fillPictures(texts, choose) {
  setText(byId("picture-label"), texts.t("picture.title"));
  const select = /** @type {HTMLSelectElement} */ (byId("picture"));
  select.append(...PROFILES.map((p) => make("option", {text: texts.t(`picture.${p}`), attrs: {value: p}})));
  select.addEventListener("change", () => choose?.(select.value));
  byId("pictures").hidden = choose === null;
  byId("pictures").addEventListener("submit", (e) => e.preventDefault());
}

/** @param {(action: string) => void} act */
function wireKeys(act) {
  document.addEventListener("click", (e) => {
    const target = /** @type {Element} */ (e.target).closest?.("[data-do]");
    if (target instanceof HTMLElement && target.dataset.do) act(target.dataset.do);
  });
  const bar = toolbar(byId("toolbar"));
  byId("more").addEventListener("click", () => openPanel(byId("panel").hidden !== false));
  byId("panel-close").addEventListener("click", () => openPanel(false));
  byId("self-move").addEventListener("click", () => {
    const self = byId("self");
    self.className = `corner-${(Number(self.className.slice(-1)) + 1) % 4}`;
  });
  document.addEventListener("keydown", (e) => {
    if (byId("call").hidden) return;
    if (e.key === "Escape" && !byId("panel").hidden) openPanel(false);
    else if (e.key === "F2" && e.shiftKey) byId("leave").focus();
    else if (e.key === "F2") bar.focus();
    else return;
    e.preventDefault();
  });
}

/** @param {boolean} open */
function openPanel(open) {
  byId("panel").hidden = !open;
  byId("more").setAttribute("aria-expanded", String(open));
  byId(open ? "panel-title" : "more").focus();
}

/** @param {State} s @param {Message} m @param {Texts} texts */
function renderMessage(s, m, texts) {
  const [title = "", ...rest] = m.sentences;
  setText(byId("message-title"), title);
  setText(byId("message-text"), rest.join(" "));
  byId("message-text").hidden = rest.length === 0;
  buttons(byId("message-buttons"), m);
  const line = s.name === "refused" || m.key === "lost.failed" || m.key === "ended.law" ? support(s, texts) : "";
  const details = byId("message-details");
  details.hidden = line === "";
  setText(byId("message-support"), line);
}

/** @param {State} s @param {Texts} texts */
function renderLink(s, texts) {
  const asks = s.step === "ask";
  byId("ask").hidden = !asks;
  if (asks) {
    const m = message(s, {key: "check.ask"}, texts);
    setText(byId("ask-text"), m.sentences.join(" "));
    buttons(byId("ask-buttons"), m);
  }
  byId("ready").hidden = s.step === "ask" || s.step === "opening";
  byId("join-buttons").hidden = byId("link-devices").hidden = s.step !== "ready";
  byId("joining").hidden = s.step !== "joining";
  renderBanners(byId("link-banners"), banners(s).map((b) => message(s, b, texts)));
}

/** @param {State} s @param {Texts} texts @param {ReturnType<typeof import("./tiles.js").tileStage>} stage */
function renderCall(s, texts, stage) {
  setText(byId("call-title"), texts.t(`title.${s.name}`));
  setText(byId("call-place"), message(s, {key: "check.place"}, texts).sentences.join(" "));
  const {picture} = view(s);
  setText(byId("call-picture"), picture === "" ? "" : texts.t("picture.now", {picture: texts.t(`picture.${picture}`)}));
  const select = /** @type {HTMLSelectElement} */ (byId("picture"));
  if (select.value !== picture) select.value = picture;
  renderBanners(byId("banners"), banners(s).map((b) => message(s, b, texts)));
  const list = tiles(s, texts);
  byId("alone").hidden = list.length > 0;
  stage.render(list);
}

/** @param {State} s @param {Texts} texts @param {(who: string) => void} ask */
function renderAsks(s, texts, ask) {
  const box = byId("photo-asks");
  const list = photographers(s, texts);
  const id = JSON.stringify(list);
  if (box.dataset.id === id) return;
  box.dataset.id = id;
  box.hidden = list.length === 0;
  box.replaceChildren(...list.map(({participant, name}) => {
    const button = make("button", {text: texts.t("photo.ask", {name}), attrs: {type: "button"}});
    button.addEventListener("click", () => ask(participant));
    return button;
  }));
}

/** @param {ReturnType<typeof view>} v */
function renderSwitches(v) {
  const {mic, camera, sound} = v;
  for (const [id, on] of Object.entries({mic, camera, sound, "link-sound": sound})) {
    byId(id).setAttribute("aria-checked", String(on));
  }
  for (const [picture, off] of [["self-video", "self-off"], ["preview", "preview-off"]]) {
    byId(picture).hidden = !v.camera;
    byId(off).hidden = v.camera;
  }
}

/** Banners are kept while their text stands, so that a button keeps its focus.
 * @param {HTMLElement} box @param {Message[]} list */
function renderBanners(box, list) {
  const want = list.map((m) => ({m, id: JSON.stringify(m)}));
  const old = /** @type {HTMLElement[]} */ ([...box.children]);
  for (const el of old) if (!want.some((w) => w.id === el.dataset.id)) el.remove();
  for (const {m, id} of want) {
    const el = old.find((o) => o.dataset.id === id) ?? banner(m, id);
    box.append(el);
  }
}

/** @param {Message} m @param {string} id */
function banner(m, id) {
  const row = make("div", {class: "buttons"});
  buttons(row, m);
  return make("div", {class: "banner", attrs: {"data-id": id, "data-key": m.key}}, [make("p", {text: m.sentences.join(" ")}), row]);
}

/** @param {HTMLElement} box @param {Message} m */
function buttons(box, m) {
  const id = JSON.stringify(m.buttons);
  if (box.dataset.id === id) return;
  box.dataset.id = id;
  box.hidden = m.buttons.length === 0;
  box.replaceChildren(...m.buttons.map(({action, label}, i) =>
    make("button", {class: i === 0 ? "primary" : "", text: label, attrs: {type: "button", "data-do": action}})));
}

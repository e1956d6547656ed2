// The choice of microphone, camera and speaker, before the call and in it.

import {make} from "../shared/dom.js";

/** @typedef {"audioinput"|"videoinput"|"audiooutput"} Slot */

/**
 * @param {HTMLFormElement} form
 * @param {object} wires
 * @param {import("./view.js").Texts} wires.texts
 * @param {() => Promise<MediaDeviceInfo[]>} wires.list
 * @param {(slot: Slot, id: string) => void} wires.choose
 */
export function deviceForm(form, {texts, list, choose}) {
  /** @type {Slot[]} */
  const slots = ["audioinput", "videoinput"];
  // Safari before 18.4 and Firefox before 116 leave the speaker to the system.
  if ("setSinkId" in HTMLMediaElement.prototype) slots.push("audiooutput");
  const rows = slots.map((slot) => {
    const select = make("select", {attrs: {id: `${form.id}-${slot}`}});
    select.addEventListener("change", () => choose(slot, select.value));
    const label = make("label", {text: texts.t(`device.${slot}`), attrs: {for: select.id}});
    const row = make("div", {class: "field"}, [label, select]);
    row.hidden = true;
    return {slot, select, row};
  });
  form.replaceChildren(...rows.map((r) => r.row));
  form.addEventListener("submit", (e) => e.preventDefault());

  /** Lists again, after a device came or went or permission was given.
   * @param {Record<Slot, string>} used  device IDs in use, "" for the system's choice */
  return async (used) => {
    const all = await list();
    for (const {slot, select, row} of rows) {
      const found = all.filter((d) => d.kind === slot);
      row.hidden = found.length === 0;
      select.replaceChildren(...found.map((d) => make("option", {text: d.label, attrs: {value: d.deviceId}})));
      const now = found.find((d) => d.deviceId === used[slot]) ?? found[0];
      if (now) select.value = now.deviceId;
    }
  };
}

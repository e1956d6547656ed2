// A toolbar is one tab stop (ARIA Authoring Practices, toolbar): arrows, Home and
// End move inside it.

/** @param {HTMLElement} bar */
export function toolbar(bar) {
  const all = /** @type {HTMLElement[]} */ ([...bar.querySelectorAll("button")]);
  let items = all;
  let at = 0;
  const stop = (/** @type {number} */ i) => {
    at = (i + items.length) % items.length;
    all.forEach((el) => { el.tabIndex = el === items[at] ? 0 : -1; });
  };
  // Of those that are there now.
  const look = () => {
    const was = items[at];
    items = all.filter((el) => !el.hidden);
    at = Math.max(0, items.indexOf(was));
  };
  stop(0);
  bar.addEventListener("focusin", (e) => {
    look();
    stop(items.indexOf(/** @type {HTMLElement} */ (e.target)));
  });
  bar.addEventListener("keydown", (e) => {
    look();
    const rtl = getComputedStyle(bar).direction === "rtl";
    const to = {ArrowRight: at + (rtl ? -1 : 1), ArrowLeft: at + (rtl ? 1 : -1), ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1}[e.key];
    if (to === undefined) return;
    e.preventDefault();
    stop(to);
    items[at].focus();
  });
  return {
    focus() {
      look();
      items[at].focus();
    },
  };
}

// A toolbar is one tab stop (ARIA Authoring Practices, toolbar): arrows, Home and
// End move inside it.

/** @param {HTMLElement} bar */
export function toolbar(bar) {
  const items = /** @type {HTMLElement[]} */ ([...bar.querySelectorAll("button")]);
  let at = 0;
  const stop = (/** @type {number} */ i) => {
    at = (i + items.length) % items.length;
    items.forEach((el, n) => { el.tabIndex = n === at ? 0 : -1; });
  };
  stop(0);
  bar.addEventListener("focusin", (e) => stop(items.indexOf(/** @type {HTMLElement} */ (e.target))));
  bar.addEventListener("keydown", (e) => {
    const rtl = getComputedStyle(bar).direction === "rtl";
    const to = {ArrowRight: at + (rtl ? -1 : 1), ArrowLeft: at + (rtl ? 1 : -1), ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1}[e.key];
    if (to === undefined) return;
    e.preventDefault();
    stop(to);
    items[at].focus();
  });
  return {focus: () => items[at].focus()};
}

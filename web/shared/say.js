// The page's two live regions (WCAG 4.1.3). Both exist in the HTML from the start,
// because a region that is added with its text is not announced by every reader.

const PAUSE = 1_000;

/** One queue for both regions: messages come at least a second apart, and an
 * assertive one goes first.
 * @param {HTMLElement} polite @param {HTMLElement} assertive */
export function sayer(polite, assertive) {
  /** @type {{text: string, loud: boolean}[]} */
  const queue = [];
  let busy = false;
  const next = () => {
    const message = queue.shift();
    busy = message !== undefined;
    if (!message) return;
    const region = message.loud ? assertive : polite;
    // The same text twice is a change only if the region was empty between.
    region.textContent = "";
    requestAnimationFrame(() => { region.textContent = message.text; });
    setTimeout(next, PAUSE);
  };
  return (/** @type {string} */ text, loud = false) => {
    if (text === "" || queue.some((m) => m.text === text)) return;
    if (loud) queue.unshift({text, loud});
    else queue.push({text, loud});
    if (!busy) next();
  };
}

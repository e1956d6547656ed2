// The DOM in two words. Text enters by textContent and style by class: the page's
// policy allows nothing else.

/** An element of the page's own HTML; a missing one is a bug.
 * @template {HTMLElement} [E=HTMLElement]
 * @param {string} id @returns {E} */
export function byId(id) {
  const el = document.getElementById(id);
  if (!el) throw new Error(`page: no element #${id}`);
  return /** @type {E} */ (el);
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {{class?: string, text?: string, attrs?: Record<string, string>}} [options]
 * @param {Node[]} [children]
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, options = {}, children = []) {
  const el = document.createElement(tag);
  if (options.class) el.className = options.class;
  if (options.text !== undefined) el.textContent = options.text;
  for (const [name, value] of Object.entries(options.attrs ?? {})) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

/** Sets text only where it changes, so that readers and selections are not disturbed.
 * @param {Element} el @param {string} text */
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

// Texts by key. A text is one or more sentences, then its buttons in square
// brackets: "You left the call. [Rejoin]". A placeholder is {name}; a sentence
// that holds an unset one is left out, so that a deployment without a telephone
// number has no half sentence about it.

/** @typedef {Record<string, string>} Dictionary */

/**
 * @param {Dictionary} dictionary
 * @param {Record<string, string|undefined>} standing  placeholders that every text may use
 */
export function i18n(dictionary, standing = {}) {
  /** @param {string} key */
  const source = (key) => {
    const text = dictionary[key];
    if (text === undefined) throw new Error(`i18n: no text ${key}`);
    return text;
  };
  return {
    /** The sentences of a text.
     * @param {string} key @param {Record<string, string|undefined>} [params] @returns {string[]} */
    sentences(key, params = {}) {
      // Split before filling in: a name may hold a full stop.
      return split(source(key)).flatMap((sentence) => {
        const filled = fill(sentence, {...standing, ...params});
        return filled === null ? [] : [filled];
      });
    },
    /** @param {string} key @param {Record<string, string|undefined>} [params] */
    t(key, params) {
      return this.sentences(key, params).join(" ");
    },
    /** The labels of a text's buttons. @param {string} key @returns {string[]} */
    buttons(key) {
      return [...source(key).matchAll(/\[([^\]]+)\]/g)].map((m) => m[1]);
    },
  };
}

/** @param {string} text @returns {string[]} */
function split(text) {
  const plain = text.replace(/\s*\[[^\]]*\]/g, "").trim();
  return plain === "" ? [] : plain.split(/(?<=[.?!])\s+/);
}

/** @param {string} sentence @param {Record<string, string|undefined>} params @returns {string|null} */
function fill(sentence, params) {
  let whole = true;
  const filled = sentence.replace(/\{(\w+)\}/g, (_, name) => {
    const value = params[name];
    if (!value) whole = false;
    return value ?? "";
  });
  return whole ? filled : null;
}

import assert from "node:assert/strict";
import {test} from "node:test";
import {i18n} from "./i18n.js";

const texts = i18n({
  plain: "Still trying.",
  help: "Still trying. Check your Wi-Fi, or call {contact}. [Try now] [Sound only]",
  place: "Your call moved to {place}. The rules allow this.",
  button: "[Join now]",
  two: "{old} was disconnected. We switched to {new}.",
}, {contact: undefined});

test("a sentence with an unset placeholder is left out", () => {
  assert.equal(texts.t("help"), "Still trying.");
  assert.equal(texts.t("help", {contact: "030 1"}), "Still trying. Check your Wi-Fi, or call 030 1.");
  assert.equal(texts.t("place"), "The rules allow this.");
  assert.equal(texts.t("two", {old: "Headset", new: ""}), "Headset was disconnected.");
});

test("a value may hold a full stop, a bracket or a placeholder", () => {
  assert.deepEqual(texts.sentences("place", {place: "St. Gallen [CH] {x}"}), ["Your call moved to St. Gallen [CH] {x}.", "The rules allow this."]);
});

test("buttons are the bracketed words, in order, and no part of the text", () => {
  assert.deepEqual(texts.buttons("help"), ["Try now", "Sound only"]);
  assert.deepEqual([texts.t("button"), texts.buttons("button")], ["", ["Join now"]]);
  assert.deepEqual(texts.buttons("plain"), []);
});

test("a missing text is a bug, not a blank", () => {
  assert.throws(() => texts.t("nowhere"), /no text nowhere/);
});

import assert from "node:assert/strict";
import {test} from "node:test";
import {browserOf, classify, problemOf} from "./media.js";

test("failures by name, device and permission", () => {
  const rows = [
    ["NotAllowedError", "audio", "denied", "chrome", "denied.chrome"],
    ["NotAllowedError", "audio", "prompt", "chrome", "denied.chrome"],
    ["NotAllowedError", "audio", "", "firefox", "denied.firefox"],
    ["NotAllowedError", "video", "", "safari", "denied.safari"],
    ["NotAllowedError", "video", "", "ios", "denied.ios"],
    ["NotAllowedError", "audio", "granted", "chrome", "denied.system"],
    ["NotFoundError", "video", "granted", "chrome", "none.camera"],
    ["NotFoundError", "audio", "granted", "chrome", "none.mic"],
    ["OverconstrainedError", "video", "granted", "chrome", "none.camera"],
    ["NotReadableError", "video", "granted", "chrome", "busy"],
    ["AbortError", "video", "granted", "firefox", "busy"],
  ];
  for (const [name, kind, permission, family, want] of rows) {
    assert.equal(classify(name, kind, permission, family), want, `${name} ${kind} ${permission} ${family}`);
  }
});

test("browsers", () => {
  const safari = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15";
  const chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
  assert.deepEqual(browserOf(safari, false), {family: "safari", name: "Safari"});
  assert.deepEqual(browserOf(safari, true), {family: "ios", name: "Safari"});
  assert.deepEqual(browserOf(chrome, false), {family: "chrome", name: "Chrome"});
  assert.deepEqual(browserOf(`${chrome} Edg/140.0`, false), {family: "chrome", name: "Edge"});
  assert.deepEqual(browserOf("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", false), {family: "firefox", name: "Firefox"});
});

test("what cannot make calls", () => {
  const able = {RTCPeerConnection: class {}, WebSocket: class {}, navigator: {mediaDevices: {}}};
  assert.equal(problemOf(able), "");
  assert.equal(problemOf({...able, RTCPeerConnection: undefined}), "browser.old");
  assert.equal(problemOf({...able, navigator: {}}), "browser.inapp");
});

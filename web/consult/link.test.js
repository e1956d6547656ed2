import assert from "node:assert/strict";
import {test} from "node:test";
import {claims, fragmentOf, joinURL, keepSeat, seatOf, storageOf} from "./link.js";

const token = (payload) => `e30.${Buffer.from(JSON.stringify(payload)).toString("base64url")}.c2ln`;
const TOKEN = token({role: "clinician", sub: "pé"});

function storage() {
  const map = new Map();
  return {
    getItem: (k) => map.get(k) ?? null, setItem: (k, v) => void map.set(k, v), removeItem: (k) => void map.delete(k),
  };
}
const at = (hash) => ({pathname: "/c/c7", origin: "https://de-fra-1.edge.media.example", hash});

test("claims are read, never trusted to be there", () => {
  assert.deepEqual(claims(TOKEN), {role: "clinician", sub: "pé"});
  for (const bad of ["", "a.b", "a.b.c.d", "a.!!.c", `a.${btoa("[1")}.c`, `a.${btoa("null")}.c`, `a.${btoa("\xff")}.c`]) {
    assert.equal(claims(bad), null, JSON.stringify(bad));
  }
});

test("the join URL of a page, a base or itself", () => {
  assert.equal(joinURL("https://e.example"), "wss://e.example/v1/join");
  assert.equal(joinURL("http://127.0.3.1:8080/"), "ws://127.0.3.1:8080/v1/join");
  assert.equal(joinURL("wss://e.example/v1/join?x=1#y"), "wss://e.example/v1/join");
});

test("the fragment is a fresh seat; without it the kept one", () => {
  const s = storage();
  assert.equal(seatOf(at(""), s), null);
  assert.equal(seatOf(at("#not-a-token"), s), null);
  const fresh = seatOf(at(`#${TOKEN}`), s);
  assert.deepEqual(fresh, {token: TOKEN, k: "", addresses: [{edge: "", url: "wss://de-fra-1.edge.media.example/v1/join", token: TOKEN, session: ""}], wish: {mic: true, camera: true, sound: false}});
  keepSeat("/c/c7", {...fresh, addresses: [{...fresh.addresses[0], session: "s1"}]}, s);
  assert.equal(seatOf(at(""), s).addresses[0].session, "s1");
  assert.equal(seatOf({...at(""), pathname: "/c/other"}, s), null);
  assert.equal(seatOf(at(`#${TOKEN}`), s).addresses[0].session, "");
  keepSeat("/c/c7", null, s);
  assert.equal(seatOf(at(""), s), null);
});

test("a kept seat that cannot be read is no seat", () => {
  const s = storage();
  for (const bad of ["{", "1", "{}", JSON.stringify({token: TOKEN, addresses: []}), '{"token":1,"addresses":[{}]}',
    JSON.stringify({token: TOKEN, addresses: "wss://e"}), JSON.stringify({token: TOKEN, addresses: [{url: "wss://e"}]}), JSON.stringify({token: TOKEN, addresses: [null]})]) {
    s.setItem("bailiwick:/c/c7", bad);
    assert.equal(seatOf(at(""), s), null, bad);
  }
});

test("a link that was cut short is no link, and no exception", () => {
  const s = storage();
  for (const end of ["%", "%2", "%E4", "%zz"]) {
    assert.equal(seatOf(at(`#${TOKEN}${end}`), s), null, end);
    assert.equal(seatOf(at(`#${end}`), s), null, end);
  }
  assert.equal(seatOf(at(`#${TOKEN.replaceAll(".", "%2E")}`), s).token, TOKEN, "a messenger's spelling");
});

test("storage is optional", () => {
  const blocked = {get sessionStorage() { throw new DOMException("", "SecurityError"); }};
  assert.deepEqual([storageOf(blocked), storageOf({sessionStorage: null}), storageOf({})], [null, null, null]);
  const full = {...storage(), setItem() { throw new DOMException("", "QuotaExceededError"); }};
  const seat = seatOf(at(`#${TOKEN}`), null);
  assert.equal(seat.token, TOKEN);
  assert.equal(seatOf(at(""), null), null);
  for (const s of [null, full]) assert.equal(keepSeat("/c/c7", seat, s), false);
  assert.equal(keepSeat("/c/c7", seat, storage()), true);
});

test("what was chosen is kept with the seat", () => {
  const s = storage();
  const wish = {mic: false, camera: false, sound: true};
  keepSeat("/c/c7", {...seatOf(at(`#${TOKEN}`), s), wish}, s);
  assert.deepEqual(seatOf(at(""), s).wish, wish);
});

test("k comes with the link, is kept with the seat, and is copied with the link", () => {
  const s = storage();
  const k = Buffer.alloc(32, 7).toString("base64url");
  const seat = seatOf(at(`#${TOKEN}&k=${k}`), s);
  assert.deepEqual([seat.token, seat.k], [TOKEN, k]);
  assert.equal(seatOf(at(`#${encodeURIComponent(`${TOKEN}&k=${k}`)}`), s).k, k);
  assert.equal(seatOf(at(`#${TOKEN}&x=1&k=${k}&y`), s).k, k);
  assert.equal(fragmentOf(seat), `#${TOKEN}&k=${k}`);
  assert.equal(fragmentOf({...seat, k: ""}), `#${TOKEN}`);
  assert.ok(seat.addresses.every((a) => !JSON.stringify(a).includes(k)), "no address has it: they are sent");
  keepSeat("/c/c7", seat, s);
  assert.equal(seatOf(at(""), s).k, k);
  // A seat that was kept by an earlier version of the page.
  keepSeat("/c/c7", {token: TOKEN, addresses: seat.addresses, wish: seat.wish}, s);
  assert.equal(seatOf(at(""), s).k, "");
});

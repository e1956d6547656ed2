// Still photos, from one participant's camera to another who asked: the questions, the camera
// and the picture on the page. Each is its owner's to send, each time; nothing is stored here.

import {byId, make, setText} from "../shared/dom.js";
import {LIMIT, PATIENCE, makeInbox, makeOutbox, read, write} from "./transfer.js";

/** @typedef {import("./transfer.js").Bytes} Bytes */
/** What a camera gives at most, and what it need not encode in the same moment. */
const FULL = {width: {ideal: 4096}, height: {ideal: 4096}, frameRate: {ideal: 5}};
/** A camera that was opened, or set to its full size, takes so long to see well, ms. */
const SETTLE = 1_000;
/** A camera that gives no photo by then gives a frame, ms. */
const SHUTTER = 8_000;

/**
 * @param {object} wires
 * @param {(key: string, who: string) => import("./view.js").Message} wires.words
 * @param {(text: string) => void} wires.say
 * @param {(to: string, says: Bytes) => void} wires.send
 * @param {() => MediaStreamTrack|null} wires.camera
 */
export function makePhotos({words, say, send, camera}) {
  const inbox = makeInbox();
  /** What others asked for, of this camera. @type {Map<string, {id: number, out: ReturnType<typeof makeOutbox>|null, moved: number}>} */
  const jobs = new Map();
  /** The last questions that are done with: they may come again, until the answer has arrived. @type {Map<string, number>} */
  const done = new Map();
  /** One a participant, of what is asked of them or by them. @type {Map<string, HTMLElement>} */
  const rows = new Map();
  /** @type {Map<string, Blob>} */
  const photos = new Map();
  const box = byId("photos");
  const dialog = /** @type {HTMLDialogElement} */ (byId("photo"));
  const image = /** @type {HTMLImageElement} */ (byId("photo-image"));
  const link = /** @type {HTMLAnchorElement} */ (byId("photo-save"));
  byId("photo-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    URL.revokeObjectURL(link.href);
    image.removeAttribute("src");
    link.removeAttribute("href");
  });

  /** @param {string} who @param {string} key @param {number} [share] */
  const show = (who, key, share) => {
    const old = rows.get(who);
    let row = old;
    if (row?.dataset.key !== key) {
      const {sentences, buttons} = words(key, who);
      const text = sentences.join(" ");
      row = make("div", {class: "banner", attrs: {"data-key": key}}, [
        make("p", {text}),
        ...(share === undefined ? [] : [make("progress", {attrs: {max: "1", "aria-label": text}})]),
        make("div", {class: "buttons"}, buttons.map(({action, label}) => {
          const button = make("button", {text: label, attrs: {type: "button", "data-photo": action}});
          button.addEventListener("click", () => press(who, action));
          return button;
        })),
      ]);
      const had = old?.contains(document.activeElement);
      rows.set(who, row);
      if (old) old.replaceWith(row);
      else box.append(row);
      if (had) row.querySelector("button")?.focus();
      row.scrollIntoView({block: "nearest"});
      say(text);
    }
    const progress = row?.querySelector("progress");
    if (progress) progress.value = share ?? 0;
  };
  /** @param {string} who */
  const close = (who) => {
    const row = rows.get(who);
    if (row?.contains(document.activeElement)) byId("call-title").focus();
    row?.remove();
    rows.delete(who);
    photos.delete(who);
  };
  /** @param {string} who */
  const finish = (who) => {
    const job = jobs.get(who);
    if (job) done.set(who, job.id);
    jobs.delete(who);
  };
  /** Ends what is under way with somebody. @param {string} who @param {string} key  what is said of it; "": nothing */
  const stop = (who, key) => {
    const id = jobs.get(who)?.id ?? inbox.drop(who);
    finish(who);
    if (id) send(who, write("stop", id));
    if (key) show(who, key);
    else close(who);
  };

  /** @param {string} who @param {string} action */
  const press = (who, action) => {
    const job = jobs.get(who);
    switch (action) {
      case "photo-send":
        if (job) void give(who, job);
        return;
      case "photo-no":
        if (job) send(who, write("no", job.id));
        finish(who);
        return close(who);
      case "photo-stop": return stop(who, "");
      case "photo-show": return look(who);
      default: return close(who);
    }
  };

  /** @param {string} who @param {NonNullable<ReturnType<typeof jobs.get>>} job */
  const give = async (who, job) => {
    show(who, "photo.sends", 0);
    try {
      const photo = await take(camera());
      if (jobs.get(who) !== job) return;
      job.out = makeOutbox(job.id, photo);
      feed(who, job, 0);
    } catch (err) {
      console.error("photo", err);
      if (jobs.get(who) === job) stop(who, "photo.camera");
    }
  };

  /** @param {string} who @param {NonNullable<ReturnType<typeof jobs.get>>} job @param {number} at  so much is there */
  const feed = (who, job, at) => {
    const parts = job.out?.next(at);
    if (!job.out || !parts) return stop(who, "photo.failed");
    job.moved = performance.now();
    for (const part of parts) send(who, part);
    if (job.out.share < 1) return show(who, "photo.sends", job.out.share);
    finish(who);
    show(who, "photo.sent");
  };

  /** @param {string} who */
  const look = (who) => {
    const photo = photos.get(who);
    if (!photo || dialog.open) return;
    const {sentences, buttons} = words("photo.view", who);
    setText(byId("photo-title"), sentences.join(" "));
    image.alt = sentences.join(" ");
    image.src = link.href = URL.createObjectURL(photo);
    setText(link, buttons[0].label);
    setText(byId("photo-close"), buttons[1].label);
    dialog.showModal();
  };

  setInterval(() => {
    const now = performance.now();
    for (const who of inbox.late(now)) stop(who, "photo.failed");
    // One of the two may have been between two connections.
    for (const {who, id} of inbox.unanswered()) send(who, write("ask", id));
    for (const [who, {out, moved}] of jobs) {
      if (now - moved >= (out ? PATIENCE.part : PATIENCE.answer)) stop(who, out ? "photo.failed" : "");
    }
  }, 1_000);

  return {
    /** @param {string} who */
    ask(who) {
      const id = 1 + crypto.getRandomValues(new Uint32Array(1))[0] % 0xffffffff;
      if (jobs.has(who) || !inbox.ask(who, id, performance.now())) return;
      photos.delete(who);
      send(who, write("ask", id));
      show(who, "photo.waits");
    },
    /** @param {string} from @param {Bytes} says @param {boolean} may  who says it may ask */
    hear(from, says, may) {
      const m = read(says);
      if (!m) return;
      const now = performance.now();
      const job = jobs.get(from);
      if (m.is === "ask") {
        if (done.get(from) === m.id) return send(from, write("no", m.id));
        if (!may || job || inbox.pending(from)) return;
        jobs.set(from, {id: m.id, out: null, moved: now});
        return show(from, "photo.asked");
      }
      if (job?.id === m.id) {
        if (m.is === "got") feed(from, job, m.at);
        if (m.is !== "stop") return;
        finish(from);
        return close(from);
      }
      const is = inbox.take(from, m, now);
      if (!is) return;
      if (is.is === "some" || is.is === "whole") send(from, write("got", m.id, m.at + m.part.length));
      if (is.is === "some") return show(from, "photo.comes", is.got / is.total);
      if (is.is !== "whole") return show(from, is.is === "no" ? "photo.no" : "photo.failed");
      photos.set(from, new Blob([is.photo], {type: "image/jpeg"}));
      show(from, "photo.here");
    },
    /** The call is over. */
    clear() {
      for (const who of [...rows.keys()]) stop(who, "");
      dialog.close();
    },
  };
}

/** A photo of the camera's full size, as JPEG.
 * @param {MediaStreamTrack|null} running @returns {Promise<Bytes>} */
async function take(running) {
  const track = running ?? (await navigator.mediaDevices.getUserMedia({video: FULL})).getVideoTracks()[0];
  const {width, height} = track.getCapabilities?.() ?? {};
  const before = track.getConstraints();
  try {
    let picture = await photoOf(track).catch(() => null);
    // Where the camera photographs as it films, and a clone films as the first (Chromium), the
    // others see the video stop for a moment: as seldom as that is needed.
    if (!picture || picture.width * picture.height < (width?.max ?? Infinity) * (height?.max ?? Infinity)) {
      if (running) await track.applyConstraints({...before, ...FULL}).catch(() => {}); // then as it is
      await new Promise((done) => setTimeout(done, SETTLE));
      picture = await photoOf(track).catch(() => frameOf(track));
    }
    return await jpegOf(picture);
  } finally {
    if (!running) track.stop();
    else void track.applyConstraints(before).catch(() => {}); // it is over
  }
}

/** @param {MediaStreamTrack} track @returns {Promise<ImageBitmap>} */
async function photoOf(track) {
  const capture = new (/** @type {any} */ (globalThis).ImageCapture)(track); // Firefox has none
  const {imageWidth, imageHeight} = await capture.getPhotoCapabilities();
  const size = imageWidth?.max && imageHeight?.max ? {imageWidth: imageWidth.max, imageHeight: imageHeight.max} : {};
  const late = new Promise((_, fail) => setTimeout(fail, SHUTTER, new Error("no photo in time")));
  return createImageBitmap(await Promise.race([capture.takePhoto(size), late]));
}

/** @param {MediaStreamTrack} track @returns {Promise<ImageBitmap>} */
async function frameOf(track) {
  const video = make("video", {attrs: {playsinline: ""}});
  video.muted = true;
  video.srcObject = new MediaStream([track]);
  await video.play();
  return createImageBitmap(video);
}

/** Drawn anew, so that nothing of what cameras write beside a picture, the place say, goes with it.
 * @param {ImageBitmap} picture @returns {Promise<Bytes>} */
async function jpegOf(picture) {
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d")?.drawImage(picture, 0, 0);
  for (const quality of [0.92, 0.75, 0.5]) {
    const photo = await new Promise((/** @type {BlobCallback} */ done) => canvas.toBlob(done, "image/jpeg", quality));
    if (photo && photo.size <= LIMIT) return new Uint8Array(await photo.arrayBuffer());
  }
  throw new Error(`a picture of ${canvas.width}x${canvas.height} is too large`);
}

// The remote tiles: one figure a participant, a muted video for the picture and an
// audio element for the voice, so that a hidden picture silences nobody; and one for
// the screen that it shares.

import {make, setText} from "../shared/dom.js";

/** @typedef {import("./view.js").Tile} Tile */
/** @typedef {import("./leg.js").Remote} Remote */
/** One of the videos on the page: its width in pixels of the device.
 * @typedef {{participant: string, screen?: true, width: number}} Shown */

/** A width that changes less is the same; finer than twice that of CSS nobody sees. */
const STEP = 40;
const FINEST = 2;
/** A size has settled that stays for so long, ms. */
const SETTLED = 300;

/**
 * @param {HTMLElement} stage
 * @param {object} on
 * @param {() => void} on.sized    a video has another size
 * @param {() => void} on.blocked  the browser refuses to play sound
 * @param {() => void} on.playing
 */
export function tileStage(stage, on) {
  /** @type {Map<string, ReturnType<typeof build>>} */
  const tiles = new Map();
  /** @type {Remote[]} */
  let remotes = [];
  let speaker = "";
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let settling;
  const sizes = new ResizeObserver(() => {
    clearTimeout(settling);
    settling = setTimeout(on.sized, SETTLED);
  });

  /** @param {HTMLAudioElement} audio */
  const play = (audio) => audio.play().then(on.playing, (err) => {
    // An AbortError is only a track that was replaced meanwhile.
    if (err instanceof DOMException && err.name === "NotAllowedError") on.blocked();
  });

  const attach = () => {
    for (const [participant, tile] of tiles) {
      for (const kind of /** @type {const} */ (["audio", "video", "screen"])) {
        const track = remotes.find((r) => r.participant === participant && r.kind === kind)?.track;
        if (track === tile[kind].track) continue;
        tile[kind].track = track;
        tile[kind].el.srcObject = track ? new MediaStream([track]) : null;
        if (track && kind === "audio") void play(tile.audio.el);
      }
    }
  };

  return {
    /** @param {Tile[]} list */
    render(list) {
      for (const [participant, tile] of tiles) {
        if (list.some((t) => t.participant === participant)) continue;
        remove(tile);
        tiles.delete(participant);
      }
      for (const t of list) {
        let tile = tiles.get(t.participant);
        if (!tile) {
          tile = build();
          tiles.set(t.participant, tile);
          stage.append(tile.figure);
          for (const kind of /** @type {const} */ (["video", "screen"])) sizes.observe(tile[kind].el);
          sink(tile.audio.el, speaker);
        }
        tile.video.el.hidden = !t.video;
        tile.off.hidden = t.video;
        setText(tile.off, t.state);
        setText(tile.name, t.name);
        setText(tile.speaks, t.speaks);
        tile.figure.classList.toggle("speaks", t.speaks !== "");
        setText(tile.shared, t.screen);
        if (t.screen === "") tile.whole.remove();
        else if (!tile.whole.isConnected) stage.prepend(tile.whole);
        setText(tile.note, t.note);
      }
      stage.dataset.count = String(list.length);
      attach();
    },
    /** @returns {Shown[]} */
    shown: () => [...tiles].flatMap(([participant, {video, screen}]) => [
      ...wide(video.el).map((width) => ({participant, width})),
      ...wide(screen.el).map((width) => ({participant, screen: /** @type {const} */ (true), width})),
    ]),
    /** @param {Remote[]} list */
    show(list) {
      remotes = list;
      attach();
    },
    /** Inside a user's gesture. */
    play() {
      for (const tile of tiles.values()) void play(tile.audio.el);
    },
    /** @param {string} id */
    speak(id) {
      speaker = id;
      for (const tile of tiles.values()) sink(tile.audio.el, id);
    },
    clear() {
      for (const tile of tiles.values()) remove(tile);
      tiles.clear();
      remotes = [];
    },
  };
}

/** @param {HTMLAudioElement} audio @param {string} id */
function sink(audio, id) {
  if (id !== "" && "setSinkId" in audio) audio.setSinkId(id).catch((err) => console.error("speaker", err));
}

/** How wide the picture in it is; nothing, where it has none.
 * @param {HTMLVideoElement} el */
function wide(el) {
  const {width, height} = el.getBoundingClientRect();
  const css = Math.min(width, height * (el.videoWidth / el.videoHeight || 16 / 9));
  const pixels = css * Math.min(devicePixelRatio, FINEST);
  return pixels > 0 ? [Math.ceil(pixels / STEP) * STEP] : [];
}

/** @template {HTMLMediaElement} E @param {E} el @returns {{el: E, track: MediaStreamTrack|undefined}} */
const slot = (el) => ({el, track: undefined});

/** @param {ReturnType<typeof build>} tile */
function remove(tile) {
  tile.figure.remove();
  tile.whole.remove();
}

function build() {
  const video = make("video", {attrs: {playsinline: "", autoplay: ""}});
  video.muted = true;
  const audio = make("audio", {attrs: {autoplay: ""}});
  const off = make("p", {class: "off"});
  const name = make("bdi", {class: "name"});
  const note = make("span", {class: "note"});
  const speaks = make("span", {class: "unseen"});
  const figure = make("figure", {class: "tile"}, [video, off, make("figcaption", {}, [name, note, speaks]), audio]);
  const screen = make("video", {attrs: {playsinline: "", autoplay: ""}});
  screen.muted = true;
  const shared = make("figcaption", {class: "name"});
  const whole = make("figure", {class: "tile screen"}, [screen, shared]);
  return {figure, off, name, note, speaks, whole, shared, video: slot(video), audio: slot(audio), screen: slot(screen)};
}

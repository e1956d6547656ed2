// Microphone, camera and speaker: one getUserMedia for both, then the microphone
// alone, then listening. Failures are told apart by DOMException.name and by what
// the Permissions API answers, never by message.
//
// The tracks of the check are the tracks of the call: on iOS a second getUserMedia
// may mute the first.

/** @typedef {import("./types.js").Sentence} Sentence */
/** @typedef {"audio"|"video"} Kind */
/** @typedef {"chrome"|"firefox"|"safari"|"ios"} Family */

const AUDIO = {echoCancellation: true, noiseSuppression: true, autoGainControl: true};
const VIDEO = {width: {ideal: 1280}, height: {ideal: 720}, facingMode: "user"};

/** The text for a failure, by closed reason.
 * @param {string} name   DOMException.name
 * @param {Kind} kind
 * @param {string} permission  "granted", "denied", "prompt" or "" where it cannot be asked
 * @param {Family} family @returns {string} */
export function classify(name, kind, permission, family) {
  switch (name) {
    case "NotAllowedError": case "SecurityError":
      return permission === "granted" ? "denied.system" : `denied.${family}`;
    case "NotFoundError": case "OverconstrainedError":
      return kind === "video" ? "none.camera" : "none.mic";
    default:
      return "busy";
  }
}

/** @param {string} agent @param {boolean} touch @returns {{family: Family, name: string}} */
export function browserOf(agent, touch) {
  if (/iPhone|iPad|iPod/.test(agent) || (/Macintosh/.test(agent) && touch)) return {family: "ios", name: "Safari"};
  if (/Firefox\//.test(agent)) return {family: "firefox", name: "Firefox"};
  if (/Edg\//.test(agent)) return {family: "chrome", name: "Edge"};
  if (/Chrom(e|ium)\//.test(agent)) return {family: "chrome", name: "Chrome"};
  return {family: "safari", name: "Safari"};
}

/** "" when this browser can make calls.
 * @param {typeof globalThis} g */
export function problemOf(g) {
  if (!g.RTCPeerConnection || !g.WebSocket) return "browser.old";
  // Web views inside other apps have WebRTC but no devices.
  return "mediaDevices" in g.navigator ? "" : "browser.inapp";
}

/** @param {Kind} kind @returns {Promise<string>} */
async function permissionOf(kind) {
  const name = /** @type {PermissionName} */ (kind === "audio" ? "microphone" : "camera");
  try {
    return (await navigator.permissions.query({name})).state;
  } catch {
    return "";
  }
}

/** Both devices may be opened without a question.
 * @returns {Promise<boolean>} */
export async function isGranted() {
  return (await permissionOf("audio")) === "granted" && (await permissionOf("video")) === "granted";
}

/**
 * A track is born disabled, however it came to be, and apply() alone, by the machine's word,
 * has it heard or seen. Whatever changes here is told whole, and the machine answers with
 * what is to be sent.
 * @param {(now: import("./types.js").DeviceNews) => void} tell
 */
export function makeMedia(tell) {
  /** @type {Record<Kind, MediaStreamTrack|null>} */
  const tracks = {audio: null, video: null};
  /** @type {Record<Kind, string>} chosen device IDs */
  const chosen = {audio: "", video: ""};
  /** @type {Record<Kind, Sentence|null>} why the last attempt to get one failed */
  const failures = {audio: null, video: null};
  /** @type {Record<Kind, boolean>} the system holds the device back */
  const paused = {audio: false, video: false};
  const browser = browserOf(navigator.userAgent, navigator.maxTouchPoints > 1);

  /** @param {Kind} kind */
  const runs = (kind) => tracks[kind] !== null && !paused[kind];
  /** @param {Kind} kind @returns {Sentence|null} */
  const trouble = (kind) => (paused[kind] ? {key: kind === "audio" ? "paused" : "paused.camera"} : failures[kind]);

  /** @param {Sentence|null} news  what is new, in words */
  const report = (news) => tell({
    mic: runs("audio"), camera: runs("video"),
    failures: {mic: trouble("audio"), camera: trouble("video")}, news,
  });

  /** @param {Kind} kind */
  const constraints = (kind) => ({
    ...(kind === "audio" ? AUDIO : VIDEO),
    ...(chosen[kind] && {deviceId: {exact: chosen[kind]}}),
  });

  /** @param {Kind[]} kinds @returns {Promise<void>} */
  const get = async (kinds) => {
    const ask = () => navigator.mediaDevices.getUserMedia(Object.fromEntries(kinds.map((k) => [k, constraints(k)])));
    let stream;
    try {
      stream = await ask();
    } catch (err) {
      // The remembered device is gone: any other will do.
      if (nameOf(err) !== "OverconstrainedError" || kinds.every((k) => chosen[k] === "")) throw err;
      for (const k of kinds) chosen[k] = "";
      stream = await ask();
    }
    for (const track of stream.getTracks()) put(track);
  };

  /** @param {MediaStreamTrack} track */
  const put = (track) => {
    track.enabled = false;
    const kind = /** @type {Kind} */ (track.kind);
    drop(tracks[kind]);
    tracks[kind] = track;
    failures[kind] = null;
    paused[kind] = track.muted;
    track.onended = () => void unplugged(kind, track);
    track.onmute = () => pause(kind, true);
    track.onunmute = () => pause(kind, false);
  };

  /** @param {Kind} kind */
  const free = (kind) => {
    drop(tracks[kind]);
    tracks[kind] = failures[kind] = null;
    paused[kind] = false;
  };

  /** @param {Kind} kind @param {boolean} held */
  const pause = (kind, held) => {
    paused[kind] = held;
    report(held ? trouble(kind) : null);
  };

  /** @param {Kind} kind @param {MediaStreamTrack} track */
  const unplugged = async (kind, track) => {
    free(kind);
    chosen[kind] = "";
    report(null); // what is gone is off, for everybody, until another is there
    try {
      await get([kind]);
      report({key: "unplugged", params: {old: track.label, new: tracks[kind]?.label ?? ""}});
    } catch (err) {
      report(await fail(err, kind));
    }
  };

  /** @param {unknown} err @param {Kind} kind */
  const fail = async (err, kind) => {
    const key = classify(nameOf(err), kind, await permissionOf(kind), browser.family);
    return (failures[kind] = {key, params: {browser: browser.name}});
  };

  return {
    tracks,
    chosen,
    /** Opens what is missing, or is held back. The failure names the device that stayed
     * away; of two, the microphone.
     * @param {{video: boolean}} want */
    async open({video}) {
      const kinds = /** @type {Kind[]} */ (video ? ["audio", "video"] : ["audio"]);
      const missing = kinds.filter((kind) => !runs(kind));
      for (const kind of kinds) failures[kind] = null;
      if (missing.length === 0) return report(null);
      try {
        await get(missing);
        report(null);
      } catch (first) {
        let [err, kind] = [first, missing[0]];
        if (missing.length === 2) {
          try {
            await get(["audio"]);
            kind = "video";
          } catch (second) {
            err = second;
          }
        }
        report(await fail(err, kind));
      }
    },
    /** What nobody wants now is opened by and by, when it is.
     * @param {Kind} kind @param {string} id @param {boolean} [now] */
    async choose(kind, id, now = true) {
      const before = chosen[kind];
      chosen[kind] = id;
      if (!now) return;
      try {
        await get([kind]);
        report(null);
      } catch (err) {
        chosen[kind] = before;
        report(await fail(err, kind));
      }
    },
    /** A microphone is muted and kept; a camera that nobody wants is let go, light and all.
     * @param {{mic: boolean, camera: boolean, hold: boolean}} send */
    apply({mic, camera, hold}) {
      if (tracks.audio) tracks.audio.enabled = mic;
      if (tracks.video) tracks.video.enabled = camera;
      if (!hold) free("video");
    },
    stop() {
      free("audio");
      free("video");
    },
    /** @returns {Promise<MediaDeviceInfo[]>} */
    async list() {
      return (await all()).filter((d) => d.label !== "");
    },
    /** Which kinds of device are there at all. */
    async present() {
      const kinds = (await all()).map((d) => d.kind);
      return {mic: kinds.includes("audioinput"), camera: kinds.includes("videoinput")};
    },
  };
}

/** @returns {Promise<MediaDeviceInfo[]>} */
const all = () => navigator.mediaDevices.enumerateDevices().catch(() => []);

/** @param {unknown} err */
const nameOf = (err) => (err instanceof Error || err instanceof DOMException ? err.name : "");

/** Stopping fires no `ended`: that event is for devices that go by themselves.
 * @param {MediaStreamTrack|null} track */
function drop(track) {
  if (!track) return;
  track.onended = track.onmute = track.onunmute = null;
  track.stop();
}

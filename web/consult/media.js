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
 * @param {object} on
 * @param {() => void} on.change   a track came, went or was replaced
 * @param {(key: string, params?: Record<string, string>) => void} on.trouble
 * @param {(key: string) => void} on.calm
 */
export function makeMedia(on) {
  /** @type {Record<Kind, MediaStreamTrack|null>} */
  const tracks = {audio: null, video: null};
  /** @type {Record<Kind, string>} chosen device IDs */
  const chosen = {audio: "", video: ""};
  const browser = browserOf(navigator.userAgent, navigator.maxTouchPoints > 1);

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
    const kind = /** @type {Kind} */ (track.kind);
    const old = tracks[kind];
    tracks[kind] = track;
    track.onended = () => void unplugged(track);
    if (kind === "audio") {
      track.onmute = () => on.trouble("paused");
      track.onunmute = () => on.calm("paused");
      on.calm("paused");
    }
    drop(old);
    on.change();
  };

  /** @param {MediaStreamTrack} track */
  const unplugged = async (track) => {
    const kind = /** @type {Kind} */ (track.kind);
    if (tracks[kind] !== track) return;
    chosen[kind] = "";
    try {
      await get([kind]);
      on.trouble("unplugged", {old: track.label, new: tracks[kind]?.label ?? ""});
    } catch (err) {
      tracks[kind] = null;
      on.change();
      on.trouble(await reason(err, kind), {browser: browser.name});
    }
  };

  /** @param {unknown} err @param {Kind} kind */
  const reason = async (err, kind) => classify(nameOf(err), kind, await permissionOf(kind), browser.family);

  return {
    tracks,
    /** Opens what is missing. The failure names the device that stayed away; of
     * two, the microphone.
     * @param {{video: boolean}} want @returns {Promise<Sentence|null>} */
    async open({video}) {
      const kinds = /** @type {Kind[]} */ ([...(tracks.audio ? [] : ["audio"]), ...(video && !tracks.video ? ["video"] : [])]);
      if (kinds.length === 0) return null;
      try {
        await get(kinds);
        return null;
      } catch (first) {
        let [err, kind] = [first, kinds[0]];
        if (kinds.length === 2) {
          try {
            await get(["audio"]);
            kind = "video";
          } catch (second) {
            err = second;
          }
        }
        return {key: await reason(err, kind), params: {browser: browser.name}};
      }
    },
    /** @param {Kind} kind @param {string} id @returns {Promise<Sentence|null>} */
    async choose(kind, id) {
      const before = chosen[kind];
      chosen[kind] = id;
      try {
        await get([kind]);
        return null;
      } catch (err) {
        chosen[kind] = before;
        return {key: await reason(err, kind), params: {browser: browser.name}};
      }
    },
    /** A microphone is muted and kept; a camera that is off is let go.
     * @param {{mic: boolean, camera: boolean}} send */
    apply({mic, camera}) {
      if (tracks.audio) tracks.audio.enabled = mic;
      if (camera || !tracks.video) return;
      drop(tracks.video);
      tracks.video = null;
      on.change();
    },
    stop() {
      drop(tracks.audio);
      drop(tracks.video);
      tracks.audio = tracks.video = null;
    },
    /** @returns {Promise<MediaDeviceInfo[]>} */
    async list() {
      const all = await navigator.mediaDevices.enumerateDevices();
      return all.filter((d) => d.label !== "");
    },
  };
}

/** @param {unknown} err */
const nameOf = (err) => (err instanceof Error || err instanceof DOMException ? err.name : "");

/** Stopping fires no `ended`: that event is for devices that go by themselves.
 * @param {MediaStreamTrack|null} track */
function drop(track) {
  if (!track) return;
  track.onended = track.onmute = track.onunmute = null;
  track.stop();
}

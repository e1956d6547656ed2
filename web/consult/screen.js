// The screen that this page shares: one track, as the browser's own picker gives it.

/** What is shown is read: size comes before motion. */
const SCREEN = {video: {frameRate: {ideal: 10, max: 30}}, audio: false};

/** Whether this browser can. @param {typeof globalThis} g */
export const canShare = (g) => Boolean(g.navigator.mediaDevices && "getDisplayMedia" in g.navigator.mediaDevices);

/** @param {(on: boolean, failed: boolean) => void} tell  whenever it begins or ends, the browser's own button included */
export function makeScreen(tell) {
  /** @type {MediaStreamTrack|null} */
  let track = null;
  let asking = false;

  const stop = () => {
    if (!track) return;
    track.onended = null;
    track.stop();
    track = null;
    tell(false, false);
  };
  return {
    get track() { return track; },
    stop,
    /** Inside a user's gesture. Who closes the picker shares nothing, and knows it. */
    async start() {
      if (track || asking) return;
      asking = true;
      try {
        const stream = await navigator.mediaDevices.getDisplayMedia(SCREEN);
        [track] = stream.getVideoTracks();
        track.contentHint = "detail";
        track.onended = stop;
        tell(true, false);
      } catch (err) {
        tell(false, !(err instanceof DOMException && err.name === "NotAllowedError"));
      } finally {
        asking = false;
      }
    },
  };
}

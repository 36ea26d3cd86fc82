// A job's states as they come: by the event stream, and by asking where there is none.

import { call } from "./api.js";

export const FINAL = new Set(["complete", "rejected", "failed", "expired"]);
const ASK_EVERY_MS = 2000;
// Beside an open stream: a phone that slept may hold a stream that is dead.
const ASK_BESIDE_MS = 20_000;
const PAUSE_MAX_MS = 10_000;
const STREAM_FIRST_MS = 500;
const STREAM_MAX_MS = 30_000;
// A node may report late what was paid in time, and the job goes on then.
const LATE_LOOKS = 30;

export function follow(jobId, { tell, trouble, gone }) {
  const path = `/jobs/${jobId}`;
  let source = null;
  let timer = 0;
  let over = false;
  let ended = false;
  let asking = false;
  let failures = 0;
  let streamPause = STREAM_FIRST_MS;
  let streamFrom = 0;
  let lateLooks = LATE_LOOKS;

  function stop() {
    over = true;
    clearTimeout(timer);
    source?.close();
    source = null;
    for (const [target, name] of wakers) target.removeEventListener(name, wake);
  }

  function later(pause) {
    clearTimeout(timer);
    if (!over) timer = setTimeout(ask, pause);
  }

  function watch() {
    if (over || ended || source || Date.now() < streamFrom) return;
    streamFrom = Date.now() + streamPause;
    streamPause = Math.min(streamPause * 2, STREAM_MAX_MS);
    const stream = new EventSource(`${path}/events`);
    source = stream;
    stream.addEventListener("state", (event) => {
      if (over || source !== stream) return;
      streamPause = STREAM_FIRST_MS;
      const status = JSON.parse(event.data);
      // The events lack the link by which a wallet takes the rest.
      if (FINAL.has(status.state)) later(0);
      else told(status);
    });
    // Both for a stream that was cut, and for an `error` that the server sent in it.
    stream.addEventListener("error", () => {
      if (source !== stream) return;
      stream.close();
      source = null;
      later(300);
    });
  }

  function told(status) {
    trouble(null);
    tell(status);
    lateLooks = status.state === "expired" ? lateLooks - 1 : LATE_LOOKS;
    ended = FINAL.has(status.state);
    if (ended && (status.state !== "expired" || !lateLooks)) stop();
  }

  async function ask() {
    if (asking || over) return;
    asking = true;
    let pause = ASK_EVERY_MS;
    try {
      const status = await call("GET", path);
      failures = 0;
      if (!over) told(status);
      watch();
    } catch (error) {
      if (over) return;
      if (error.status === 404) {
        stop();
        gone(error);
        return;
      }
      failures += 1;
      pause = Math.max(Math.min(500 * 2 ** failures, PAUSE_MAX_MS), (error.retryAfter || 0) * 1000);
      trouble(error);
    } finally {
      asking = false;
    }
    later(source ? ASK_BESIDE_MS : pause);
  }

  const wake = () => { if (document.visibilityState === "visible") later(0); };
  const wakers = [[document, "visibilitychange"], [window, "online"], [window, "pageshow"]];
  for (const [target, name] of wakers) target.addEventListener(name, wake);
  ask();
  return stop;
}

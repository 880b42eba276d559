/** How long a body may be silent: one timer at a time, set anew only when it fires, as bodies come in thousands of pieces a second. */
import { UpstreamError } from "../errors.ts";

export interface IdleWatch {
  /** The same, but rejects when it takes longer than the idle time, or the connection is aborted. */
  watch<T>(waited: Promise<T>): Promise<T>;
}

/** @param connection aborted with UpstreamError `timeout` when nothing came for the idle time; its abort rejects what is waited for */
export function watchIdle(idleTimeoutMs: number, connection: AbortController): IdleWatch {
  let waitingSince: number | undefined;
  let fail: ((cause: unknown) => void) | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  connection.signal.addEventListener("abort", () => {
    clearTimeout(timer);
    fail?.(connection.signal.reason);
  });

  function check(): void {
    timer = undefined;
    if (waitingSince === undefined) return;
    const leftMs = idleTimeoutMs - (performance.now() - waitingSince);
    if (leftMs > 0) setTimer(leftMs);
    else connection.abort(new UpstreamError("timeout", `no byte within ${idleTimeoutMs} ms`));
  }

  function setTimer(ms: number): void {
    timer = setTimeout(check, ms);
    // It outlives the last read for a while, which must not hold up the end of the program.
    timer.unref();
  }

  return {
    watch: (waited) =>
      new Promise((resolve, reject) => {
        const settled = (): void => {
          waitingSince = undefined;
          fail = undefined;
        };
        // Before all else: also what nobody waits for any more may fail.
        waited.then(
          (value) => {
            settled();
            resolve(value);
          },
          (cause) => {
            settled();
            reject(cause);
          },
        );
        connection.signal.throwIfAborted();
        waitingSince = performance.now();
        if (timer === undefined) setTimer(idleTimeoutMs);
        fail = (cause) => {
          settled();
          reject(cause);
        };
      }),
  };
}

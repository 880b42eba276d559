/**
 * The one signal a fetch hangs on: it ends it when the client leaves, when the headers are late, and when the body is given
 * up. It unlinks itself when the exchange is over, since the client's signal may live as long as its connection.
 */
import { UpstreamError } from "../errors.ts";
import { type Limits, remainingMs } from "./wait.ts";

export interface Leash {
  readonly signal: AbortSignal;
  /** Resolves when the exchange is over, however it ended. */
  readonly ended: Promise<void>;
  /** The headers are there: the deadline no longer holds, the client's signal still does. */
  arrived(): void;
  /** A body that is being sent got on: the headers may be that much later, milliseconds from now. Nothing once they are there. */
  postpone(ms: number): void;
  /** Everything was read. */
  release(): void;
  /** Nothing more will be read: end the connection. */
  cut(): void;
}

export interface LeashOptions extends Limits {
  /** Named in the time-out: `"https://ghcr.io/v2/a/blobs/sha256:…"`. */
  readonly what: string;
}

export function createLeash({ signal, deadlineMs, what, reach }: LeashOptions): Leash {
  const controller = new AbortController();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const onAbort = () => {
    controller.abort(signal.reason);
    end();
  };
  // An abort that was before, while a bridge to a proxy opened, is told to nobody any more.
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  const timeout = new UpstreamError("timeout", `${what}: no response headers in time`, { reach });
  const giveUp = () => {
    controller.abort(timeout);
    end();
  };
  let timer = setTimeout(giveUp, remainingMs(deadlineMs));
  let isWaiting = true;

  function arrived(): void {
    isWaiting = false;
    clearTimeout(timer);
  }

  function release(): void {
    arrived();
    signal.removeEventListener("abort", onAbort);
    end();
  }

  return {
    signal: controller.signal,
    ended,
    arrived,
    postpone(ms) {
      if (!isWaiting) return; // the answer came while the body was still being sent
      clearTimeout(timer);
      timer = setTimeout(giveUp, ms);
    },
    release,
    cut() {
      release();
      controller.abort();
    },
  };
}

/**
 * Waiting with an end: every wait on the network stops at the request's deadline or when its client leaves, also when the
 * thing waited for is shared and goes on for others.
 */
import { type Reach, UpstreamError } from "../errors.ts";

export interface Limits {
  readonly signal: AbortSignal;
  /** Moment on the `performance.now()` clock. */
  readonly deadlineMs: number;
  /** What a time-out says about the host, where it says something. */
  readonly reach?: Reach | undefined;
}

/**
 * The promise's outcome, or earlier the signal's reason, or UpstreamError `timeout` at the deadline. What is waited for goes on.
 * @param what named in the error: `"token of ghcr.io"`
 */
export async function waitFor<T>(
  promise: Promise<T>,
  { signal, deadlineMs, what, reach }: Limits & { what: string },
): Promise<T> {
  // Who leaves before waiting does not hear of its failure, and nobody else may be there to.
  promise.catch(() => undefined);
  signal.throwIfAborted();
  const { promise: end, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(
    () => reject(new UpstreamError("timeout", `${what} took too long`, { reach })),
    remainingMs(deadlineMs),
  );
  try {
    return await Promise.race([promise, end]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** What a promise gives within so many milliseconds, else undefined. What is waited for goes on. */
export async function waitUpTo<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: end, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, ms, undefined);
  try {
    return await Promise.race([promise, end]);
  } finally {
    clearTimeout(timer);
  }
}

/** Milliseconds left until the deadline, never negative. */
export function remainingMs(deadlineMs: number): number {
  return Math.max(0, deadlineMs - performance.now());
}

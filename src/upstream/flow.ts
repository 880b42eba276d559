/**
 * How a body is taken: whether it has ended, and how long its reader has been taking nothing. A slow reader holds the body
 * back, and with it the connection to the upstream; who counts transfers must tell it from a slow upstream.
 */
export interface BodyFlow {
  /** Resolves when nothing more will be read: the end, a failure, a reader that left. Never rejects. */
  readonly ended: Promise<void>;
  /** Milliseconds since its reader wanted something; 0 while it waits for the upstream. */
  restingMs(): number;
}

/** A flow, and what its body tells it. */
export interface WatchedFlow extends BodyFlow {
  /** The reader wants the next piece. */
  wanted(): void;
  /** It has it. */
  taken(): void;
}

/** @param ended resolves with the body's end */
export function watchFlow(ended: Promise<void>): WatchedFlow {
  // Until the first read nobody takes anything either.
  let restingSinceMs: number | undefined = performance.now();
  return {
    ended,
    restingMs: () => (restingSinceMs === undefined ? 0 : performance.now() - restingSinceMs),
    wanted() {
      restingSinceMs = undefined;
    },
    taken() {
      restingSinceMs = performance.now();
    },
  };
}

/** Fills that tell how each download ended, in one word. They change nothing else. */
import { UpstreamError } from "../errors.ts";
import type { FillResult, Fills } from "./fill.ts";
import { StoreError } from "./store.ts";

/**
 * `committed`; `wrong`: not what the digest says; `not-kept`: the store could not, and clients went on without it; `failed`:
 * it could not be had to its end.
 */
export const FILL_ENDS = ["committed", "wrong", "not-kept", "failed"] as const;
export type FillEnd = (typeof FILL_ENDS)[number];

/** @param ended must not throw */
export function meteredFills(fills: Fills, ended: (end: FillEnd) => void): Fills {
  return {
    join(digest, start) {
      const isNew = fills.running(digest) === undefined;
      const fill = fills.join(digest, start);
      if (isNew) void fill?.done.then((result) => ended(endOf(result)));
      return fill;
    },
    running: fills.running,
    get count() {
      return fills.count;
    },
    get followers() {
      return fills.followers;
    },
    close: fills.close,
  };
}

export function endOf(result: FillResult): FillEnd {
  if (result.kind === "committed") return "committed";
  const { error } = result;
  if (error instanceof StoreError) return "not-kept";
  const cause = error instanceof UpstreamError ? error.cause : undefined;
  return cause instanceof StoreError && cause.kind === "mismatch" ? "wrong" : "failed";
}

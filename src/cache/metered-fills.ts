/** Fills that tell how each download ended, in one word. They change nothing else. */
import { UpstreamError } from "../errors.ts";
import type { Digest } from "../registry/digest.ts";
import type { ContentSource, SourceBody } from "../download/download.ts";
import type { Fill, FillResult, Fills } from "./fill.ts";
import { StoreError } from "./store.ts";

/**
 * `committed`; `wrong`: not what the digest says; `not-kept`: the store could not, and clients went on without it; `failed`:
 * it could not be had to its end.
 */
export const FILL_ENDS = ["committed", "wrong", "not-kept", "failed"] as const;
export type FillEnd = (typeof FILL_ENDS)[number];

export interface FillsMeter {
  /** Must not throw. */
  readonly ended: (end: FillEnd) => void;
  /** Told who gave parts of content that was wrong in the end. */
  readonly gaveWrongParts: (host: string) => void;
}

export function meteredFills(fills: Fills, { ended, gaveWrongParts }: FillsMeter): Fills {
  function start(digest: Digest, source: ContentSource): Fill | undefined {
    // Several may have brought a part each; the last one is told.
    let latest: SourceBody | undefined;
    let hostOfParts: string | undefined;
    const fill = fills.join(digest, async (wanted, signal) => {
      const body = await source(wanted, signal);
      if (wanted.isExtra) hostOfParts = body.host;
      return (latest = body);
    });
    void fill?.done.then((result) => {
      const end = endOf(result);
      ended(end);
      if (end !== "wrong") return;
      latest?.refuse?.("digest");
      if (hostOfParts !== undefined) gaveWrongParts(hostOfParts);
    });
    return fill;
  }

  return {
    join: (digest, source) =>
      fills.running(digest) === undefined ? start(digest, source) : fills.join(digest, source),
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

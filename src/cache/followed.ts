/** What the readers of a fill see of it: where it stands, and what to do when its store failed. */
import type { Digest } from "../registry/digest.ts";
import type { Download } from "../download/download.ts";
import type { Recent } from "./recent.ts";
import type { ContentReader } from "./store.ts";

/** Inclusive positions; `last` undefined: to the end. */
export interface FollowRange {
  readonly first: number;
  readonly last: number | undefined;
}

export type FillState =
  | { readonly kind: "opening" | "running" | "verified" }
  | { readonly kind: "failed" | "detour"; readonly error: unknown };

/** What a follower sees of its fill. */
export interface Followed {
  readonly digest: Digest;
  state(): FillState;
  /** Up to where followers may read now, exclusive. */
  limit(): number;
  totalBytes(): number | undefined;
  /** Calls back at the next change, once. @returns what takes the call back */
  onChange(callback: () => void): () => void;
  /** What was written last, for a reader that keeps up. */
  readonly recent: Pick<Recent, "take" | "nextStart">;
  /** Undefined when the bytes are not there any more. */
  openReader(): Promise<ContentReader | undefined>;
  /** The fill's own download, for the first follower that goes on exactly where its store failed. */
  takeSpare(position: number): Download | undefined;
  startOwn(offset: number): Download;
  /** Whether what the fill got has the right digest: known at its end. False where it never will be. */
  isRight(): Promise<boolean>;
  /** A hasher fed with the first bytes of the content, undefined when they cannot be read. */
  hashOfFirst(bytes: number, reader: ContentReader | undefined): Promise<Bun.CryptoHasher | undefined>;
}

/**
 * The end of the content that nobody gets before its digest is right (protocol R237): one TLS record, so that what a client
 * is left with is visibly short. Small contents are held back whole.
 */
const HELD_BYTES = 16 * 1024;

/** Up to where followers may read of what is written, exclusive. */
export function readableBytes(state: FillState, writtenBytes: number, totalBytes: number | undefined): number {
  switch (state.kind) {
    case "opening":
    case "failed":
      return 0;
    case "verified":
      return writtenBytes;
    case "detour":
      // The end is never here, but when the disk failed at the last step.
      if (writtenBytes !== totalBytes) return writtenBytes;
      break;
    case "running":
      break;
  }
  return Math.max(0, Math.min(writtenBytes, (totalBytes ?? writtenBytes) - HELD_BYTES));
}

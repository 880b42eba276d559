/** What the readers of a fill see of it: where it stands, and what to do when its store failed. */
import type { Digest } from "../registry/digest.ts";
import type { Download } from "./download.ts";
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
  /** Undefined when the bytes are not there any more. */
  openReader(): Promise<ContentReader | undefined>;
  /** The fill's own download, for the first follower that goes on exactly where its store failed. */
  takeSpare(position: number): Download | undefined;
  startOwn(offset: number): Download;
  /** A hasher fed with the first bytes of the content, undefined when they cannot be read. */
  hashOfFirst(bytes: number, reader: ContentReader | undefined): Promise<Bun.CryptoHasher | undefined>;
}

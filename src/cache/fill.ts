/**
 * Fills: running downloads that are written to a spool of the Store and followed by any number of readers.
 *
 *   upstream ─▶ Download ─▶ Spool (hash, file) ─▶ commit
 *                             │  readers by position, each at its own speed
 *                             ├─▶ follower ─▶ client
 *                             └─▶ follower ─▶ client
 *
 * One download per digest (protocol R238); a client that leaves stops nothing (R239); no reader holds the download (R260).
 */
import type { Log } from "../log.ts";
import type { Digest } from "../registry/digest.ts";
import type { Store, StoredContent } from "./store.ts";

/** What an upstream gave. */
export interface SourceBody {
  readonly body: ReadableStream<Uint8Array>;
  /** Where the body begins: the offset that was asked for, or 0 from an upstream that cannot begin there (protocol R272). */
  readonly offset: number;
  /** Length of the whole content as the upstream says it, undefined if it does not. */
  readonly totalBytes: number | undefined;
}

/**
 * Opens the upstream at a byte offset. Called again to go on after a break, and by followers of a fill whose store failed;
 * so it may run several times at once, and later than the request that brought it.
 * @throws whatever the client shall be told; RegistryErrors below 500 but 429 are final, other errors are tried again in mid-content
 */
export type FillSource = (offset: number, signal: AbortSignal) => Promise<SourceBody>;

/** Inclusive positions; `last` undefined: to the end. */
export interface FollowRange {
  readonly first: number;
  readonly last: number | undefined;
}

export type FillResult =
  | { readonly kind: "committed"; readonly content: StoredContent }
  | { readonly kind: "failed"; readonly error: unknown };

export interface Fill {
  readonly digest: Digest;
  /**
   * Resolves when the upstream's headers came; rejects with what the source threw. It may be left unobserved.
   */
  readonly head: Promise<{ readonly totalBytes: number | undefined }>;
  /**
   * The bytes of the range, as they arrive, for one reader. The last bytes of the content are held back until its digest is
   * right (protocol R237); errors when the fill fails. When only the store fails it goes on with a request of its own from
   * where it is. May be called at any time, before `head` and after `done`; a stream that is not wanted any more is cancelled.
   * A range beyond the end errors: compare with `totalBytes` first.
   */
  follow(range: FollowRange): ReadableStream<Uint8Array>;
  /** Bytes that are there to be read. */
  readonly position: number;
  /** Settles when committed or failed; never rejects. A StoreError here means that followers went on without the store. */
  readonly done: Promise<FillResult>;
}

export interface Fills {
  /**
   * Joins the running download of this digest, or starts one; `start` is called for the first only.
   * @returns undefined when `maxFills` others run: pass the request through without the store
   */
  join(digest: Digest, start: FillSource): Fill | undefined;
  running(digest: Digest): Fill | undefined;
  readonly count: number;
  /** Stops every fill; its followers error, its spool is suspended for a later start. */
  close(): Promise<void>;
}

export interface FillsOptions {
  /** Fills at once. Each holds a connection, two file handles and up to 2 MiB. */
  readonly maxFills: number;
  /** How long a download may bring no byte before it counts as broken. */
  readonly idleTimeoutMs: number;
}

export interface FillsDependencies {
  readonly store: Store;
  readonly log: Pick<Log, "info" | "warn">;
  /** Waits between tries; rejects when the signal is aborted. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** 0 ≤ x < 1, for the jitter of those waits. */
  readonly random?: () => number;
}

export function createFills(_options: FillsOptions, _dependencies: FillsDependencies): Fills {
  return { join: () => undefined, running: () => undefined, count: 0, close: async () => undefined };
}

/**
 * One content as it comes from an upstream, from an offset on, as a single ordered stream: mended when it breaks, over several
 * connections where that is faster.
 */
import type { ContentSource } from "./source.ts";

export type { ContentSource, SourceBody, WantedBytes } from "./source.ts";

export interface Download {
  /** Where the next byte lies, counted from the beginning of the content. */
  readonly position: number;
  readonly totalBytes: number | undefined;
  /** Waits for the upstream's headers. Once. @throws what the source threw: it has done its own retries before headers */
  open(): Promise<void>;
  /** The next bytes, or undefined at the end. One at a time. @throws when the content cannot be had */
  next(): Promise<Uint8Array | undefined>;
  /** Ends everything; a pending `next` rejects. */
  cancel(reason: unknown): void;
}

export interface DownloadOptions {
  readonly source: ContentSource;
  readonly first: number;
  /** Inclusive. Default: to the end. */
  readonly last?: number | undefined;
  /** When known already; another length is an error. */
  readonly totalBytes?: number | undefined;
  /** False: a silence is the end, nobody waits for this. Breaks are mended all the same. Default: always wanted. */
  readonly isWanted?: () => boolean;
  /** Somebody was told that it comes: what cannot be opened is tried again like what broke. Default: never. */
  readonly isPromised?: () => boolean;
}

/** All downloads of the process. */
export interface Downloads {
  start(options: DownloadOptions): Download;
  /** Content that this host gave in parts was wrong: it is asked for no parts for a while, so that the next try is another one. */
  gaveWrongParts(host: string): void;
  /** Memory that is taken for what came ahead of its turn. */
  readonly aheadBytes: number;
  /** How often content that had begun was asked for anew from where it broke. */
  readonly resumes: number;
}

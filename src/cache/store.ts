/**
 * The Store: immutable content by digest, shared by every repository and registry. What may see which digest is not its
 * business; `cache/records` knows. Two implementations: `cache/filesystem`, and one in memory for tests; one suite holds both.
 *
 * Promises: nothing that was not verified is ever found; what is found is whole; a reader that is open reads to its end
 * whatever happens to the content meanwhile.
 */
import type { Digest } from "../registry/digest.ts";

export interface StoredContent {
  /** `"sha256:…"`. */
  readonly digest: string;
  readonly bytes: number;
}

/** Reads by position. Close it once, also after an error. */
export interface ContentReader {
  readonly bytes: number;
  /** All of it, where it is in memory and was hashed: to be read only. */
  readonly verified?: Uint8Array;
  /** Fills `into` from `position` on; the bytes read, 0 at the end. One read at a time. */
  read(into: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/**
 * One download on its way into the Store: appended to by one, read by any number.
 * A spool that is suspended, or left by a process that died, is found again by the next `Store.spool` of its digest.
 */
export interface Spool {
  readonly digest: Digest;
  /** Bytes written so far, those found again included: a download goes on from here. */
  readonly length: number;
  /**
   * Writes at the end and hashes. One at a time; the buffer is the caller's again when it resolves.
   * @throws StoreError `full` when budget or disk have no room, `broken` for any other failure; the spool is of no more use then
   */
  append(bytes: Uint8Array): Promise<void>;
  /**
   * Tells how long the whole content is, once that is known: `Store.spool` comes before the upstream's answer, because only
   * the spool knows where to go on. Reserves what is missing. Not needed when `Store.spool` was told; needless twice.
   * @throws StoreError `full`; `mismatch` when more is here already: the bytes are gone then
   */
  expect(totalBytes: number): Promise<void>;
  /** A reader of what is there; it may read up to `length` as that grows, also after commit or discard. */
  open(): Promise<ContentReader>;
  /**
   * Compares length and digest, without the wait for the disk that a commit needs; readers may have their last bytes then.
   * @throws StoreError `mismatch`: the bytes are gone then
   */
  verify(): Promise<void>;
  /**
   * Verifies, makes durable, and shows the content to everybody.
   * @throws StoreError `mismatch` when the digest differs: the bytes are gone then
   */
  commit(): Promise<StoredContent>;
  /** Gives up, and keeps the bytes for a later try. */
  suspend(): Promise<void>;
  /** Gives up, and removes the bytes. */
  discard(): Promise<void>;
}

export interface Usage {
  /** Of committed content. */
  readonly bytes: number;
  readonly count: number;
  /** Reserved and written by spools, suspended ones included. */
  readonly spooledBytes: number;
  /** False while what was there at the start is still being counted. */
  readonly isComplete: boolean;
}

export interface Store {
  /** @throws StoreError `broken` when the disk cannot tell; that is no reason to fail a pull */
  find(digest: Digest): Promise<StoredContent | undefined>;
  /** A reader, or undefined when the content is not there. @throws StoreError `broken` */
  open(digest: Digest): Promise<ContentReader | undefined>;
  /**
   * Begins, or goes on with, a download. `expectedBytes` is reserved against budget and disk.
   * @throws StoreError `full` or `broken`
   */
  spool(digest: Digest, expectedBytes: number | undefined): Promise<Spool>;
  /** Removes content; the bytes that came free, 0 when it was not there. Open readers go on. */
  remove(digest: Digest): Promise<number>;
  /** Every content, in no order, without holding all names in memory. */
  list(): AsyncIterable<StoredContent>;
  /** Hashes the content again; damaged content is moved aside. Undefined when it is not there. */
  verify(digest: Digest, signal: AbortSignal): Promise<"good" | "damaged" | undefined>;
  usage(): Usage;
  /** Ends everything, readers that are still open included. */
  close(): Promise<void>;
}

export type StoreErrorKind = "full" | "mismatch" | "broken";

/** The Store could not do it. A pull never fails because of one: it goes on without the cache. */
export class StoreError extends Error {
  readonly kind: StoreErrorKind;

  constructor(kind: StoreErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StoreError";
    this.kind = kind;
  }
}

/**
 * Makes room in the Store, by last use, oldest first.
 */
import type { Log } from "../log.ts";
import type { Records } from "./records.ts";
import type { Store } from "./store.ts";

export interface EvictionOptions {
  /** Budget of the store: committed content and running downloads together. */
  readonly maxBytes: number;
  /** Free space of the disk that is never used up. */
  readonly minFreeBytes: number;
  /** Content nobody asked for in this long goes. */
  readonly maxIdleMs: number;
}

export interface EvictionDependencies {
  readonly store: Pick<Store, "list" | "remove" | "usage">;
  readonly records: Records;
  readonly log: Log;
  readonly now: () => number;
  /** Free on the store's disk, less what running downloads have reserved and not written yet. */
  readonly freeBytes: () => Promise<number>;
}

export interface Eviction {
  /** Evicts until `bytes` more fit into budget and disk; false when they cannot. Callers at the same time share one run. */
  makeRoom(bytes: number): Promise<boolean>;
  /**
   * Learns about content the records do not know, removes what is idle, and returns to budget and free space.
   * Ends early when the signal aborts; never rejects.
   */
  sweep(signal: AbortSignal): Promise<void>;
}

export function createEviction(_options: EvictionOptions, _dependencies: EvictionDependencies): Eviction {
  throw new Error("not implemented");
}

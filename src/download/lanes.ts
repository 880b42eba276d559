/**
 * What all downloads of the process share when they use more than one connection: the memory for bytes that came ahead of their
 * turn, and who answered a request for a part with something else.
 */
import { LRUCache } from "lru-cache";

export interface Lanes {
  /** Takes memory for bytes ahead of their turn; false when there is none, and then one does without. */
  reserve(bytes: number): boolean;
  release(bytes: number): void;
  /** Whether parts may be asked of this host. */
  takesRanges(host: string): boolean;
  /** It answered a request for a part with something else. */
  answersBadly(host: string): void;
  /** Memory that is taken, bytes. */
  readonly reservedBytes: number;
}

export interface LanesOptions {
  /** For bytes ahead of their turn, over all downloads. */
  readonly maxBytes: number;
}

/** Registries, their mirrors and stand-ins. */
const MAX_HOSTS = 1000;
/** A registry is repaired now and then. */
const AVOID_MS = 60 * 60_000;

export function createLanes({ maxBytes }: LanesOptions): Lanes {
  const avoided = new LRUCache<string, true>({ max: MAX_HOSTS, ttl: AVOID_MS });
  let reservedBytes = 0;
  return {
    reserve(bytes) {
      if (reservedBytes + bytes > maxBytes) return false;
      reservedBytes += bytes;
      return true;
    },
    release(bytes) {
      reservedBytes -= bytes;
    },
    takesRanges: (host) => !avoided.has(host),
    answersBadly: (host) => void avoided.set(host, true),
    get reservedBytes() {
      return reservedBytes;
    },
  };
}

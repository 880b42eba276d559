/**
 * What all downloads of the process share when they use more than one connection: the memory for bytes that came ahead of their
 * turn, and who answered a request for a part with something else.
 */
import { LRUCache } from "lru-cache";

/** A download, as far as it holds memory. */
export interface Holder {
  /** How long its reader has not had to wait for bytes, milliseconds. */
  restingMs(): number;
  /** Releases all it holds. */
  giveBack(): void;
}

export interface Lanes {
  /**
   * Takes memory for bytes ahead of their turn, from those whose readers rest where it is short; false when there is none,
   * and then one does without.
   */
  reserve(bytes: number, holder: Holder): boolean;
  release(bytes: number, holder: Holder): void;
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

/**
 * A reader that has not waited for so long is slower than its connections, or stands still: it may for hours, and others
 * would do without. What it gave back comes again when it wants it.
 */
export const RESTING_MS = 5000;
/** Registries, their mirrors and stand-ins. */
const MAX_HOSTS = 1000;
/** A registry is repaired now and then. */
const AVOID_MS = 60 * 60_000;

export function createLanes({ maxBytes }: LanesOptions): Lanes {
  const avoided = new LRUCache<string, true>({ max: MAX_HOSTS, ttl: AVOID_MS });
  /** What each holds; the bound on their memory bounds their number. */
  const holders = new Map<Holder, number>();
  let reservedBytes = 0;

  function hold(bytes: number, holder: Holder): void {
    reservedBytes += bytes;
    const heldBytes = (holders.get(holder) ?? 0) + bytes;
    if (heldBytes === 0) holders.delete(holder);
    else holders.set(holder, heldBytes);
  }

  function makeRoom(bytes: number, wanting: Holder): void {
    for (const holder of holders.keys()) {
      if (reservedBytes + bytes <= maxBytes) return;
      if (holder !== wanting && holder.restingMs() >= RESTING_MS) holder.giveBack();
    }
  }

  return {
    reserve(bytes, holder) {
      makeRoom(bytes, holder);
      if (reservedBytes + bytes > maxBytes) return false;
      hold(bytes, holder);
      return true;
    },
    release: (bytes, holder) => hold(-bytes, holder),
    takesRanges: (host) => !avoided.has(host),
    answersBadly: (host) => void avoided.set(host, true),
    get reservedBytes() {
      return reservedBytes;
    },
  };
}

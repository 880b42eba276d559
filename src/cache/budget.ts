/**
 * Room: how much may still be kept. Committed content, running spools with what they will become, and suspended spools
 * stay together under `maxBytes`; what they still have to write leaves `minFreeBytes` of the file system free.
 *
 * When there is no room, suspended spools go first (they are worth one download each, and nobody waits for them), then
 * eviction is asked, then the answer is no.
 */
import { statfs } from "node:fs/promises";
import { storeErrorOf } from "./disk.ts";
import { within } from "./open-files.ts";
import { StoreError } from "./store.ts";

export interface BudgetOptions {
  readonly directory: string;
  readonly maxBytes: number;
  readonly minFreeBytes: number;
}

export interface BudgetDependencies {
  /** Bytes of committed content now. */
  readonly committedBytes: () => number;
  /** Removes suspended spools until about so many bytes are free. */
  readonly dropSuspended: (bytes: number) => Promise<void>;
  readonly makeRoom: (bytes: number) => Promise<boolean>;
}

/** The part of one spool. */
export interface Reservation {
  /**
   * Makes the part at least so large.
   * @throws StoreError `full`: the part is as large as before
   */
  growTo(bytes: number): Promise<void>;
  /** Looks again whether the rest still fits: other programs fill disks too. @throws StoreError `full` */
  confirm(): Promise<void>;
  /** So many bytes are written in all. */
  wrote(bytes: number): void;
  /** Gives back what is reserved and not written. */
  shrink(): void;
  /** Gives everything back; further calls do nothing. */
  release(): void;
}

export interface Budget {
  readonly spooledBytes: number;
  /** @param writtenBytes what is on the disk already: counted, never refused */
  reserve(writtenBytes: number): Reservation;
}

/** Longer than eviction takes; who asks in vain is served without the store. */
const ROOM_TIMEOUT_MS = 5000;

interface Part {
  reserved: number;
  written: number;
}

export function createBudget(options: BudgetOptions, dependencies: BudgetDependencies): Budget {
  const parts = new Set<Part>();
  // One at a time: two that find the budget used up at the same moment would both have the same bytes evicted.
  let turn: Promise<unknown> = Promise.resolve();

  async function grow(part: Part, bytes: number): Promise<void> {
    if (bytes <= part.reserved) return;
    if (bytes > options.maxBytes)
      throw new StoreError("full", `${bytes} bytes exceed the budget of ${options.maxBytes}`);
    const before = part.reserved;
    // Taken first and given back on refusal, so that nobody else is promised the same room meanwhile.
    part.reserved = bytes;
    try {
      await takeTurn(findRoom);
    } catch (cause) {
      part.reserved = Math.max(before, part.written);
      rethrow(cause);
    }
  }

  function takeTurn(action: () => Promise<void>): Promise<void> {
    const mine = turn.then(action);
    // The next one must come on whether this one failed or not; the failure belongs to who asked.
    turn = mine.catch(() => undefined);
    return within(ROOM_TIMEOUT_MS, mine);
  }

  async function findRoom(): Promise<void> {
    const missing = await shortage();
    if (missing === 0) return;
    await dependencies.dropSuspended(missing);
    const stillMissing = await shortage();
    if (stillMissing === 0) return;
    const mayHaveRoom = await dependencies.makeRoom(stillMissing);
    if (mayHaveRoom && (await shortage()) === 0) return;
    throw new StoreError("full", `no room for ${stillMissing} bytes`);
  }

  /** Bytes that must go before everything promised fits. */
  async function shortage(): Promise<number> {
    const overBudget = dependencies.committedBytes() + sum(({ reserved }) => reserved) - options.maxBytes;
    const { bavail, bsize } = await statfs(options.directory);
    const toWrite = sum(({ reserved, written }) => reserved - written);
    return Math.max(0, overBudget, toWrite + options.minFreeBytes - bavail * bsize);
  }

  function sum(of: (part: Part) => number): number {
    let bytes = 0;
    for (const part of parts) bytes += of(part);
    return bytes;
  }

  return {
    get spooledBytes() {
      return sum(({ reserved }) => reserved);
    },
    reserve(writtenBytes) {
      const part = { reserved: writtenBytes, written: writtenBytes };
      parts.add(part);
      return {
        growTo: (bytes) => grow(part, bytes),
        confirm: () => takeTurn(findRoom).catch((cause: unknown) => rethrow(cause)),
        wrote(bytes) {
          part.written = bytes;
          part.reserved = Math.max(part.reserved, bytes);
        },
        shrink() {
          part.reserved = part.written;
        },
        release: () => void parts.delete(part),
      };
    },
  };
}

function rethrow(cause: unknown): never {
  throw storeErrorOf(cause, "find room");
}

/**
 * Between an upstream that brings small pieces and a disk that likes large ones. While one write runs the next pieces
 * gather; a slow upstream's pieces are written a moment after they came, so that followers get them.
 */
import { freeMemory } from "./recent.ts";
import type { Spool } from "./store.ts";

export interface SpoolWriter {
  /** Takes bytes with their memory; resolves at once until too much waits for the disk. @throws StoreError when the spool failed */
  push(bytes: Uint8Array): Promise<void>;
  /** Writes what waits. @throws StoreError */
  end(): Promise<void>;
  /** After a failure: what was pushed and is not in the spool, in order. */
  unwritten(): Uint8Array[];
}

/** From here on the cost of a write no longer falls with its size (measured: 249 MB/s with 64 KiB, 1200 with 256). */
const WRITE_BYTES = 256 * 1024;
/** More waits for nobody but a disk that is too slow: then the upstream must wait as well. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** A follower notices no such delay, and a fast upstream fills a write in less. */
const GATHER_MS = 2;

/** @param onWritten called after each write with what was written, whose memory is the callee's */
export function createSpoolWriter(spool: Pick<Spool, "append">, onWritten: (bytes: Uint8Array) => void): SpoolWriter {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let failure: { readonly cause: unknown } | undefined;
  let writing: Promise<void> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function startWriting(): void {
    clearTimeout(timer);
    timer = undefined;
    if (failure === undefined && waitingBytes > 0) writing ??= writeWaiting();
  }

  /** Pieces are freed when they are copied: the next ones then come to lie in the same memory, which is in the processor's cache. */
  function gather(pieces: readonly Uint8Array[]): Uint8Array {
    const [first] = pieces;
    if (pieces.length === 1 && first !== undefined) return first;
    const whole = Buffer.allocUnsafeSlow(waitingBytes);
    let end = 0;
    for (const piece of pieces) {
      whole.set(piece, end);
      end += piece.byteLength;
      freeMemory(piece);
    }
    return whole;
  }

  /** Never rejects: the failure is told by the next push or end. */
  async function writeWaiting(): Promise<void> {
    try {
      while (waitingBytes > 0) {
        const bytes = gather(waiting);
        waiting = [];
        waitingBytes = 0;
        try {
          await spool.append(bytes);
        } catch (cause) {
          waiting = [bytes, ...waiting];
          failure = { cause };
          return;
        }
        onWritten(bytes);
        if (waitingBytes < WRITE_BYTES) return gatherMore();
      }
    } finally {
      writing = undefined;
    }
  }

  function gatherMore(): void {
    if (waitingBytes > 0) timer ??= setTimeout(startWriting, GATHER_MS);
  }

  function throwFailure(): void {
    if (failure !== undefined) throw failure.cause;
  }

  return {
    async push(bytes) {
      // Before the failure is told: nothing that was pushed may get lost.
      waiting.push(bytes);
      waitingBytes += bytes.byteLength;
      throwFailure();
      if (waitingBytes >= WRITE_BYTES) startWriting();
      else if (writing === undefined) gatherMore();
      if (waitingBytes < MAX_WAITING_BYTES) return;
      await writing;
      throwFailure();
    },
    async end() {
      while (writing !== undefined || (waitingBytes > 0 && failure === undefined)) {
        startWriting();
        await writing;
      }
      throwFailure();
    },
    unwritten: () => waiting,
  };
}

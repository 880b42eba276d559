/**
 * One reader of a fill: a stream that is read by position from what the fill has written, at the reader's own speed: from
 * memory when it keeps up and is alone, else from the file. It reads nothing that is not asked for, so a reader that stands
 * still costs one file handle (lessons T28).
 */
import { createDetour, type Detour } from "./detour.ts";
import type { Followed, FollowRange } from "./followed.ts";
import type { ContentReader } from "./store.ts";

/** Measured: larger pieces gain nothing with many readers. This is also all the memory a reader holds. */
const PIECE_BYTES = 256 * 1024;

/** @param onLeft called once, when the stream has ended, failed or was cancelled */
export function createFollower(
  followed: Followed,
  range: FollowRange,
  onLeft: () => void,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let position = range.first;
  let reader: ContentReader | undefined;
  let detour: Detour | undefined;
  let hasLeft = false;
  let stopWaiting = (): void => undefined;
  let pulling: Promise<unknown> = Promise.resolve();

  async function pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      const piece = await nextPiece();
      if (hasLeft) return;
      if (piece !== undefined) return controller.enqueue(piece);
      controller.close();
    } catch (cause) {
      if (!hasLeft) controller.error(cause);
    }
    await leave();
  }

  async function nextPiece(): Promise<Uint8Array | undefined> {
    while (!hasLeft) {
      if (detour !== undefined) return detour.next();
      const state = followed.state();
      if (state.kind === "failed") throw state.error;
      const end = endOf(range, followed.totalBytes());
      // Nothing is the end of an empty content only when nothing is what its digest says.
      if (position >= end && (end > 0 || state.kind === "verified")) return undefined;
      const readableEnd = Math.min(followed.limit(), end);
      if (position < readableEnd) {
        const piece = takeRecent(readableEnd) ?? (await readPiece(readableEnd));
        if (piece !== undefined) return piece;
        // What was wrong is thrown away before the fill says so: nothing may be added to it.
        if (followed.state().kind === state.kind) startDetour();
      } else if (state.kind === "detour") startDetour();
      else await change();
    }
    return undefined;
  }

  function takeRecent(end: number): Uint8Array | undefined {
    const piece = followed.recent.take(position, end);
    position += piece?.byteLength ?? 0;
    return piece;
  }

  /** Undefined when the store does not give it: that fails no pull. */
  async function readPiece(readableEnd: number): Promise<Uint8Array | undefined> {
    const end = Math.min(readableEnd, position + PIECE_BYTES, followed.recent.nextStart(position) ?? Infinity);
    try {
      reader ??= await followed.openReader();
      if (reader === undefined) return undefined;
      const piece = Buffer.allocUnsafeSlow(end - position);
      const bytesRead = await reader.read(piece, position);
      position += bytesRead;
      return bytesRead === 0 ? undefined : piece.subarray(0, bytesRead);
    } catch {
      // Evicted, or a disk that cannot be read: the upstream has it still.
      return undefined;
    }
  }

  function startDetour(): void {
    if (!hasLeft) detour = createDetour(followed, { ...range, position, reader });
  }

  function change(): Promise<void> {
    return new Promise((resolve) => {
      const takeBack = followed.onChange(resolve);
      stopWaiting = () => {
        takeBack();
        resolve();
      };
    });
  }

  async function leave(): Promise<void> {
    if (hasLeft) return;
    hasLeft = true;
    onLeft();
    await reader?.close();
  }

  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      pull(controller) {
        const mine = pull(controller);
        pulling = mine;
        return mine;
      },
      async cancel(reason) {
        if (hasLeft) return;
        hasLeft = true;
        onLeft();
        stopWaiting();
        detour?.cancel(reason);
        // A handle must not be closed under a running read.
        await pulling;
        await reader?.close();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Exclusive; infinite while it is unknown. @throws RangeError */
function endOf({ first, last = Infinity }: FollowRange, totalBytes = Infinity): number {
  if (first >= totalBytes && first > 0) throw new RangeError(`expected a position below ${totalBytes}, got ${first}`);
  return Math.min(last + 1, totalBytes);
}

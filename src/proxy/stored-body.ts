/** Bodies from the store: read by position as the client takes them, so that a slow client costs one piece of memory. */
import { type ContentReader, type Store, StoreError } from "../cache/store.ts";
import type { Digest } from "../registry/digest.ts";
import type { ByteRange } from "../registry/range.ts";
import type { PositionedBody } from "./exchange.ts";

/** One piece of a stream, which gets memory of its own. */
const PIECE_BYTES = 512 * 1024;

/** The range of what is kept; undefined when it is not there any more. A read fails when it is shorter than it was. */
export async function storedBody(store: Store, digest: Digest, range: ByteRange): Promise<PositionedBody | undefined> {
  const reader = await store.open(digest);
  if (reader === undefined) return undefined;
  return {
    length: range.last + 1 - range.first,
    read: (into, position) => readOf(reader, into, range.first + position),
    close: () => reader.close(),
  };
}

/** The same as a stream, for who puts other bytes around it. Errors when it is shorter than it was. */
export async function storedStream(
  store: Store,
  digest: Digest,
  range: ByteRange,
): Promise<ReadableStream<Uint8Array> | undefined> {
  const body = await storedBody(store, digest, range);
  return body === undefined ? undefined : streamOf(body);
}

/** @throws the read's error, or that the content is shorter than it was */
async function readOf(reader: ContentReader, into: Uint8Array, position: number): Promise<number> {
  const read = await reader.read(into, position);
  if (read === 0) throw new StoreError("broken", "cached content is shorter than it was");
  return read;
}

function streamOf({ length, read, close }: PositionedBody): ReadableStream<Uint8Array> {
  let position = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = new Uint8Array(Math.min(PIECE_BYTES, length - position));
        try {
          const bytes = length === position ? 0 : await read(piece, position);
          position += bytes;
          if (bytes > 0) controller.enqueue(piece.subarray(0, bytes));
        } catch (error) {
          await close();
          throw error;
        }
        if (position < length) return;
        await close();
        controller.close();
      },
      cancel: close,
    },
    { highWaterMark: 0 },
  );
}

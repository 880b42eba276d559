/** Bodies from the store: read by position as the client takes them, so that a slow client costs one piece of memory. */
import { type ContentReader, type Store, StoreError } from "../cache/store.ts";
import type { Digest } from "../registry/digest.ts";
import type { ByteRange } from "../registry/range.ts";

/** One read from the store: as much as the socket takes in a few writes. */
const READ_BYTES = 512 * 1024;

/** The range of what is kept; undefined when it is not there any more. Errors when it is shorter than it was. */
export async function streamFrom(
  store: Store,
  digest: Digest,
  range: ByteRange,
): Promise<ReadableStream<Uint8Array> | undefined> {
  const reader = await store.open(digest);
  if (reader === undefined) return undefined;
  let position = range.first;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const wanted = Math.min(READ_BYTES, range.last + 1 - position);
        const piece = new Uint8Array(wanted);
        const read = wanted === 0 ? 0 : await readOrClose(reader, piece, position);
        position += read;
        if (read > 0) controller.enqueue(read === wanted ? piece : piece.subarray(0, read));
        if (position <= range.last) return;
        await reader.close();
        controller.close();
      },
      cancel: () => reader.close(),
    },
    { highWaterMark: 0 },
  );
}

/** @throws the read's error, or that the content is shorter than it was; the reader is closed then */
async function readOrClose(reader: ContentReader, into: Uint8Array, position: number): Promise<number> {
  try {
    const read = await reader.read(into, position);
    if (read > 0) return read;
    throw new StoreError("broken", "cached content is shorter than it was");
  } catch (error) {
    await reader.close();
    throw error;
  }
}

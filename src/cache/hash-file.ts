/** Hashing what lies on the disk: a piece at a time, with turns of the event loop between them. */

/** What both a committed content and a spool are to their readers. */
export interface Readable {
  /** The bytes read, 0 at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
}

export interface HashedPart {
  readonly first: number;
  /** Exclusive. */
  readonly end: number;
  readonly signal?: AbortSignal;
}

/** A quarter of a millisecond of hashing; each read in between lets others run. */
const PIECE_BYTES = 512 * 1024;

/** Feeds a part of the content to the hasher. @throws when it is shorter, cannot be read, or the signal is aborted */
export async function hashPart(content: Readable, hasher: Bun.CryptoHasher, part: HashedPart): Promise<void> {
  const { first, end, signal } = part;
  if (first >= end) return;
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, end - first));
  for (let position = first; position < end;) {
    signal?.throwIfAborted();
    const bytesRead = await content.read(buffer.subarray(0, end - position), position);
    if (bytesRead === 0) throw new Error(`expected ${end} bytes in the file, got ${position}`);
    hasher.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}

/**
 * A Store that holds small content that is asked for again and again in memory: a farm that starts pulls one manifest a
 * thousand times, and each time costs a look, opening, reading and hashing otherwise.
 *
 *   seven times   the store below
 *   once          read whole and hashed; held when it is what its digest says
 *   from then on  from memory, with a look at the store below once a second
 *
 * What is removed or found damaged is let go at once, and who may see what is decided before the Store is asked. Only the
 * file's own removal by a hand goes unseen, for the second that passes between two looks.
 */
import { LRUCache } from "lru-cache";
import type { Digest } from "../registry/digest.ts";
import { hasherFor } from "./layout.ts";
import type { ContentReader, Store } from "./store.ts";

export interface SmallContentsOptions {
  /** Of all that is held; 16 MiB. */
  readonly maxBytes?: number;
}

export interface SmallContentsDependencies {
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

interface Held {
  readonly bytes: Uint8Array;
  lookedMs: number;
}

/** Some thousand manifests of a usual size. */
const MAX_BYTES = 16 * 1024 * 1024;
/** Manifests and configurations are; what is longer is spent more time on by the network than by the disk. */
const MAX_SMALL_BYTES = 256 * 1024;
/** What few clients pull does not drive out what many pull. */
const OPENED_OFTEN = 8;
/** Digests whose openings are counted. */
const MAX_COUNTED = 10_000;
const LOOK_EVERY_MS = 1000;

export function withSmallContents(
  store: Store,
  { maxBytes = MAX_BYTES }: SmallContentsOptions,
  { now }: SmallContentsDependencies,
): Store {
  const held = new LRUCache<string, Held>({ maxSize: maxBytes, sizeCalculation: ({ bytes }) => bytes.byteLength + 1 });
  const opened = new LRUCache<string, number>({ max: MAX_COUNTED });

  /** Undefined when it is not held, or is not in the store below any more. */
  function holding(digest: Digest): Held | undefined | Promise<Held | undefined> {
    const content = held.get(digest.text);
    if (content === undefined || now() - content.lookedMs < LOOK_EVERY_MS) return content;
    return lookAgain(digest, content);
  }

  async function lookAgain(digest: Digest, content: Held): Promise<Held | undefined> {
    content.lookedMs = now(); // who comes meanwhile need not look as well
    const below = await store.find(digest);
    if (below?.bytes === content.bytes.byteLength) return held.get(digest.text);
    letGo(digest);
    return undefined;
  }

  function letGo(digest: Digest): void {
    held.delete(digest.text);
    opened.delete(digest.text);
  }

  /** Takes it in when it is asked for often; else gives the reader of the store below. */
  async function openBelow(digest: Digest): Promise<ContentReader | undefined> {
    const reader = await store.open(digest);
    if (reader === undefined || reader.bytes > MAX_SMALL_BYTES) return reader;
    const times = (opened.get(digest.text) ?? 0) + 1;
    opened.set(digest.text, times);
    if (times < OPENED_OFTEN) return reader;
    const bytes = await wholeOf(reader, digest);
    if (bytes === undefined) return reader;
    // Not when it was removed during the read: then its openings are forgotten.
    if (opened.has(digest.text)) held.set(digest.text, { bytes, lookedMs: now() });
    await reader.close();
    return readerOf(bytes);
  }

  return {
    ...store,
    async find(digest) {
      const content = await holding(digest);
      return content === undefined ? store.find(digest) : { digest: digest.text, bytes: content.bytes.byteLength };
    },
    async open(digest) {
      const content = await holding(digest);
      return content === undefined ? openBelow(digest) : readerOf(content.bytes);
    },
    remove(digest) {
      letGo(digest);
      return store.remove(digest);
    },
    async verify(digest, signal) {
      const verdict = await store.verify(digest, signal);
      if (verdict !== "good") letGo(digest);
      return verdict;
    },
    close() {
      held.clear();
      return store.close();
    },
  };
}

/** Undefined when it is not what the digest says: whoever reads it finds out, as without this. */
async function wholeOf(reader: ContentReader, digest: Digest): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(reader.bytes);
  try {
    for (let at = 0; at < bytes.byteLength;) {
      const read = await reader.read(bytes.subarray(at), at);
      if (read === 0) return undefined;
      at += read;
    }
  } catch (error) {
    await reader.close();
    throw error;
  }
  return hasherFor(digest).update(bytes).digest("hex") === digest.encoded ? bytes : undefined;
}

function readerOf(bytes: Uint8Array): ContentReader {
  return {
    bytes: bytes.byteLength,
    verified: bytes,
    read(into, position) {
      const part = bytes.subarray(position, position + into.byteLength);
      into.set(part);
      return Promise.resolve(part.byteLength);
    },
    close: () => Promise.resolve(),
  };
}

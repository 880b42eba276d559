/**
 * Whether a registry has the bytes that another one delivered, when it tells no length to compare: two pieces at places it
 * cannot foresee are asked for and compared (product section 5). A registry that answers with something else than these
 * pieces has proven nothing.
 */
import { UpstreamError } from "../errors.ts";
import type { StoredContent } from "../cache/store.ts";
import { type ByteRange, parseContentRange } from "../registry/range.ts";
import { readBody } from "../upstream/body.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { Cache } from "./cache.ts";
import type { Digest } from "../registry/digest.ts";

/** More than a header that many contents share; small enough to cost nothing beside the question itself. */
const PIECE_BYTES = 4096;
const PIECES = 2;

export interface AskedBytes {
  /** One GET of this range, in this repository. */
  ask(range: ByteRange): Promise<UpstreamResponse>;
  /** Moment on the `performance.now()` clock by which a piece must be here. */
  readonly deadlineMs: number;
}

/** @throws StoreError when the content cannot be read, RegistryError when the registry gave no answer */
export async function hasSameBytes(
  { store, random }: Pick<Cache, "store" | "random">,
  content: StoredContent & { readonly of: Digest },
  asked: AskedBytes,
): Promise<boolean> {
  if (content.bytes === 0) return true; // there is nothing to show
  for (let piece = 0; piece < PIECES; piece++) {
    const range = rangeIn(content.bytes, random());
    const own = await readPiece(store, content.of, range);
    if (own === undefined) return false; // evicted meanwhile
    if (!(await isPiece(await asked.ask(range), { range, own, totalBytes: content.bytes }, asked.deadlineMs)))
      return false;
  }
  return true;
}

/** @param at 0 ≤ at < 1 */
function rangeIn(totalBytes: number, at: number): ByteRange {
  const length = Math.min(PIECE_BYTES, totalBytes);
  const first = Math.floor(at * (totalBytes - length + 1));
  return { first, last: first + length - 1 };
}

async function readPiece(store: Cache["store"], digest: Digest, { first, last }: ByteRange) {
  const reader = await store.open(digest);
  if (reader === undefined) return undefined;
  try {
    const bytes = new Uint8Array(last - first + 1);
    for (let at = 0; at < bytes.byteLength;) {
      const read = await reader.read(bytes.subarray(at), first + at);
      if (read === 0) return undefined;
      at += read;
    }
    return bytes;
  } finally {
    await reader.close();
  }
}

interface Expected {
  readonly range: ByteRange;
  readonly own: Uint8Array;
  readonly totalBytes: number;
}

async function isPiece(
  { status, headers, body }: UpstreamResponse,
  { range, own, totalBytes }: Expected,
  deadlineMs: number,
): Promise<boolean> {
  const told = status === 206 ? parseContentRange(headers.get("content-range")) : undefined;
  const isAsked =
    told?.first === range.first && told.last === range.last && (told.total === undefined || told.total === totalBytes);
  if (!isAsked || body === null) {
    await body?.cancel();
    return false;
  }
  try {
    return Buffer.compare(await readBody(body, { maxBytes: own.byteLength, deadlineMs }), own) === 0;
  } catch (error) {
    if (error instanceof UpstreamError) return false; // too long, cut, or late
    throw error;
  }
}

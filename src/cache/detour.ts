/**
 * A follower whose store failed goes on with its own request, from where it is. The promise stays the same: when it reads to
 * the end the whole is hashed, and its last piece held back until it is right. What came before is read back for that; where
 * it cannot be, the content is asked for from its beginning, and what the follower has already is right when the fill's own
 * hash says so. For parts only the length is checked, as without a cache.
 */
import type { Download } from "../download/download.ts";
import { UpstreamError } from "../errors.ts";
import type { Followed } from "./followed.ts";
import type { ContentReader } from "./store.ts";

export interface Detour {
  /** The next bytes, undefined at the end. One at a time. */
  next(): Promise<Uint8Array | undefined>;
  cancel(reason: unknown): void;
}

export interface DetourOptions {
  /** Where the follower began. */
  readonly first: number;
  readonly position: number;
  /** Inclusive; undefined: to the end. */
  readonly last: number | undefined;
  /** Of what came before. Used until the first `next` is done. */
  readonly reader: ContentReader | undefined;
}

export function createDetour(followed: Followed, { first, position, last, reader }: DetourOptions): Detour {
  const end = Promise.withResolvers<never>();
  end.promise.catch(() => undefined); // it may be cancelled while nobody waits
  let download: Download | undefined;
  /** The follower left, perhaps before there was a download. */
  let left: { readonly reason: unknown } | undefined;
  let hasher: Bun.CryptoHasher | undefined;
  /** Asked for from the beginning: so many bytes to come are what the follower has already. */
  let isAnew = false;
  let known = 0;
  let isEnded = false;
  let held: Uint8Array | undefined;

  async function next(): Promise<Uint8Array | undefined> {
    const own = (download ??= await start());
    if (left !== undefined) {
      own.cancel(left.reason);
      throw left.reason;
    }
    while (!isEnded) {
      if (last !== undefined && own.position > last) return stop();
      const piece = await own.next();
      if (piece === undefined) {
        assertReached(own);
        return release();
      }
      const tooMany = last === undefined ? 0 : Math.max(0, own.position - last - 1);
      const wanted = piece.subarray(0, piece.byteLength - tooMany);
      hasher?.update(wanted);
      const unknown = wanted.subarray(Math.min(known, wanted.byteLength));
      known -= wanted.byteLength - unknown.byteLength;
      if (unknown.byteLength === 0) continue;
      if (hasher === undefined) return unknown;
      const ready = held;
      held = unknown;
      if (ready !== undefined) return ready;
    }
    return undefined;
  }

  async function start(): Promise<Download> {
    if (isToEnd()) hasher = await hashOfKnown();
    if (isToEnd() && hasher === undefined && first === 0) {
      hasher = await followed.hashOfFirst(0, undefined);
      isAnew = hasher !== undefined && position > 0;
      if (isAnew) known = position;
    }
    const from = position - known;
    return followed.takeSpare(from) ?? followed.startOwn(from);
  }

  /** The follower may have had all of it from memory so far, and never opened the file. */
  async function hashOfKnown(): Promise<Bun.CryptoHasher | undefined> {
    if (reader !== undefined || position === 0) return followed.hashOfFirst(position, reader);
    const own = await followed.openReader().catch(() => undefined); // thrown away, or not to be read
    try {
      return await followed.hashOfFirst(position, own);
    } finally {
      await own?.close();
    }
  }

  function isToEnd(): boolean {
    const totalBytes = followed.totalBytes();
    return last === undefined || (totalBytes !== undefined && last >= totalBytes - 1);
  }

  /** Without hash and length nothing tells a clean end from a cut one (protocol R236): then it is taken for cut. */
  function assertReached(own: Download): void {
    const isReached = last !== undefined && own.position > last;
    if (isReached || hasher !== undefined || own.totalBytes !== undefined) return;
    throw new UpstreamError("bad-answer", `the body ended after ${own.position} bytes, which may be all or not`);
  }

  function stop(): Promise<Uint8Array | undefined> {
    download?.cancel(new Error("the part is complete"));
    return release();
  }

  /** What was held back, once the whole is right. */
  async function release(): Promise<Uint8Array | undefined> {
    isEnded = true;
    if (hasher === undefined) return undefined;
    const found = hasher.digest("hex");
    hasher = undefined;
    const { algorithm, encoded, text } = followed.digest;
    if (found !== encoded)
      throw new UpstreamError("bad-answer", `digest mismatch: expected ${text}, got ${algorithm}:${found}`);
    const isBeginningRight = !isAnew || (await Promise.race([followed.isRight(), end.promise]));
    if (isBeginningRight) return held;
    throw new UpstreamError("bad-answer", `what came of ${text} before the cache failed may be wrong`);
  }

  return {
    next,
    cancel(reason) {
      left = { reason };
      end.reject(reason);
      download?.cancel(reason);
    },
  };
}

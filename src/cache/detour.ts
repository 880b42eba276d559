/**
 * A follower whose store failed goes on with its own request, from where it is. The promise stays the same: when it reads to
 * the end, and what came before its part can be read back, the whole is hashed and its last piece held back until it is
 * right. For parts, and when nothing can be read back, only the length is checked, as without a cache.
 */
import { UpstreamError } from "../errors.ts";
import type { Followed } from "./followed.ts";
import type { ContentReader } from "./store.ts";

export interface Detour {
  /** The next bytes, undefined at the end. One at a time. */
  next(): Promise<Uint8Array | undefined>;
  cancel(reason: unknown): void;
}

export interface DetourOptions {
  readonly position: number;
  /** Inclusive; undefined: to the end. */
  readonly last: number | undefined;
  /** Of what came before. Used until the first `next` is done. */
  readonly reader: ContentReader | undefined;
}

export function createDetour(followed: Followed, { position, last, reader }: DetourOptions): Detour {
  const download = followed.takeSpare(position) ?? followed.startOwn(position);
  let hasher: Bun.CryptoHasher | undefined;
  let isStarted = false;
  let isEnded = false;
  let held: Uint8Array | undefined;

  async function next(): Promise<Uint8Array | undefined> {
    if (!isStarted) await start();
    while (!isEnded) {
      if (last !== undefined && download.position > last) return stop();
      const piece = await download.next();
      if (piece === undefined) {
        assertReached();
        return release();
      }
      const tooMany = last === undefined ? 0 : Math.max(0, download.position - last - 1);
      const wanted = piece.subarray(0, piece.byteLength - tooMany);
      if (hasher === undefined) return wanted;
      hasher.update(wanted);
      const ready = held;
      held = wanted;
      if (ready !== undefined) return ready;
    }
    return undefined;
  }

  async function start(): Promise<void> {
    isStarted = true;
    if (isToEnd()) hasher = await followed.hashOfFirst(position, reader);
  }

  function isToEnd(): boolean {
    const totalBytes = followed.totalBytes();
    return last === undefined || (totalBytes !== undefined && last >= totalBytes - 1);
  }

  /** Without hash and length nothing tells a clean end from a cut one (protocol R236): then it is taken for cut. */
  function assertReached(): void {
    const isReached = last !== undefined && download.position > last;
    if (isReached || hasher !== undefined || download.totalBytes !== undefined) return;
    throw new UpstreamError("bad-answer", `the body ended after ${download.position} bytes, which may be all or not`);
  }

  function stop(): Uint8Array | undefined {
    download.cancel(new Error("the part is complete"));
    return release();
  }

  /** What was held back, once the whole is right. */
  function release(): Uint8Array | undefined {
    isEnded = true;
    if (hasher === undefined) return undefined;
    const found = hasher.digest("hex");
    hasher = undefined;
    const { algorithm, encoded, text } = followed.digest;
    if (found !== encoded)
      throw new UpstreamError("bad-answer", `digest mismatch: expected ${text}, got ${algorithm}:${found}`);
    return held;
  }

  return { next, cancel: (reason) => download.cancel(reason) };
}

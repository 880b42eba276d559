/**
 * Bodies from upstreams: small ones read whole under a limit, large ones passed on only as far as they are right.
 * The last piece of a stream is held back until length and digest agree, so that a client never gets the whole of
 * something wrong (protocol R234, R237).
 */
import { createHash } from "node:crypto";
import { UpstreamError } from "../errors.ts";
import type { Digest } from "../registry/digest.ts";
import type { UpstreamResponse } from "../upstream/client.ts";

/**
 * The whole body.
 * @throws UpstreamError `bad-answer` when it is longer than `maxBytes`; the rest is cancelled
 */
export async function readBounded(body: ReadableStream<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const reader = body.getReader();
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
    bytes += value.byteLength;
    if (bytes > maxBytes) {
      await reader.cancel();
      throw new UpstreamError("bad-answer", `expected at most ${maxBytes} bytes, got more`);
    }
    pieces.push(value);
  }
}

/** The digest text of `bytes` in the algorithm of `like`: `"sha256:…"`. */
export function digestOf(bytes: Uint8Array, algorithm: string): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
}

export interface VerifiedOptions {
  /** Announced for the body, if it was: then no piece but the last waits for the next one. */
  readonly length: number | undefined;
  /** Told of a digest that is not right. */
  readonly refuse: UpstreamResponse["refuse"];
}

/**
 * The same bytes, but the last piece only after the digest was found right; otherwise the stream errors.
 * @param digest of an algorithm we can compute
 */
export function verified(
  body: ReadableStream<Uint8Array>,
  digest: Digest,
  { length, refuse }: VerifiedOptions,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const hash = createHash(digest.algorithm);
  let received = 0;
  let held: Uint8Array | undefined;

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (;;) {
          const { value, done } = await reader.read();
          if (done) return finish(controller);
          if (value.byteLength === 0) continue;
          hash.update(value);
          received += value.byteLength;
          if (length !== undefined && received < length) return controller.enqueue(value);
          const ready = held;
          held = value;
          if (ready !== undefined) return controller.enqueue(ready);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );

  function finish(controller: ReadableStreamDefaultController<Uint8Array>): void {
    const found = hash.digest("hex");
    if (found !== digest.encoded) {
      refuse?.("digest");
      controller.error(
        new UpstreamError("bad-answer", `digest mismatch: expected ${digest.text}, got ${digest.algorithm}:${found}`),
      );
      return;
    }
    if (held !== undefined) controller.enqueue(held);
    controller.close();
  }
}

/** Bytes `first` to `first + length - 1` of the body; what follows is cancelled. For upstreams that ignore Range (protocol R272). */
export function slice(body: ReadableStream<Uint8Array>, first: number, length: number): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let skip = first;
  let left = length;

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (;;) {
          const { value, done } = await reader.read();
          if (done) return controller.error(new UpstreamError("bad-answer", "the body ended before the range did"));
          const piece = value.subarray(Math.min(skip, value.byteLength)).subarray(0, left);
          skip -= Math.min(skip, value.byteLength);
          if (piece.byteLength === 0) continue;
          left -= piece.byteLength;
          controller.enqueue(piece);
          if (left > 0) return;
          controller.close();
          await reader.cancel();
          return;
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

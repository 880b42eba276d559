/**
 * Writes content that can be read by position through one piece of memory. A stream gives each piece in memory of its own,
 * which the kernel has to clear and the collector to find: for a blob that is in the cache that was a third of its price.
 *
 *   read into the buffer ──▶ write it ──socket full?──▶ wait for drain, close or the idle timer ──▶ the same buffer again
 *
 * What the socket has not taken is still read from the buffer: it is used again only when nothing waits there.
 */
import type { ServerResponse } from "node:http";
import type { PositionedBody } from "../proxy/exchange.ts";
import { abort, type BodyOptions, endOf, isGone, taken, type WriteOutcome } from "./body-writer.ts";

/**
 * Bytes of one read and one write. Progress shows only when they are gone, so this over `idleTimeoutMs` is the slowest
 * client that is kept: about 9 kB/s at one minute.
 */
const ALONE_BYTES = 512 * 1024;
/** The same beside many others: each connection waits for a piece of every other one, and all pieces want to stay in the processor's cache. */
const AMONG_MANY_BYTES = 256 * 1024;
const MANY = 4;

/** Writes the body behind a head that was sent already, and closes it, once. Never rejects. */
export async function writePositioned(
  response: ServerResponse,
  body: PositionedBody,
  options: BodyOptions,
): Promise<WriteOutcome> {
  const outcome = await pump(response, body, options);
  if (outcome.broken !== undefined) abort(response, body.length);
  // Not waited for: a disk that hangs must not hold the connection, and nobody is there to tell.
  void body.close().catch(() => undefined);
  return outcome;
}

async function pump(response: ServerResponse, body: PositionedBody, options: BodyOptions): Promise<WriteOutcome> {
  const pieceBytes = options.openRequests < MANY ? ALONE_BYTES : AMONG_MANY_BYTES;
  const newBuffer = (): Uint8Array<ArrayBuffer> => new Uint8Array(Math.min(pieceBytes, body.length));
  let buffer = newBuffer();
  let bytesSent = 0;
  try {
    while (bytesSent < body.length) {
      const piece = buffer.subarray(0, body.length - bytesSent);
      const read = await body.read(piece, bytesSent);
      // A client that left during the read: its `close` was emitted already.
      if (isGone(response)) return { bytesSent, broken: "client-left" };
      if (read === 0) return { bytesSent, broken: "wrong-length" };
      const broken = response.write(piece.subarray(0, read))
        ? undefined
        : await taken(response, "drain", options.idleTimeoutMs);
      bytesSent += read;
      if (broken !== undefined) return { bytesSent, broken };
      // Below its mark a socket asks for no wait and may still hold what it was given.
      if (response.writableLength > 0) buffer = newBuffer();
    }
  } catch (cause) {
    // The read may still be running: its buffer is left to it.
    return { bytesSent, broken: "body-failed", cause };
  }
  const broken = await endOf(response, options);
  if (broken !== undefined) return { bytesSent, broken };
  // All was taken. The collector would come for the memory much later.
  buffer.buffer.transfer(0);
  return { bytesSent };
}

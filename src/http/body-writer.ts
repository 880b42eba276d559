/**
 * Writes the bytes of one streamed answer to node's response; content with positions is the matter of `positioned-writer`. A body that is not exactly as long as was announced, or that
 * fails, is never ended politely (protocol R234-R237): the socket is destroyed instead.
 *
 *   stream ──read one chunk──▶ write a slice ──socket full?──▶ wait for drain, close or the idle timer ──▶ next
 *
 * A chunk belongs to the writer once it was read, and its memory goes back to the system as soon as the socket took it: a
 * source must neither reuse nor look at it again.
 */
import type { ServerResponse } from "node:http";
import type { ReadableStreamDefaultReader } from "node:stream/web";

/** Why an answer was not completed. */
export type Breakage = "client-left" | "client-stalled" | "body-failed" | "wrong-length";

export interface WriteOutcome {
  /** Body bytes handed to the socket. */
  readonly bytesSent: number;
  /** Undefined when the operating system took the whole answer. */
  readonly broken?: Breakage;
  /** What the body's stream failed with. */
  readonly cause?: unknown;
}

export interface BodyOptions {
  /** A client that takes no byte for this long is cut. */
  readonly idleTimeoutMs: number;
  /** Requests that are being answered, this one included: they share what the event loop can do. */
  readonly openRequests: number;
  /** Runs between the last byte and the end of the answer; see `request-body` on lingering. */
  readonly beforeEnd?: () => Promise<void>;
}

export interface Body {
  readonly stream: ReadableStream<Uint8Array>;
  /** `"lent"`: its chunks may be constants of the program, and their memory is left alone. */
  readonly memory: "given" | "lent";
  /** Bytes announced, undefined when none were. */
  readonly length: number | undefined;
}

/**
 * Bytes given to the socket at once. Progress shows only when such a piece is gone, so this over `idleTimeoutMs` is the
 * slowest client that is kept: about 4 kB/s at one minute. Half of it costs a few percent more processor time per byte.
 */
export const SLICE_BYTES = 256 * 1024;

/** Writes the body behind a head that was sent already; the stream is read to its end or cancelled, once. Never rejects. */
export async function writeBody(response: ServerResponse, body: Body, options: BodyOptions): Promise<WriteOutcome> {
  const reader = body.stream.getReader();
  // A source may refuse to be cancelled; the client is gone already, and there is nobody to tell.
  const cancel = (): void => void reader.cancel().catch(() => undefined);
  // While a read is pending only this tells the source that nobody waits for it any more (protocol R261).
  response.once("close", cancel);
  const outcome = await pump(response, reader, { memory: body.memory, length: body.length, ...options });
  response.off("close", cancel);
  if (outcome.broken !== undefined) {
    cancel();
    abort(response, body.length);
  }
  reader.releaseLock();
  return outcome;
}

async function pump(
  response: ServerResponse,
  reader: ReadableStreamDefaultReader<Uint8Array>,
  options: Omit<Body, "stream"> & BodyOptions,
): Promise<WriteOutcome> {
  let bytesSent = 0;
  // As many as fit below the socket's mark, where it asks for no wait: some dozen small ones.
  const written: Uint8Array[] = [];
  try {
    for (;;) {
      release(response, written);
      const { done, value } = await reader.read();
      // A cancelled reader says "done" too: whether the client is there comes first.
      if (isGone(response)) return { bytesSent, broken: "client-left" };
      if (done) break;
      // Nothing of a chunk that is too long is sent: a client must not be left with a body that looks whole.
      if (options.length !== undefined && bytesSent + value.byteLength > options.length) {
        return { bytesSent, broken: "wrong-length" };
      }
      const broken = await writeSlices(response, value, options.idleTimeoutMs);
      bytesSent += value.byteLength;
      if (broken !== undefined) return { bytesSent, broken };
      if (options.memory === "given") written.push(value);
    }
  } catch (cause) {
    return { bytesSent, broken: "body-failed", cause };
  }
  if (options.length !== undefined && bytesSent < options.length) return { bytesSent, broken: "wrong-length" };
  const broken = await endOf(response, options);
  return { bytesSent, ...(broken === undefined ? {} : { broken }) };
}

/** Ends an answer whose bytes were all written, and waits until the operating system has them. */
export async function endOf(response: ServerResponse, options: BodyOptions): Promise<Breakage | undefined> {
  await options.beforeEnd?.();
  response.end();
  return taken(response, "finish", options.idleTimeoutMs);
}

async function writeSlices(
  response: ServerResponse,
  chunk: Uint8Array,
  idleTimeoutMs: number,
): Promise<Breakage | undefined> {
  for (let start = 0; start < chunk.byteLength; start += SLICE_BYTES) {
    if (isGone(response)) return "client-left";
    if (response.write(chunk.subarray(start, start + SLICE_BYTES))) continue;
    const broken = await taken(response, "drain", idleTimeoutMs);
    if (broken !== undefined) return broken;
  }
  return undefined;
}

/**
 * Frees the memory of chunks that the socket took. The collector would come for it much later: until then a fast blob holds
 * twice the memory, and each new chunk gets pages that the kernel has to clear first.
 */
function release(response: ServerResponse, written: Uint8Array[]): void {
  // What has not reached the kernel yet is still read from there.
  if (response.writableLength > 0 || isGone(response)) return;
  for (const { buffer, byteLength } of written.splice(0)) {
    // A view on a part may have neighbours.
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
  }
}

/**
 * Waits until the socket has taken what was written. A client that left during an earlier await makes `write` return
 * false after its `close` was emitted, and waiting for either event alone would then last for ever.
 */
export function taken(
  response: ServerResponse,
  event: "drain" | "finish",
  idleTimeoutMs: number,
): Promise<Breakage | undefined> {
  if (event === "finish" && response.writableFinished) return Promise.resolve(undefined);
  if (isGone(response)) return Promise.resolve("client-left");
  return new Promise((resolve) => {
    const settle = (broken: Breakage | undefined): void => {
      clearTimeout(timer);
      response.off(event, onTaken);
      response.off("close", onClose);
      resolve(broken);
    };
    const onTaken = (): void => settle(undefined);
    const onClose = (): void => settle(response.writableFinished ? undefined : "client-left");
    const timer = setTimeout(() => {
      settle("client-stalled");
      response.req.socket.destroy();
    }, idleTimeoutMs);
    response.on(event, onTaken);
    response.on("close", onClose);
  });
}

/** True when the client's connection is no longer there; `close` may have been emitted before anyone listened. */
export function isGone(response: ServerResponse): boolean {
  return response.destroyed || response.req.socket.destroyed;
}

/** Ends a connection so that no client takes what it got for the whole. */
export function abort(response: ServerResponse, length: number | undefined): void {
  const { socket } = response.req;
  // To HTTP/1.0 a body without length ends where the connection ends: only a reset tells that it is not all.
  if (length === undefined && response.req.httpVersion === "1.0") socket.resetAndDestroy();
  else socket.destroy();
}

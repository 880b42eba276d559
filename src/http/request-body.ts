/**
 * The body of a request as a web stream that reads only when it is read: backpressure reaches the client, and
 * `100 Continue` is sent at the first read, so that an answer such as 401 or 405 pre-empts the body (protocol R81).
 * What nobody reads is dropped up to a bound; with more to come the connection ends after the answer.
 */
import type { IncomingMessage, ServerResponse } from "node:http";

/** More unread body than this costs more to receive than a new connection. */
export const MAX_DROPPED_BYTES = 1024 * 1024;
/** How long an ending connection takes the rest of a body, so that a reset does not overtake the answer. */
const LINGER_MS = 1_000;

export interface RequestBody {
  /** Null when the request has no body. */
  readonly stream: ReadableStream<Uint8Array> | null;
  /** True when the connection cannot be used again after the answer; asked when the head of the answer is written. */
  endsConnection(): boolean;
  /** Takes and drops the rest, up to the bound or `LINGER_MS`; resolves when that is over. */
  linger(): Promise<void>;
  /** After an answer that leaves the connection open: lets the rest pass by, and cuts a client that does not send it. */
  dropRest(): void;
}

export interface RequestBodyOptions {
  /** The client waits for `100 Continue`. */
  readonly awaitsContinue: boolean;
  /** A client that sends no byte for this long while it is read from is cut. */
  readonly idleTimeoutMs: number;
}

const NO_BODY: RequestBody = {
  stream: null,
  endsConnection: () => false,
  linger: () => Promise.resolve(),
  dropRest: () => undefined,
};

export function createRequestBody(
  request: IncomingMessage,
  response: ServerResponse,
  options: RequestBodyOptions,
): RequestBody {
  const announced = announcedBytes(request);
  if (announced === 0) return NO_BODY;
  let awaitsContinue = options.awaitsContinue;
  let received = 0;

  async function pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    if (awaitsContinue) {
      awaitsContinue = false;
      response.writeContinue();
    }
    const chunk = await nextChunk(request, options.idleTimeoutMs);
    if (chunk === undefined) return controller.close();
    received += chunk.byteLength;
    controller.enqueue(chunk);
  }

  return {
    // Nothing is read ahead: the first read decides about 100 Continue.
    stream: new ReadableStream<Uint8Array>({ pull }, { highWaterMark: 0 }),
    endsConnection: () => !request.readableEnded && (awaitsContinue || announced - received > MAX_DROPPED_BYTES),
    linger: () => (awaitsContinue ? Promise.resolve() : dropSome(request)),
    dropRest: () => dropRest(request),
  };
}

/** Bytes that the head promises: 0 without a body, `Infinity` for a chunked one. */
function announcedBytes(request: IncomingMessage): number {
  if (request.headers["transfer-encoding"] !== undefined) return Number.POSITIVE_INFINITY;
  return Number(request.headers["content-length"] ?? 0);
}

/** The next bytes, or undefined at the end. @throws when the client leaves, breaks the framing or stalls */
function nextChunk(request: IncomingMessage, idleTimeoutMs: number): Promise<Uint8Array | undefined> {
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      request.off("readable", look).off("end", look).off("close", look).off("error", fail);
      finish();
    };
    const fail = (error: unknown): void => settle(() => reject(error));
    const look = (): void => {
      const chunk: Uint8Array | null = request.read();
      if (chunk !== null) settle(() => resolve(chunk));
      else if (request.readableEnded) settle(() => resolve(undefined));
      else if (request.destroyed) fail(new Error("the client left before the end of its request body"));
    };
    const timer = setTimeout(() => {
      fail(new Error(`expected more of the request body within ${idleTimeoutMs} ms`));
      request.socket.destroy();
    }, idleTimeoutMs);
    request.on("readable", look).on("end", look).on("close", look).on("error", fail);
    look();
  });
}

async function dropSome(request: IncomingMessage): Promise<void> {
  const deadline = performance.now() + LINGER_MS;
  let dropped = 0;
  while (dropped <= MAX_DROPPED_BYTES) {
    const leftMs = deadline - performance.now();
    // The connection ends in any case: how the rest of the body fails is of no interest.
    const chunk = leftMs > 0 ? await nextChunk(request, leftMs).catch(() => undefined) : undefined;
    if (chunk === undefined) return;
    dropped += chunk.byteLength;
  }
}

function dropRest(request: IncomingMessage): void {
  if (request.complete || request.destroyed) return;
  request.resume();
  const timer = setTimeout(() => {
    if (!request.complete) request.socket.destroy();
  }, LINGER_MS);
  request.once("close", () => clearTimeout(timer));
}

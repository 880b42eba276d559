/**
 * Writes one Reply to node's response: header lines in order and as separate lines (protocol R38, R121), the header block
 * complete on the wire before the first byte of a stream (R175), Content-Length kept on streams (R221), and a body that
 * is not exactly what was announced never ended politely (R234-R237): the socket is destroyed instead.
 *
 *   stream ──read one chunk──▶ write a slice ──socket full?──▶ wait for drain, close or the idle timer ──▶ next
 *
 * A chunk belongs to the writer once it was read: a source must not reuse its buffer.
 */
import type { ServerResponse } from "node:http";
import type { ReadableStreamDefaultReader } from "node:stream/web";
import type { HeaderLine } from "../errors.ts";
import type { Reply } from "../proxy/exchange.ts";

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

export interface WriteOptions {
  /** Method of the request. */
  readonly method: string;
  /** Lines after the reply's own. */
  readonly extraLines: readonly HeaderLine[];
  /** A client that takes no byte for this long is cut. */
  readonly idleTimeoutMs: number;
  /** Runs between the last byte and the end of the answer; see `request-body` on lingering. */
  readonly beforeEnd?: () => Promise<void>;
}

/**
 * Bytes given to the socket at once. Progress shows only when such a piece is gone, so this over `idleTimeoutMs` is the
 * slowest client that is kept: about 2 kB/s at one minute.
 */
const SLICE_BYTES = 128 * 1024;

/**
 * Writes the reply and waits until it is taken or broken; a stream is read to its end or cancelled, once. The client's
 * doings never reject.
 * @throws TypeError when a header line cannot be sent; nothing was sent then
 */
export async function writeReply(response: ServerResponse, reply: Reply, options: WriteOptions): Promise<WriteOutcome> {
  const framed = frame(reply, options.method);
  const lines = headLines(reply, lengthOf(framed), options.extraLines);
  if (framed.kind !== "stream" && reply.body instanceof ReadableStream) void discard(reply.body);
  if (isGone(response)) {
    if (framed.kind === "stream") void discard(framed.stream);
    return { bytesSent: 0, broken: "client-left" };
  }
  if (framed.kind === "stream") return writeStream(response, { ...framed, status: reply.status, lines }, options);
  const bytes = framed.kind === "whole" ? framed.bytes : NO_BYTES;
  if (bytes.byteLength > SLICE_BYTES || options.beforeEnd !== undefined) {
    const stream = streamOf(bytes);
    return writeStream(response, { stream, length: bytes.byteLength, status: reply.status, lines }, options);
  }
  writeAtOnce(response, reply.status, lines, bytes);
  const broken = await taken(response, "finish", options.idleTimeoutMs);
  return { bytesSent: bytes.byteLength, ...(broken === undefined ? {} : { broken }) };
}

/** True when the client's connection is no longer there; `close` may have been emitted before anyone listened. */
function isGone(response: ServerResponse): boolean {
  return response.destroyed || response.req.socket.destroyed;
}

type Framed =
  | { readonly kind: "none"; readonly length: number | undefined }
  | { readonly kind: "whole"; readonly bytes: Uint8Array }
  | { readonly kind: "stream"; readonly stream: ReadableStream<Uint8Array>; readonly length: number | undefined };

interface StreamedReply {
  readonly status: number;
  readonly lines: readonly string[];
  readonly stream: ReadableStream<Uint8Array>;
  readonly length: number | undefined;
}

const NO_BYTES = new Uint8Array(0);
const encoder = new TextEncoder();

/** How the body is delimited (RFC 9112 6.3): 204 and 304 never carry a length (protocol R223), HEAD carries that of GET (R222). */
function frame(reply: Reply, method: string): Framed {
  const declared = declaredLength(reply.headers);
  if (reply.status === 204 || reply.status === 304 || reply.status < 200) return { kind: "none", length: undefined };
  if (reply.body instanceof ReadableStream) {
    return method === "HEAD"
      ? { kind: "none", length: declared }
      : { kind: "stream", stream: reply.body, length: declared };
  }
  if (method === "HEAD") return { kind: "none", length: declared ?? wholeBytes(reply.body)?.byteLength };
  return { kind: "whole", bytes: wholeBytes(reply.body) ?? NO_BYTES };
}

function wholeBytes(body: null | string | Uint8Array): Uint8Array | undefined {
  if (body === null) return undefined;
  return typeof body === "string" ? encoder.encode(body) : body;
}

function lengthOf(framed: Framed): number | undefined {
  return framed.kind === "whole" ? framed.bytes.byteLength : framed.length;
}

function declaredLength(lines: readonly HeaderLine[]): number | undefined {
  const values = new Set(lines.filter(([name]) => name.toLowerCase() === "content-length").map(([, value]) => value));
  const [value] = values;
  if (value === undefined) return undefined;
  if (values.size > 1 || !/^\d{1,15}$/.test(value))
    throw new TypeError("expected one Content-Length in decimal digits");
  return Number(value);
}

/** Names that say how this connection and this body are framed: only the adapter knows that. */
const FRAMING_NAMES = new Set(["content-length", "transfer-encoding", "connection", "keep-alive"]);
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// Tab, printable ASCII and Latin-1: anything else is an injected line or a value that node refuses half way (RFC 9110 5.5).
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Name, value, name, value: the form of `writeHead` that keeps order and repeated lines. */
function headLines(reply: Reply, length: number | undefined, extra: readonly HeaderLine[]): string[] {
  const lines: string[] = [];
  for (const [name, value] of reply.headers) {
    if (!FRAMING_NAMES.has(name.toLowerCase())) lines.push(name, value);
  }
  if (length !== undefined) lines.push("Content-Length", String(length));
  for (const [name, value] of extra) lines.push(name, value);
  // Checked before writeHead: it throws in the middle and keeps the lines it had already taken.
  for (let i = 0; i + 1 < lines.length; i += 2) {
    if (!TOKEN.test(lines[i] ?? "")) throw new TypeError("a header name is not a token");
    if (!FIELD_VALUE.test(lines[i + 1] ?? "")) throw new TypeError(`the value of ${lines[i]} cannot be sent`);
  }
  return lines;
}

/** Head and body in one system call: on a connection handed to the server they would leave in two (one third slower). */
function writeAtOnce(response: ServerResponse, status: number, lines: string[], bytes: Uint8Array): void {
  const { socket } = response.req;
  socket.cork();
  response.writeHead(status, lines);
  if (bytes.byteLength > 0) response.end(bytes);
  else response.end();
  socket.uncork();
}

async function writeStream(
  response: ServerResponse,
  reply: StreamedReply,
  options: WriteOptions,
): Promise<WriteOutcome> {
  const reader = reply.stream.getReader();
  // A source may refuse to be cancelled; the client is gone already, and there is nobody to tell.
  const cancel = (): void => void reader.cancel().catch(() => undefined);
  // While a read is pending only this tells the source that nobody waits for it any more (protocol R261).
  response.once("close", cancel);
  response.writeHead(reply.status, [...reply.lines]);
  response.flushHeaders();
  const outcome = await pump(response, reader, { length: reply.length, ...options });
  response.off("close", cancel);
  if (outcome.broken !== undefined) {
    cancel();
    abort(response, reply.length);
  }
  reader.releaseLock();
  return outcome;
}

interface PumpOptions extends WriteOptions {
  readonly length: number | undefined;
}

async function pump(
  response: ServerResponse,
  reader: ReadableStreamDefaultReader<Uint8Array>,
  options: PumpOptions,
): Promise<WriteOutcome> {
  let bytesSent = 0;
  try {
    for (;;) {
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
    }
  } catch (cause) {
    return { bytesSent, broken: "body-failed", cause };
  }
  if (options.length !== undefined && bytesSent < options.length) return { bytesSent, broken: "wrong-length" };
  await options.beforeEnd?.();
  response.end();
  const broken = await taken(response, "finish", options.idleTimeoutMs);
  return { bytesSent, ...(broken === undefined ? {} : { broken }) };
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
 * Waits until the socket has taken what was written. A client that left during an earlier await makes `write` return
 * false after its `close` was emitted, and waiting for either event alone would then last for ever.
 */
function taken(
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

/** Ends a connection so that no client takes what it got for the whole. */
function abort(response: ServerResponse, length: number | undefined): void {
  const { socket } = response.req;
  // To HTTP/1.0 a body without length ends where the connection ends: only a reset tells that it is not all.
  if (length === undefined && response.req.httpVersion === "1.0") socket.resetAndDestroy();
  else socket.destroy();
}

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      if (bytes.byteLength > 0) controller.enqueue(bytes);
      controller.close();
    },
  });
}

/** Tells a source that its body is not wanted; that it cannot be stopped changes nothing here. */
async function discard(stream: ReadableStream<Uint8Array>): Promise<void> {
  await stream.cancel().catch(() => undefined);
}

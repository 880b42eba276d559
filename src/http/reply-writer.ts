/**
 * Writes one Reply to node's response: header lines in order and as separate lines (protocol R38, R121), the header block
 * complete on the wire before the first byte of a stream (R175), Content-Length kept on streams (R221). The bytes of
 * streams are the matter of `body-writer`, those of stored content of `positioned-writer`.
 */
import type { ServerResponse } from "node:http";
import type { HeaderLine } from "../errors.ts";
import type { PositionedBody, Reply, ReplyBody } from "../proxy/exchange.ts";
import { isGone, SLICE_BYTES, taken, writeBody } from "./body-writer.ts";
import type { Body, BodyOptions, WriteOutcome } from "./body-writer.ts";
import { writePositioned } from "./positioned-writer.ts";

export interface WriteOptions extends BodyOptions {
  /** Method of the request. */
  readonly method: string;
  /** Lines after the reply's own. */
  readonly extraLines: readonly HeaderLine[];
}

/**
 * Writes the reply and waits until it is taken or broken; a stream is read to its end or cancelled, stored content
 * closed, once. The client's doings never reject.
 * @throws TypeError when a header line cannot be sent; nothing was sent then, and the body is left to the caller
 */
export async function writeReply(response: ServerResponse, reply: Reply, options: WriteOptions): Promise<WriteOutcome> {
  const framed = frame(reply, options.method);
  const lines = headLines(reply, lengthOf(framed), options.extraLines);
  if (framed.kind === "none") discard(reply.body);
  if (isGone(response)) {
    discard(reply.body);
    return { bytesSent: 0, broken: "client-left" };
  }
  if (framed.kind === "stream") return writeStream({ ...framed, memory: "given" });
  if (framed.kind === "positioned") {
    sendHead();
    return writePositioned(response, framed.body, options);
  }
  const bytes = framed.kind === "whole" ? framed.bytes : NO_BYTES;
  if (bytes.byteLength > SLICE_BYTES || options.beforeEnd !== undefined) {
    const body: Body = { stream: streamOf(bytes), memory: "lent", length: bytes.byteLength };
    return writeStream(body);
  }
  writeAtOnce(response, reply.status, lines, bytes);
  const broken = await taken(response, "finish", options.idleTimeoutMs);
  return { bytesSent: bytes.byteLength, ...(broken === undefined ? {} : { broken }) };

  function writeStream(body: Body): Promise<WriteOutcome> {
    sendHead();
    return writeBody(response, body, options);
  }

  function sendHead(): void {
    response.writeHead(reply.status, lines);
    response.flushHeaders();
  }
}

type Framed =
  | { readonly kind: "none"; readonly length: number | undefined }
  | { readonly kind: "whole"; readonly bytes: Uint8Array }
  | { readonly kind: "stream"; readonly stream: ReadableStream<Uint8Array>; readonly length: number | undefined }
  | { readonly kind: "positioned"; readonly body: PositionedBody; readonly length: number };

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
  if (isPositioned(reply.body)) {
    const { length } = reply.body;
    return method === "HEAD" ? { kind: "none", length } : { kind: "positioned", body: reply.body, length };
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

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      if (bytes.byteLength > 0) controller.enqueue(bytes);
      controller.close();
    },
  });
}

function isPositioned(body: ReplyBody): body is PositionedBody {
  return typeof body === "object" && body !== null && "close" in body;
}

/** Tells a source that its body is not wanted; that it cannot be stopped changes nothing here. */
export function discard(body: ReplyBody): void {
  if (body instanceof ReadableStream) void body.cancel().catch(() => undefined);
  else if (isPositioned(body)) void body.close().catch(() => undefined);
}

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
  const { lines, declared } = ownLines(reply.headers);
  const framed = frame(reply, options.method, declared);
  addLines(lines, lengthOf(framed), options.extraLines);
  check(lines);
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
function frame(reply: Reply, method: string, declared: number | undefined): Framed {
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

interface OwnLines {
  /** Name, value, name, value: the form of `writeHead` that keeps order and repeated lines. */
  readonly lines: string[];
  readonly declared: number | undefined;
}

/** What the reply says, in one pass, without the lines that say how connection and body are framed: only the adapter knows that. */
function ownLines(headers: readonly HeaderLine[]): OwnLines {
  const lines: string[] = [];
  let declared: string | undefined;
  for (const [name, value] of headers) {
    const framing = framingName(name);
    if (framing === undefined) lines.push(name, value);
    if (framing !== "content-length") continue;
    if ((declared ?? value) !== value || !/^\d{1,15}$/.test(value))
      throw new TypeError("expected one Content-Length in decimal digits");
    declared = value;
  }
  return { lines, declared: declared === undefined ? undefined : Number(declared) };
}

const FRAMING_NAMES: readonly string[] = ["content-length", "transfer-encoding", "connection", "keep-alive"];
const FRAMING_LENGTHS: ReadonlySet<number> = new Set(FRAMING_NAMES.map(({ length }) => length));

function framingName(name: string): string | undefined {
  if (!FRAMING_LENGTHS.has(name.length)) return undefined;
  const lower = name.toLowerCase();
  return FRAMING_NAMES.find((framing) => framing === lower);
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// Tab, printable ASCII and Latin-1: anything else is an injected line or a value that node refuses half way (RFC 9110 5.5).
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

function addLines(lines: string[], length: number | undefined, extra: readonly HeaderLine[]): void {
  if (length !== undefined) lines.push("Content-Length", String(length));
  for (const [name, value] of extra) lines.push(name, value);
}

/** Before `writeHead`, which throws in the middle and keeps the lines it had already taken. */
function check(lines: readonly string[]): void {
  for (let i = 0; i + 1 < lines.length; i += 2) {
    if (!TOKEN.test(lines[i] ?? "")) throw new TypeError("a header name is not a token");
    if (!FIELD_VALUE.test(lines[i + 1] ?? "")) throw new TypeError(`the value of ${lines[i]} cannot be sent`);
  }
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

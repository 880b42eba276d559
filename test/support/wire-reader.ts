/**
 * Reads requests off a socket for the fake servers: head, then a body by length or in chunks. Strict where Layover must be
 * correct (no body framing twice, no bare line feed in a head), so that a sloppy request fails its test.
 */
import type net from "node:net";
import type { HeaderLine } from "../../src/errors.ts";

export interface WireRequestHead {
  readonly method: string;
  /** The raw target as it came: `/v2/a/b/tags/list?n=1`. */
  readonly target: string;
  /** The target before `?`. */
  readonly path: string;
  /** The target after `?`, `""` when there is none. */
  readonly query: string;
  readonly version: string;
  /** Lines as they came, in their order and case. */
  readonly lines: readonly HeaderLine[];
  /** The same, joined by name. */
  readonly headers: Headers;
}

export interface RequestReader {
  /** The next head; undefined when the client closed. */
  nextHead(): Promise<WireRequestHead | undefined>;
  /** The body that belongs to this head; undefined when it broke off or is larger than 256 MiB. */
  body(head: WireRequestHead): Promise<Uint8Array | undefined>;
  /** At least so many raw bytes of a body, in whatever framing; what follows is dropped. Undefined when it broke off. */
  some(count: number): Promise<Uint8Array | undefined>;
}

/** Room for the 8 KB tokens some registries issue, several times over (protocol R104). */
const MAX_HEAD_BYTES = 256 * 1024;
const MAX_BODY_BYTES = 256 * 1024 * 1024;

export function createRequestReader(socket: net.Socket): RequestReader {
  let buffered: Buffer = Buffer.alloc(0);
  let isEnded = false;
  let wake: () => void = () => {};
  let isDropping = false;
  socket.on("data", (chunk: Buffer) => {
    if (isDropping) return;
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    wake();
  });
  for (const event of ["end", "close"]) {
    socket.on(event, () => {
      isEnded = true;
      wake();
    });
  }
  const more = async (): Promise<boolean> => {
    if (isEnded) return false;
    await new Promise<void>((resolve) => (wake = resolve));
    return true;
  };
  const take = (count: number): Buffer => {
    const taken = buffered.subarray(0, count);
    buffered = buffered.subarray(count);
    return taken;
  };
  const takeUntil = async (mark: string, max: number): Promise<string | undefined> => {
    for (;;) {
      const at = buffered.indexOf(mark);
      if (at >= 0)
        return take(at + mark.length)
          .toString("latin1")
          .slice(0, at);
      if (buffered.length > max || !(await more())) return undefined;
    }
  };
  const takeExactly = async (count: number): Promise<Buffer | undefined> => {
    while (buffered.length < count) if (count > MAX_BODY_BYTES || !(await more())) return undefined;
    return take(count);
  };
  return {
    async nextHead() {
      const text = await takeUntil("\r\n\r\n", MAX_HEAD_BYTES);
      return text === undefined ? undefined : parseHead(text);
    },
    async body(head) {
      if (/100-continue/i.test(head.headers.get("expect") ?? "")) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      if (/chunked/i.test(head.headers.get("transfer-encoding") ?? "")) return readChunks(takeUntil, takeExactly);
      return takeExactly(Number(head.headers.get("content-length") ?? "0"));
    },
    async some(count) {
      const bytes = await takeExactly(count);
      isDropping = true;
      buffered = Buffer.alloc(0);
      return bytes;
    },
  };
}

async function readChunks(
  takeUntil: (mark: string, max: number) => Promise<string | undefined>,
  takeExactly: (count: number) => Promise<Buffer | undefined>,
): Promise<Uint8Array | undefined> {
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const size = Number.parseInt((await takeUntil("\r\n", 1024)) ?? "", 16);
    if (!(size >= 0) || total + size > MAX_BODY_BYTES) return undefined;
    const chunk = await takeExactly(size + 2);
    if (chunk === undefined) return undefined;
    if (size === 0) return Buffer.concat(chunks);
    chunks.push(Buffer.from(chunk.subarray(0, size)));
    total += size;
  }
}

/** @throws Error when the head is none: the fake server says so instead of guessing. */
function parseHead(text: string): WireRequestHead {
  const [first = "", ...rest] = text.split("\r\n");
  const parts = /^([A-Z]+) (\S+) (HTTP\/1\.[01])$/.exec(first);
  if (parts === null) throw new Error(`expected a request line, got ${JSON.stringify(first)}`);
  const [, method = "", target = "", version = ""] = parts;
  const lines = rest.map((line): HeaderLine => {
    const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    if (field === null) throw new Error(`expected a header line, got ${JSON.stringify(line)}`);
    return [field[1] ?? "", field[2] ?? ""];
  });
  const names = lines.map(([name]) => name.toLowerCase());
  if (names.includes("content-length") && names.includes("transfer-encoding"))
    throw new Error("request with two framings (protocol R223)");
  const headers = new Headers();
  for (const [name, value] of lines) headers.append(name, value);
  const [path = "", query = ""] = splitOnce(target, "?");
  return { method, target, path, query, version, lines, headers };
}

function splitOnce(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + mark.length)];
}

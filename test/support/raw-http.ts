/**
 * A client that speaks HTTP/1.1 by bytes, for what `fetch` hides: when the head was complete, how the body was framed,
 * which header lines came how often, and whether the connection ended by FIN or by RST (protocol R284).
 */
import net from "node:net";
import tls from "node:tls";
import type { HeaderLine } from "../../src/errors.ts";

export interface RawHead {
  readonly status: number;
  /** `HTTP/1.1 200 OK` */
  readonly statusLine: string;
  readonly lines: readonly HeaderLine[];
  /** The only value of a name; undefined when absent. @throws Error when the name came more than once. */
  header(name: string): string | undefined;
  all(name: string): string[];
  /** When the empty line after the head had arrived, on the `performance.now()` clock. */
  readonly completeAtMs: number;
}

export interface RawAnswer extends RawHead {
  readonly body: Uint8Array;
  readonly framing: "none" | "length" | "chunked" | "close";
  /** False when the connection ended before the body did. */
  readonly isComplete: boolean;
  /** When the first body byte arrived; undefined without body. */
  readonly firstBodyByteAtMs: number | undefined;
}

export interface RawConnection {
  send(bytes: string | Uint8Array): void;
  /** The next head. @throws Error when the connection ends first, with what had come. */
  readHead(): Promise<RawHead>;
  /** The next answer with its whole body; `method` HEAD has none. */
  readAnswer(method?: string): Promise<RawAnswer>;
  /** Exactly so many raw bytes, or fewer when the connection ended. */
  read(count: number): Promise<Uint8Array>;
  /** How the other side ended the connection. */
  readonly closed: Promise<"fin" | "reset">;
  /** Stops and goes on reading: a dead reader (lesson T28). */
  pause(): void;
  resume(): void;
  /** Ends our side: `end` by FIN, `reset` by RST. */
  end(): void;
  reset(): void;
}

export interface RawTarget {
  host: string;
  port: number;
  /** Speak TLS; `ca` is trusted, `servername` defaults to the host. */
  tls?: { ca: string; servername?: string };
}

/** Connects to `"http://127.0.0.1:5000"` or a host and port. */
export async function openRaw(target: string | RawTarget): Promise<RawConnection> {
  const { host, port, tls: secure } = typeof target === "string" ? targetOf(target) : target;
  const options = { host, port, ...(secure && { ca: secure.ca, servername: secure.servername ?? host }) };
  const socket = secure ? tls.connect(options) : net.connect(options);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.once(secure ? "secureConnect" : "connect", resolve);
  });
  socket.removeAllListeners("error");
  return connectionOn(socket);
}

/** One request on a connection of its own. `lines` follow the request line as they are; Host and Connection are added when missing. */
export async function rawRequest(url: string, start: string, lines: readonly string[] = []): Promise<RawAnswer> {
  const connection = await openRaw(url);
  const has = (name: string): boolean => lines.some((line) => line.toLowerCase().startsWith(`${name}:`));
  const added = [
    ...(has("host") ? [] : [`Host: ${new URL(url).host}`]),
    ...(has("connection") ? [] : ["Connection: close"]),
  ];
  connection.send(`${[`${start} HTTP/1.1`, ...added, ...lines].join("\r\n")}\r\n\r\n`);
  try {
    return await connection.readAnswer(start.split(" ")[0]);
  } finally {
    connection.end();
  }
}

function targetOf(url: string): RawTarget {
  const { hostname, port } = new URL(url);
  return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port === "" ? 80 : port) };
}

function connectionOn(socket: net.Socket): RawConnection {
  const input = createInput(socket);
  const readHead = async (): Promise<RawHead> => {
    const text = await input.until("\r\n\r\n");
    if (text === undefined)
      throw new Error(`expected a response head, got ${JSON.stringify(input.rest())} and the end of the connection`);
    return parseHead(text);
  };
  return {
    send: (bytes) => void socket.write(bytes),
    readHead,
    read: input.take,
    closed: input.closed,
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    end: () => void socket.end(),
    reset: () => void socket.resetAndDestroy(),
    async readAnswer(method = "GET") {
      const head = await readHead();
      const firstByte = input.nextByteAt();
      const { body, framing, isComplete } = await readBody(input, head, method);
      return { ...head, body, framing, isComplete, firstBodyByteAtMs: body.length > 0 ? await firstByte : undefined };
    },
  };
}

type Input = ReturnType<typeof createInput>;

async function readBody(
  input: Input,
  head: RawHead,
  method: string,
): Promise<Pick<RawAnswer, "body" | "framing" | "isComplete">> {
  if (method === "HEAD" || head.status === 204 || head.status === 304 || head.status < 200) {
    return { body: new Uint8Array(), framing: "none", isComplete: true };
  }
  if (head.header("transfer-encoding") !== undefined) return { ...(await readChunks(input)), framing: "chunked" };
  const length = head.header("content-length");
  if (length === undefined) {
    const body = await input.take(Number.POSITIVE_INFINITY);
    return { body, framing: "close", isComplete: (await input.closed) === "fin" };
  }
  const body = await input.take(Number(length));
  return { body, framing: "length", isComplete: body.length === Number(length) };
}

async function readChunks(input: Input): Promise<{ body: Uint8Array; isComplete: boolean }> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const line = await input.until("\r\n");
    const size = Number.parseInt(line ?? "", 16);
    const chunk = line === undefined ? new Uint8Array() : await input.take(size + 2);
    chunks.push(chunk.subarray(0, size || 0));
    const isBroken = line === undefined || chunk.length < size + 2;
    if (isBroken || size === 0) return { body: new Uint8Array(Buffer.concat(chunks)), isComplete: !isBroken };
  }
}

function parseHead(text: string): RawHead {
  const [statusLine = "", ...rest] = text.split("\r\n");
  const lines = rest.map((line): HeaderLine => {
    const at = line.indexOf(":");
    return [line.slice(0, at), line.slice(at + 1).trim()];
  });
  const all = (name: string): string[] =>
    lines.filter(([other]) => other.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
  return {
    status: Number(statusLine.split(" ")[1]),
    statusLine,
    lines,
    all,
    header(name) {
      const values = all(name);
      if (values.length > 1) throw new Error(`expected one ${name}, got ${JSON.stringify(values)}`);
      return values[0];
    },
    completeAtMs: performance.now(),
  };
}

/** What has arrived and not been read yet, and the end of the connection. */
function createInput(socket: net.Socket) {
  let chunks: Buffer[] = [];
  let buffered = 0;
  let isEnded = false;
  let waiters: (() => void)[] = [];
  const wake = (): void => {
    for (const waiter of waiters.splice(0)) waiter();
  };
  const arrival = (): Promise<void> => new Promise((resolve) => waiters.push(resolve));
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    buffered += chunk.length;
    wake();
  });
  const closed = new Promise<"fin" | "reset">((resolve) => {
    const end = (how: "fin" | "reset"): void => {
      isEnded = true;
      resolve(how);
      wake();
    };
    socket.on("end", () => end("fin"));
    socket.on("error", () => end("reset"));
    socket.on("close", () => end("reset")); // without an end before it: Bun reports some resets so
  });
  const joined = (): Buffer => {
    chunks = [Buffer.concat(chunks)];
    return chunks[0] ?? Buffer.alloc(0);
  };
  const cut = (count: number): Buffer => {
    const all = joined();
    chunks = [all.subarray(count)];
    buffered = all.length - Math.min(count, all.length);
    return all.subarray(0, count);
  };
  return {
    closed,
    rest: (): string => joined().toString("latin1"),
    async take(count: number): Promise<Uint8Array> {
      while (buffered < count && !isEnded) await arrival();
      return new Uint8Array(cut(Math.min(count, buffered)));
    },
    async until(mark: string): Promise<string | undefined> {
      for (;;) {
        const at = joined().indexOf(mark);
        if (at >= 0)
          return cut(at + mark.length)
            .toString("latin1")
            .slice(0, at);
        if (isEnded) return undefined;
        await arrival();
      }
    },
    async nextByteAt(): Promise<number> {
      while (buffered === 0 && !isEnded) await arrival();
      return performance.now();
    },
  };
}

/**
 * A small HTTP/1.1 server that writes the bytes it is told to, true or false: the fake registry, token server and CDN stand on it.
 * `node:http` would refuse half of what misbehaving registries send (wrong lengths, bodies that end with the connection,
 * resets in the middle), so heads and bodies go to the socket as they are. One request at a time per connection.
 */
import net from "node:net";
import tls from "node:tls";
import type { HeaderLine } from "../../src/errors.ts";
import { createRequestReader, type WireRequestHead } from "./wire-reader.ts";

export interface WireRequest extends WireRequestHead {
  readonly body: Uint8Array;
  readonly at: number;
}

/** The way back of one request. Every write is a no-op answering false once the client has gone. */
export interface WireAnswer {
  /** Writes raw bytes, waiting while the client's window is full; false when the client has gone. */
  write(bytes: Uint8Array | string): Promise<boolean>;
  /** Ends the answer: `keep` the connection for a next request, `fin` closes it cleanly, `reset` breaks it. */
  finish(how: "keep" | "fin" | "reset"): void;
  /** Resolves when the client has gone or the server is closed. */
  readonly gone: Promise<void>;
  readonly isGone: () => boolean;
}

export type WireHandler = (request: WireRequest, answer: WireAnswer) => Promise<void>;

/** What a server does to a request whose body it has read only in part. */
export interface Interruption {
  readonly afterBytes: number;
  /** `answer`: the handler answers at once and the connection ends; `stall`: nothing more is read. */
  readonly how: "reset" | "answer" | "stall";
}

export interface WireServerOptions {
  /** Asked before a body is read. */
  interrupt?: (head: WireRequestHead) => Interruption | undefined;
  /** Called for a request whose body broke off. */
  broken?: (head: WireRequestHead) => void;
  /** Serve TLS with this chain and key (PEM); `ca` asks for a client certificate of that authority. */
  tls?: { cert: string; key: string; ca?: string };
  /** Address to bind, default 127.0.0.1. */
  hostname?: string;
}

export interface WireServer {
  /** `http://127.0.0.1:41234`, no slash at the end. */
  readonly url: string;
  /** `127.0.0.1:41234` */
  readonly host: string;
  readonly port: number;
  /** Requests whose answer is not finished while their client is still there. */
  openRequests(): number;
  /** Connections ever accepted. */
  connections(): number;
  /** Breaks connections that wait for a next request, as a registry's idle timer does (protocol R257). */
  closeIdle(): void;
  /** Refuses connections from now on, as a registry that is down does. Answers that are under way go on to their end. */
  refuse(): void;
  /** Stops listening and breaks every connection. */
  close(): Promise<void>;
}

export async function createWireServer(options: WireServerOptions, handler: WireHandler): Promise<WireServer> {
  const sockets = new Map<net.Socket, { busy: boolean }>();
  let accepted = 0;
  let isRefusing = false;
  const accept = (socket: net.Socket): void => {
    accepted++;
    const state = { busy: false };
    sockets.set(socket, state);
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy()); // a reset by the client is an ordinary end here
    socket.on("close", () => sockets.delete(socket));
    serveConnection(socket, { state, isLast: () => isRefusing, options }, handler);
  };
  const server = listenerFor(options, accept);
  const hostname = options.hostname ?? "127.0.0.1";
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, hostname, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error(`expected a TCP address, got ${address}`);
  const closeIdle = (): void => {
    for (const [socket, state] of sockets) if (!state.busy) socket.destroy();
  };
  const host = `${hostname.includes(":") ? `[${hostname}]` : hostname}:${address.port}`;
  return {
    url: `${options.tls ? "https" : "http"}://${host}`,
    host,
    port: address.port,
    openRequests: () => [...sockets.values()].filter((state) => state.busy).length,
    connections: () => accepted,
    closeIdle,
    refuse() {
      isRefusing = true;
      server.close();
      closeIdle();
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets.keys()) socket.destroy();
      await closed;
    },
  };
}

function listenerFor(options: WireServerOptions, accept: (socket: net.Socket) => void): net.Server {
  if (!options.tls) return net.createServer(accept);
  const mutual =
    options.tls.ca === undefined ? {} : { ca: options.tls.ca, requestCert: true, rejectUnauthorized: true };
  const server = tls.createServer({ cert: options.tls.cert, key: options.tls.key, ...mutual }, accept);
  server.on("tlsClientError", () => {}); // a client that refuses our certificate is the test's subject, not the server's fault
  return server;
}

interface Served {
  readonly state: { busy: boolean };
  /** Whether the connection ends with the answer that is under way. */
  readonly isLast: () => boolean;
  readonly options: WireServerOptions;
}

function serveConnection(socket: net.Socket, { state, isLast, options }: Served, handler: WireHandler): void {
  const reader = createRequestReader(socket);
  const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const serveNext = async (): Promise<void> => {
    const head = await reader.nextHead();
    if (head === undefined || socket.destroyed) return;
    state.busy = true;
    const interruption = options.interrupt?.(head);
    const body = interruption === undefined ? await reader.body(head) : await interrupted(interruption);
    if (body === undefined) {
      options.broken?.(head);
      return void socket.destroy();
    }
    let keep = false;
    const answer = answerOn(socket, gone, (how) => {
      state.busy = false;
      keep = how === "keep" && interruption === undefined;
    });
    await handler({ ...head, body, at: performance.now() }, answer);
    if (isLast()) return void socket.end();
    if (interruption !== undefined) socket.end(); // the rest of the body is read and dropped until the client stops
    if (keep && !socket.destroyed) return serveNext();
  };
  const interrupted = async ({ afterBytes, how }: Interruption): Promise<Uint8Array | undefined> => {
    const some = await reader.some(afterBytes);
    if (how === "answer") return some;
    if (how === "reset") socket.resetAndDestroy();
    else socket.pause();
    await gone;
    return undefined;
  };
  serveNext().catch((error: unknown) => {
    // A fault in the fake itself must not look like a fault of the product: say so on the wire's other end and here.
    console.error("fake server:", error);
    socket.destroy();
  });
}

function answerOn(socket: net.Socket, gone: Promise<void>, ended: (how: "keep" | "fin" | "reset") => void): WireAnswer {
  let isFinished = false;
  return {
    gone,
    isGone: () => socket.destroyed,
    async write(bytes) {
      if (socket.destroyed) return false;
      if (socket.write(bytes)) return true;
      await Promise.race([gone, new Promise<void>((resolve) => socket.once("drain", () => resolve()))]);
      return !socket.destroyed;
    },
    finish(how) {
      if (isFinished) return;
      isFinished = true;
      ended(how);
      if (how === "fin") socket.end();
      // Bytes still in our own buffer would be thrown away by a reset: let them reach the kernel first.
      if (how === "reset") socket.write("", () => socket.resetAndDestroy());
    },
  };
}

/** Header lines as they stand on the wire, with the status line before them and the empty line after. */
export function encodeHead(status: number, lines: readonly HeaderLine[], version = "HTTP/1.1"): string {
  const reason = REASONS[status] ?? "Status";
  return `${version} ${status} ${reason}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
}

const REASONS: Record<number, string> = {
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  416: "Range Not Satisfiable",
  429: "Too Many Requests",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
};

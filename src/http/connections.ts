/**
 * The connections of the HTTP server and what is known of each from the moment it was made: a socket that is gone has
 * no address any more. Keeps the clocks that node does not run on sockets handed to it by `emit("connection")`: the time
 * to send a request's head (lessons T29, slow headers) and the time a kept-alive connection may be idle.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createUploadFlow } from "./upload-flow.ts";
import type { UploadFlow } from "./upload-flow.ts";

/** What whoever accepted a connection knows about it. */
export interface ConnectionFacts {
  /** TLS was terminated on it. */
  readonly secure: boolean;
  /** Address of the peer (`"::1"`, `"192.0.2.7"`), or `"unix"`. */
  readonly peer: string;
  /** The name in the client's certificate, while that holds. */
  readonly certificateUser?: () => string | undefined;
  /** Only the health paths are answered: plain HTTP from elsewhere on a port that speaks https. */
  readonly httpsOnly?: boolean;
}

export interface Connection {
  readonly socket: Socket;
  readonly facts: ConnectionFacts;
  /** Requests that are being answered, or wait for their turn when the client pipelines. */
  open: number;
  /** Settles when the answer to the latest request has ended; never rejects. */
  turn: Promise<void>;
  /** Backpressure of request bodies; undefined where the runtime has it. */
  readonly uploads: UploadFlow | undefined;
  /** True once it was decided that the connection ends: nothing is written to it any more. */
  ending: boolean;
}

export interface ConnectionTimeouts {
  /** From the connection, or the first byte after an answer, to the complete head of a request. */
  readonly headersTimeoutMs: number;
  /** From an answer to the first byte of the next request. */
  readonly keepAliveTimeoutMs: number;
}

export interface Connections {
  /** Takes up a connection; `fed` ones get the clocks. */
  add(socket: Socket, facts: ConnectionFacts, origin: "fed" | "direct"): Connection;
  /** @returns undefined for a socket that was never added or is closed */
  of(socket: Duplex): Connection | undefined;
  requestStarted(connection: Connection): void;
  requestEnded(connection: Connection): void;
  /** Closes a connection after what was written to it is gone. */
  end(connection: Connection): void;
  readonly count: number;
  closeIdle(): void;
  destroyAll(): void;
  /** Resolves when no connection is left. */
  empty(): Promise<void>;
}

/** How long a peer may take to close its side, or to take the last bytes, of a connection that ends. */
const ENDING_MS = 2_000;

export function createConnections(timeouts: ConnectionTimeouts): Connections {
  // As many as there are open sockets: the listener and the kernel bound them.
  const all = new Map<Duplex, Connection & { clock: Clock | undefined }>();
  let whenEmpty: (() => void)[] = [];

  function add(socket: Socket, facts: ConnectionFacts, origin: "fed" | "direct"): Connection {
    const clock = origin === "fed" ? createClock(socket, timeouts) : undefined;
    const uploads = origin === "fed" ? createUploadFlow(socket) : undefined;
    const connection = { socket, facts, uploads, open: 0, turn: Promise.resolve(), ending: false, clock };
    all.set(socket, connection);
    // `close` follows, and whoever writes to the socket sees it: an error says nothing more.
    socket.on("error", () => undefined);
    socket.once("close", () => {
      clock?.stop();
      all.delete(socket);
      if (all.size > 0) return;
      for (const resolve of whenEmpty) resolve();
      whenEmpty = [];
    });
    return connection;
  }

  return {
    add,
    of: (socket) => all.get(socket),
    get count() {
      return all.size;
    },
    requestStarted(connection) {
      connection.open += 1;
      all.get(connection.socket)?.clock?.requestStarted();
    },
    requestEnded(connection) {
      connection.open -= 1;
      if (connection.open === 0) all.get(connection.socket)?.clock?.answered();
    },
    end(connection) {
      connection.ending = true;
      connection.socket.end();
      const timer = setTimeout(() => connection.socket.destroy(), ENDING_MS);
      connection.socket.once("close", () => clearTimeout(timer));
    },
    closeIdle() {
      for (const { socket, open, ending } of all.values()) if (open === 0 && !ending) socket.destroy();
    },
    destroyAll() {
      for (const { socket } of all.values()) socket.destroy();
    },
    empty() {
      return all.size === 0 ? Promise.resolve() : new Promise((resolve) => void whenEmpty.push(resolve));
    },
  };
}

interface Clock {
  requestStarted(): void;
  answered(): void;
  stop(): void;
}

/** One timer per connection: it waits for a head, or for the first byte of one; while an answer is made it is off. */
function createClock(socket: Socket, timeouts: ConnectionTimeouts): Clock {
  let idle = false;
  let timer = setTimeout(expire, timeouts.headersTimeoutMs);

  function restart(ms: number): void {
    clearTimeout(timer);
    timer = setTimeout(expire, ms);
  }
  function expire(): void {
    socket.destroy();
  }
  socket.on("data", () => {
    if (!idle) return;
    idle = false;
    restart(timeouts.headersTimeoutMs);
  });
  return {
    requestStarted() {
      idle = false;
      clearTimeout(timer);
    },
    answered() {
      idle = true;
      restart(timeouts.keepAliveTimeoutMs);
    },
    stop: () => clearTimeout(timer),
  };
}

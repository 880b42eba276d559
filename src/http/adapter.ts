/**
 * node's HTTP server on one side, `Exchange → Reply` on the other. A request is checked once (`registry/raw-request`),
 * answered, written (`reply-writer`), and reported once when its answer ended or broke. Connections come from a server
 * that listens itself (twice the rate for small answers) or from the front, sniffed and decrypted, by `accept`.
 */
import http from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { RegistryError } from "../errors.ts";
import type { HeaderLine } from "../errors.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { peerAddress } from "../registry/peer.ts";
import { rawAnswer } from "../registry/raw-answer.ts";
import { KNOWN_METHODS } from "../registry/raw-request.ts";
import type { Breakage } from "./body-writer.ts";
import { createConnections } from "./connections.ts";
import type { Connection, ConnectionFacts } from "./connections.ts";
import { checkIncoming, exchangeOf } from "./incoming.ts";
import type { Expectation, Incoming } from "./incoming.ts";
import { errorReply } from "./reply.ts";
import { discard, writeReply } from "./reply-writer.ts";
import { createRequestBody } from "./request-body.ts";
import type { RequestBody } from "./request-body.ts";

export interface HttpServerOptions {
  /** From the connection, or the first byte after an answer, to the complete head of a request. */
  readonly headersTimeoutMs: number;
  /** How long a connection may wait for its next request. */
  readonly keepAliveTimeoutMs: number;
  /** Longest request head that is accepted; 65536. */
  readonly maxHeaderBytes: number;
  /** A client that takes no byte of an answer for this long is cut. There is no total timeout. */
  readonly idleTimeoutMs: number;
  /** A client that sends no byte of a body that is being read for this long is cut. */
  readonly bodyTimeoutMs: number;
}

/** How a request ended. */
export interface Outcome {
  readonly status: number;
  /** Body bytes handed to the socket. */
  readonly bytesSent: number;
  readonly durationMs: number;
  /** True when the operating system took the whole answer. */
  readonly complete: boolean;
  /** Why not; undefined when complete. */
  readonly broken?: Breakage | undefined;
  /** What the answer or its body failed with, for the log. */
  readonly cause?: unknown;
}

/** A request that never became an Exchange. */
export interface Refusal {
  readonly status: number;
  /** Fixed text: never holds anything of the request. */
  readonly reason: string;
  readonly peer: string;
}

export interface HttpServerDependencies {
  /** Should not reject; when it does, the client gets a 500 without the reason. */
  answer(exchange: Exchange): Promise<Reply>;
  /** Called once per Exchange, when its answer ended or broke. */
  finished(exchange: Exchange, outcome: Outcome): void;
  refused(refusal: Refusal): void;
  /** 16 hex digits. */
  newId(): string;
}

export interface HttpServer {
  /** A new server over the same answers, not yet listening: node's servers listen once, so each address takes one. */
  newNodeServer(): http.Server;
  /** Takes a connection that was sniffed or decrypted; the socket is closed here from then on. */
  accept(socket: Socket, facts: ConnectionFacts): void;
  /** Closes idle connections, lets running answers end, then destroys what is left after `timeoutMs`. Once. */
  drain(timeoutMs: number): Promise<void>;
  /** Requests that are being answered. */
  readonly openRequests: number;
  readonly openConnections: number;
}

/** How often node looks at its two timeouts on sockets that it accepted itself. */
const CHECKING_INTERVAL_MS = 1_000;
/** Requests sent ahead on one connection; clients of registries send none. */
const MAX_PIPELINED = 100;
export function createHttpServer(options: HttpServerOptions, dependencies: HttpServerDependencies): HttpServer {
  const connections = createConnections(options);
  const fed = newServer();
  let openRequests = 0;
  let draining = false;

  function newServer(): http.Server {
    const server = http.createServer({
      maxHeaderSize: options.maxHeaderBytes,
      headersTimeout: options.headersTimeoutMs,
      keepAliveTimeout: options.keepAliveTimeoutMs,
      // Uploads take as long as they take; a stalled one ends by the idle timeout.
      requestTimeout: 0,
      connectionsCheckingInterval: Math.min(options.headersTimeoutMs, CHECKING_INTERVAL_MS),
      // Refused in `registry/raw-request`, with a body that clients can read.
      requireHostHeader: false,
    });
    server.on("request", (request, response) => void handle(request, response, "none"));
    // Whoever reads the body sends 100 Continue: an answer may come first (protocol R81).
    server.on("checkContinue", (request, response) => void handle(request, response, "100-continue"));
    server.on("connect", (_request, socket) => refuseRaw(socket, METHOD_REFUSED));
    server.on("clientError", (error, socket) => refuseMalformed(error, socket));
    return server;
  }

  function newNodeServer(): http.Server {
    const server = newServer();
    server.on("connection", (socket) => {
      const peer = typeof server.address() === "string" ? "unix" : peerAddress(socket.remoteAddress);
      if (draining) socket.destroy();
      else connections.add(socket, { secure: false, peer }, "direct");
    });
    return server;
  }

  function accept(socket: Socket, facts: ConnectionFacts): void {
    if (draining) return void socket.destroy();
    connections.add(socket, facts, "fed");
    fed.emit("connection", socket);
  }

  async function handle(request: IncomingMessage, response: ServerResponse, expects: Expectation): Promise<void> {
    const connection = connections.of(request.socket);
    // Closed between the parser and here: there is nobody to answer, and no address to answer for.
    if (connection === undefined) return void request.socket.destroy();
    if (connection.open >= MAX_PIPELINED) return void connection.socket.destroy();
    connections.requestStarted(connection);
    connection.uploads?.add(request);
    openRequests += 1;
    const { promise: turn, resolve: endTurn } = Promise.withResolvers<void>();
    const earlier = connection.turn;
    connection.turn = turn;
    try {
      // One at a time: what a later answer wrote would wait in memory for the end of an earlier one.
      if (connection.open > 1) await earlier;
      if (request.socket.destroyed) return;
      const checked = checkIncoming(connection.facts, request);
      if (checked.kind === "refused") await refuse(connection, request, response, checked.error);
      else await serve(connection, { request, response, expects, checked });
    } finally {
      endTurn();
      openRequests -= 1;
      connection.uploads?.remove(request);
      connections.requestEnded(connection);
      if (draining && connection.open === 0 && !connection.ending) connections.end(connection);
    }
  }

  async function serve(connection: Connection, incoming: Incoming): Promise<void> {
    const { request, response } = incoming;
    const body = createRequestBody(request, response, {
      awaitsContinue: incoming.expects === "100-continue",
      idleTimeoutMs: options.bodyTimeoutMs,
    });
    const exchange = exchangeOf(connection.facts, incoming, body.stream, dependencies.newId());
    let outcome: Omit<Outcome, "durationMs"> = { status: 500, bytesSent: 0, complete: false };
    try {
      const { reply, cause } = await replyTo(exchange);
      const written = await write(exchange, response, reply, body);
      outcome = cause === undefined ? written : { ...written, cause };
    } finally {
      const { status, bytesSent, complete, broken, cause } = outcome;
      if (complete) body.dropRest();
      const durationMs = performance.now() - exchange.receivedAtMs;
      dependencies.finished(exchange, { status, bytesSent, complete, broken, cause, durationMs });
    }
  }

  async function replyTo(exchange: Exchange): Promise<{ reply: Reply; cause?: unknown }> {
    try {
      return { reply: await dependencies.answer(exchange) };
    } catch (cause) {
      // A defect in an answer: the client learns that it is ours, the log learns the rest.
      return { reply: internalError(), cause };
    }
  }

  async function write(
    exchange: Exchange,
    response: ServerResponse,
    reply: Reply,
    body: RequestBody,
  ): Promise<Omit<Outcome, "durationMs">> {
    const last = draining || body.endsConnection();
    const writing = {
      method: exchange.method,
      extraLines: answerLines(exchange.id, last ? "last" : "more"),
      idleTimeoutMs: options.idleTimeoutMs,
      openRequests,
      ...(last ? { beforeEnd: body.linger } : {}),
    };
    try {
      const { bytesSent, broken, cause } = await writeReply(response, reply, writing);
      return { status: reply.status, bytesSent, complete: broken === undefined, broken, cause };
    } catch (cause) {
      // Only lines that cannot be sent get here, before anything was written.
      discard(reply.body);
      const written = await writeReply(response, internalError(), writing);
      return { status: 500, complete: written.broken === undefined, cause, ...written };
    }
  }

  async function refuse(
    connection: Connection,
    request: IncomingMessage,
    response: ServerResponse,
    error: RegistryError,
  ): Promise<void> {
    dependencies.refused({ status: error.status, reason: error.message, peer: connection.facts.peer });
    await writeReply(response, errorReply(error), {
      method: request.method ?? "GET",
      extraLines: answerLines(dependencies.newId(), "last"),
      idleTimeoutMs: options.idleTimeoutMs,
      openRequests,
    });
  }

  function refuseMalformed(error: NodeJS.ErrnoException, socket: Duplex): void {
    const refusal = MALFORMED[error.code ?? ""] ?? (error.code?.startsWith("HPE_") === true ? UNREADABLE : undefined);
    // A reset or a broken pipe: nobody is there to read an answer.
    if (refusal === undefined) socket.destroy();
    else refuseRaw(socket, refusal);
  }

  function refuseRaw(socket: Duplex, error: RegistryError): void {
    const connection = connections.of(socket);
    if (connection === undefined || !socket.writable) return void socket.destroy();
    // Never into the middle of an answer; the one that ends is left to end.
    const mayAnswer = connection.open === 0 && !connection.ending;
    if (mayAnswer) {
      dependencies.refused({ status: error.status, reason: error.message, peer: connection.facts.peer });
      socket.write(rawAnswer(error));
    }
    connections.end(connection);
  }

  async function drain(timeoutMs: number): Promise<void> {
    draining = true;
    connections.closeIdle();
    await Promise.race([connections.empty(), Bun.sleep(timeoutMs)]);
    connections.destroyAll();
  }

  return {
    newNodeServer,
    accept,
    drain,
    get openRequests() {
      return openRequests;
    },
    get openConnections() {
      return connections.count;
    },
  };
}

const METHOD_REFUSED = new RegistryError("UNSUPPORTED", "the method is not supported", {
  headers: [["Allow", KNOWN_METHODS.join(", ")]],
});
const UNREADABLE = new RegistryError("UNKNOWN", "the request is not well-formed HTTP/1.1", { status: 400 });
/** What node's parser reports besides faults of syntax (`HPE_…`). */
const MALFORMED: Readonly<Record<string, RegistryError>> = {
  HPE_HEADER_OVERFLOW: new RegistryError("UNKNOWN", "the request head is too large", { status: 431 }),
  ERR_HTTP_REQUEST_TIMEOUT: new RegistryError("UNKNOWN", "the request head took too long", { status: 408 }),
};
function answerLines(id: string, position: "more" | "last"): HeaderLine[] {
  const lines: HeaderLine[] = [["X-Request-Id", id]];
  if (position === "last") lines.push(["Connection", "close"]);
  return lines;
}

function internalError(): Reply {
  return errorReply(new RegistryError("UNKNOWN", "internal error"));
}

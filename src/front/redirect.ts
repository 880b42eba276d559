/**
 * The listener of `--http-redirect`: leads plain HTTP to https, and answers ACME challenges from a folder. It leads only
 * to hosts that are ours, since a redirect to a host that the client named would send it anywhere (compat C28).
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import http from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import path from "node:path";
import type { Duplex } from "node:stream";
import { RegistryError } from "../errors.ts";
import type { HeaderLine } from "../errors.ts";
import type { Log } from "../log.ts";
import { rawAnswer } from "../registry/raw-answer.ts";
import { checkRawRequest } from "../registry/raw-request.ts";
import type { CheckedRequest } from "../registry/raw-request.ts";
import { isOurs, originFor } from "./redirect-target.ts";
import type { RedirectTargets } from "./redirect-target.ts";
import { listenOn } from "./listen.ts";
import type { BoundAddress, ListenSpec } from "./listen.ts";

export interface RedirectOptions extends Omit<RedirectTargets, "certificateNames"> {
  /** Folder with `.well-known/acme-challenge/` below it; undefined: challenges are redirected like the rest. */
  readonly acmeWebroot: string | undefined;
}

export interface RedirectDependencies {
  readonly log: Log;
  /** Its names are ours; undefined when something in front of us terminates TLS. */
  readonly certificate: { current(): { readonly names: readonly string[] } } | undefined;
}

export interface RedirectListener {
  readonly address: BoundAddress;
  /** Stops listening and closes what is open: an answer here is one small packet. */
  close(): Promise<void>;
}

const ACME_FOLDER = "/.well-known/acme-challenge/";
/** A key authorization is a token, a dot and a thumbprint: some 90 characters. */
const MAX_CHALLENGE_BYTES = 16 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
/** Nobody stays on a redirect. */
const KEEP_ALIVE_TIMEOUT_MS = 5_000;
const MAX_HEADER_BYTES = 64 * 1024;

/** @throws ListenError when the address cannot be bound */
export async function createRedirectListener(
  spec: ListenSpec,
  options: RedirectOptions,
  dependencies: RedirectDependencies,
): Promise<RedirectListener> {
  const server = http.createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    // The whole request: nothing here reads a body.
    requestTimeout: 2 * HEADERS_TIMEOUT_MS,
    connectionsCheckingInterval: HEADERS_TIMEOUT_MS / 2,
    requireHostHeader: false,
  });
  server.on("request", (request, response) => {
    answer(request, options, dependencies).then(
      (reply) => send(request, response, reply),
      (error: unknown) => {
        dependencies.log.error({ reason: String(error) }, "redirect failed");
        response.destroy();
      },
    );
  });
  server.on("connect", (_request, socket) => refuse(socket));
  server.on("clientError", (_error, socket) => refuse(socket));
  const bound = await listenOn(server, spec, "--http-redirect");
  server.on("error", (error) => dependencies.log.error({ reason: error.message }, "accepting a connection failed"));
  return {
    address: bound,
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

interface SmallReply {
  readonly status: number;
  readonly headers: readonly HeaderLine[];
  readonly body: string | Uint8Array;
}

const MALFORMED = new RegistryError("UNKNOWN", "expected a request that can be redirected", { status: 400 });
const NOT_OURS = new RegistryError("UNKNOWN", "the Host is not one of ours: nothing to redirect to", { status: 400 });
const NO_CHALLENGE = new RegistryError("UNKNOWN", "no such challenge", { status: 404 });

async function answer(
  request: IncomingMessage,
  options: RedirectOptions,
  dependencies: RedirectDependencies,
): Promise<SmallReply> {
  const { method = "", url = "", httpVersion, rawHeaders } = request;
  const checked = checkRawRequest({ method, url, httpVersion, rawHeaders });
  if (checked.kind === "refused") return errorReply(checked.error);
  const isReading = checked.method === "GET" || checked.method === "HEAD";
  if (options.acmeWebroot !== undefined && isReading && checked.path.startsWith(ACME_FOLDER)) {
    const challenge = await readChallenge(options.acmeWebroot, checked.path.slice(ACME_FOLDER.length));
    return challenge === undefined ? errorReply(NO_CHALLENGE) : { status: 200, headers: [TEXT], body: challenge };
  }
  return redirect(checked, { ...options, certificateNames: dependencies.certificate?.current().names ?? [] });
}

function redirect(request: Extract<CheckedRequest, { kind: "ok" }>, targets: RedirectTargets): SmallReply {
  if (request.host === undefined || !isOurs(request.host, targets)) return errorReply(NOT_OURS);
  const query = request.query === "" ? "" : `?${request.query}`;
  const location = `${originFor(request.host, targets)}${request.path}${query}`;
  // 308 keeps method and body; for GET every old client knows 301.
  const status = request.method === "GET" || request.method === "HEAD" ? 301 : 308;
  return { status, headers: [["Location", location], TEXT], body: "use https\n" };
}

const TEXT: HeaderLine = ["Content-Type", "text/plain; charset=utf-8"];
/** The alphabet of tokens (RFC 8555 8.3): no dot, no slash, so no way out of the folder. */
const TOKEN = /^[A-Za-z0-9_-]{1,255}$/;

/** The content of a challenge file; undefined when there is none. A symlink is not followed: it may lead anywhere. */
async function readChallenge(webroot: string, token: string): Promise<Uint8Array | undefined> {
  if (!TOKEN.test(token)) return undefined;
  const file = await openPlain(path.join(webroot, ACME_FOLDER, token));
  if (file === undefined) return undefined;
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.size > MAX_CHALLENGE_BYTES) return undefined;
    const buffer = new Uint8Array(MAX_CHALLENGE_BYTES);
    const { bytesRead } = await file.read(buffer, 0, MAX_CHALLENGE_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

function refuse(socket: Duplex): void {
  if (socket.writable) socket.end(rawAnswer(MALFORMED), () => socket.destroy());
  else socket.destroy();
}

type FileHandle = Awaited<ReturnType<typeof open>>;

async function openPlain(file: string): Promise<FileHandle | undefined> {
  try {
    // Not blocking: opening a pipe would wait for its writer.
    return await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    // Missing, a symlink, not readable: to whoever asks it is all the same, there is no challenge.
    return undefined;
  }
}

function errorReply(error: RegistryError): SmallReply {
  const headers: HeaderLine[] = [...error.headers, ["Content-Type", "application/json"]];
  return { status: error.status, headers, body: JSON.stringify(error) };
}

function send(request: IncomingMessage, response: ServerResponse, { status, headers, body }: SmallReply): void {
  const length = String(Buffer.byteLength(body));
  // A body that nobody reads, or a request that was refused, ends the connection.
  const isLast = status === 400 || request.headers["content-length"] !== undefined || !request.complete;
  const lines = [...headers, ["Content-Length", length], ...(isLast ? [["Connection", "close"]] : [])].flat();
  response.writeHead(status, lines);
  response.end(request.method === "HEAD" ? undefined : body);
}

/** The HTTP server of the program behind each kind of connection it can have, with the answers a test gives. */
import net from "node:net";
import type { HeaderLine } from "../../src/errors.ts";
import { createListener } from "../../src/front/listener.ts";
import { loadCertificate } from "../../src/front/certificate.ts";
import { createHttpServer } from "../../src/http/adapter.ts";
import type { HttpServer, HttpServerOptions, Outcome, Refusal } from "../../src/http/adapter.ts";
import type { ConnectionFacts } from "../../src/http/connections.ts";
import { createLog } from "../../src/log.ts";
import type { Exchange, Reply } from "../../src/proxy/exchange.ts";
import { testAuthority } from "./certs.ts";
import { openRaw } from "./raw-http.ts";
import type { RawConnection } from "./raw-http.ts";
import { createTempDir } from "./temp-dir.ts";

/** `direct`: node's server listens itself. `fed`: plain HTTP that the front sniffed. `tls`: TLS that the front terminated. */
export type Way = "direct" | "fed" | "tls";
export const WAYS: Way[] = ["direct", "fed", "tls"];

export interface TestServer extends AsyncDisposable {
  readonly http: HttpServer;
  readonly port: number;
  /** How each request ended, in order. */
  readonly finished: { exchange: Exchange; outcome: Outcome }[];
  readonly refused: Refusal[];
  /** Resolves when so many requests have ended. */
  ended(count: number): Promise<void>;
  connect(): Promise<RawConnection>;
}

export interface TestServerOptions extends Partial<HttpServerOptions> {
  way: Way;
  answer: (exchange: Exchange) => Promise<Reply> | Reply;
}

export const silent = createLog({ level: "error", format: "json" }, { destination: { write: () => undefined } });

export async function startHttpServer({ way, answer, ...options }: TestServerOptions): Promise<TestServer> {
  const finished: TestServer["finished"] = [];
  const refused: Refusal[] = [];
  let waiters: (() => void)[] = [];
  const http = createHttpServer(
    {
      headersTimeoutMs: 10_000,
      keepAliveTimeoutMs: 10_000,
      maxHeaderBytes: 65_536,
      idleTimeoutMs: 10_000,
      bodyTimeoutMs: 10_000,
      ...options,
    },
    {
      answer: async (exchange) => answer(exchange),
      newId: () => "0123456789abcdef",
      refused: (refusal) => void refused.push(refusal),
      finished(exchange, outcome) {
        finished.push({ exchange, outcome });
        for (const wake of waiters.splice(0)) wake();
      },
    },
  );
  const certificate = way === "direct" ? undefined : await testCertificate();
  const listener = await createListener(
    { kind: "tcp", host: "127.0.0.1", port: 0 },
    { handshakeTimeoutMs: 5_000, maxHandshakes: 1_000 },
    { http, log: silent, certificate: certificate && { current: () => certificate } },
  );
  const port = listener.address.port ?? 0;
  return {
    http,
    port,
    finished,
    refused,
    async ended(count) {
      while (finished.length < count) await new Promise<void>((resolve) => waiters.push(resolve));
    },
    connect: () => openRaw({ host: "127.0.0.1", port, ...(way === "tls" && { tls: trusted() }) }),
    async [Symbol.asyncDispose]() {
      waiters = [];
      await listener.close();
      await http.drain(0);
    },
  };
}

/** How a TLS client trusts the test server. */
export function trusted() {
  return { ca: testAuthority().certPem, servername: "localhost" };
}

export async function testCertificate() {
  await using dir = await createTempDir();
  const leaf = testAuthority().issue();
  const files = { certFile: dir.file("cert.pem"), keyFile: dir.file("key.pem"), passphraseFile: undefined };
  await Bun.write(files.certFile, leaf.certPem);
  await Bun.write(files.keyFile, leaf.keyPem);
  return await loadCertificate(files);
}

/** A request as bytes: start line, a Host, the lines. */
export function head(start: string, ...lines: string[]): string {
  return [`${start} HTTP/1.1`, "Host: registry.test", ...lines, "", ""].join("\r\n");
}

export function text(body: string, ...headers: HeaderLine[]): Reply {
  return { status: 200, headers: [["Content-Type", "text/plain"], ...headers], body };
}

/** A socket server that hands its connections over with facts of the test's choice: peers that loopback cannot have. */
export async function feed(
  http: HttpServer,
  facts: ConnectionFacts,
): Promise<{ connect(): Promise<RawConnection> } & AsyncDisposable> {
  const server = net.createServer((socket) => http.accept(socket, facts));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  return {
    connect: () => openRaw({ host: "127.0.0.1", port }),
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

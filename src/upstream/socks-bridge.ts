/**
 * fetch speaks no SOCKS. The bridge is an HTTP proxy on loopback that fetch can speak to, and passes each connection on
 * through the SOCKS proxy. Other local users must not borrow it, so it asks for a random password per process.
 *
 *     fetch ── CONNECT host:443 / GET http://host/… ──▶ bridge ── SOCKS5 ──▶ proxy ──▶ host
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { SocksClient, type SocksProxy } from "socks";

export interface SocksBridge {
  /** `http://bridge:<secret>@127.0.0.1:<port>`, for fetch's `proxy`. */
  readonly url: string;
  /** What the proxy, or the way to it, said to a connection since then (`performance.now()`); the last of several. */
  refusalSince(ms: number): string | undefined;
  close(): void;
}

/** Heads come from our own fetch; a longer one comes from somebody else. */
const MAX_HEAD_BYTES = 64 * 1024;
/** A local connection that says nothing. */
const HEAD_TIMEOUT_MS = 10_000;

/** Listens on a port of its own on 127.0.0.1 until closed. */
export async function openSocksBridge(proxyUrl: string, connectTimeoutMs: number): Promise<SocksBridge> {
  const proxy = socksProxyOf(new URL(proxyUrl));
  const secret = randomBytes(24).toString("hex");
  const password = Buffer.from(`Basic ${Buffer.from(`bridge:${secret}`).toString("base64")}`);
  const sockets = new Set<Socket>();
  let refusal = { atMs: -Infinity, text: "" };
  const server = createServer((client) => {
    sockets.add(client);
    client.on("close", () => sockets.delete(client));
    client.on("error", () => client.destroy());
    // A status would look like the registry's own on plain requests: a broken connection cannot be mistaken.
    serve(client, { proxy, password, connectTimeoutMs }).catch((error: unknown) => {
      refusal = { atMs: performance.now(), text: error instanceof Error ? error.message : String(error) };
      client.destroy();
    });
  });
  const port = await listen(server);
  return {
    url: `http://bridge:${secret}@127.0.0.1:${port}`,
    refusalSince: (ms) => (refusal.atMs >= ms ? refusal.text : undefined),
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

interface Passage {
  readonly proxy: SocksProxy;
  readonly password: Buffer;
  readonly connectTimeoutMs: number;
}

async function serve(client: Socket, passage: Passage): Promise<void> {
  const { head, rest } = await readHead(client);
  const [requestLine = "", ...lines] = head.split("\r\n");
  const [method = "", target = ""] = requestLine.split(" ");
  if (!mayPass(lines, passage.password))
    return void client.end("HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  const url = new URL(method === "CONNECT" ? `https://${target}` : target);
  const destination = {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: Number(url.port) || (url.protocol === "https:" ? 443 : 80),
  };
  const { socket: server } = await SocksClient.createConnection({
    proxy: passage.proxy,
    command: "connect",
    destination,
    timeout: passage.connectTimeoutMs,
  });
  if (method === "CONNECT") client.write("HTTP/1.1 200 Connection established\r\n\r\n");
  else server.write(originForm(method, url, lines));
  join(client, server, rest);
}

/** A plain request is passed on as the server expects it; one per connection, since the next could be for another host. */
function originForm(method: string, url: URL, lines: readonly string[]): string {
  const kept = lines.filter((line) => !/^(?:proxy-|connection:|keep-alive:)/i.test(line));
  return [`${method} ${url.pathname}${url.search} HTTP/1.1`, ...kept, "Connection: close", "", ""].join("\r\n");
}

function join(client: Socket, server: Socket, rest: Buffer): void {
  server.on("error", () => client.destroy());
  server.on("close", () => client.end());
  client.on("close", () => server.destroy());
  if (rest.length > 0) server.write(rest);
  client.pipe(server);
  server.pipe(client);
  // The socks library hands the socket over paused.
  server.resume();
}

function readHead(client: Socket): Promise<{ head: string; rest: Buffer }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ head: string; rest: Buffer }>();
  let received = Buffer.alloc(0);
  const timer = setTimeout(() => client.destroy(), HEAD_TIMEOUT_MS);
  const onData = (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    const end = received.indexOf("\r\n\r\n");
    if (end === -1 && received.length <= MAX_HEAD_BYTES) return;
    client.off("data", onData);
    client.pause();
    clearTimeout(timer);
    if (end === -1) reject(new Error("the request head is too long"));
    else resolve({ head: received.toString("latin1", 0, end), rest: received.subarray(end + 4) });
  };
  client.on("data", onData);
  client.once("close", () => {
    clearTimeout(timer);
    reject(new Error("the connection ended within the request head"));
  });
  return promise;
}

function mayPass(lines: readonly string[], password: Buffer): boolean {
  const line = lines.find((candidate) => /^proxy-authorization:/i.test(candidate)) ?? "";
  const given = Buffer.from(line.slice(line.indexOf(":") + 1).trim());
  return given.length === password.length && timingSafeEqual(given, password);
}

function socksProxyOf(url: URL): SocksProxy {
  const proxy: SocksProxy = { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port) || 1080, type: 5 };
  if (url.username === "") return proxy;
  return { ...proxy, userId: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
}

function listen(server: Server): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.once("error", reject);
  server.listen(0, "127.0.0.1", () => {
    const address = server.address();
    if (address === null || typeof address === "string") reject(new Error("the bridge has no port"));
    else resolve(address.port);
  });
  return promise;
}

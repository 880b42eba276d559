/**
 * Outgoing proxies in the test's own process, which count what goes through them. They lead every name to loopback, whatever
 * it is: only they can resolve it.
 */
import net from "node:net";
import tls from "node:tls";

export interface ForwardProxyOptions {
  /** `"user:password"` that must be shown. */
  readonly password?: string;
  /** The proxy itself is spoken to over TLS. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Refuses every target. */
  readonly refuses?: boolean;
}

export interface ForwardProxy {
  /** `"http://127.0.0.1:3128"`, without userinfo. */
  readonly url: string;
  /** `"127.0.0.1:3128"` */
  readonly host: string;
  /** `"CONNECT reg.test:5000"`, `"GET http://reg.test:5000/v2/"`, `"reg.test:5000"`, in the order of coming. */
  readonly targets: readonly string[];
  close(): Promise<void>;
}

/** Tunnels CONNECT, and passes plain requests on, one per connection. */
export async function createHttpProxy(options: ForwardProxyOptions = {}): Promise<ForwardProxy> {
  const targets: string[] = [];
  const serve = (client: net.Socket): void => {
    client.once("data", (bytes) => {
      const head = bytes.toString("latin1");
      const [method = "", target = ""] = head.split(" ");
      targets.push(`${method} ${target}`);
      if (!isShown(head, options.password))
        return void client.end("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n");
      if (options.refuses) return void client.end("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      const server = connectTo(method === "CONNECT" ? `http://${target}` : target, client);
      if (method === "CONNECT") client.write("HTTP/1.1 200 OK\r\n\r\n");
      else server.write(originForm(head), "latin1");
      client.pipe(server).pipe(client);
    });
  };
  const server = options.tls === undefined ? net.createServer(accept) : tls.createServer({ ...options.tls }, accept);
  const { close, host, sockets } = await listening(server);
  function accept(client: net.Socket): void {
    sockets.add(client);
    client.on("error", () => client.destroy());
    serve(client);
  }
  return { url: `${options.tls === undefined ? "http" : "https"}://${host}`, host, targets, close };
}

/** SOCKS5 (RFC 1928), with a password where one is wanted (RFC 1929). */
export async function createSocksProxy(options: ForwardProxyOptions = {}): Promise<ForwardProxy> {
  const targets: string[] = [];
  const { password } = options;
  const { close, host, sockets } = await listening(net.createServer(accept));
  async function accept(client: net.Socket): Promise<void> {
    sockets.add(client);
    client.on("error", () => client.destroy());
    const next = () => new Promise<Buffer>((resolve) => client.once("data", resolve));
    await next();
    client.write(Buffer.from([5, password === undefined ? 0 : 2]));
    if (password !== undefined) {
      const given = await next();
      const userEnd = 2 + (given[1] ?? 0);
      const isRight = `${given.subarray(2, userEnd)}:${given.subarray(userEnd + 1)}` === password;
      client.write(Buffer.from([1, isRight ? 0 : 1]));
      if (!isRight) return void client.end();
    }
    const target = socksTarget(await next());
    targets.push(target);
    // 2: the rules forbid it.
    client.write(Buffer.from([5, options.refuses ? 2 : 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    if (options.refuses) return void client.end();
    const server = connectTo(`http://${target}`, client);
    client.pipe(server).pipe(client);
  }
  return { url: `socks5://${host}`, host, targets, close };
}

/** A name, or an address of either version. */
function socksTarget(request: Buffer): string {
  const port = request.readUInt16BE(request.length - 2);
  const data = request.subarray(4, request.length - 2);
  if (request[3] === 3) return `${data.subarray(1)}:${port}`;
  if (request[3] === 1) return `${data.join(".")}:${port}`;
  const groups = Array.from({ length: 8 }, (_, at) => data.readUInt16BE(at * 2).toString(16));
  return `[${groups.join(":")}]:${port}`;
}

function connectTo(url: string, client: net.Socket): net.Socket {
  const { hostname, port } = new URL(url);
  const host = hostname.startsWith("[") ? hostname.slice(1, -1) : "127.0.0.1";
  const server = net.connect(Number(port || 80), host);
  server.on("error", () => client.destroy());
  client.on("close", () => server.destroy());
  return server;
}

function isShown(head: string, password: string | undefined): boolean {
  if (password === undefined) return true;
  return head.includes(`Proxy-Authorization: Basic ${Buffer.from(password).toString("base64")}`);
}

function originForm(head: string): string {
  return head.replace(/^(\S+) http:\/\/[^/]+/, "$1 ").replace(/\r\n\r\n/, "\r\nConnection: close\r\n\r\n");
}

async function listening(server: net.Server) {
  const sockets = new Set<net.Socket>();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a port, got none");
  return {
    sockets,
    host: `127.0.0.1:${address.port}`,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import { existsSync } from "node:fs";
import net from "node:net";
import tls from "node:tls";
import { createListener } from "../../../src/front/listener.ts";
import type { ConnectionTaker, Listener, ListenerOptions } from "../../../src/front/listener.ts";
import type { ListenSpec } from "../../../src/front/listen.ts";
import { createHttpServer } from "../../../src/http/adapter.ts";
import type { Exchange } from "../../../src/proxy/exchange.ts";
import { testAuthority } from "../../support/certs.ts";
import { head, silent, testCertificate, text, trusted } from "../../support/http-server.ts";
import { createTempDir } from "../../support/temp-dir.ts";
import { openRaw } from "../../support/raw-http.ts";

const loopback: ListenSpec = { kind: "tcp", host: "127.0.0.1", port: 0 };
const certificate = await testCertificate();
const secured = { current: () => certificate };

interface Running extends AsyncDisposable {
  readonly listener: Listener;
  readonly port: number;
  readonly exchanges: Exchange[];
}

async function start(
  options: Partial<ListenerOptions> & {
    spec?: ListenSpec;
    certificate?: typeof secured;
    isNear?: (peer: string) => boolean;
  } = {},
): Promise<Running> {
  const exchanges: Exchange[] = [];
  const http = createHttpServer(
    {
      headersTimeoutMs: 5_000,
      keepAliveTimeoutMs: 5_000,
      maxHeaderBytes: 65_536,
      idleTimeoutMs: 5_000,
      bodyTimeoutMs: 5_000,
    },
    {
      answer: async (exchange) => (
        exchanges.push(exchange),
        text(`${exchange.secure ? "https" : "http"} ${exchange.peer}`)
      ),
      newId: () => "0123456789abcdef",
      refused: () => undefined,
      finished: () => undefined,
    },
  );
  const listener = await createListener(
    options.spec ?? loopback,
    { handshakeTimeoutMs: 5_000, maxHandshakes: 100, ...options },
    {
      http,
      log: silent,
      certificate: options.certificate,
      ...(options.isNear === undefined ? {} : { isNear: options.isNear }),
    },
  );
  return {
    listener,
    port: listener.address.port ?? 0,
    exchanges,
    async [Symbol.asyncDispose]() {
      await listener.close();
      await http.drain(0);
    },
  };
}

async function bodyOf(port: number, path = "/v2/"): Promise<string> {
  const client = await openRaw({ host: "127.0.0.1", port });
  client.send(head(`GET ${path}`));
  const answer = await client.readAnswer();
  client.end();
  return `${answer.status} ${Buffer.from(answer.body).toString()}`;
}

async function secureBodyOf(port: number): Promise<string> {
  const client = await openRaw({ host: "127.0.0.1", port, tls: trusted() });
  client.send(head("GET /v2/"));
  const answer = await client.readAnswer();
  client.end();
  return `${answer.status} ${Buffer.from(answer.body).toString()}`;
}

describe("without a certificate", () => {
  test("createListener() serves plain HTTP and says where", async () => {
    await using running = await start();
    expect(running.listener.secure).toBe(false);
    expect(running.listener.address.text).toBe(`127.0.0.1:${running.port}`);
    expect(await bodyOf(running.port)).toBe("200 http 127.0.0.1");
  });

  test("createListener() gives each address a server of its own over one HTTP server", async () => {
    const http = createHttpServer(
      {
        headersTimeoutMs: 5_000,
        keepAliveTimeoutMs: 5_000,
        maxHeaderBytes: 65_536,
        idleTimeoutMs: 5_000,
        bodyTimeoutMs: 5_000,
      },
      {
        answer: async () => text("x"),
        newId: () => "0123456789abcdef",
        refused: () => undefined,
        finished: () => undefined,
      },
    );
    const options = { handshakeTimeoutMs: 5_000, maxHandshakes: 100 };
    const listeners = [];
    for (const given of [undefined, undefined, secured]) {
      listeners.push(await createListener(loopback, options, { http, log: silent, certificate: given }));
    }
    for (const { address } of listeners) expect(await bodyOf(address.port ?? 0)).toBe("200 x");
    await Promise.all(listeners.map((listener) => listener.close()));
    await http.drain(0);
  });

  test("[R256] createListener() on every address names IPv4 peers by their own address", async () => {
    await using running = await start({ spec: { kind: "tcp", host: undefined, port: 0 } });
    expect(await bodyOf(running.port)).toBe("200 http 127.0.0.1");
    const client = await openRaw({ host: "::1", port: running.port });
    client.send(head("GET /v2/"));
    expect(Buffer.from((await client.readAnswer()).body).toString()).toBe("http ::1");
    client.end();
  });

  test.each([undefined, secured])("createListener() serves a unix socket", async (given) => {
    await using dir = await createTempDir();
    const path = dir.file("layover.sock");
    const running = await start({ spec: { kind: "unix", path }, ...(given && { certificate: given }) });
    const answer = await fetch("http://layover.test/v2/", { unix: path });
    expect(await answer.text()).toBe("http unix");
    await running[Symbol.asyncDispose]();
    expect(existsSync(path)).toBe(false);
  });

  test("close() stops accepting and frees the port at once", async () => {
    const running = await start();
    const kept = await openRaw({ host: "127.0.0.1", port: running.port });
    kept.send(head("GET /v2/"));
    await kept.readAnswer();
    await running.listener.close();
    await using again = await start({ spec: { kind: "tcp", host: "127.0.0.1", port: running.port } });
    expect(again.port).toBe(running.port);
    kept.end();
    await running[Symbol.asyncDispose]();
  });
});

describe("with a certificate", () => {
  test("createListener() speaks TLS and, to loopback peers, plain HTTP on one port", async () => {
    await using running = await start({ certificate: secured });
    expect(running.listener.secure).toBe(true);
    expect(await secureBodyOf(running.port)).toBe("200 https 127.0.0.1");
    expect(await bodyOf(running.port)).toBe("200 http 127.0.0.1");
  });

  test("createListener() keeps a TLS connection for the next request, and shows a certificate of the name asked for", async () => {
    await using running = await start({ certificate: secured });
    const target = {
      host: "127.0.0.1",
      port: running.port,
      tls: { ca: testAuthority().certPem, servername: "localhost" },
    };
    const client = await openRaw(target);
    for (let turn = 0; turn < 2; turn++) {
      client.send(head("GET /v2/"));
      expect(Buffer.from((await client.readAnswer()).body).toString()).toBe("https 127.0.0.1");
    }
    client.end();
    await expect(openRaw({ ...target, tls: { ...target.tls, servername: "other.test" } })).rejects.toThrow();
  });

  test("createListener() refuses CONNECT", async () => {
    await using running = await start({ certificate: secured });
    const client = await openRaw({ host: "127.0.0.1", port: running.port });
    client.send("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n");
    expect((await client.readAnswer()).status).toBe(405);
    expect(running.exchanges).toEqual([]);
  });

  test("createListener() tells plain HTTP from elsewhere to use https", async () => {
    await using running = await start({ certificate: secured, isNear: () => false });
    const client = await openRaw({ host: "127.0.0.1", port: running.port });
    client.send(head("GET /healthz"));
    expect((await client.readAnswer()).status).toBe(200);
    client.send(head("GET /v2/"));
    const answer = await client.readAnswer();
    expect(answer.status).toBe(400);
    expect(Buffer.from(answer.body).toString()).toContain("this port speaks https");
  });

  test("createListener() offers http/1.1 and nothing older than TLS 1.2", async () => {
    await using running = await start({ certificate: secured });
    const client = tls.connect({
      ...trusted(),
      port: running.port,
      host: "127.0.0.1",
      ALPNProtocols: ["h2", "http/1.1"],
    });
    await once(client, "secureConnect");
    expect([client.alpnProtocol, client.getProtocol()]).toEqual(["http/1.1", "TLSv1.3"]);
    client.destroy();
    const older = tls.connect({ ...trusted(), port: running.port, host: "127.0.0.1", maxVersion: "TLSv1.2" });
    await once(older, "secureConnect");
    expect(older.getProtocol()).toBe("TLSv1.2");
    older.destroy();
    const oldest = tls.connect({
      ...trusted(),
      port: running.port,
      host: "127.0.0.1",
      minVersion: "TLSv1",
      maxVersion: "TLSv1.1",
    });
    const [error] = await Promise.race([once(oldest, "error"), once(oldest, "secureConnect")]);
    expect(error).toBeInstanceOf(Error);
  });

  test("createListener() takes a ClientHello byte by byte", async () => {
    await using running = await start({ certificate: secured });
    // A relay that passes the client's bytes on one at a time.
    const relay = net.createServer((client) => {
      const upstream = net.connect(running.port, "127.0.0.1");
      upstream.setNoDelay(true);
      upstream
        .on("data", (data) => client.write(data))
        .on("close", () => client.destroy())
        .on("error", () => undefined);
      client.on("close", () => upstream.destroy()).on("error", () => undefined);
      client.on("data", (data: Buffer) => {
        for (const byte of data) upstream.write(Uint8Array.of(byte));
      });
    });
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    const address = relay.address();
    expect(await secureBodyOf(address !== null && typeof address === "object" ? address.port : 0)).toBe(
      "200 https 127.0.0.1",
    );
    relay.close();
  });

  test.each([
    ["nothing", ""],
    ["half of CONNECT", "CONN"],
    ["half a ClientHello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
  ])("[T29] a client that sends %s is cut after the handshake time", async (_, bytes) => {
    await using running = await start({ certificate: secured, handshakeTimeoutMs: 150 });
    const client = net.connect(running.port, "127.0.0.1");
    await once(client, "connect");
    const startedAt = performance.now();
    client.write(bytes, "latin1");
    client.on("error", () => undefined).resume();
    await once(client, "close");
    expect(performance.now() - startedAt).toBeGreaterThan(100);
    expect(performance.now() - startedAt).toBeLessThan(1_500);
  });

  test("[T29] silent clients beyond the bound are cut at once, and make room when they go", async () => {
    await using running = await start({ certificate: secured, maxHandshakes: 3 });
    const silentClients = Array.from({ length: 3 }, () => net.connect(running.port, "127.0.0.1"));
    await Promise.all(silentClients.map((client) => once(client, "connect")));
    const extra = net
      .connect(running.port, "127.0.0.1")
      .on("error", () => undefined)
      .resume();
    const startedAt = performance.now();
    await once(extra, "close");
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    for (const client of silentClients) client.destroy();
    await until(async () => (await bodyOf(running.port).catch(() => "")) === "200 http 127.0.0.1");
    expect(await secureBodyOf(running.port)).toBe("200 https 127.0.0.1");
  });

  test("[T29] garbage, resets and distrustful clients leave the listener alive", async () => {
    await using running = await start({ certificate: secured, handshakeTimeoutMs: 300 });
    for (const bytes of ["\x16garbage garbage garbage", "\x16\x03\x01\x00\x05hello", "\0\0\0\0\0\0\0\0\0\0\r\n\r\n"]) {
      const client = net
        .connect(running.port, "127.0.0.1")
        .on("error", () => undefined)
        .resume();
      client.write(bytes, "latin1");
      await once(client, "close");
    }
    for (let count = 0; count < 20; count += 1) {
      const client = net.connect(running.port, "127.0.0.1").on("error", () => undefined);
      await once(client, "connect");
      client.write(Buffer.from("160301020001", "hex"));
      client.resetAndDestroy();
    }
    const distrustful = tls.connect({ port: running.port, host: "127.0.0.1", servername: "localhost" });
    await once(distrustful, "error");
    expect(await secureBodyOf(running.port)).toBe("200 https 127.0.0.1");
  });

  test("close() cuts connections that have not become HTTP", async () => {
    const running = await start({ certificate: secured });
    const client = net
      .connect(running.port, "127.0.0.1")
      .on("error", () => undefined)
      .resume();
    await once(client, "connect");
    const startedAt = performance.now();
    await running.listener.close();
    await once(client, "close");
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    await running[Symbol.asyncDispose]();
  });
});

test("createListener() counts only connections in their handshake against the bound", async () => {
  const taken: net.Socket[] = [];
  const http: ConnectionTaker = {
    newNodeServer: () => expect.unreachable(),
    accept: (socket) => void taken.push(socket),
  };
  const options = { handshakeTimeoutMs: 1_000, maxHandshakes: 1 };
  const listener = await createListener(loopback, options, { http, log: silent, certificate: secured });
  const port = listener.address.port ?? 0;
  const clients: net.Socket[] = [];
  for (let count = 1; count <= 5; count += 1) {
    clients.push(net.connect(port, "127.0.0.1").on("error", () => undefined));
    clients.at(-1)?.write("GET / HTTP/1.1\r\n");
    await until(async () => taken.length === count);
  }
  for (const socket of [...clients, ...taken]) socket.destroy();
  await listener.close();
});

async function until(isDone: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await isDone()) return;
    await Bun.sleep(10);
  }
  throw new Error("expected it to come true within 2 s");
}

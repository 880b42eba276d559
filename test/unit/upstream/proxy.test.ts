import { describe, expect, test } from "bun:test";
import { createServer, connect, type Socket } from "node:net";
import { chooseProxy, isExempt, type OutgoingProxies } from "../../../src/upstream/proxy.ts";
import { openSocksBridge } from "../../../src/upstream/socks-bridge.ts";
import { testAuthority } from "../../support/certs.ts";
import { makeImage } from "../../support/images.ts";
import { ask, bytesOf, closeAfter, failureOf, fakeRegistry, registryAt, testClient } from "./fixture.ts";
import { answering, wireHost } from "./wire.ts";

const environment: OutgoingProxies = {
  http: "http://plain.test:3128",
  https: "http://secure.test:3128",
  all: "socks5://all.test:1080",
  none: "localhost, .internal.test",
};

describe("chooseProxy()", () => {
  const at = (proxy: string | false | undefined) => ({ key: "k", proxy });

  test.each([
    [
      "the registry's own",
      "https://ghcr.io",
      "http://own.test:1",
      { ...environment, general: "http://general.test" },
      "http://own.test:1/",
    ],
    [
      "the registry's own for an exempt host",
      "http://localhost",
      "http://own.test:1",
      environment,
      "http://own.test:1/",
    ],
    [
      "none where the registry says so",
      "https://ghcr.io",
      false,
      { ...environment, general: "http://general.test" },
      undefined,
    ],
    [
      "the general one before the environment's",
      "https://ghcr.io",
      undefined,
      { ...environment, general: "http://general.test" },
      "http://general.test/",
    ],
    ["the environment's for https", "https://ghcr.io", undefined, environment, "http://secure.test:3128/"],
    ["the environment's for http", "http://ghcr.io", undefined, environment, "http://plain.test:3128/"],
    [
      "the environment's for both",
      "https://ghcr.io",
      undefined,
      { all: "socks5://all.test:1080" },
      "socks5://all.test:1080",
    ],
    [
      "none for an exempt host",
      "https://reg.internal.test",
      undefined,
      { ...environment, general: "http://general.test" },
      undefined,
    ],
    ["none where there is none", "https://ghcr.io", undefined, {}, undefined],
    ["none for an empty one", "https://ghcr.io", undefined, { https: "" }, undefined],
    [
      "one written without a scheme",
      "https://ghcr.io",
      undefined,
      { https: "proxy.test:3128" },
      "http://proxy.test:3128/",
    ],
  ] as const)("takes %s", (_, target, own, proxies, expected) => {
    const choice = chooseProxy(new URL(target), at(own), proxies);
    expect(choice.kind === "direct" ? undefined : choice.url).toBe(expected);
  });

  test.each(["ftp://proxy.test", "socks4://proxy.test", "http://", "://", "a b"])(
    "refuses %p and does not quote it",
    (proxy) => {
      expect(() => chooseProxy(new URL("https://ghcr.io"), at(proxy), {})).toThrow(
        "expected an http, https, socks5 or socks5h URL",
      );
      expect(() => chooseProxy(new URL("https://ghcr.io"), at("ftp://ann:secret@proxy.test"), {})).not.toThrow(
        "secret",
      );
    },
  );
});

const EXEMPT: [string, string, boolean][] = [
  ["https://ghcr.io", "*", true],
  ["https://ghcr.io", "ghcr.io", true],
  ["https://GHCR.io", "Ghcr.IO", true],
  ["https://pkg.ghcr.io", "ghcr.io", true],
  ["https://pkg.ghcr.io", ".ghcr.io", true],
  ["https://pkg.ghcr.io", "*.ghcr.io", true],
  ["https://evilghcr.io", "ghcr.io", false],
  ["https://ghcr.io.evil.test", "ghcr.io", false],
  ["https://ghcr.io", "quay.io,  ghcr.io", true],
  ["https://ghcr.io", "quay.io ghcr.io", true],
  ["https://ghcr.io", "ghcr.io:443", true],
  ["https://ghcr.io", "ghcr.io:80", false],
  ["http://ghcr.io", "ghcr.io:80", true],
  ["https://ghcr.io:5000", "ghcr.io:5000", true],
  ["https://10.1.2.3", "10.0.0.0/8", true],
  ["https://11.1.2.3", "10.0.0.0/8", false],
  ["https://10.1.2.3", "10.1.2.3", true],
  ["https://10.1.2.3:5000", "10.1.2.3:5000", true],
  ["https://10.1.2.3", "2.3", false],
  ["https://[fd00::1]", "fd00::/8", true],
  ["https://[fd00::1]", "fd00::1", true],
  ["https://[fd00::1]:5000", "[fd00::1]:5000", true],
  ["https://[::ffff:10.1.2.3]", "10.0.0.0/8", true],
  ["https://ten.test", "10.0.0.0/8", false],
  ["https://ghcr.io", "", false],
  ["https://ghcr.io", ",,", false],
  ["https://ghcr.io", ".", false],
  ["https://ghcr.io", "no/range", false],
];

describe("isExempt()", () => {
  test.each(EXEMPT)("%s by %p: %p", (url, none, expected) => {
    expect(isExempt(new URL(url), none)).toBe(expected);
  });
});

/** A proxy that tunnels CONNECT and passes plain requests on, all to the one port that the test's registry has. */
async function httpProxy(port: number, password?: string) {
  const heads: string[] = [];
  const server = createServer((client) => {
    client.on("error", () => client.destroy());
    client.once("data", (bytes) => {
      const head = bytes.toString("latin1");
      heads.push(head);
      if (
        password !== undefined &&
        !head.includes(`Proxy-Authorization: Basic ${Buffer.from(password).toString("base64")}`)
      ) {
        return void client.end("HTTP/1.1 407 Proxy\r\nContent-Length: 0\r\n\r\n");
      }
      const upstream = connect(port, "127.0.0.1");
      upstream.on("error", () => client.destroy());
      if (head.startsWith("CONNECT")) client.write("HTTP/1.1 200 OK\r\n\r\n");
      else upstream.write(head.replace(/^(\S+) http:\/\/[^/]+/, "$1 "), "latin1");
      client.pipe(upstream).pipe(client);
    });
  });
  return { heads, port: await listening(server) };
}

/** A SOCKS5 proxy (RFC 1928) with an optional password (RFC 1929) that leads everything to one port of loopback. */
async function socksProxy(port: number, password?: string) {
  const targets: string[] = [];
  const server = createServer(async (client: Socket) => {
    client.on("error", () => client.destroy());
    const parts = client[Symbol.asyncIterator]();
    const next = async () => (await parts.next()).value as Buffer;
    await next();
    client.write(Buffer.from([5, password === undefined ? 0 : 2]));
    if (password !== undefined) {
      const given = await next();
      const userLength = given[1] ?? 0;
      const [user, word] = [given.subarray(2, 2 + userLength), given.subarray(3 + userLength)];
      const isRight = `${user}:${word}` === password;
      client.write(Buffer.from([1, isRight ? 0 : 1]));
      if (!isRight) return void client.end();
    }
    const request = await next();
    const isName = request[3] === 3;
    const name = isName ? request.toString("latin1", 5, 5 + (request[4] ?? 0)) : request.subarray(4, 8).join(".");
    targets.push(`${name}:${request.readUInt16BE(request.length - 2)}`);
    const upstream = connect(port, "127.0.0.1");
    upstream.on("error", () => client.destroy());
    client.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
    upstream.on("data", (bytes) => client.write(bytes));
    for (let bytes = await next(); bytes !== undefined; bytes = await next()) upstream.write(bytes);
  });
  return { targets, port: await listening(server) };
}

async function listening(server: ReturnType<typeof createServer>): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closeAfter(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

const authority = testAuthority();
const image = makeImage({ layers: [300_000] });
const [layer = ""] = [...image.blobs.keys()].slice(-1);

/** A registry known only by a name that nobody but the proxy can resolve. */
async function hiddenRegistry(scheme: "http" | "https") {
  const { certPem, keyPem } = authority.issue({ names: ["reg.test"] });
  const registry = await fakeRegistry(scheme === "https" ? { tls: { cert: certPem, key: keyPem } } : {});
  registry.add("library/busybox", image);
  const port = Number(new URL(registry.url).port);
  const at = registryAt(`${scheme}://reg.test:${port}`, { tls: { ca: authority.certPem, insecureSkipVerify: false } });
  return { registry, port, at };
}

describe("an outgoing proxy", () => {
  test.each(["http", "https"] as const)("of scheme http carries %s, and resolves the name", async (scheme) => {
    const { port, at } = await hiddenRegistry(scheme);
    const proxy = await httpProxy(port, "ann:pä");
    const lookup = () => Promise.reject(new Error("asked the local resolver"));
    const client = testClient({ proxies: { general: `http://ann:p%C3%A4@127.0.0.1:${proxy.port}` } }, { lookup });
    const answer = await client.send(ask(at, { path: `blobs/${layer}` }));
    expect((await bytesOf(answer)).length).toBe(300_000);
    expect(proxy.heads[0]).toStartWith(
      scheme === "https" ? `CONNECT reg.test:${port} ` : `GET http://reg.test:${port}/v2/`,
    );
  });

  test.each(["http", "https"] as const)("of scheme socks5 carries %s, and resolves the name", async (scheme) => {
    const { port, at } = await hiddenRegistry(scheme);
    const proxy = await socksProxy(port, "ann:p w");
    const client = testClient({ proxies: { all: `socks5://ann:p%20w@127.0.0.1:${proxy.port}` } });
    for (let i = 0; i < 2; i++) {
      const answer = await client.send(ask(at, { path: `blobs/${layer}` }));
      expect((await bytesOf(answer)).length).toBe(300_000);
    }
    expect(proxy.targets[0]).toBe(`reg.test:${port}`);
  });

  test("that refuses the password is a failure to connect", async () => {
    for (const scheme of ["http", "https"] as const) {
      const { port, at } = await hiddenRegistry(scheme);
      const proxy = await httpProxy(port, "ann:right");
      const client = testClient({ proxies: { general: `http://ann:wrong@127.0.0.1:${proxy.port}` } });
      const error = await failureOf(client.send(ask(at)));
      expect(error).toMatchObject({ kind: "connect" });
      expect(String(error)).not.toContain("wrong");
      const socks = await socksProxy(port, "ann:right");
      const other = testClient({ proxies: { general: `socks5://ann:wrong@127.0.0.1:${socks.port}` } });
      expect(await failureOf(other.send(ask(at)))).toMatchObject({ kind: "connect" });
    }
  });

  test("that is down is never passed by", async () => {
    const { registry, at } = await hiddenRegistry("http");
    const gone = await wireHost(answering(""));
    await gone.close();
    for (const scheme of ["http", "socks5"]) {
      const client = testClient(
        { proxies: { general: `${scheme}://${gone.host}` } },
        { lookup: async () => ["127.0.0.1"] },
      );
      expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "connect" });
    }
    expect(registry.count()).toBe(0);
  });

  test.each(["http://169.254.169.254/", "http://localhost:2375/", "http://metadata.google.internal/"])(
    "[T18] does not carry a redirect to %s",
    async (location) => {
      const upstream = await wireHost(
        answering(`HTTP/1.1 307 Moved\r\nLocation: ${location}\r\nContent-Length: 0\r\n\r\n`),
      );
      const proxy = await httpProxy(upstream.port);
      const client = testClient({ proxies: { general: `http://127.0.0.1:${proxy.port}` } });
      expect(await failureOf(client.send(ask(registryAt("http://reg.test"))))).toMatchObject({
        kind: "refused-address",
      });
      expect(proxy.heads).toHaveLength(1);
    },
  );
});

test("openSocksBridge() lets nobody borrow it", async () => {
  const registry = await fakeRegistry();
  const proxy = await socksProxy(Number(new URL(registry.url).port));
  const bridge = await openSocksBridge(`socks5://127.0.0.1:${proxy.port}`, 1_000);
  closeAfter(() => bridge.close());
  const { host } = new URL(bridge.url);
  for (const url of [`http://${host}`, `http://bridge:guess@${host}`]) {
    const response = await fetch("http://reg.test/v2/", { proxy: url });
    expect([response.status, await response.text()]).toEqual([407, ""]);
  }
  expect(proxy.targets).toEqual([]);
});

/** Client certificates: who shows one of our authority is a user, for as long as it holds (product section 5, client access). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rename } from "node:fs/promises";
import tls from "node:tls";
import { type Leaf, testAuthority } from "../support/certs.ts";
import { type Farm, basicHeader, startFarm } from "../support/farm.ts";
import { htpasswdText } from "../support/htpasswd.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

const authority = testAuthority();
const ours = testAuthority("Clients");
const theirs = testAuthority("Others");
const client = (names: string[], more = {}) => ours.issue({ names, usage: "client", ...more });
const alice = client(["alice"]);
const APP = "/v2/quay/org/app/manifests/latest";

let dir: TempDir;
let farm: Farm;
beforeAll(async () => {
  dir = await createTempDir("layover-clients-");
  const server = authority.issue();
  await Promise.all([
    write("tls.pem", server.certPem),
    write("tls.key", server.keyPem),
    write("ca.pem", ours.certPem),
    write("users", await htpasswdText({ bob: "builder" })),
    write(
      "rules.json",
      JSON.stringify({
        rules: [
          { users: ["alice", "bob"], repositories: ["quay.io/**", "ghcr/**"], rights: ["pull"] },
          { users: ["anonymous"], repositories: ["docker.io/app"], rights: ["pull"] },
        ],
      }),
    ),
  ]);
  farm = await startFarm({
    args: [
      "--tls-cert",
      dir.file("tls.pem"),
      "--tls-key",
      dir.file("tls.key"),
      "--tls-client-ca",
      dir.file("ca.pem"),
      "--htpasswd",
      dir.file("users"),
      "--access-rules",
      dir.file("rules.json"),
      "--trusted-proxies",
      "127.0.0.1",
    ],
    entries: { ghcr: { credentials: [{ username: "alice", password: "secret" }] } },
  });
});
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});

async function write(name: string, text: string): Promise<void> {
  await Bun.write(dir.file(`${name}.new`), text);
  await rename(dir.file(`${name}.new`), dir.file(name));
}

interface Line {
  /** Asks on this one connection; the status. */
  get(path: string, headers?: Record<string, string>): Promise<number>;
  session(): Buffer | undefined;
  end(): void;
}

/** A connection that is kept, as containerd keeps its own. */
async function connect(leaf?: Leaf, session?: Buffer): Promise<Line> {
  let latest: Buffer | undefined;
  const socket = tls.connect({
    port: farm.layover.port,
    host: "127.0.0.1",
    servername: "localhost",
    ca: authority.certPem,
    ...(leaf === undefined ? {} : { cert: leaf.certPem, key: leaf.keyPem }),
    ...(session === undefined ? {} : { session }),
  });
  socket.on("session", (ticket) => (latest = ticket));
  let received = "";
  let wake: () => void = () => undefined;
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
    wake();
  });
  await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
  return {
    async get(path, headers = {}) {
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      received = "";
      socket.write(`HEAD ${path} HTTP/1.1\r\nHost: localhost\r\n${lines.join("")}\r\n`);
      while (!received.includes("\r\n\r\n")) await new Promise<void>((resolve) => (wake = resolve));
      return Number(received.slice(9, 12));
    },
    session: () => latest,
    end: () => socket.destroy(),
  };
}

async function statusFor(leaf: Leaf | undefined, path = APP, headers: Record<string, string> = {}): Promise<number> {
  const line = await connect(leaf);
  const status = await line.get(path, headers);
  line.end();
  return status;
}

test("a certificate of our authority is its user, on every endpoint and request of the connection", async () => {
  const line = await connect(alice);
  for (const path of ["/v2/", APP, "/v2/quay/org/app/tags/list", "/help", "/docs", APP])
    expect([path, await line.get(path)]).toEqual([path, 200]);
  expect(await line.get("/v2/hub/org/app/manifests/latest")).toBe(403); // no rule
  line.end();
});

test("[T14] it reads what a configured credential may read", async () => {
  expect(await statusFor(alice, "/v2/ghcr/org/private/manifests/latest")).toBe(200);
});

test("whoever shows none can log in, or does what the rules leave to others", async () => {
  expect(await statusFor(undefined)).toBe(401);
  expect(await statusFor(undefined, APP, { authorization: basicHeader("bob:builder") })).toBe(200);
  expect(await statusFor(undefined, "/v2/library/app/manifests/latest")).toBe(200);
});

test.each([
  ["of another authority", theirs.issue({ names: ["alice"], usage: "client" })],
  ["that is expired", client(["alice"], { notAfter: new Date(Date.now() - 1000) })],
  ["that is not valid yet", client(["alice"], { notBefore: new Date(Date.now() + 86_400_000) })],
  ["for servers", client(["alice"], { usage: "server" })],
  ["of the server's own authority", authority.issue({ names: ["alice"], usage: "client" })],
])("a certificate %s is nobody's", async (_, leaf) => {
  expect(await statusFor(leaf)).toBe(401);
});

test.each(["anonymous", "*", "mallory"])("the name %s gets no rights but those of any user", async (name) => {
  expect(await statusFor(client([name]))).toBe(403);
  expect(await statusFor(client([name]), "/v2/library/app/manifests/latest")).toBe(403);
});

test("a name that only looks like one of ours is nobody's", async () => {
  expect(await statusFor(client(["x\nCN=alice"]))).toBe(401);
});

test("a proxy's certificate speaks for none of the clients behind it", async () => {
  expect(await statusFor(alice, APP, { "x-forwarded-for": "192.0.2.7" })).toBe(401);
});

test("a resumed session is still the user's", async () => {
  const first = await connect(alice);
  expect(await first.get(APP)).toBe(200);
  const again = await connect(alice, first.session());
  expect(await again.get(APP)).toBe(200);
  first.end();
  again.end();
});

test("new authorities count at once, also for connections and sessions that are there", async () => {
  const replaced = () =>
    farm.layover.log.filter(({ msg }) => msg === "authorities of client certificates replaced").length;
  const reload = async (pem: string): Promise<void> => {
    const before = replaced();
    await write("ca.pem", pem);
    farm.layover.signal("SIGHUP");
    while (replaced() === before) await statusFor(undefined, "/healthz");
  };
  const line = await connect(alice);
  expect(await line.get(APP)).toBe(200);

  await reload(`${theirs.certPem}${ours.certPem}`);
  expect(await line.get(APP)).toBe(200);
  expect(await statusFor(theirs.issue({ names: ["alice"], usage: "client" }))).toBe(200);

  await reload(theirs.certPem);
  expect(await line.get(APP)).toBe(401);
  expect(await statusFor(alice)).toBe(401);
  const resumed = await connect(alice, line.session());
  expect(await resumed.get(APP)).toBe(401);

  await write("ca.pem", "no certificate");
  farm.layover.signal("SIGHUP");
  await farm.layover.logLine(({ msg }) => msg === "new certificate refused, the old one stays");
  expect(await statusFor(theirs.issue({ names: ["alice"], usage: "client" }))).toBe(200);

  await reload(ours.certPem);
  expect(await statusFor(alice)).toBe(200);
  for (const one of [line, resumed]) one.end();
});

/** TLS on the listening port, and everything that changes while transfers run: certificate, map (lesson T27). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rename } from "node:fs/promises";
import tls from "node:tls";
import { testAuthority } from "../support/certs.ts";
import { type FakeRegistry, createFakeRegistry } from "../support/fake-registry.ts";
import { layerOf } from "../support/farm.ts";
import { digestOf, makeImage } from "../support/images.ts";
import { type RunningLayover, startLayover } from "../support/layover.ts";
import { openRaw } from "../support/raw-http.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

const authority = testAuthority();
const image = makeImage({ seed: "tls", layers: [4_000_000] });
const blob = `/v2/lab/org/app/blobs/${layerOf(image)}`;
let registry: FakeRegistry;
let other: FakeRegistry;
let dir: TempDir;
let layover: RunningLayover;

beforeAll(async () => {
  [registry, other, dir] = await Promise.all([
    createFakeRegistry(),
    createFakeRegistry(),
    createTempDir("layover-tls-"),
  ]);
  registry.add("org/app", image);
  other.add("org/app", makeImage({ seed: "other" }));
  await writeLeaf("localhost");
  await writeMap(registry.url);
  layover = await startLayover({
    args: ["--tls-cert", dir.file("tls.pem"), "--tls-key", dir.file("tls.key"), "--registry-map", dir.file("map.json")],
  });
});
afterAll(async () => {
  await layover.stop();
  await Promise.all([registry.close(), other.close(), dir.remove()]);
});

/** Put in place in one step, as certificate clients do. */
async function replace(name: string, text: string): Promise<void> {
  await Bun.write(dir.file(`${name}.new`), text);
  await rename(dir.file(`${name}.new`), dir.file(name));
}

async function writeLeaf(name: string): Promise<void> {
  const leaf = authority.issue({ names: [name, "localhost", "127.0.0.1"] });
  await replace("tls.key", leaf.keyPem);
  await replace("tls.pem", leaf.certPem);
}

async function writeMap(url: string): Promise<void> {
  await replace("map.json", JSON.stringify({ default: "lab", lab: { upstreams: [url], hosts: ["lab.test"] } }));
}

/** The names of the certificate that a new connection is shown. */
function shownNames(): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ port: layover.port, host: "127.0.0.1", ca: authority.certPem }, () => {
      resolve(socket.getPeerCertificate().subjectaltname ?? "");
      socket.end();
    });
    socket.on("error", reject);
  });
}

async function get(path: string): Promise<Response> {
  return fetch(`${layover.url}${path}`, { tls: { ca: authority.certPem } });
}

/** A transfer that has begun and waits at a quarter, over TLS. */
async function begin() {
  registry.faults.blob.stallAfterBytes = 1_000_000;
  const connection = await openRaw({
    host: "127.0.0.1",
    port: layover.port,
    tls: { ca: authority.certPem, servername: "localhost" },
  });
  connection.send(`GET ${blob} HTTP/1.1\r\nHost: lab.test\r\nConnection: close\r\n\r\n`);
  const head = await connection.readHead();
  expect(head.status).toBe(200);
  await registry.untilHeld(1);
  registry.faults.blob = {};
  return {
    async end(): Promise<string> {
      registry.release();
      return digestOf(await connection.read(4_000_000));
    },
  };
}

describe("TLS", () => {
  test("[R119, R221] serves what plain HTTP serves, with https in its URLs", async () => {
    const ping = await get("/v2/");
    expect(ping.headers.get("www-authenticate")).toContain('realm="https://');
    await ping.text();
    const answer = await get(blob);
    expect(answer.headers.get("content-length")).toBe("4000000");
    expect(digestOf(await answer.bytes())).toBe(layerOf(image));
  });

  test("plain HTTP on the same port is served for loopback peers", async () => {
    const answer = await fetch(`http://127.0.0.1:${layover.port}/healthz`);
    expect(answer.status).toBe(200);
    await answer.text();
  });
});

describe("a new certificate", () => {
  test("[T27, C27] is shown to new connections, and a running transfer does not drop", async () => {
    const transfer = await begin();
    expect(await shownNames()).toContain("localhost");
    await writeLeaf("renewed.test");
    await layover.logLine(({ msg }) => /certificate/i.test(msg ?? "") && !/expire/i.test(msg ?? ""));
    expect(await shownNames()).toContain("renewed.test");
    expect(await transfer.end()).toBe(layerOf(image));
  });

  test("[T27] that cannot be used is refused with an error, and the old one stays", async () => {
    const before = await shownNames();
    await replace("tls.pem", "not a certificate");
    const line = await layover.logLine(({ level, msg }) => level === "error" && /certificate/i.test(msg ?? ""));
    expect(JSON.stringify(line)).toContain("tls.pem");
    expect(await shownNames()).toBe(before);
    await writeLeaf("localhost");
  });
});

describe("a new map", () => {
  test("[T27, C38] holds for new requests, and a running transfer does not drop", async () => {
    const transfer = await begin();
    const seen = layover.log.length;
    await writeMap(other.url);
    await layover.logLine((line) => line.msg === "registry map loaded" && layover.log.indexOf(line) >= seen);
    expect((await get(blob)).status).toBe(404);
    expect(await transfer.end()).toBe(layerOf(image));
    await writeMap(registry.url);
    layover.signal("SIGHUP");
    await layover.logLine(({ msg }) => /SIGHUP/.test(msg ?? ""));
  });

  test("[T27] that is wrong is refused with an error that names the place, and the old one stays", async () => {
    await replace("map.json", '{"default":"lab","lab":{"upstreams":["ftp://x"],"hsots":[]}}');
    for (const problem of ["hsots", "ftp"]) {
      await layover.logLine((line) => line.level === "error" && String(line["problem"]).includes(problem));
    }
    expect((await get("/help")).status).toBe(200);
    expect(await (await get("/help")).text()).toContain("127.0.0.1");
    await writeMap(registry.url);
  });
});

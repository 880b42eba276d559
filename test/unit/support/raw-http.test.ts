import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { testAuthority } from "../../support/certs.ts";
import { createFakeRegistry, type FakeRegistry } from "../../support/fake-registry.ts";
import { makeImage } from "../../support/images.ts";
import { openRaw, rawRequest } from "../../support/raw-http.ts";
import { createTempDir } from "../../support/temp-dir.ts";

const image = makeImage({ layers: [3000] });
const path = `/v2/a/blobs/${[...image.blobs.keys()][1]}`;
let registry: FakeRegistry;

beforeEach(async () => {
  registry = await createFakeRegistry();
  registry.add("a", image);
});
afterEach(() => registry.close());

test("rawRequest() tells framing, completeness and repeated lines", async () => {
  for (const [faults, framing, bytes, isComplete] of [
    [{}, "length", 3000, true],
    [{ framing: "chunked" }, "chunked", 3000, true],
    [{ framing: "eof" }, "close", 3000, true],
    [{ cutAfterBytes: 10, cutWith: "fin" }, "length", 10, false],
    [{ framing: "chunked", cutAfterBytes: 10, cutWith: "fin" }, "chunked", 10, false],
  ] as const) {
    registry.faults.blob = { ...faults };
    const answer = await rawRequest(registry.url, `GET ${path}`);
    expect([answer.framing, answer.body.length, answer.isComplete]).toEqual([framing, bytes, isComplete]);
  }
  registry.faults.blob = {
    headers: [
      ["X-Twice", "1"],
      ["X-Twice", "2"],
    ],
  };
  const twice = await rawRequest(registry.url, `HEAD ${path}`);
  expect([twice.all("x-twice"), twice.body.length, twice.header("content-length")]).toEqual([["1", "2"], 0, "3000"]);
  expect(() => twice.header("x-twice")).toThrow("expected one");
});

test("openRaw() sees the head before a stalled body, and how the connection ends", async () => {
  registry.faults.blob = { stallAfterBytes: 0, cutAfterBytes: 1000, cutWith: "fin" };
  const connection = await openRaw(registry.url);
  connection.send(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  const head = await connection.readHead();
  await registry.untilHeld(1);
  expect(head.status).toBe(200);
  registry.release();
  expect((await connection.read(5000)).length).toBe(1000);
  expect(await connection.closed).toBe("fin");
  registry.faults.blob = { hangUp: "reset" };
  const other = await openRaw(registry.url);
  other.send(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  expect(await other.closed).toBe("reset");
  await expect(other.readHead()).rejects.toThrow("expected a response head");
});

test("openRaw() keeps a connection for several answers, plain and over TLS", async () => {
  const authority = testAuthority();
  const leaf = authority.issue({ names: ["localhost"] });
  const secure = await createFakeRegistry({ tls: { cert: leaf.certPem, key: leaf.keyPem } });
  secure.add("a", image);
  const port = Number(new URL(secure.url).port);
  for (const target of [
    registry.url,
    { host: "127.0.0.1", port, tls: { ca: authority.certPem, servername: "localhost" } },
  ]) {
    const connection = await openRaw(target);
    for (let turn = 0; turn < 3; turn++) {
      connection.send(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      expect((await connection.readAnswer()).body.length).toBe(3000);
    }
    connection.end();
  }
  expect([registry.connections, secure.connections]).toEqual([1, 1]);
  await secure.close();
});

test("createTempDir() removes what it made", async () => {
  let path = "";
  {
    await using dir = await createTempDir();
    path = dir.path;
    await Bun.write(dir.file("a", "b"), "x");
    expect(existsSync(dir.file("a", "b"))).toBe(true);
  }
  expect(existsSync(path)).toBe(false);
});

import { describe, expect, test } from "bun:test";
import { makeImage } from "../../support/images.ts";
import { createDial, type Dial } from "../../../src/upstream/dial.ts";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient, userAt } from "./fixture.ts";
import { answering, wireHost } from "./wire.ts";

const image = makeImage({ layers: [10_000] });
const [layer = ""] = [...image.blobs.keys()].slice(-1);
const layerBytes = image.blobs.get(layer) ?? new Uint8Array();

/** A registry with a 10 kB layer behind its CDN. */
async function behindCdn(auth: "none" | "bearer" | "basic" = "none") {
  const registry = await fakeRegistry({ auth, users: { ann: { password: "pw" } } });
  registry.add("library/busybox", image);
  registry.faults.blob.redirect = {};
  return registry;
}

/** Every name is an address of this table; what is dialled for it is loopback, and noted. */
function staged(table: Record<string, string>): { dial: Dial; dialled: string[] } {
  const dialled: string[] = [];
  const real = createDial(
    { connectTimeoutMs: 1_000, family: 0 },
    {
      lookup: async (host) => [table[host] ?? "192.0.2.254"],
      race: async ([first = ""]) => first,
    },
  );
  return {
    dialled,
    dial: {
      async reach(target, limits) {
        const reached = await real.reach(target, limits);
        dialled.push(`${target.host} ${reached.address}`);
        return { ...reached, address: "127.0.0.1" };
      },
      forget: real.forget,
    },
  };
}

describe("send() follows", () => {
  test.each([301, 302, 303, 307, 308])(
    "[R148] %d to another host, and no Location reaches the caller",
    async (status) => {
      const registry = await behindCdn();
      registry.faults.blob.redirect = { status };
      const answer = await testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}` }));
      expect([answer.status, answer.headers.get("location")]).toEqual([200, null]);
      expect(await bytesOf(answer)).toEqual(layerBytes);
    },
  );

  test("[R134] a relative Location, with Authorization, as it is the same host", async () => {
    const registry = await behindCdn("bearer");
    registry.faults.blob.redirect = { to: "relative", hops: 2 };
    const answer = await testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}` }));
    expect(await bytesOf(answer)).toEqual(layerBytes);
    const moved = registry.requests.filter(({ path }) => path.startsWith("/artifacts-downloads/"));
    expect(moved.length).toBe(3);
    for (const { headers } of moved) expect(headers.get("authorization")).toStartWith("Bearer ");
  });

  test("[R42, R149, T24] without Authorization to another port, whoever asks", async () => {
    for (const auth of ["bearer", "basic"] as const) {
      const registry = await behindCdn(auth);
      const identity = userAt(registry.url, "ann", "pw");
      const answer = await testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}`, identity }));
      expect(await bytesOf(answer)).toEqual(layerBytes);
      expect(registry.requests.at(-1)?.headers.has("authorization")).toBe(true);
      expect(registry.cdnRequests.map(({ headers }) => headers.get("authorization"))).toEqual([null]);
    }
  });

  test("[R148] with Range, over several hops", async () => {
    const registry = await behindCdn();
    registry.faults.blob.redirect = { hops: 3 };
    const answer = await testClient().send(
      ask(registryAt(registry.url), { path: `blobs/${layer}`, headers: [["Range", "bytes=100-199"]] }),
    );
    expect([answer.status, answer.headers.get("content-range")]).toEqual([206, "bytes 100-199/10000"]);
    expect(await bytesOf(answer)).toEqual(layerBytes.slice(100, 200));
    expect(registry.cdnRequests.map(({ headers }) => headers.get("range"))).toEqual(Array(4).fill("bytes=100-199"));
  });

  test("[R148] HEAD by HEAD", async () => {
    const registry = await behindCdn();
    const answer = await testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}`, method: "HEAD" }));
    expect([answer.status, answer.headers.get("content-length"), answer.body]).toEqual([200, "10000", null]);
    expect(registry.cdnRequests.map(({ method }) => method)).toEqual(["HEAD"]);
  });

  test("[R148] ten hops and not eleven", async () => {
    const registry = await behindCdn();
    const client = testClient();
    registry.faults.blob.redirect = { hops: 9 };
    expect((await client.send(ask(registryAt(registry.url), { path: `blobs/${layer}`, method: "HEAD" }))).status).toBe(
      200,
    );
    registry.faults.blob.redirect = { hops: 10 };
    const error = await failureOf(client.send(ask(registryAt(registry.url), { path: `blobs/${layer}` })));
    expect(error).toMatchObject({ kind: "bad-answer", message: expect.stringContaining("more than 10 redirects") });
  });

  test("[R148] no circle", async () => {
    const registry = await behindCdn();
    registry.faults.blob.redirect = { to: "loop" };
    const error = await failureOf(testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}` })));
    expect(error).toMatchObject({ kind: "bad-answer", message: expect.stringContaining("in a circle") });
    expect(registry.count()).toBe(1);
  });

  test("[R148] no Location that is no http URL, and none with its userinfo", async () => {
    const registry = await behindCdn();
    const client = testClient();
    for (const to of [
      "ftp://cdn.test/x",
      "file:///etc/passwd",
      "data:text/plain,x",
      "http://[::1",
      "unix:/run/x.sock",
    ]) {
      registry.faults.blob.redirect = { to };
      expect(await failureOf(client.send(ask(registryAt(registry.url), { path: `blobs/${layer}` })))).toMatchObject({
        kind: "bad-answer",
      });
    }
    const other = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    registry.faults.blob.redirect = { to: other.url.replace("//", "//ann:secret@") };
    await client.send(ask(registryAt(registry.url), { path: `blobs/${layer}` }));
    expect(other.requests[0]?.headers.has("authorization")).toBe(false);
  });
});

describe("send() keeps redirects of", () => {
  const PRIVATE = [
    "10.0.0.5",
    "192.168.1.1",
    "169.254.169.254",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "2130706433",
    "0x7f.1",
    "[fd00::1]",
    "0.0.0.0",
    "localhost.test",
    "intranet.test",
  ];

  test.each(PRIVATE)("[R108, T18] a public upstream from %s, with no dial", async (host) => {
    const trap = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    const upstream = await wireHost(
      answering(`HTTP/1.1 307 Moved\r\nLocation: http://${host}:${trap.port}/\r\nContent-Length: 0\r\n\r\n`),
    );
    const { dial, dialled } = staged({
      "public.test": "8.8.8.8",
      "localhost.test": "127.0.0.1",
      "intranet.test": "10.0.0.5",
    });
    const at = registryAt(`http://public.test:${upstream.port}`);
    expect(await failureOf(testClient({}, { dial }).send(ask(at)))).toMatchObject({ kind: "refused-address" });
    expect([upstream.requests.length, dialled, trap.connections()]).toEqual([1, ["public.test 8.8.8.8"], 0]);
  });

  test("[R108, T18] a loopback upstream from private and metadata addresses", async () => {
    const registry = await behindCdn();
    for (const to of [
      "http://10.0.0.5/",
      "http://169.254.169.254/latest/meta-data/",
      "http://[fe80::1]/",
      "http://0.0.0.0/",
    ]) {
      registry.faults.blob.redirect = { to };
      const error = await failureOf(testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}` })));
      expect(error).toMatchObject({ kind: "refused-address" });
    }
  });

  test("[R108] nobody from what allowAddresses names", async () => {
    const storage = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const upstream = await wireHost(
      answering(`HTTP/1.1 307 Moved\r\nLocation: http://minio.test:${storage.port}/\r\nContent-Length: 0\r\n\r\n`),
    );
    const { dial } = staged({ "public.test": "8.8.8.8", "minio.test": "10.1.0.5" });
    const at = registryAt(`http://public.test:${upstream.port}`, { allowAddresses: ["10.1.0.0/16"] });
    expect((await testClient({}, { dial }).send(ask(at, { method: "HEAD", path: "tags/list" }))).status).toBe(200);
    expect(storage.requests.map(({ headers }) => headers.get("host"))).toEqual([`minio.test:${storage.port}`]);
  });

  test("[R108] a private upstream from its own host, whatever its port", async () => {
    const storage = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const upstream = await wireHost(
      answering(`HTTP/1.1 307 Moved\r\nLocation: http://lab.test:${storage.port}/\r\nContent-Length: 0\r\n\r\n`),
    );
    const { dial } = staged({ "lab.test": "192.0.2.7" });
    expect(
      (
        await testClient({}, { dial }).send(
          ask(registryAt(`http://lab.test:${upstream.port}`), { method: "HEAD", path: "tags/list" }),
        )
      ).status,
    ).toBe(200);
  });
});

describe("a second registry behind a redirect", () => {
  /** registry.k8s.io: manifests redirect to another registry, under another name. */
  async function twoRegistries(changes: { auth: "bearer" | "basic" }) {
    const second = await fakeRegistry({ ...changes, users: { ann: { password: "pw" } } });
    second.add("k8s/images/busybox", image);
    second.faults.auth.placeholderScope = true;
    const first = await fakeRegistry({ auth: "none" });
    first.add("library/busybox", image);
    first.faults.manifest.redirect = { to: `${second.url}/v2/k8s/images/busybox/manifests/latest` };
    return { first, second };
  }

  test("[R132, R133] is asked anonymously in its own words", async () => {
    const { first, second } = await twoRegistries({ auth: "bearer" });
    const identity = userAt(first.url, "ann", "pw");
    const answer = await testClient().send(ask(registryAt(first.url), { identity }));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
    expect(second.tokenRequests.map(({ query, headers }) => [query, headers.get("authorization")])).toEqual([
      ["service=fake-registry&scope=repository%3Ak8s%2Fimages%2Fbusybox%3Apull", null],
    ]);
  });

  test("[R132] that refuses is a refusal", async () => {
    const { first, second } = await twoRegistries({ auth: "basic" });
    const answer = await testClient().send(ask(registryAt(first.url), { identity: userAt(second.url, "ann", "pw") }));
    expect(answer.status).toBe(401);
    await bytesOf(answer);
    expect(second.requests.map(({ headers }) => headers.get("authorization"))).toEqual([null]);
  });
});

test("[R262, T24] send() asks the registry again for a fresh URL when the storage refuses one", async () => {
  const registry = await behindCdn();
  registry.faults.cdn.status = 403;
  registry.faults.cdn.times = 1;
  const answer = await testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}` }));
  expect(await bytesOf(answer)).toEqual(layerBytes);
  expect([registry.count(), registry.countCdn()]).toEqual([2, 2]);
});

test("[T24] the storage's refusal is no verdict about the client", async () => {
  const registry = await behindCdn();
  registry.faults.cdn.status = 403;
  const error = await failureOf(testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}` })));
  expect(error).toMatchObject({ kind: "bad-answer", status: 403 });
  expect(registry.count()).toBe(4);
});

import { describe, expect, test } from "bun:test";
import { makeImage } from "../../support/images.ts";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient } from "./fixture.ts";
import { answering, wireHost } from "./wire.ts";

const image = makeImage({ layers: [10_000] });
const [layer = ""] = [...image.blobs.keys()].slice(-1);
const manifest = image.manifests.get(image.digest);
const blob = { method: "HEAD", path: `blobs/${layer}` } as const;
const tag = { method: "HEAD", path: "manifests/latest" } as const;

async function registryWith(auth: "none" | "bearer" = "none") {
  const registry = await fakeRegistry({ auth, privateRepositories: ["private/**"] });
  registry.add("library/busybox", image);
  registry.add("private/app", image);
  return registry;
}

const methods = (registry: { requests: readonly { method: string }[] }) =>
  registry.requests.map(({ method }) => method);

describe("HEAD of a blob", () => {
  test("[R20] is HEAD where the upstream can answer it", async () => {
    const registry = await registryWith();
    const answer = await testClient().send(ask(registryAt(registry.url), blob));
    expect([answer.status, answer.headers.get("content-length"), answer.body]).toEqual([200, "10000", null]);
    expect(methods(registry)).toEqual(["HEAD"]);
  });

  test("[R130] refused in spite of a good token becomes GET of one byte (public.ecr.aws)", async () => {
    const registry = await registryWith("bearer");
    registry.faults.blob.headStatus = 401;
    const answer = await testClient().send(ask(registryAt(registry.url), blob));
    expect([
      answer.status,
      answer.headers.get("content-length"),
      answer.headers.get("content-range"),
      answer.body,
    ]).toEqual([200, "10000", null, null]);
    expect(answer.headers.get("docker-content-digest")).toBe(layer);
    expect(registry.requests.at(-1)?.headers.get("range")).toBe("bytes=0-0");
    expect(registry.bytesSent).toBeLessThan(5_000);
  });

  test("[R130] refused for good is refused", async () => {
    const registry = await registryWith("bearer");
    const answer = await testClient().send(ask(registryAt(registry.url), { ...blob, repository: "private/app" }));
    expect([answer.status, answer.body]).toEqual([401, null]);
  });

  test.each([405, 501])("[R169] answered %d becomes GET of one byte", async (status) => {
    const registry = await registryWith();
    registry.faults.blob.headStatus = status;
    const answer = await testClient().send(ask(registryAt(registry.url), blob));
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, "10000"]);
  });

  test("[R140] without a length becomes GET of one byte (registry.istio.io)", async () => {
    const registry = await registryWith();
    registry.faults.blob.contentLength = false;
    registry.faults.blob.match = ({ method }) => method === "HEAD";
    const answer = await testClient().send(ask(registryAt(registry.url), blob));
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, "10000"]);
  });

  test("[R137] whose redirect is good for GET only becomes GET of one byte, of a fresh redirect", async () => {
    const registry = await registryWith();
    registry.faults.blob.redirect = {};
    registry.faults.cdn.headStatus = 403;
    const answer = await testClient().send(ask(registryAt(registry.url), blob));
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, "10000"]);
    expect(registry.requests.map(({ method }) => method)).toEqual(["HEAD", "GET"]);
    expect(registry.cdnRequests.map(({ method }) => method)).toEqual(["HEAD", "GET"]);
  });

  test("[R130] where ranges are not known takes the length of the whole and leaves the body", async () => {
    const registry = await registryWith();
    registry.faults.blob.headStatus = 405;
    registry.faults.blob.ignoreRange = true;
    const answer = await testClient().send(ask(registryAt(registry.url), blob));
    expect([answer.status, answer.headers.get("content-length"), answer.body]).toEqual([200, "10000", null]);
  });

  test("[R266] of no bytes has length 0, though its range is not satisfiable", async () => {
    const host = await wireHost(async (request, answer) => {
      const range = "HTTP/1.1 416 No\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n";
      await answering(request.method === "HEAD" ? "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n" : range)(
        request,
        answer,
      );
    });
    const answer = await testClient().send(ask(registryAt(host.url), blob));
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, "0"]);
  });

  test("keeps statuses that are answers", async () => {
    const registry = await registryWith();
    const answer = await testClient().send(
      ask(registryAt(registry.url), { method: "HEAD", path: `blobs/sha256:${"0".repeat(64)}` }),
    );
    expect([answer.status, methods(registry)]).toEqual([404, ["HEAD"]]);
  });
});

describe("HEAD of a manifest", () => {
  test("[R208] is HEAD where the upstream can answer it", async () => {
    const registry = await registryWith();
    const answer = await testClient().send(ask(registryAt(registry.url), tag));
    expect([answer.status, answer.headers.get("docker-content-digest")]).toEqual([200, image.digest]);
    expect(methods(registry)).toEqual(["HEAD"]);
  });

  test("[R169] answered 405 becomes GET, with length, digest and type", async () => {
    const registry = await registryWith();
    registry.faults.manifest.headStatus = 405;
    registry.faults.manifest.digestHeader = false;
    const answer = await testClient().send(ask(registryAt(registry.url), tag));
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, String(manifest?.bytes.length)]);
    expect([answer.headers.get("docker-content-digest"), answer.headers.get("content-type")]).toEqual([
      image.digest,
      image.mediaType,
    ]);
    // What came is handed on, so that a cache need not ask twice.
    expect(await new Response(answer.body).text()).toBe(new TextDecoder().decode(manifest?.bytes));
  });

  test("[R140] without length or digest becomes GET, and with both by digest it does not", async () => {
    for (const faults of [
      { contentLength: false, framing: "chunked" },
      { digestHeader: false },
      { gzip: true },
    ] as const) {
      const registry = await registryWith();
      Object.assign(registry.faults.manifest, faults);
      const answer = await testClient().send(ask(registryAt(registry.url), tag));
      expect([
        answer.status,
        answer.headers.get("content-length"),
        answer.headers.get("docker-content-digest"),
      ]).toEqual([200, String(manifest?.bytes.length), image.digest]);
      expect(methods(registry)).toEqual(["HEAD", "GET"]);
    }
    const registry = await registryWith();
    registry.faults.manifest.digestHeader = false;
    await testClient().send(ask(registryAt(registry.url), { method: "HEAD", path: `manifests/${image.digest}` }));
    expect(methods(registry)).toEqual(["HEAD"]);
  });

  test("[R209] answered 401 costs no GET", async () => {
    const registry = await registryWith("bearer");
    const answer = await testClient().send(ask(registryAt(registry.url), { ...tag, repository: "private/app" }));
    expect(answer.status).toBe(401);
    expect(new Set(methods(registry))).toEqual(new Set(["HEAD"]));
  });

  test("is given up when the manifest is longer than any manifest", async () => {
    const host = await wireHost(async (request, answer) => {
      if (request.method === "HEAD") return answering("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")(request, answer);
      await answering(
        Buffer.concat([Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n"), Buffer.alloc(9_000_000)]),
      )(request, answer);
    });
    expect(await failureOf(testClient().send(ask(registryAt(host.url), tag)))).toMatchObject({ kind: "bad-answer" });
  });
});

test("[R273] GET is never changed by what is done for HEAD", async () => {
  const registry = await registryWith();
  registry.faults.blob.headStatus = 405;
  const answer = await testClient().send(ask(registryAt(registry.url), { path: `blobs/${layer}` }));
  expect((await bytesOf(answer)).length).toBe(10_000);
  expect(methods(registry)).toEqual(["GET"]);
});

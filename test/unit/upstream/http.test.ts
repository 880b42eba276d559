import { describe, expect, test } from "bun:test";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import type { HeaderLine } from "../../../src/errors.ts";
import { makeImage } from "../../support/images.ts";
import { NOISY_HEADERS } from "../../support/fake-faults.ts";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient } from "./fixture.ts";
import { answering, wireHost } from "./wire.ts";

const text = new TextEncoder().encode(JSON.stringify({ hello: "world".repeat(100) }));

test("[R147, R279] send() asks as layover, with the headers it was given and none of fetch's own", async () => {
  const host = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  const headers: HeaderLine[] = [
    ["Accept", "application/vnd.oci.image.index.v1+json"],
    ["Accept", "*/*"],
    ["Range", "bytes=5-"],
  ];
  await testClient({ version: "1.2.3" }).send(ask(registryAt(host.url), { headers, via: "1.1 layover-test" }));
  const [request] = host.requests;
  expect(Object.fromEntries(request?.headers ?? [])).toEqual({
    accept: "application/vnd.oci.image.index.v1+json, */*",
    connection: "keep-alive",
    host: host.host,
    range: "bytes=5-",
    "user-agent": "layover/1.2.3",
    via: "1.1 layover-test",
  });
});

test("[R224] send() asks for no encoding", async () => {
  const host = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  await testClient().send(ask(registryAt(host.url)));
  expect(host.requests[0]?.headers.has("accept-encoding")).toBe(false);
});

test("[R145] send() puts base path and name prefix where the upstream has them", async () => {
  const host = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  const upstream = { origin: host.url, basePath: "/artifactory/api/docker/hub", namePrefix: "project/" };
  await testClient().send(
    ask(registryAt(host.url, { upstreams: [upstream] }), { path: "tags/list", query: "n=5&last=x" }),
  );
  expect(host.requests[0]?.target).toBe("/artifactory/api/docker/hub/v2/project/library/busybox/tags/list?n=5&last=x");
});

test("[R219] send() drops hop-by-hop headers on the way to the upstream", async () => {
  const host = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  const headers: HeaderLine[] = [
    ["Connection", "close, X-Foo"],
    ["X-Foo", "1"],
    ["Keep-Alive", "timeout=5"],
    ["TE", "trailers"],
    ["Proxy-Authorization", "Basic c2VjcmV0"],
    ["Upgrade", "h2c"],
    ["X-Bar", "2"],
  ];
  await testClient().send(ask(registryAt(host.url), { headers }));
  const sent = host.requests[0]?.headers;
  for (const name of ["x-foo", "keep-alive", "te", "proxy-authorization", "upgrade"])
    expect(sent?.has(name)).toBe(false);
  expect(sent?.get("x-bar")).toBe("2");
});

test("send() lets no caller say who asks", async () => {
  const host = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  const headers: HeaderLine[] = [
    ["Authorization", "Bearer layover's own"],
    ["Cookie", "a=b"],
    ["Host", "other.test"],
    ["User-Agent", "docker/29"],
  ];
  await testClient().send(ask(registryAt(host.url), { headers }));
  const sent = host.requests[0]?.headers;
  expect([sent?.get("authorization"), sent?.get("cookie"), sent?.get("host"), sent?.get("user-agent")]).toEqual([
    null,
    null,
    host.host,
    "layover/0.0.0-test",
  ]);
});

test("[R219] send() drops hop-by-hop headers of the answer, with those that Connection names", async () => {
  const registry = await fakeRegistry();
  registry.add("library/busybox", makeImage());
  registry.faults.manifest.headers = [...NOISY_HEADERS];
  const answer = await testClient().send(ask(registryAt(registry.url)));
  await bytesOf(answer);
  for (const name of ["connection", "keep-alive", "x-foo"]) expect(answer.headers.has(name)).toBe(false);
  expect(answer.headers.get("warning")).toBe('299 - "first, with a comma", 299 - "second"');
  expect(answer.headers.get("docker-content-digest")).toStartWith("sha256:");
});

const ENCODINGS: [string, Uint8Array][] = [
  ["gzip", gzipSync(text)],
  ["x-gzip", gzipSync(text)],
  ["deflate", deflateSync(text)],
  ["br", brotliCompressSync(text)],
  ["zstd", zstdCompressSync(text)],
  ["gzip, br", brotliCompressSync(gzipSync(text))],
];

describe("Content-Encoding", () => {
  test.each(ENCODINGS)("[R225] %s is undone and its headers go", async (encoding, bytes) => {
    const head = `HTTP/1.1 200 OK\r\nContent-Encoding: ${encoding}\r\nContent-Length: ${bytes.length}\r\n\r\n`;
    const host = await wireHost(answering(Buffer.concat([Buffer.from(head), bytes])));
    const answer = await testClient().send(ask(registryAt(host.url)));
    expect([answer.headers.get("content-encoding"), answer.headers.get("content-length")]).toEqual([null, null]);
    expect(await bytesOf(answer)).toEqual(text);
  });

  test("[R226] identity and S3's aws-chunked leave bytes and length alone", async () => {
    for (const encoding of ["identity", "aws-chunked", "aws-chunked,identity"]) {
      const host = await wireHost(
        answering(`HTTP/1.1 200 OK\r\nContent-Encoding: ${encoding}\r\nContent-Length: 5\r\n\r\nhello`),
      );
      const answer = await testClient().send(ask(registryAt(host.url)));
      expect(answer.headers.get("content-length")).toBe("5");
      expect(answer.headers.has("content-encoding")).toBe(false);
      expect(new TextDecoder().decode(await bytesOf(answer))).toBe("hello");
    }
  });

  test("[R225] content that cannot be decoded breaks, and so does one cut short", async () => {
    const bytes = gzipSync(text);
    for (const body of [Buffer.from("this is no gzip"), bytes.subarray(0, bytes.length - 12)]) {
      const head = `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${body.length}\r\n\r\n`;
      const host = await wireHost(answering(Buffer.concat([Buffer.from(head), body])));
      const answer = await testClient().send(ask(registryAt(host.url)));
      expect(await failureOf(bytesOf(answer))).toMatchObject({ kind: "bad-answer" });
    }
  });

  test("[R235] an encoded body cut by the network breaks", async () => {
    const bytes = gzipSync(text);
    const head = `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${bytes.length}\r\n\r\n`;
    const host = await wireHost(answering(Buffer.concat([Buffer.from(head), bytes.subarray(0, 20)]), "fin"));
    const answer = await testClient().send(ask(registryAt(host.url)));
    expect(await failureOf(bytesOf(answer))).toMatchObject({ kind: "bad-answer" });
  });

  test("an unknown encoding, or a range of an encoded body, is no usable answer", async () => {
    for (const head of [
      "200 OK\r\nContent-Encoding: compress",
      "206 Partial\r\nContent-Encoding: gzip",
      "200 OK\r\nContent-Encoding: br, br, br",
    ]) {
      const host = await wireHost(answering(`HTTP/1.1 ${head}\r\nContent-Length: 5\r\n\r\nhello`));
      expect(await failureOf(testClient().send(ask(registryAt(host.url))))).toMatchObject({ kind: "bad-answer" });
    }
  });
});

describe("a body that breaks", () => {
  test.each([
    ["shorter than its Content-Length", "Content-Length: 10\r\n\r\nhello"],
    ["chunked without an end", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
    ["chunked with a bad chunk", "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello"],
  ])("[R235, R236] %s errors", async (_, rest) => {
    const host = await wireHost(answering(`HTTP/1.1 200 OK\r\n${rest}`, "fin"));
    const answer = await testClient().send(ask(registryAt(host.url)));
    const error = await failureOf(bytesOf(answer));
    expect(error).toMatchObject({ kind: "bad-answer" });
    expect(String(error)).toContain(`${host.url}/v2/library/busybox/manifests/latest: the body broke off`);
  });

  test("[R236] one that ends with the connection ends cleanly, so that its digest must decide", async () => {
    const host = await wireHost(answering("HTTP/1.0 200 OK\r\n\r\nhel", "fin"));
    const answer = await testClient().send(ask(registryAt(host.url)));
    expect(answer.headers.has("content-length")).toBe(false);
    expect(new TextDecoder().decode(await bytesOf(answer))).toBe("hel");
  });

  test("[R223] Content-Length beside chunked framing is not believed", async () => {
    const host = await wireHost(
      answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    );
    const answer = await testClient().send(ask(registryAt(host.url)));
    expect(answer.headers.has("content-length")).toBe(false);
    expect(new TextDecoder().decode(await bytesOf(answer))).toBe("hello");
  });

  test("[R257] one that falls silent while it is read errors after the idle time", async () => {
    const host = await wireHost(async (_, answer) => {
      await answer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
      await answer.gone;
    });
    const answer = await testClient({ idleTimeoutMs: 30 }).send(ask(registryAt(host.url)));
    expect(await failureOf(bytesOf(answer))).toMatchObject({
      kind: "timeout",
      message: expect.stringContaining("no byte within 30 ms"),
    });
  });

  test("one that comes slowly but steadily, or is read slowly, does not", async () => {
    const host = await wireHost(async (_, answer) => {
      await answer.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
      for (let i = 0; i < 4; i++) {
        await Bun.sleep(25);
        await answer.write("ab");
      }
      answer.finish("keep");
    });
    const answer = await testClient({ idleTimeoutMs: 60 }).send(ask(registryAt(host.url)));
    await Bun.sleep(130);
    expect(new TextDecoder().decode(await bytesOf(answer))).toBe("abababab");
  });

  test("[R261] cancelling it ends the connection", async () => {
    const gone = Promise.withResolvers<void>();
    const host = await wireHost(async (_, answer) => {
      await answer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
      await answer.gone;
      gone.resolve();
    });
    const answer = await testClient().send(ask(registryAt(host.url)));
    await answer.body?.cancel();
    await gone.promise;
  });

  test("[R261] the client's leaving ends it with the client's reason", async () => {
    const host = await wireHost(async (_, answer) => {
      await answer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
      await answer.gone;
    });
    const client = new AbortController();
    const answer = await testClient().send(ask(registryAt(host.url), { signal: client.signal }));
    const reading = failureOf(bytesOf(answer));
    client.abort(new DOMException("client left", "AbortError"));
    expect(await reading).toMatchObject({ name: "AbortError", message: "client left" });
  });
});

describe("an answer that does not come", () => {
  test("[R258] headers that are late end the request at its deadline", async () => {
    const host = await wireHost((_, answer) => answer.gone);
    const request = ask(registryAt(host.url), { deadlineMs: performance.now() + 40 });
    expect(await failureOf(testClient().send(request))).toMatchObject({ kind: "timeout" });
  });

  test("[R257] the header time limit ends it before the deadline", async () => {
    const host = await wireHost((_, answer) => answer.gone);
    const error = await failureOf(testClient({ headerTimeoutMs: 40 }).send(ask(registryAt(host.url))));
    expect(error).toMatchObject({
      kind: "timeout",
      message: `${host.url}/v2/library/busybox/manifests/latest: no response headers in time`,
    });
  });

  test("[R261] the client's leaving ends it with the client's reason", async () => {
    const client = new AbortController();
    const host = await wireHost(async (_, answer) => {
      client.abort(new DOMException("client left", "AbortError"));
      await answer.gone;
    });
    const error = await failureOf(testClient().send(ask(registryAt(host.url), { signal: client.signal })));
    expect(error).toMatchObject({ name: "AbortError" });
    expect(host.requests).toHaveLength(1);
  });

  test("a client that left before the request costs none", async () => {
    const host = await wireHost(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    expect(
      await failureOf(testClient().send(ask(registryAt(host.url), { signal: AbortSignal.abort() }))),
    ).toMatchObject({ name: "AbortError" });
    expect(host.connections()).toBe(0);
  });

  test.each([
    ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "bad-answer"],
    ["an unreadable length", "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabcd", "bad-answer"],
    ["a control character in a header", "HTTP/1.1 200 OK\r\nX-A: \x01\r\nContent-Length: 0\r\n\r\n", "bad-answer"],
    ["an upgrade nobody asked for", "HTTP/1.1 101 Switching\r\n\r\n", "bad-answer"],
    ["a status beyond 599", "HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", "bad-answer"],
    [
      "half a megabyte of headers",
      `HTTP/1.1 200 OK\r\nX-A: ${"a".repeat(500_000)}\r\nContent-Length: 0\r\n\r\n`,
      "bad-answer",
    ],
    ["a proxy's wish for a password", "HTTP/1.1 407 Proxy\r\nContent-Length: 0\r\n\r\n", "connect"],
    ["nothing", "", "connect"],
  ] as const)("[R280] %s is an UpstreamError", async (_, bytes, kind) => {
    const host = await wireHost(answering(bytes, "fin"));
    expect(await failureOf(testClient().send(ask(registryAt(host.url))))).toMatchObject({
      name: "UpstreamError",
      kind,
    });
  });

  test("[R280] a refused connection is one of kind connect", async () => {
    const host = await wireHost(answering(""));
    await host.close();
    expect(await failureOf(testClient().send(ask(registryAt(host.url))))).toMatchObject({ kind: "connect" });
  });
});

test("[R135] send() takes answers with 200 kB of headers", async () => {
  const host = await wireHost(answering(`HTTP/1.1 200 OK\r\nX-A: ${"a".repeat(200_000)}\r\nContent-Length: 0\r\n\r\n`));
  expect((await testClient().send(ask(registryAt(host.url)))).headers.get("x-a")).toHaveLength(200_000);
});

test("[R257] send() does not show that the upstream closed an idle connection", async () => {
  const registry = await fakeRegistry();
  registry.add("library/busybox", makeImage());
  const client = testClient();
  for (let i = 0; i < 3; i++) {
    const answer = await client.send(ask(registryAt(registry.url)));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
    registry.closeIdle();
  }
});

test("send() uses one connection for requests that follow each other", async () => {
  const registry = await fakeRegistry();
  registry.add("library/busybox", makeImage());
  const client = testClient();
  const at = registryAt(registry.url);
  for (let i = 0; i < 5; i++) await bytesOf(await client.send(ask(at)));
  // One more stood for the choice of the address.
  expect(registry.connections).toBe(2);
});

test("[R248] no error names a query, a credential or a token", async () => {
  const registry = await fakeRegistry({ auth: "bearer" });
  registry.add("library/busybox", makeImage());
  registry.faults.manifest.redirect = {};
  registry.faults.cdn.hangUp = "reset";
  const client = testClient();
  const error = await failureOf(client.send(ask(registryAt(registry.url))));
  expect(String(error)).toContain(registry.cdnUrl);
  const everything = JSON.stringify([String(error), client.notices, Bun.inspect(error, { depth: 10 })]);
  for (const secret of ["X-Amz-Signature", "fake.", "Bearer"]) expect(everything).not.toContain(secret);
});

test("send() gives no body for HEAD, 204 and 304, and elapsed time and upstream for all", async () => {
  for (const [method, head] of [
    ["HEAD", "200 OK\r\nContent-Length: 7\r\nDocker-Content-Digest: sha256:0"],
    ["GET", "204 No Content"],
    ["GET", "304 Not Modified"],
  ] as const) {
    const host = await wireHost(answering(`HTTP/1.1 ${head}\r\n\r\n`));
    const answer = await testClient().send(ask(registryAt(host.url), { method }));
    expect(answer.body).toBeNull();
    expect(answer.upstream.origin).toBe(host.url);
    expect(answer.elapsedMs).toBeGreaterThan(0);
  }
});

test("send() leaves nothing on the client's signal, which may live as long as its connection", async () => {
  const registry = await fakeRegistry({ auth: "bearer" });
  registry.add("library/busybox", makeImage());
  registry.faults.manifest.redirect = {};
  const { signal } = new AbortController();
  let listening = 0;
  const counted = Object.assign(signal, {
    addEventListener: (...args: Parameters<AbortSignal["addEventListener"]>) => {
      listening++;
      return AbortSignal.prototype.addEventListener.apply(signal, args);
    },
    removeEventListener: (...args: Parameters<AbortSignal["removeEventListener"]>) => {
      listening--;
      return AbortSignal.prototype.removeEventListener.apply(signal, args);
    },
  });
  const answer = await testClient().send(ask(registryAt(registry.url), { signal: counted }));
  expect(listening).toBe(1);
  await bytesOf(answer);
  expect(listening).toBe(0);
});

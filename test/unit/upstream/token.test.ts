import { describe, expect, test } from "bun:test";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient } from "./fixture.ts";
import { makeImage } from "../../support/images.ts";
import { answering, wireHost } from "./wire.ts";
import type { HttpRequest, HttpResponse } from "../../../src/upstream/http.ts";
import { createQuota } from "../../../src/upstream/quota.ts";
import { createTokens } from "../../../src/upstream/token.ts";

const image = makeImage();

async function bearerRegistry() {
  const registry = await fakeRegistry({ auth: "bearer" });
  registry.add("library/busybox", image);
  return registry;
}

/** A registry whose tokens come from a host that answers these bytes; the registry takes any token. */
async function registryWithTokenAnswer(bytes: string | Uint8Array, how: "keep" | "fin" = "keep") {
  const tokenServer = await wireHost(answering(bytes, how));
  const registry = await wireHost(async (request, answer) => {
    const challenge = `HTTP/1.1 401 Who\r\nWWW-Authenticate: Bearer realm="${tokenServer.url}/token"\r\nContent-Length: 0\r\n\r\n`;
    const isBare = !request.headers.has("authorization");
    await answering(isBare ? challenge : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(request, answer);
  });
  return { registry, tokenServer };
}

function json(body: unknown, head = "Content-Type: application/json"): string {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return `HTTP/1.1 200 OK\r\n${head}\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

/** Expiry as sent → seconds after which the token is renewed. */
const LIFETIMES: [unknown, number][] = [
  [300, 270],
  [100, 90],
  [10, 9],
  [60, 54],
  [undefined, 54],
  [null, 54],
  [0, 54],
  [-5, 54],
  [1.5, 54],
  ["300", 54],
  [true, 54],
  [{}, 54],
  [1e12, 12 * 3600 * 0.9],
  [43_200, 12 * 3600 * 0.9],
];

describe("a token's life", () => {
  test.each(LIFETIMES)(
    "[R95, R97] with expires_in %p is %d seconds until it is renewed",
    async (expiresIn, seconds) => {
      const registry = await bearerRegistry();
      registry.faults.token.expiresIn = expiresIn;
      let nowMs = 1_000_000;
      const client = testClient({}, { now: () => nowMs });
      const at = registryAt(registry.url);
      const pull = async () => bytesOf(await client.send(ask(at)));
      await pull();
      nowMs += seconds * 1000 - 1;
      await pull();
      expect(registry.tokenRequests).toHaveLength(1);
      nowMs += 1;
      await pull();
      expect(registry.tokenRequests).toHaveLength(2);
    },
  );

  test.each(["2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "yesterday"])(
    "[R96] does not depend on issued_at %s",
    async (issuedAt) => {
      const registry = await bearerRegistry();
      registry.faults.token.issuedAt = issuedAt;
      const client = testClient();
      for (let i = 0; i < 2; i++) await bytesOf(await client.send(ask(registryAt(registry.url))));
      expect(registry.tokenRequests).toHaveLength(1);
    },
  );
});

describe("a token answer", () => {
  test.each([
    ["token alone", { token: "a" }, "Bearer a"],
    ["access_token alone", { access_token: "b" }, "Bearer b"],
    ["both", { token: "a", access_token: "b" }, "Bearer a"],
    ["an empty token beside an access_token", { token: "", access_token: "b" }, "Bearer b"],
  ])("[R94] with %s is taken", async (_, body, expected) => {
    const { registry } = await registryWithTokenAnswer(json(body));
    await bytesOf(await testClient().send(ask(registryAt(registry.url))));
    expect(registry.requests.at(-1)?.headers.get("authorization")).toBe(expected);
  });

  test("[R94] is read as JSON whatever its content type says (nvcr.io)", async () => {
    const { registry } = await registryWithTokenAnswer(json({ token: "a" }, "Content-Type: text/html"));
    expect((await testClient().send(ask(registryAt(registry.url), { method: "HEAD", path: "tags/list" }))).status).toBe(
      200,
    );
  });

  test("[R225] is decoded when it comes compressed", async () => {
    const bytes = Bun.gzipSync('{"token":"a"}');
    const head = `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${bytes.length}\r\n\r\n`;
    const { registry } = await registryWithTokenAnswer(Buffer.concat([Buffer.from(head), bytes]));
    expect((await testClient().send(ask(registryAt(registry.url), { method: "HEAD", path: "tags/list" }))).status).toBe(
      200,
    );
  });

  test.each([
    ["with neither field", json({ expires_in: 300 })],
    ["with a number for a token", json({ token: 5 })],
    ["with a token that would break the header", json({ token: "a\r\nX-Evil: 1" })],
    ["that is a list", json([])],
    ["that is null", json("null")],
    ["that is HTML", json("<html>")],
    ["that is empty", json("")],
    ["of more than 1 MiB", json({ token: "a".repeat(1_100_000) })],
    ["that breaks off", 'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"token":'],
    ["that is 404", "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"],
    ["that is 500", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"],
    ["that is no answer", ""],
  ])("[R94, R104] %s is a failure of the token server, not of the client", async (_, bytes) => {
    const { registry } = await registryWithTokenAnswer(bytes, "fin");
    expect(await failureOf(testClient().send(ask(registryAt(registry.url))))).toMatchObject({ kind: "token" });
  });

  test("[R104] that does not end, ends with the request's deadline", async () => {
    const { registry } = await registryWithTokenAnswer("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{");
    const client = testClient({ headerTimeoutMs: 60 });
    expect(await failureOf(client.send(ask(registryAt(registry.url))))).toMatchObject({ kind: "token" });
    const hurried = ask(registryAt(registry.url), { deadlineMs: performance.now() + 30 });
    expect(await failureOf(client.send(hurried))).toMatchObject({ kind: "timeout" });
  });

  test.each([401, 403])("[R102] of %d is a refusal of this identity: 401, asked once", async (status) => {
    const registry = await bearerRegistry();
    registry.faults.token.status = status;
    const answer = await testClient().send(ask(registryAt(registry.url)));
    expect([answer.status, answer.body]).toEqual([401, null]);
    expect(registry.tokenRequests).toHaveLength(1);
  });

  test.each([
    ["37", "37"],
    [undefined, "60"],
  ])("[R211] of 429 keeps its Retry-After %p and is not asked again", async (retryAfter, told) => {
    const registry = await bearerRegistry();
    registry.faults.token.status = 429;
    if (retryAfter !== undefined) registry.faults.token.retryAfter = retryAfter;
    const error = await failureOf(testClient().send(ask(registryAt(registry.url))));
    expect(error).toMatchObject({ kind: "token", status: 429, retryAfter: told });
    expect(registry.tokenRequests).toHaveLength(1);
  });

  test("[R262] of 503 is asked for again", async () => {
    const registry = await bearerRegistry();
    registry.faults.token.status = 503;
    registry.faults.token.times = 2;
    const answer = await testClient().send(ask(registryAt(registry.url)));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
    expect(registry.tokenRequests).toHaveLength(3);
  });

  test("[R102] that failed is not remembered", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    registry.faults.token.status = 403;
    expect((await client.send(ask(registryAt(registry.url)))).status).toBe(401);
    delete registry.faults.token.status;
    const answer = await client.send(ask(registryAt(registry.url)));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
  });
});

test("[R148] a token server may redirect", async () => {
  const moved = await wireHost(answering(json({ token: "a" })));
  const { registry } = await registryWithTokenAnswer(
    `HTTP/1.1 302 Moved\r\nLocation: ${moved.url}/new\r\nContent-Length: 0\r\n\r\n`,
  );
  expect((await testClient().send(ask(registryAt(registry.url), { method: "HEAD", path: "tags/list" }))).status).toBe(
    200,
  );
  expect(moved.requests).toHaveLength(1);
});

test("[R112] drop() leaves alone the token that has taken the refused one's place", async () => {
  let serial = 0;
  const exchange = async ({ url }: HttpRequest): Promise<HttpResponse> => {
    const body = new Response(JSON.stringify({ token: `t${++serial}` })).body;
    return { status: 200, headers: new Headers(), body, url, addressKind: "public" };
  };
  const quota = createQuota({}, { now: () => 0, notice: () => undefined });
  const tokens = createTokens({ quota, exchange, now: () => 0, timeoutMs: 1_000 });

  const realm = new URL("https://auth.test/token");
  const rule = { kind: "configured" } as const;
  const request = {
    registry: registryAt("https://reg.test"),
    origin: "https://reg.test",
    realm,
    rule,
    service: undefined,
    scopes: [],
    credential: undefined,
  };
  const limits = { signal: new AbortController().signal, deadlineMs: performance.now() + 1_000 };
  const get = () => tokens.get(request, limits);
  expect(await get()).toMatchObject({ token: "t1" });
  tokens.drop(request, "t1");
  expect(await get()).toMatchObject({ token: "t2" });
  tokens.drop(request, "t1");
  expect(await get()).toMatchObject({ token: "t2" });
});

import { describe, expect, test } from "bun:test";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { UpstreamError } from "../../../src/errors.ts";
import type { Identity, UpstreamWrite } from "../../../src/upstream/client.ts";
import { anonymous, closeAfter, failureOf, registryAt, testClient, upstreamAt, userAt } from "./fixture.ts";

interface Seen {
  readonly line: string;
  readonly headers: IncomingMessage["headers"];
  body: Buffer;
  isComplete: boolean;
}

/** A registry's wire: notes what comes and answers as told; resolves `closed` when a request ended, whole or not. */
async function recorder(answer: (request: Seen, response: ServerResponse) => void) {
  const seen: Seen[] = [];
  const closed = Promise.withResolvers<Seen>();
  const server = createServer((request, response) => {
    const one: Seen = {
      line: `${request.method} ${request.url}`,
      headers: request.headers,
      body: Buffer.alloc(0),
      isComplete: false,
    };
    seen.push(one);
    request.on("data", (chunk: Buffer) => (one.body = Buffer.concat([one.body, chunk])));
    request.on("end", () => {
      one.isComplete = true;
      answer(one, response);
    });
    request.on("close", () => closed.resolve(one));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closeAfter(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen, closed: closed.promise };
}

function request(url: string, changes: Partial<UpstreamWrite> = {}): UpstreamWrite {
  const registry = registryAt(url);
  return {
    registry,
    upstream: registry.upstreams[0],
    method: "PUT",
    target: { kind: "path", path: "org/app/manifests/v1" },
    headers: [],
    identity: anonymous,
    scopes: ["repository:org/app:pull,push"],
    signal: new AbortController().signal,
    deadlineMs: performance.now() + 5_000,
    ...changes,
  };
}

function streamOf(...chunks: (string | Error)[]): ReadableStream<Uint8Array> {
  const left = [...chunks];
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      const next = left.shift();
      if (next === undefined) controller.close();
      else if (typeof next === "string") controller.enqueue(new TextEncoder().encode(next));
      else controller.error(next);
    },
  });
}

const BASIC = `Basic ${Buffer.from("ann:secret").toString("base64")}`;

/** Wants Basic for everything. */
function guarded({ headers }: Seen, response: ServerResponse): void {
  if (headers.authorization === BASIC) response.writeHead(201, { Location: "/v2/org/app/manifests/v1" }).end();
  else response.writeHead(401, { "WWW-Authenticate": 'Basic realm="r"' }).end();
}

describe("write()", () => {
  test("[R80] sends a whole body again with what the challenge wants", async () => {
    const registry = await recorder(guarded);
    const body = { kind: "whole" as const, bytes: new TextEncoder().encode("{}") };
    const answer = await testClient().write(
      request(registry.url, { body, identity: userAt(registry.url, "ann", "secret") }),
    );
    expect([answer.status, answer.location?.href]).toEqual([201, `${registry.url}/v2/org/app/manifests/v1`]);
    expect(
      registry.seen.map(({ line, body: sent, headers }) => [line, sent.toString(), headers.authorization]),
    ).toEqual([
      ["PUT /v2/org/app/manifests/v1", "{}", undefined],
      ["PUT /v2/org/app/manifests/v1", "{}", BASIC],
    ]);
  });

  test("[R80, R82] asks /v2/ what a stream will need, and sends it once with its length", async () => {
    const registry = await recorder(guarded);
    const identity: Identity = userAt(registry.url, "ann", "secret");
    const body = () => ({ kind: "stream" as const, stream: streamOf("abc", "def"), length: 6 });
    const client = testClient();
    const first = request(registry.url, { body: body(), identity });
    expect((await client.write(first)).status).toBe(201);
    expect((await client.write({ ...first, body: body() })).status).toBe(201);
    expect(registry.seen.map(({ line, body: sent }) => [line, sent.toString()])).toEqual([
      ["GET /v2/", ""],
      ["PUT /v2/org/app/manifests/v1", "abcdef"],
      ["PUT /v2/org/app/manifests/v1", "abcdef"],
    ]);
    expect(registry.seen.at(-1)?.headers["content-length"]).toBe("6");
  });

  test("[R80] behind the last byte of a stream the registry has as long as it needs", async () => {
    const registry = await recorder(({ line }, response) => {
      if (line.startsWith("GET")) response.end();
      else setTimeout(() => response.writeHead(201).end(), 300);
    });
    const body = { kind: "stream" as const, stream: streamOf("abc"), length: 3 };
    const late = request(registry.url, { body, deadlineMs: performance.now() + 200 });
    expect((await testClient().write(late)).status).toBe(201);
  });

  test("a refused stream is answered as it is: it cannot be sent again", async () => {
    const registry = await recorder(guarded);
    const body = { kind: "stream" as const, stream: streamOf("abc"), length: 3 };
    const answer = await testClient().write(
      request(registry.url, { body, identity: userAt(registry.url, "ann", "wrong") }),
    );
    expect(answer.status).toBe(401);
    expect(registry.seen.map(({ line }) => line)).toEqual(["GET /v2/", "PUT /v2/org/app/manifests/v1"]);
  });

  test("a failure is never followed by a second try or the next upstream", async () => {
    const registry = await recorder((_, response) => response.writeHead(503).end());
    const at = registryAt([registry.url, `${registry.url}/other`]);
    const answer = await testClient().write(request(registry.url, { registry: at, method: "POST" }));
    expect(answer.status).toBe(503);
    expect(registry.seen).toHaveLength(1);
  });

  test("a body that breaks breaks the request", async () => {
    const registry = await recorder(guarded);
    for (const length of [6, undefined]) {
      const body = { kind: "stream" as const, stream: streamOf("abc", new Error("the client left")), length };
      expect(await failureOf(testClient().write(request(registry.url, { body })))).toBeInstanceOf(Error);
    }
    expect(registry.seen.filter(({ line }) => line.startsWith("PUT")).every(({ isComplete }) => !isComplete)).toBe(
      true,
    );
  });

  test("redirects of writes are not followed", async () => {
    const registry = await recorder((_, response) => response.writeHead(307, { Location: "/elsewhere" }).end());
    const failure = await failureOf(testClient().write(request(registry.url, { method: "POST" })));
    expect(failure).toBeInstanceOf(UpstreamError);
    expect(registry.seen).toHaveLength(1);
  });

  test("[R69] at another host nothing says who we are, and its address must be one that may be dialled", async () => {
    const registry = await recorder(guarded);
    const storage = await recorder((_, response) => response.writeHead(201).end());
    const identity = userAt(registry.url, "ann", "secret");
    const body = { kind: "stream" as const, stream: streamOf("abc"), length: 3 };
    const target = { kind: "location" as const, href: `${storage.url}/put?sig=1`, named: "loopback" as const };
    expect((await testClient().write(request(registry.url, { target, identity, body }))).status).toBe(201);
    expect(storage.seen.map(({ line, headers }) => [line, headers.authorization])).toEqual([
      ["PUT /put?sig=1", undefined],
    ]);
    const away = { ...target, href: storage.url.replace("127.0.0.1", "127.0.0.2"), named: "public" as const };
    const failure = await failureOf(
      testClient().write(
        request(registry.url, { upstream: upstreamAt("http://registry.test"), target: away, identity }),
      ),
    );
    expect(failure).toMatchObject({ kind: "refused-address" });
  });
});
